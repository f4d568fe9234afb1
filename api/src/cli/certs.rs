//! `diario certs`: certificates for a trial of the BBS.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Error, target::Print};
use crate::{
    bbs::certificates::{self, Wanted},
    clock::Clock,
};

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes an authority with a certificate and key each for the server and a client, and one for the
    /// identities of containers.
    #[command(after_help = "Example: diario certs init certs\n\
        Then: diario serve --bbs-cert certs/server.crt --bbs-key certs/server.key --bbs-ca certs/ca.crt\n\
        Or: diario dev --instance-identity-ca certs/instance-identity-ca.crt --instance-identity-key certs/instance-identity-ca.key\n\
        A client shows client.crt and trusts ca.crt. Nothing that is there is overwritten.")]
    Init(Init),
}

/// Options of `diario certs init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder to write them to.
    folder: PathBuf,
    /// A name or address that the server is reached by; may be given several times.
    #[arg(long = "host", default_values = ["localhost", "127.0.0.1"])]
    hosts: Vec<String>,
    /// The name that the client is known by: the actor of what it does.
    #[arg(long, default_value = "trial")]
    client: String,
    /// For how many days they hold.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=3650))]
    days: i64,
    /// Answer in JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command, print: &Print) -> Result<(), Error> {
    let Command::Init(init) = command;
    let written = certificates::make(&Wanted {
        folder: &init.folder,
        hosts: init.hosts.clone(),
        client: &init.client,
        now: Clock::default().now(),
        days: init.days,
    })?;
    let lines = match init.json {
        true => vec![serde_json::json!({ "files": written }).to_string()],
        false => written.iter().map(|path| path.display().to_string()).collect(),
    };
    lines.iter().try_for_each(|line| print(line)).map_err(Error::Output)
}
