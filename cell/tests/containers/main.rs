//! Real containers on this machine: needs root.
//!
//! Its own main, because the binary also runs as the shim, inside the containers and as an
//! agent to be killed. Every test gets a cell of its own and is held to leave nothing on the
//! machine. Prints a count at the end; the exit code is not 0 if any failed.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the harness reports to the terminal, and what runs inside writes to its streams"
)]

mod agent;
mod files;
mod harness;
mod inside;
mod instances;
mod isolation;
mod leaks;
mod lifecycle;
#[expect(dead_code, reason = "shared with the tests on the fake garden, which use all of it")]
#[path = "../../src/rep/tests/plane.rs"]
mod plane;
mod processes;
mod restart;
mod speed;

use std::process::ExitCode;

// Where the shared fake of the control plane looks for it.
use cell::control_plane;
use harness::Test;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().and_then(|first| first.into_string().ok()).unwrap_or_default();
    // The executor mounts this binary under another name.
    let own_name = std::env::args_os().next().unwrap_or_default();
    if std::path::Path::new(&own_name).file_name() == Some("healthcheck".as_ref()) {
        return cell::lifecycle::healthcheck::main(std::env::args_os().skip(1));
    }
    match first.as_str() {
        "shim" => cell::shim::main(arguments),
        "healthcheck" => cell::lifecycle::healthcheck::main(arguments),
        "sample-app" => cell::lifecycle::sample_app::main(),
        "inside" => inside::main(arguments.map(|one| one.into_string().unwrap()).collect()),
        "agent" => agent::main(arguments.map(|one| one.into_string().unwrap()).collect()),
        _ => harness::run(&all()),
    }
}

fn all() -> Vec<Test> {
    [
        processes::tests(),
        isolation::tests(),
        lifecycle::tests(),
        instances::tests(),
        files::tests(),
        restart::tests(),
        leaks::tests(),
        speed::tests(),
    ]
    .concat()
}
