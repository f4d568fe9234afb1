//! Starts a container's init: the first process in its namespaces, which then only waits.
//!
//! The order is ready for user namespaces: the namespaces first, then a wait for the parent
//! (who would write the id maps there), then cgroups, mounts and network. Init never execs, so
//! no program of the host can be reached through `/proc/1/exe`; it is not dumpable besides.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{
    Pid, dup2_stderr, dup2_stdin, dup2_stdout, pause, pipe2, sethostname, setsid, write,
};

use super::depot::{ContainerConfig, Depot, NetworkLease};
use super::kernel::{self, Cloned, SingleThreaded};
use super::netlink::{Netlink, VethPeer, interface_index};
use super::{capabilities, masks, mounts};

/// How long a step of a start may take before it is given up.
pub(crate) const START_TIMEOUT_MS: u16 = 20_000;

/// What init says when its parent does not go on.
const SHIM_GONE: &str = "the shim is gone";

/// A container's init, as its shim holds it.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) pid: Pid,
    /// Opens the namespaces for later processes.
    pub(crate) pidfd: OwnedFd,
}

/// The namespaces that every container has of its own.
pub(super) const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWPID
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWNET);

/// Makes the namespaces, the mounts and the network, and leaves init waiting in them.
///
/// On an error init is dead and reaped; its namespaces, mounts and interfaces go with it.
pub(crate) fn start(
    proof: &SingleThreaded,
    depot: &Depot,
    config: &ContainerConfig,
    join: &[OwnedFd],
) -> Result<Init, String> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| format!("cannot make a pipe: {errno}"));
    let (go_reader, go_writer) = pipe()?;
    let (report_reader, report_writer) = pipe()?;
    let cloned = kernel::clone(proof, NAMESPACES)
        .map_err(|errno| format!("cannot make namespaces: {errno}"))?;
    let Cloned::Parent { child: pid } = cloned else {
        drop((go_writer, report_reader));
        become_init(depot, config, join, go_reader, report_writer)
    };
    drop((go_reader, report_writer));

    let started = supervise(pid, config, go_writer, report_reader);
    if started.is_err() {
        // Its process was just made and not reaped: the number is still its own.
        let (_killed, _reaped) = (kill(pid, Signal::SIGKILL), waitpid(pid, None));
    }
    started
}

/// The parent's half of the start.
fn supervise(
    pid: Pid,
    config: &ContainerConfig,
    go: OwnedFd,
    report: OwnedFd,
) -> Result<Init, String> {
    let pidfd =
        kernel::pidfd_open(pid).map_err(|errno| format!("cannot open init's pidfd: {errno}"))?;
    let led = lead(pid, config, &go);
    // If init waits for more, it is told now that there is none.
    drop(go);
    let (said, complete) = read_report(report);
    complete?;
    match (said.as_str(), led) {
        ("ready", Ok(())) => Ok(Init { pid, pidfd }),
        ("" | SHIM_GONE, Err(reason)) => Err(reason),
        ("", Ok(())) => Err("init died during its start".to_owned()),
        // What init says is why it did not wait for its parent.
        (reason, _) => Err(reason.to_owned()),
    }
}

/// Does the parent's steps, each at init's wait point.
fn lead(pid: Pid, config: &ContainerConfig, go: &OwnedFd) -> Result<(), String> {
    let proceed = || write(go, b".").map_err(|errno| format!("init is gone: {errno}"));
    // Here a user namespace's id maps would be written.
    proceed()?;
    // Init mounts meanwhile.
    plug_in(pid, &config.network)
        .map_err(|error| format!("cannot make {}: {error}", config.network.host_interface))?;
    proceed()?;
    Ok(())
}

fn plug_in(pid: Pid, lease: &NetworkLease) -> io::Result<()> {
    let bridge = interface_index(&lease.bridge)
        .ok_or_else(|| io::Error::other(format!("bridge {} is gone", lease.bridge)))?;
    let [a, b, c, d] = lease.address.octets();
    // Derived from the address, so that a host's old entry for a reused address stays true.
    let hardware_address = [0x0a, 0xfe, a, b, c, d];
    let peer = VethPeer { name: "eth0", hardware_address, namespace_of: pid };
    Netlink::open()?.create_veth(&lease.host_interface, bridge, &peer)
}

/// Reads everything that a starting child has to say, until it execs, ends or says no more.
///
/// The text is what it said so far, also when it did not come to an end.
pub(super) fn read_report(report: OwnedFd) -> (String, Result<(), String>) {
    let mut file = fs::File::from(report);
    let mut text = Vec::new();
    let complete = read_until_end(&mut file, START_TIMEOUT_MS, &mut text);
    (String::from_utf8_lossy(&text).into_owned(), complete)
}

/// Reads on until the end, or until nothing comes for so long.
pub(super) fn read_until_end(
    file: &mut fs::File,
    timeout_ms: u16,
    text: &mut Vec<u8>,
) -> Result<(), String> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let mut buffer = [0; 4096];
    loop {
        let mut waiting = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(timeout_ms)) {
            Ok(0) => return Err("the start took too long".to_owned()),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(format!("cannot wait for the start: {errno}")),
        }
        let count =
            file.read(&mut buffer).map_err(|error| format!("cannot read the report: {error}"))?;
        match buffer.get(..count) {
            Some(bytes) if count > 0 => text.extend_from_slice(bytes),
            _ => return Ok(()),
        }
    }
}

/// The child's half: never returns, and never runs the parent's destructors.
fn become_init(
    depot: &Depot,
    config: &ContainerConfig,
    join: &[OwnedFd],
    go: OwnedFd,
    report: OwnedFd,
) -> ! {
    let mut report = fs::File::from(report);
    let prepared = prepare(depot, config, join, fs::File::from(go));
    let said = match &prepared {
        Ok(()) => report.write_all(b"ready"),
        Err(reason) => report.write_all(reason.as_bytes()),
    };
    if prepared.is_err() || said.is_err() || kernel::close_all_now().is_err() {
        kernel::exit_now(1);
    }
    loop {
        pause();
    }
}

fn prepare(
    depot: &Depot,
    config: &ContainerConfig,
    join: &[OwnedFd],
    mut go: fs::File,
) -> Result<(), String> {
    let step = |what: &'static str| move |errno: Errno| format!("cannot {what}: {errno}");
    // A shim that dies takes its container along: nobody could tell how its processes end.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("ask to end with the shim"))?;
    prctl::set_dumpable(false).map_err(step("hide init's memory"))?;
    wait_for_parent(&mut go)?;
    setsid().map_err(step("start a session"))?;
    umask(Mode::empty());
    raise_oom_score(0);
    join_cgroups(join)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(step("make a cgroup namespace"))?;
    let root = mounts::build(depot, config)?;
    wait_for_parent(&mut go)?;
    configure_network(&config.network)
        .map_err(|error| format!("cannot configure the container's network: {error}"))?;
    sethostname(&config.hostname).map_err(step("set the host name"))?;
    mounts::enter(&root)?;
    masks::apply()?;
    become_harmless()
}

/// A wait point: the parent has done its part, or is dead.
fn wait_for_parent(go: &mut fs::File) -> Result<(), String> {
    go.read_exact(&mut [0]).map_err(|_| SHIM_GONE.to_owned())
}

/// Joins the container's cgroups: a single-threaded process that writes `0` to `tasks` does not
/// wait for the kernel's global lock, which costs 10 ms otherwise.
pub(super) fn join_cgroups(join: &[OwnedFd]) -> Result<(), String> {
    for tasks in join {
        write(tasks, b"0").map_err(|errno| format!("cannot join a cgroup: {errno}"))?;
    }
    Ok(())
}

/// Gives up a protection from the kernel's out-of-memory killer that the agent may have, and
/// stands `extra` thousandths of the memory nearer to it.
pub(super) fn raise_oom_score(extra: i32) {
    let path = Path::new("/proc/self/oom_score_adj");
    let score = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let raised = score.map(|score| score.max(0).saturating_add(extra).min(1000));
    if let Some(raised) = raised.filter(|_| raised != score) {
        // Raising it is always allowed; if not, the old score holds.
        fs::write(path, raised.to_string()).unwrap_or_default();
    }
}

fn configure_network(lease: &NetworkLease) -> io::Result<()> {
    let missing = || io::Error::other("the interface is not there");
    let (loopback, ethernet) = ("lo", "eth0");
    let mut netlink = Netlink::open()?;
    let loopback = interface_index(loopback).ok_or_else(missing)?;
    netlink.add_address(loopback, Ipv4Addr::LOCALHOST, 8)?;
    netlink.set_up(loopback)?;
    let ethernet = interface_index(ethernet).ok_or_else(missing)?;
    netlink.add_address(ethernet, lease.address, lease.prefix_length)?;
    netlink.set_up(ethernet)?;
    netlink.add_default_route(lease.gateway)
}

/// Gives up what init does not need to wait: rights, terminal, signals, files.
fn become_harmless() -> Result<(), String> {
    let step = |what: &'static str| move |errno: Errno| format!("cannot {what}: {errno}");
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(step("open /dev/null"))?;
    dup2_stdin(&null).map_err(step("redirect stdin"))?;
    dup2_stdout(&null).map_err(step("redirect stdout"))?;
    dup2_stderr(&null).map_err(step("redirect stderr"))?;
    umask(Mode::from_bits_truncate(0o022));
    capabilities::limit_bounding_set().map_err(step("limit the bounding set"))?;
    capabilities::limit_current().map_err(step("limit init's capabilities"))?;
    prctl::set_no_new_privs().map_err(step("set no_new_privs"))?;
    kernel::reset_signal_actions();
    // Orphans come to init; the kernel reaps them, so init never has to wake.
    kernel::ignore_child_signals();
    SigSet::empty().thread_set_mask().map_err(step("unblock signals"))
}
