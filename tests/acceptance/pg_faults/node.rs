//! Nodes on one Postgres, all under one master key, and what they say of themselves.

use std::{
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use serde_json::Value;

use crate::harness::{Server, diario, http, until};

/// Of all nodes here, so that no file need be copied.
const MASTER_KEYS: &str = "test:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// `diario serve` in a folder of its name.
pub(super) fn command(name: &str, folder: &Path, database: &str, port: u16) -> Command {
    let mut command = diario();
    // What is harmed here fails in many places, each of which says so.
    command.env("DIARIO_LOG", "off").env("DIARIO_MASTER_KEYS", MASTER_KEYS);
    command.args(["serve", "--node", name, "--database-url", database, "--router-port", "0"]);
    command.args(["--port", &port.to_string(), "--data-dir"]).arg(folder.join(name));
    command
}

/// Such a node, once it listens.
pub(super) fn start(name: &str, folder: &Path, database: &str, more: &[&str]) -> Server {
    Server::spawn(command(name, folder, database, 0).args(more), None)
}

/// What a node says of its readiness; `None` when it does not answer.
pub(super) fn readiness(api: &str) -> Option<(u16, Value)> {
    let (status, answer) = http(&format!("{api}/readyz"), "127.0.0.1")?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, serde_json::from_str(body).ok()?))
}

/// Waits until a node says that it is ready.
pub(super) fn until_ready(api: &str) {
    until("a node to be ready", || readiness(api).filter(|(status, _)| *status == 200).map(|_| ()));
}

/// Whether a node's loops act.
pub(super) fn leads(api: &str) -> bool {
    readiness(api).is_some_and(|(_, said)| said["leads"] == true)
}

/// Runs a node until it ends by itself, doing `meanwhile` once it listens, and tells how it ended
/// and what it said.
pub(super) fn until_ended(
    mut command: Command,
    meanwhile: impl FnOnce(&str),
) -> (ExitStatus, String) {
    use std::io::{BufRead as _, BufReader, Read as _};
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().expect("it ended before it listened").unwrap();
    let api = line.split_whitespace().find(|word| word.starts_with("http")).unwrap();
    meanwhile(api.trim_end_matches("/graphql"));
    let status = until("the node to end", || child.try_wait().unwrap());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status, said)
}
