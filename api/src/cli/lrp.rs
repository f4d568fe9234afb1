//! `diario lrp`: long-running processes, desired and actual.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Subcommand};
use domain::{
    bbs::desired_lrp::Spec,
    id::{FreshnessDomainName, ProcessGuid},
    labels::{DynamicValue, MetricTag, MetricTags},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error,
    instant::Instant,
    lrp_file,
    restart_options::RestartOptions,
    spec_options::{DefinitionOptions, ServingOptions},
    table::{self, Table, or_dash},
    target::Session,
    why,
    wish::{self, Wish, WishOptions},
};

const EXAMPLES: &str = "Examples:\n  \
    diario lrp desire web.yaml\n  \
    diario lrp desire --guid web --instances 3 --port 8080 --route web.example.com \\\n    \
    -- /bin/diario sample-app";

/// What can be done with LRPs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Desires a process that is not there yet, by a file or by flags.
    #[command(
        after_help = EXAMPLES,
        after_long_help = format!("{EXAMPLES}\n\n{}", lrp_file::LRP_FORM)
    )]
    Desire(Box<Desire>),
    /// Lists what is desired, and how much of it is running.
    #[command(after_help = "Example: diario lrp list --json")]
    List,
    /// Shows one LRP with its instances.
    #[command(after_help = "Example: diario lrp show web")]
    Show {
        /// Which.
        guid: ProcessGuid,
    },
    /// Says why its instances are where they are, or nowhere: what each cell came to.
    #[command(after_help = "Examples:\n  diario lrp why web\n  diario lrp why web/0 --json")]
    Why {
        /// Which process, or which of its instances.
        #[arg(value_name = "GUID[/INDEX]", value_parser = why::parse_instances)]
        of: why::Instances,
    },
    /// Changes how many instances are desired.
    #[command(after_help = "Example: diario lrp scale web 5")]
    Scale {
        /// Which.
        guid: ProcessGuid,
        /// How many instances.
        instances: u32,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Changes whether and when its instances are started again, from the next end on.
    #[command(after_help = "Examples:\n  \
        diario lrp restart-policy web --restart on-failure\n  \
        diario lrp restart-policy web --inherit")]
    RestartPolicy {
        /// Which.
        guid: ProcessGuid,
        /// Take its own policy back: its freshness domain's holds.
        #[arg(long, conflicts_with = "restart", required_unless_present = "restart")]
        inherit: bool,
        #[command(flatten)]
        restart: RestartOptions,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Sets its names inside of the platform's network, in place of those before; none clears them.
    /// Running instances stay.
    #[command(after_help = "Example: diario lrp internal-routes web web.apps.internal")]
    InternalRoutes {
        /// Which.
        guid: ProcessGuid,
        /// The names.
        #[arg(value_name = "HOST")]
        routes: Vec<String>,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Sets what its lines and samples are tagged with, in place of the tags before; none clears
    /// them. Running instances stay.
    #[command(after_help = "Example: diario lrp metric-tags web source_id=web slot=@index")]
    MetricTags {
        /// Which.
        guid: ProcessGuid,
        /// The tags; the values @index and @instance-guid are those of each instance.
        #[arg(value_name = "NAME=VALUE", value_parser = parse_tag)]
        tags: Vec<(String, MetricTag)>,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Desires it no longer: all its instances are stopped.
    #[command(visible_alias = "remove", after_help = "Example: diario lrp rm web")]
    Rm {
        /// Which.
        guid: ProcessGuid,
        #[command(flatten)]
        wish: WishOptions,
    },
    /// Stops one instance; a new one takes its place.
    #[command(visible_alias = "retire", after_help = "Example: diario lrp restart web 0")]
    Restart {
        /// Which.
        guid: ProcessGuid,
        /// Which instance, from 0.
        index: u32,
        #[command(flatten)]
        wish: WishOptions,
    },
}

/// What to desire.
#[derive(Debug, Args)]
pub struct Desire {
    /// A file in YAML or JSON; `-` is standard input.
    #[arg(required_unless_present = "guid", conflicts_with_all = ["guid", "command", "env", "env_file", "ports", "routes", "restart"])]
    file: Option<PathBuf>,
    /// Its guid, to desire by flags: letters, digits, `-` and `_`.
    #[arg(long)]
    guid: Option<ProcessGuid>,
    /// How many instances.
    #[arg(long, default_value_t = 1, conflicts_with = "file")]
    instances: u32,
    /// Who vouches for it.
    #[arg(long, default_value = "default", conflicts_with = "file")]
    domain: FreshnessDomainName,
    /// Any text.
    #[arg(long, default_value = "", conflicts_with = "file")]
    annotation: String,
    #[command(flatten)]
    definition: DefinitionOptions,
    #[command(flatten)]
    serving: ServingOptions,
    #[command(flatten)]
    restart: RestartOptions,
    #[command(flatten)]
    wish: WishOptions,
}

pub(super) async fn run(command: Command, session: &Session) -> Result<(), Error> {
    match command {
        Command::Desire(desire) => run_desire(*desire, session).await,
        Command::List => list(session, Instant::Now).await,
        Command::Show { guid } => show(session, &guid).await,
        Command::Why { of } => why::lrp(session, &of).await,
        Command::Scale { guid, instances, wish } => {
            let arguments =
                [("processGuid", "String!", json!(guid)), ("instances", "Int!", json!(instances))];
            let scale = Wish { mutation: "updateDesiredLrp", arguments };
            let done = format!("LRP {guid} is desired, instances: {instances}");
            wish::send(session, &wish, scale).await?.show(session, &done)
        }
        Command::RestartPolicy { guid, inherit, restart, wish } => {
            let policy = restart.policy().map(|policy| lrp_file::input(&policy));
            let arguments = [
                ("processGuid", "String!", json!(guid)),
                ("restart", "RestartPolicyInput", json!(policy)),
                ("inheritRestart", "Boolean!", json!(inherit)),
            ];
            let change = Wish { mutation: "updateDesiredLrp", arguments };
            let done = match policy {
                Some(_) => format!("LRP {guid} has a restart policy of its own"),
                None => format!("LRP {guid} has the restart policy of its freshness domain"),
            };
            wish::send(session, &wish, change).await?.show(session, &done)
        }
        Command::InternalRoutes { guid, routes, wish } => {
            let arguments = [
                ("processGuid", "String!", json!(guid)),
                ("internalRoutes", "[String!]", json!(routes)),
            ];
            let change = Wish { mutation: "updateDesiredLrp", arguments };
            let done = format!("LRP {guid} has {} internal routes", routes.len());
            wish::send(session, &wish, change).await?.show(session, &done)
        }
        Command::MetricTags { guid, tags, wish } => {
            let tags: MetricTags = tags.into_iter().collect();
            let arguments = [
                ("processGuid", "String!", json!(guid)),
                ("metricTags", "[MetricTagInput!]", lrp_file::tags(json!(tags))),
            ];
            let change = Wish { mutation: "updateDesiredLrp", arguments };
            let done = format!("LRP {guid} has {} metric tags", tags.len());
            wish::send(session, &wish, change).await?.show(session, &done)
        }
        Command::Rm { guid, wish } => {
            let arguments = [("processGuid", "String!", json!(guid))];
            let remove = Wish { mutation: "removeDesiredLrp", arguments };
            let done = format!("LRP {guid} is no longer desired");
            wish::send(session, &wish, remove).await?.show(session, &done)
        }
        Command::Restart { guid, index, wish } => {
            let arguments =
                [("processGuid", "String!", json!(guid)), ("index", "Int!", json!(index))];
            let retire = Wish { mutation: "retireActualLrp", arguments };
            let done = format!("the instance of {guid}/{index} is being stopped");
            wish::send(session, &wish, retire).await?.show(session, &done)
        }
    }
}

fn parse_tag(text: &str) -> Result<(String, MetricTag), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    let tag = match value {
        "@index" => MetricTag::Dynamic(DynamicValue::Index),
        "@instance-guid" => MetricTag::Dynamic(DynamicValue::InstanceGuid),
        text => MetricTag::Static(text.to_owned()),
    };
    Ok((name.to_owned(), tag))
}

async fn run_desire(desire: Desire, session: &Session) -> Result<(), Error> {
    let wish = desire.wish.clone();
    let spec = desire.spec()?;
    let arguments = [("spec", "DesiredLrpInput!", lrp_file::input(&spec))];
    let desire = Wish { mutation: "desireLrp", arguments };
    let done = format!("LRP {} is desired, instances: {}", spec.process_guid, spec.instances);
    wish::send(session, &wish, desire).await?.show(session, &done)
}

impl Desire {
    fn spec(self) -> Result<Spec, Error> {
        match (self.file, self.guid) {
            (Some(file), _) => Ok(lrp_file::read(&file)?),
            (None, Some(process_guid)) => {
                let mut definition = self.definition.definition()?;
                let routes = self.serving.serve(&mut definition)?;
                Ok(Spec {
                    client_routes: None,
                    process_guid,
                    domain: self.domain,
                    instances: self.instances,
                    routes,
                    annotation: self.annotation,
                    restart: self.restart.policy(),
                    internal_routes: Vec::new(),
                    metric_tags: MetricTags::new(),
                    definition,
                })
            }
            (None, None) => Err(Error::Usage("name a file, or --guid".to_owned())),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DesiredLrp {
    process_guid: String,
    domain: String,
    instances: u32,
    routes: Vec<Route>,
    internal_routes: Vec<String>,
    metric_tags: Vec<Tag>,
    definition: Definition,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
    r#static: Option<String>,
    dynamic: Option<String>,
}

#[derive(Deserialize)]
struct Route {
    hostnames: Vec<String>,
    port: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    rootfs: String,
    memory_mb: u32,
    disk_mb: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActualLrp {
    process_guid: String,
    index: u32,
    app_state: String,
    since: String,
    instance_guid: Option<String>,
    cell_id: Option<String>,
    address: Option<String>,
    ports: Vec<u16>,
    crash_count: u32,
    details: Option<String>,
}

const DESIRED: &str = "processGuid domain instances annotation desiredAt definitionDigest position \
    routes { hostnames port } internalRoutes metricTags { name static dynamic }";
const ACTUAL: &str = "processGuid index state appState since instanceGuid cellId placementEpoch \
    address ports crashCount placementError isStopping details position \
    restart { kind notBefore } lastCrash { reason at position }";
const DEFINITION: &str = "definition { rootfs memoryMb diskMb maxPids cpuWeight ports logSource \
    placementTags startTimeoutMs env { name fingerprint } \
    checks { __typename ... on TcpCheck { port } ... on HttpCheck { port path } } \
    action { __typename ... on RunAction { path args dir user } } }";

/// Lists LRPs at an instant.
pub(super) async fn list(session: &Session, instant: Instant) -> Result<(), Error> {
    let selection = format!(
        "desiredLrps {{ {DESIRED} definition {{ rootfs memoryMb diskMb }} }} actualLrps {{ {ACTUAL} }}"
    );
    let answer = instant.world(session, "", &selection, json!({})).await?;
    let desired: Vec<DesiredLrp> = session.client.part(&answer, "/world/desiredLrps")?;
    let actual: Vec<ActualLrp> = session.client.part(&answer, "/world/actualLrps")?;
    session.show(&answer["world"], || list_lines(&desired, &actual))
}

fn list_lines(desired: &[DesiredLrp], actual: &[ActualLrp]) -> Vec<String> {
    let mut running: BTreeMap<&str, u32> = BTreeMap::new();
    for lrp in actual.iter().filter(|lrp| lrp.app_state == "RUNNING") {
        *running.entry(&lrp.process_guid).or_default() += 1;
    }
    let mut table = Table::new(&["GUID", "RUNNING", "MEMORY", "DISK", "ROUTES"]);
    for lrp in desired {
        let running = running.get(lrp.process_guid.as_str()).copied().unwrap_or(0);
        table.row([
            lrp.process_guid.clone(),
            format!("{running}/{}", lrp.instances),
            format!("{} MiB", lrp.definition.memory_mb),
            format!("{} MiB", lrp.definition.disk_mb),
            routes_text(&lrp.routes),
        ]);
    }
    let mut lines = table.lines("no LRPs are desired; `diario lrp desire --help` shows how");
    let is_leftover =
        |lrp: &&ActualLrp| desired.iter().all(|it| it.process_guid != lrp.process_guid);
    let leftover = actual.iter().filter(is_leftover).count();
    if leftover > 0 {
        lines.push(format!("{leftover} instances of LRPs that are no longer desired"));
    }
    lines
}

fn routes_text(routes: &[Route]) -> String {
    let of_one = |route: &Route| {
        let text = |hostname: &String| format!("{hostname}:{}", route.port);
        route.hostnames.iter().map(text).collect::<Vec<_>>()
    };
    let all: Vec<String> = routes.iter().flat_map(of_one).collect();
    or_dash(Some(&all.join(", ")))
}

fn tags_text(tags: &[Tag]) -> String {
    let text = |Tag { name, r#static, dynamic }: &Tag| match (r#static, dynamic) {
        (Some(text), _) => format!("{name}={text}"),
        (None, dynamic) => {
            let dynamic = dynamic.as_deref().unwrap_or_default();
            format!("{name}=@{}", dynamic.to_ascii_lowercase().replace('_', "-"))
        }
    };
    or_dash(Some(&tags.iter().map(text).collect::<Vec<_>>().join(", ")))
}

async fn show(session: &Session, guid: &ProcessGuid) -> Result<(), Error> {
    let selection = format!(
        "desiredLrp(processGuid: $guid) {{ {DESIRED} {DEFINITION} }} \
         actualLrps(processGuid: $guid) {{ {ACTUAL} }}"
    );
    let variables = json!({ "guid": guid });
    let answer = Instant::Now.world(session, "$guid: String!", &selection, variables).await?;
    let desired: Option<DesiredLrp> = session.client.part(&answer, "/world/desiredLrp")?;
    let actual: Vec<ActualLrp> = session.client.part(&answer, "/world/actualLrps")?;
    if desired.is_none() && actual.is_empty() {
        let list = "diario lrp list";
        return Err(Error::NoSuch { what: "LRP", id: guid.to_string(), list });
    }
    session.show(&answer["world"], || {
        let mut lines = match &desired {
            Some(desired) => head_lines(desired, &answer),
            None => vec![format!("{guid} is no longer desired")],
        };
        lines.extend(instance_lines(&actual));
        lines
    })
}

fn head_lines(desired: &DesiredLrp, answer: &Value) -> Vec<String> {
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let action = answer.pointer("/world/desiredLrp/definition/action");
    let command = action.and_then(|action| {
        let path = action["path"].as_str()?;
        let args = action["args"].as_array()?.iter().filter_map(Value::as_str);
        Some([path].into_iter().chain(args).collect::<Vec<_>>().join(" "))
    });
    let action_kind = text("/world/desiredLrp/definition/action/__typename");
    let Definition { rootfs, memory_mb, disk_mb } = &desired.definition;
    vec![
        format!("guid       {}", desired.process_guid),
        format!("domain     {}", desired.domain),
        format!("instances  {}", desired.instances),
        format!("routes     {}", routes_text(&desired.routes)),
        format!("internal   {}", or_dash(Some(&desired.internal_routes.join(", ")))),
        format!("tags       {}", tags_text(&desired.metric_tags)),
        format!("rootfs     {rootfs}"),
        format!("command    {}", command.as_deref().unwrap_or(action_kind)),
        format!("limits     {memory_mb} MiB memory, {disk_mb} MiB disk"),
        format!("desired    {}", table::time(text("/world/desiredLrp/desiredAt"))),
        String::new(),
    ]
}

fn instance_lines(actual: &[ActualLrp]) -> Vec<String> {
    let headings = ["INDEX", "STATE", "SINCE", "CELL", "ADDRESS", "CRASHES", "INSTANCE", "DETAILS"];
    let mut table = Table::new(&headings);
    for lrp in actual {
        let address = lrp.address.as_ref().map(|address| match lrp.ports.first() {
            Some(port) => format!("{address}:{port}"),
            None => address.clone(),
        });
        table.row([
            lrp.index.to_string(),
            table::lower(&lrp.app_state),
            table::time(&lrp.since),
            or_dash(lrp.cell_id.as_deref()),
            or_dash(address.as_deref()),
            lrp.crash_count.to_string(),
            or_dash(lrp.instance_guid.as_deref()),
            lrp.details.clone().unwrap_or_default(),
        ]);
    }
    table.lines("no instances")
}
