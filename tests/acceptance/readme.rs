//! Every command that the README shows is run, in its order.

use std::{fs, process::Command};

use projections::testing::postgres::{Cluster, Settings};

use crate::harness::{Server, binary, folder, told, until};

/// The commands of the README's `console` blocks.
pub(crate) fn commands(readme: &str) -> Vec<String> {
    let mut is_console = false;
    let mut found = Vec::new();
    for line in readme.lines() {
        if line.starts_with("```") {
            is_console = line == "```console";
        } else if is_console && let Some(command) = line.strip_prefix("$ ") {
            found.push(command.to_owned());
        }
    }
    found
}

#[test]
fn every_command_of_the_readme_works() {
    let readme = fs::read_to_string("README.md").unwrap();
    assert!(readme.lines().count() < 200, "the README has grown past 200 lines");
    let folder = folder();
    let server = Server::dev(&folder.path().join(".diario"));
    let cluster = Cluster::start(&Settings::default());
    let database = cluster.fresh_database();
    // `diario` on the path is the one under test.
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(binary(), bin.join("diario")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    until("the cell", || server.json(&["cells"]).to_string().contains("PRESENT").then_some(()));

    let commands = commands(&readme);
    assert!(commands.len() > 10, "the README shows few commands: {commands:?}");
    for command in commands {
        // Several nodes are started by a test of their own.
        if command.starts_with("diario serve ") || command.starts_with("diario cell ") {
            continue;
        }
        // This test is part of `tests/run`, and the demo is run by a test of its own.
        if command == "tests/run" || command.starts_with("git ") || command.starts_with("cargo ") {
            continue;
        }
        let shown = command
            .replace("http://127.0.0.1:7480", &server.router)
            .replace("postgres://diario@127.0.0.1/copy", &database);
        // An app needs a moment to become routable, a line to arrive.
        until(&format!("`{command}` to succeed"), || {
            let output = Command::new("sh")
                .args(["-c", &shown])
                .env("PATH", &path)
                .env("DIARIO_API", &server.api)
                .env("DIARIO_LOG", "warn")
                .current_dir(folder.path())
                .output()
                .unwrap();
            let is_done = output.status.success();
            if !is_done && !command.starts_with("curl") {
                panic!("`{command}`: {}", told(&output));
            }
            is_done.then_some(())
        });
    }
}
