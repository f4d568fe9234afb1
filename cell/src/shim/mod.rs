//! The shim: one small process per container, which outlives the agent.
//!
//! It is the parent of the container's init and of every process run in it, keeps their output
//! and exit records on disk, and serves one agent over a socket. Single-threaded, no runtime.
//! When it dies its container dies with it; it never restarts anything.

mod connection;
mod memory;
mod processes;
pub(crate) mod protocol;
pub(crate) mod spool;
mod supervisor;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, chdir, dup2_stdin, dup2_stdout, setsid};

use crate::durable_file::{self, Survives};
use crate::garden::Environment;
use crate::garden::linux::depot::{ContainerConfig, Depot, SHIM_SOCKET};
use crate::garden::linux::init;
use crate::garden::linux::kernel::{self, Cloned, SingleThreaded};
use crate::garden::linux::shim_process::ShimProcess;
use connection::Connection;
use processes::Processes;
use protocol::READY;
use supervisor::Supervisor;

/// The most lines that a shim ever logs.
const LOG_LINES_MAX: u32 = 1000;

/// Runs a shim: `shim --config <container's folder>/config.json`.
///
/// Must be called before any thread is started. The container's environment comes as JSON on
/// stdin; one line on stdout says `ready` or what went wrong.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Whatever whoever started the agent left open is not for containers.
    if let Err(errno) = kernel::close_all_now() {
        return report(Err(format!("cannot close inherited descriptors: {errno}")));
    }
    let mut arguments = arguments.into_iter();
    let config = match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(flag), Some(path), None) if flag == "--config" => PathBuf::from(path),
        _ => return report(Err("usage: shim --config <path>".to_owned())),
    };
    let detached = read_environment().and_then(|environment| {
        let proof = SingleThreaded::prove().map_err(|error| error.to_string())?;
        match detach(&proof)? {
            Cloned::Parent { .. } => Ok(None),
            Cloned::Child => Ok(Some((proof, environment))),
        }
    });
    match detached {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some((proof, environment))) => supervise(proof, &config, environment),
        Err(reason) => report(Err(reason)),
    }
}

/// Starts the container and keeps it.
fn supervise(proof: SingleThreaded, config: &Path, environment: Environment) -> ExitCode {
    let mut supervisor = match start(proof, config, environment) {
        Ok(supervisor) => supervisor,
        Err(reason) => return report(Err(reason)),
    };
    // An agent that is gone will not take the container up: its successor removes what is half
    // made. Ending here takes init along.
    if report(Ok(())) != ExitCode::SUCCESS {
        return ExitCode::FAILURE;
    }
    match supervisor.serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("the shim ends: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn read_environment() -> Result<Environment, String> {
    let mut text = Vec::new();
    io::stdin()
        .read_to_end(&mut text)
        .map_err(|error| format!("cannot read the environment: {error}"))?;
    serde_json::from_slice(&text).map_err(|_| "the environment is not valid JSON".to_owned())
}

/// Leaves the agent's session and process tree, so that nothing that ends the agent ends this.
fn detach(proof: &SingleThreaded) -> Result<Cloned, String> {
    let step = |what: &'static str| move |errno: nix::Error| format!("cannot {what}: {errno}");
    // Inherited by the clone. The signals of a terminal or a service manager are for the agent;
    // ends of children are read from a descriptor.
    let mut blocked = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        blocked.add(signal);
    }
    blocked.thread_set_mask().map_err(step("block signals"))?;
    let cloned = kernel::clone(proof, CloneFlags::empty()).map_err(step("fork"))?;
    if matches!(cloned, Cloned::Child) {
        setsid().map_err(step("start a session"))?;
        chdir("/").map_err(step("leave the working folder"))?;
        kernel::join_new_keyring().map_err(step("leave the agent's keys"))?;
        prctl::set_child_subreaper(true).map_err(step("become a subreaper"))?;
        prctl::set_dumpable(false).map_err(step("hide the environment"))?;
        umask(Mode::from_bits_truncate(0o077));
    }
    Ok(cloned)
}

fn start(
    proof: SingleThreaded,
    config_path: &Path,
    environment: Environment,
) -> Result<Supervisor, String> {
    let step = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    let folder = config_path.parent().ok_or("the configuration has no folder")?;
    let depot = Depot::at(folder.to_owned());
    let config = depot.read_config().map_err(step("read the configuration"))?;
    record_process(&depot).map_err(step("record the shim's process"))?;
    let listener = listen(&depot).map_err(step("listen"))?;
    let connection = Connection::new(listener).map_err(step("listen"))?;
    let processes = Processes::new(&depot).map_err(step("make the output spool"))?;
    let child_signals = watch_children().map_err(step("watch for ends of processes"))?;
    let join = open_join_files(&config)?;
    hold_rootfs(&config).map_err(step("hold the rootfs"))?;
    let init = init::start(&proof, &depot, &config, &join)?;
    Ok(Supervisor {
        proof,
        depot,
        config,
        environment,
        join,
        init,
        is_stopped: false,
        announced: processes.spool.end(),
        processes,
        connection,
        child_signals,
    })
}

/// Writes down which process this is, so that an agent can end it when it does not answer.
fn record_process(depot: &Depot) -> io::Result<()> {
    let process = ShimProcess::find(Pid::this())
        .ok_or_else(|| io::Error::other("this process is not in /proc"))?;
    let text = serde_json::to_vec(&process).map_err(io::Error::other)?;
    durable_file::write(&depot.shim_pid(), &text, Survives::Agent)
}

fn listen(depot: &Depot) -> io::Result<UnixListener> {
    // By the folder's descriptor: a socket's path may have 107 bytes only.
    let folder = File::open(depot.folder())?;
    UnixListener::bind(format!("/proc/self/fd/{}/{SHIM_SOCKET}", folder.as_raw_fd()))
}

fn watch_children() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn open_join_files(config: &ContainerConfig) -> Result<Vec<OwnedFd>, String> {
    let open_one = |path: &PathBuf| {
        open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| format!("cannot open {}: {errno}", path.display()))
    };
    config.cgroup.join.iter().map(open_one).collect()
}

/// Holds a shared lock on the rootfs folder while the container lives, so that whoever wants to
/// remove an old one can see whether it is in use.
fn hold_rootfs(config: &ContainerConfig) -> io::Result<()> {
    let folder = File::open(&config.rootfs_folder)?;
    folder.lock_shared()?;
    // Held by this process until it ends, on purpose.
    std::mem::forget(folder);
    Ok(())
}

/// Tells the agent how the start went, and lets go of its pipes.
fn report(outcome: Result<(), String>) -> ExitCode {
    let line = match &outcome {
        Ok(()) => READY.to_owned(),
        Err(reason) => reason.replace('\n', " "),
    };
    let mut stdout = io::stdout();
    let told = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    let let_go = || -> nix::Result<()> {
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)
    };
    if outcome.is_ok() && told.is_ok() && let_go().is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Writes a line to the container's `shim.log`, which is this process's stderr.
fn log(line: &str) {
    static LINES: AtomicU32 = AtomicU32::new(0);
    if LINES.fetch_add(1, Ordering::Relaxed) < LOG_LINES_MAX {
        // There is nobody to tell if the log cannot be written.
        io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap_or_default();
    }
}
