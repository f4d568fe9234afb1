//! `diario domains`: freshness domains, who vouch that what is desired is complete, and the restart
//! policy of those of their wishes that have none of their own.

use clap::{Args, Subcommand};
use domain::id::FreshnessDomainName;
use serde::Deserialize;
use serde_json::json;

use super::{
    Error,
    instant::Instant,
    lrp_file,
    restart_options::RestartOptions,
    table::{self, NOTHING, Table},
    target::{Print, Session, Target},
    wish::{self, Wish, WishOptions},
};

pub(super) const EXAMPLES: &str = "Examples:
  diario domains
  diario domains vouch jobs --ttl 120
  diario domains restart-policy jobs --restart on-failure
  diario domains restart-policy jobs --default";

/// The freshness domains, or what becomes of one.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    verb: Option<Command>,
    #[command(flatten)]
    target: Target,
}

/// What can be done with a freshness domain.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Vouches that what is desired under a name is complete, for a span from now on.
    #[command(after_help = "Example: diario domains vouch jobs --ttl 120")]
    Vouch {
        /// Which.
        domain: FreshnessDomainName,
        /// For how long; 0 is for ever.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        ttl: u32,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Sets what follows the ends of instances whose wishes do not say, from the next end on.
    #[command(after_help = "Examples:\n  \
        diario domains restart-policy jobs --restart on-failure\n  \
        diario domains restart-policy jobs --default")]
    RestartPolicy {
        /// Which; it must have been vouched for once.
        domain: FreshnessDomainName,
        /// Take its policy back: Diego's rule holds.
        #[arg(long, conflicts_with = "restart", required_unless_present = "restart")]
        default: bool,
        #[command(flatten)]
        restart: RestartOptions,
        #[command(flatten)]
        wish: WishOptions,
    },
}

pub(super) async fn run(options: Options, print: Print) -> Result<(), Error> {
    let session = options.target.open(print)?;
    match options.verb {
        None => list(&session).await,
        Some(Command::Vouch { domain, ttl, wish }) => {
            let arguments =
                [("name", "String!", json!(domain)), ("ttlSeconds", "Int!", json!(ttl))];
            let upsert = Wish { mutation: "upsertFreshnessDomain", arguments };
            let done = format!("freshness domain {domain} is vouched for");
            wish::send(&session, &wish, upsert).await?.show(&session, &done)
        }
        Some(Command::RestartPolicy { domain, default, restart, wish }) => {
            let policy = restart.policy().map(|policy| lrp_file::input(&policy));
            let arguments = [
                ("domain", "String!", json!(domain)),
                ("restart", "RestartPolicyInput", json!(policy)),
            ];
            let set = Wish { mutation: "setRestartPolicy", arguments };
            let which = if default { "the default restart policy" } else { "its restart policy" };
            let done = format!("freshness domain {domain} has {which}");
            wish::send(&session, &wish, set).await?.show(&session, &done)
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Domain {
    name: String,
    fresh_until: Option<String>,
    is_fresh: bool,
    restart: Option<Policy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    when: String,
    immediate_restarts: u32,
    back_off_first_ms: u64,
    back_off_max_ms: u64,
    crashes_max: u32,
}

const SELECTION: &str = "freshnessDomains { name freshUntil isFresh position \
    restart { when immediateRestarts backOffFirstMs backOffMaxMs crashesMax } }";

async fn list(session: &Session) -> Result<(), Error> {
    let answer = Instant::Now.world(session, "", SELECTION, json!({})).await?;
    let domains: Vec<Domain> = session.client.part(&answer, "/world/freshnessDomains")?;
    session.show(&answer["world"], || {
        let mut table = Table::new(&["DOMAIN", "FRESH", "UNTIL", "RESTART POLICY"]);
        for domain in &domains {
            let until = domain.fresh_until.as_deref();
            table.row([
                domain.name.clone(),
                if domain.is_fresh { "yes" } else { "no" }.to_owned(),
                until.map_or_else(|| "for ever".to_owned(), table::time),
                domain.restart.as_ref().map_or_else(|| NOTHING.to_owned(), policy_text),
            ]);
        }
        table.lines("nobody vouches yet; `diario domains vouch --help` shows how")
    })
}

fn policy_text(policy: &Policy) -> String {
    let Policy { when, immediate_restarts, back_off_first_ms, back_off_max_ms, crashes_max } =
        policy;
    format!(
        "{}, {immediate_restarts} at once, then after {back_off_first_ms} to {back_off_max_ms} ms, \
         given up after {crashes_max}",
        table::lower(when)
    )
}
