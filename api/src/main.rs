//! `diario`: one binary for everything. Told apart by its first argument or its own name before
//! any runtime starts: shim and life cycle must stay small and single-threaded.
//!
//! With `dev.rs` and `cell_command.rs` the only place that names the cell crate.

mod cell_command;
mod dev;
mod serve;
mod signals;

use std::{ffi::OsStr, path::Path, process::ExitCode};

use api::{
    bench, cli, output,
    telemetry::traces::{self, Traces},
};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use tokio::runtime::Handle;
use tracing_subscriber::{
    EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// A quarter of a replay's time went to the C library's; a static program cannot choose another by
/// its environment.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Runs apps and one-off tasks in containers on many machines, and keeps their whole history.
#[derive(Debug, Parser)]
#[command(
    name = "diario",
    version,
    after_help = "Example: diario dev --demo\nAsk for help on any command: diario lrp desire --help"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// What to log, as `level` or `target=level,...`; logs go to standard error. By default
    /// `info` for what keeps running, `warn` for commands and the demo.
    #[arg(long, global = true, env = "DIARIO_LOG")]
    log: Option<EnvFilter>,

    /// How to log: `text` for people, `json` for programs.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// For tests of crashes: the step at which to die, as STEP:N.
    #[cfg(debug_assertions)]
    #[arg(long, global = true, hide = true, env = "DIARIO_FAILPOINT")]
    failpoint: Option<projections::failpoint::Failpoint>,
}

/// The exit code of a usage error, as clap's own.
const USAGE: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts all on this machine: a control plane, one cell and the router.
    Dev(dev::Options),
    /// Starts a control plane: API, loops and router.
    Serve(serve::Options),
    /// Starts a cell, which runs containers for a control plane.
    Cell(cell_command::Options),
    /// Measures how fast this machine runs it, beside peers.
    #[command(subcommand)]
    Bench(bench::Command),
    #[command(flatten)]
    Operator(cli::Command),
}

impl Command {
    /// What is logged unless the user says otherwise: nothing that hides what a command prints.
    fn log_level(&self) -> &'static str {
        match self {
            Self::Dev(options) if options.shows_the_demo() => "warn",
            Self::Operator(_) | Self::Bench(_) => "warn",
            Self::Dev(_) | Self::Serve(_) | Self::Cell(_) => "info",
        }
    }
}

fn main() -> ExitCode {
    if let Some(code) = run_inside_containers() {
        return code;
    }
    let arguments = Arguments::parse();
    #[cfg(debug_assertions)]
    arguments.failpoint.into_iter().for_each(projections::failpoint::arm);
    let filter = arguments.log.unwrap_or_else(|| EnvFilter::new(arguments.command.log_level()));
    // Ignored when another provider was installed first: there is only this one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(failure) => {
            output::error(&anyhow::Error::new(failure).context("cannot start the runtime"));
            return ExitCode::FAILURE;
        }
    };
    let traces = match start_traces(&arguments.command, runtime.handle()) {
        Ok(traces) => traces,
        Err(failure) => {
            output::error(&failure.into());
            return ExitCode::from(USAGE);
        }
    };
    start_logging(filter, arguments.log_format, traces.as_ref());
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Dev(options) => Box::pin(dev::run(options)).await,
            Command::Serve(options) => Box::pin(serve::run(options)).await,
            Command::Cell(options) => Box::pin(cell_command::run(options)).await,
            Command::Bench(command) => Box::pin(bench::run(command)).await,
            Command::Operator(command) => Box::pin(cli::run(command)).await,
        }
    });
    if let Some(traces) = traces {
        traces.stop();
    }
    result.unwrap_or_else(|failure| {
        output::error(&failure);
        ExitCode::FAILURE
    })
}

/// The container shim and the life cycle inside containers.
fn run_inside_containers() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let own_name = arguments.next().unwrap_or_default();
    let own_name = Path::new(&own_name).file_name().unwrap_or_default().to_owned();
    if own_name == "healthcheck" {
        return Some(cell::lifecycle::healthcheck::main(arguments));
    }
    let first = arguments.next()?;
    if first == OsStr::new("shim") {
        return Some(cell::shim::main(arguments));
    }
    if first == OsStr::new("healthcheck") {
        return Some(cell::lifecycle::healthcheck::main(arguments));
    }
    (first == OsStr::new("sample-app")).then(cell::lifecycle::sample_app::main)
}

/// Traces of what keeps running, when it is told where to send them.
fn start_traces(command: &Command, runtime: &Handle) -> Result<Option<Traces>, traces::Error> {
    let (options, node) = match command {
        Command::Dev(options) => (&options.traces, "dev"),
        Command::Serve(options) => (&options.traces, "serve"),
        Command::Cell(_) | Command::Bench(_) | Command::Operator(_) => return Ok(None),
    };
    let Some(endpoint) = &options.otlp_endpoint else { return Ok(None) };
    Traces::start(endpoint, node, runtime.clone()).map(Some)
}

fn start_logging(filter: EnvFilter, format: LogFormat, traces: Option<&Traces>) {
    // At `trace` it prints whole messages, and messages may hold secrets.
    let filter = match "tungstenite=info".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(lines).with(traces.map(Traces::layer)).init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_options_of_every_command_go_together() {
        super::Arguments::command().debug_assert();
    }
}
