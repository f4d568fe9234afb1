//! The commands as a shell gives them: parsed by clap, against a real listener; the real edge with
//! a control plane in memory, or a made-up one where the protocol itself is looked at.

mod archive;
mod commands;
mod protocol;
mod simulate;

use std::sync::{Arc, Mutex, PoisonError};

use clap::{CommandFactory as _, Parser};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{Command, Error, Outcome, perform};

/// A program with nothing but the commands of operators.
#[derive(Debug, Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

/// A listener that is gone with the test.
struct Server {
    url: String,
    worker: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Server {
    async fn start(router: axum::Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let worker = projections::worker::spawn("test server", async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, worker }
    }

    /// Runs a command; what it printed, and what came of it.
    async fn run(&self, arguments: &[&str]) -> (Vec<String>, Result<Outcome, Error>) {
        // Behind the noun, not at the end: there may be a `--` before.
        let (noun, rest) = arguments.split_at(1);
        let api = ["--api", &self.url];
        let program = Program::try_parse_from([&["diario"], noun, &api[..], rest].concat());
        let printed = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&printed);
        let print = move |line: &str| {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
            Ok(())
        };
        let outcome = perform(program.unwrap().command, Box::new(print)).await;
        let printed = printed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (printed, outcome)
    }

    /// Runs a command that must be done; what it printed.
    async fn done(&self, arguments: &[&str]) -> Vec<String> {
        let (printed, outcome) = self.run(arguments).await;
        assert_eq!(outcome.unwrap(), Outcome::Done, "{printed:?}");
        printed
    }

    /// Runs a command that must be refused; why, with all causes.
    async fn refused(&self, arguments: &[&str]) -> String {
        let (printed, outcome) = self.run(arguments).await;
        assert!(printed.is_empty(), "{printed:?}");
        format!("{:#}", anyhow::Error::from(outcome.unwrap_err()))
    }
}

/// Whether clap takes the arguments; else what it says.
fn parsed(arguments: &[&str]) -> Result<Command, String> {
    let all = ["diario"].iter().chain(arguments);
    Program::try_parse_from(all).map(|it| it.command).map_err(|failure| failure.to_string())
}

#[test]
fn every_command_has_a_help_text_with_an_example() {
    fn check(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let has_verbs = command.has_subcommands();
        assert!(has_verbs || help.contains("Example"), "{} has no example", command.get_name());
        assert!(command.get_about().is_some(), "{} says nothing of itself", command.get_name());
        command.get_subcommands().for_each(check);
    }
    let program = Program::command();

    program.clone().debug_assert();
    program.get_subcommands().for_each(check);
}

#[test]
fn options_that_cannot_be_are_refused_before_anything_is_asked() {
    let refused = [
        &["lrp", "desire"][..],
        &["lrp", "desire", "web.yaml", "--guid", "web"],
        &["lrp", "desire", "--guid", "a.b", "--", "/bin/true"],
        &["lrp", "desire", "--guid", "", "--", "/bin/true"],
        &["lrp", "desire", "--guid", "web", "--rootfs", "docker:x", "--", "/bin/true"],
        &["lrp", "desire", "--guid", "web", "--memory-mb", "-1", "--", "/bin/true"],
        &["lrp", "desire", "--guid", "web", "--port", "0", "--", "/bin/true"],
        &["lrp", "scale", "web", "-1"],
        &["lrp", "restart-policy", "web"],
        &["lrp", "restart-policy", "web", "--restart", "never", "--inherit"],
        &["domains", "restart-policy", "jobs"],
        &["domains", "restart-policy", "jobs", "--restart", "never", "--default"],
        &["lrp", "scale", "web", "4294967296"],
        &["lrp", "rm", "web", "--command-id", "a b"],
        &["at", "yesterday", "lrps"],
        &["at", "@1", "apps"],
        &["diff"],
        &["diff", "-10w", "now"],
        &["log", "tail", "--owner", "web"],
        &["log", "tail", "--type", "crashed"],
        &["log", "show", "x"],
        &["crash", "show", "-1"],
        &["logs", "web", "--task", "--instance", "0"],
        &["logs"],
    ];
    for arguments in refused {
        assert!(parsed(arguments).is_err(), "{arguments:?}");
    }

    for arguments in [
        &["diff", "-10m", "now", "--json"][..],
        &["diff", "@1"],
        &["at", "-1h", "lrps", "--api", "http://x"],
        &["lrp", "list", "--json", "--token", "t"],
    ] {
        assert!(parsed(arguments).is_ok(), "{arguments:?}: {:?}", parsed(arguments));
    }
}
