//! Makes a container: folder, cgroups, lease, and the shim that does the rest.
//!
//! A marker file is written last: a folder without it is half made, and is removed by whoever
//! finds it. After an error nothing is left, or the place in the table says
//! what.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

use super::depot::{CgroupFiles, ContainerConfig, Depot, NetworkLease};
use super::init::START_TIMEOUT_MS;
use super::{Cell, Container, Remains, Slot, blocking, destroy};
use crate::clock;
use crate::garden::{ContainerInfo, ContainerSpec, Environment, Error, Handle};
use crate::shim::protocol::READY;

/// Makes a container whose place is reserved, and takes it up.
pub(super) async fn create(cell: &Arc<Cell>, spec: ContainerSpec) -> Result<ContainerInfo, Error> {
    let handle = spec.handle.clone();
    let made = {
        let cell = Arc::clone(cell);
        blocking(move || make(&cell, &spec)).await.unwrap_or_else(|error| Err(error.into()))
    };
    let slot = match made {
        Ok((config, depot)) => Ok(Arc::new(Container::adopt(config, depot).await)),
        Err(failure) => Err(failure),
    };
    let outcome = settle(cell, &handle, slot);
    cell.creation_ended.notify_waiters();
    outcome
}

/// A creation that failed, and what it could not take back.
struct Failure {
    error: Error,
    remains: Option<Box<Remains>>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, remains: None }
    }
}

/// Puts the container in the reserved place, or frees that.
fn settle(
    cell: &Cell,
    handle: &Handle,
    made: Result<Arc<Container>, Failure>,
) -> Result<ContainerInfo, Error> {
    let mut containers = cell.containers();
    match made {
        Ok(container) => {
            let info = container.info();
            containers.insert(handle.clone(), Slot::Whole(container));
            tracing::info!(%handle, address = %info.address, "Created container.");
            Ok(info)
        }
        Err(Failure { error, remains: None }) => {
            containers.remove(handle);
            Err(error)
        }
        Err(Failure { error, remains: Some(remains) }) => {
            containers.insert(handle.clone(), Slot::Broken(remains));
            Err(error)
        }
    }
}

/// Takes the handle of a valid specification, if it is free and there is room.
pub(super) fn reserve(cell: &Cell, spec: &ContainerSpec) -> Result<(), Error> {
    spec.validate()?;
    let handle = &spec.handle;
    let mut containers = cell.containers();
    if containers.contains_key(handle) {
        return Err(Error::HandleInUse { handle: handle.clone() });
    }
    let containers_max = cell.config.containers_max;
    if u32::try_from(containers.len()).is_ok_and(|count| count >= containers_max) {
        return Err(Error::Full { containers_max });
    }
    containers.insert(handle.clone(), Slot::Creating);
    Ok(())
}

/// The blocking part; leaves nothing after an error but what the failure tells.
fn make(cell: &Cell, spec: &ContainerSpec) -> Result<(ContainerConfig, Depot), Failure> {
    let rootfs_folder = cell
        .config
        .rootfses
        .get(spec.rootfs.preloaded_name())
        .filter(|folder| folder.is_dir())
        .ok_or_else(|| Error::UnknownRootfs { rootfs: spec.rootfs.clone() })?;
    let slots_max = u32::from(cell.network.subnet().slots());
    let lease = cell.network.lease().ok_or(Error::Full { containers_max: slots_max })?;
    let depot = Depot::at(cell.config.containers_dir().join(spec.handle.as_str()));
    let mut config = ContainerConfig {
        handle: spec.handle.clone(),
        rootfs: spec.rootfs.clone(),
        rootfs_folder: rootfs_folder.clone(),
        hostname: spec.hostname.clone(),
        limits: spec.limits,
        bind_mounts: spec.bind_mounts.clone(),
        properties: spec.properties.clone(),
        created_at_ns: clock::wall_ns(),
        cgroup: CgroupFiles {
            name: cell.cgroups.name(&spec.handle),
            join: Vec::new(),
            oom_events: Default::default(),
            memory_peak: Default::default(),
        },
        network: lease,
    };
    match build(cell, &mut config, &depot, &spec.environment) {
        Ok(()) => Ok((config, depot)),
        Err(reason) => {
            let error = Error::Create { handle: spec.handle.clone(), reason };
            if let Err(left) = destroy::remove(cell, &config, &depot) {
                tracing::error!(handle = %spec.handle, left, "A failed container is not gone.");
                // Its address may still be in use: the lease is kept with it.
                return Err(Failure { error, remains: Some(Box::new(Remains { config, depot })) });
            }
            cell.network.release(&config.network);
            Err(error.into())
        }
    }
}

fn build(
    cell: &Cell,
    config: &mut ContainerConfig,
    depot: &Depot,
    environment: &Environment,
) -> Result<(), String> {
    let step = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    depot.create().map_err(step("make its folder"))?;
    write_etc(depot, config).map_err(step("write its /etc"))?;
    config.cgroup = cell.cgroups.create(&config.handle, &config.limits)?;
    depot.write_config(config).map_err(step("write its configuration"))?;
    start_shim(cell, depot, environment)?;
    File::create(depot.created_marker()).map_err(step("mark it as created"))?;
    Ok(())
}

/// The files that name the container and its surroundings, bound over the rootfs's own.
fn write_etc(depot: &Depot, config: &ContainerConfig) -> io::Result<()> {
    let etc = depot.etc();
    let NetworkLease { address, .. } = &config.network;
    let hostname = &config.hostname;
    fs::write(etc.join("hosts"), format!("127.0.0.1 localhost\n{address} {hostname}\n"))?;
    fs::write(etc.join("hostname"), format!("{hostname}\n"))?;
    let resolvers = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    fs::write(etc.join("resolv.conf"), without_loopback(&resolvers))
}

/// The host's resolvers that a container can reach: not those on the host's own loopback.
fn without_loopback(resolvers: &str) -> String {
    let is_loopback = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.next() == Some("nameserver")
            && words
                .next()
                .and_then(|address| address.parse::<IpAddr>().ok())
                .is_some_and(|address| address.is_loopback())
    };
    resolvers.lines().filter(|line| !is_loopback(line)).map(|line| format!("{line}\n")).collect()
}

/// Starts the shim and waits until it says that the container stands.
fn start_shim(cell: &Cell, depot: &Depot, environment: &Environment) -> Result<(), String> {
    let step = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    let log = File::create(depot.shim_log()).map_err(step("make the shim's log"))?;
    let mut shim = Program::new(&cell.config.shim_binary)
        .args(["shim", "--config"])
        .arg(depot.config())
        // The agent's own variables are not the container's.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(step("start the shim"))?;
    let said = converse(&mut shim, environment);
    // The program that was started forks the shim and ends.
    let ended = shim.wait().map_err(step("wait for the shim's start"))?;
    match said?.as_str() {
        READY => Ok(()),
        "" => {
            let log = fs::read_to_string(depot.shim_log()).unwrap_or_default();
            Err(format!("the shim ended without a word ({ended}): {}", log.trim()))
        }
        reason => Err(reason.to_owned()),
    }
}

fn converse(shim: &mut Child, environment: &Environment) -> Result<String, String> {
    let step = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    let text = serde_json::to_vec(environment).map_err(|error| error.to_string())?;
    let mut stdin = shim.stdin.take().ok_or("the shim has no stdin")?;
    let mut stdout = shim.stdout.take().ok_or("the shim has no stdout")?;
    stdin.write_all(&text).map_err(step("give the shim the environment"))?;
    drop(stdin);
    let mut said = String::new();
    let mut waiting = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::from(START_TIMEOUT_MS)) {
        Ok(0) => return Err("the shim took too long to start".to_owned()),
        Ok(_) => {}
        Err(errno) => return Err(format!("cannot wait for the shim: {errno}")),
    }
    stdout.read_to_string(&mut said).map_err(step("hear the shim"))?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_on_the_hosts_loopback_are_left_out() {
        let host = "search a.b\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver ::1\n";

        assert_eq!(without_loopback(host), "search a.b\nnameserver 10.0.0.2\n");
    }
}
