//! A Garden in memory, for the cell's own tests: it runs nothing and does what it is told.
//!
//! Never used by the product. Processes run until the test says how they end, or end at once
//! when their path was scripted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{
    BindMount, Capacity, ContainerInfo, ContainerSpec, ContainerState, Error, ExitRecord,
    ExitStatus, Garden, Handle, Inspection, Metrics, OomReport, OutputChunk, OutputCursor,
    OutputRecord, OutputStream, ProcessId, ProcessSpec, ProcessState, Signal,
};
use crate::clock;

/// The fake; clones share one world.
#[derive(Debug, Clone, Default)]
pub struct FakeGarden {
    world: Arc<Mutex<World>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct World {
    containers: BTreeMap<Handle, FakeContainer>,
    scripted_exits: BTreeMap<String, ExitStatus>,
    create_failure: Option<String>,
    run_failure: Option<String>,
    ignoring: BTreeSet<String>,
    executed: Vec<(Handle, ProcessSpec)>,
    signals: Vec<(Handle, ProcessId, Signal)>,
    roots: Option<PathBuf>,
    created: u8,
}

#[derive(Debug)]
struct FakeContainer {
    info: ContainerInfo,
    runs: Vec<ProcessSpec>,
    output: Vec<OutputRecord>,
    metrics: Metrics,
    inspection: Inspection,
    bind_mounts: Vec<BindMount>,
}

impl FakeGarden {
    /// Every process with this path ends at once, in this way.
    pub fn script_exit(&self, path: &str, status: ExitStatus) {
        self.world().scripted_exits.insert(path.to_owned(), status);
    }

    /// The next container cannot be made.
    pub fn fail_next_create(&self, reason: &str) {
        self.world().create_failure = Some(reason.to_owned());
    }

    /// The next process cannot be exec'd.
    pub fn fail_next_run(&self, reason: &str) {
        self.world().run_failure = Some(reason.to_owned());
    }

    /// Processes with this path do not end by SIGTERM.
    pub fn ignore_terminate(&self, path: &str) {
        self.world().ignoring.insert(path.to_owned());
    }

    /// Everything that was ever exec'd, also in containers that are gone.
    #[must_use]
    pub fn executed(&self) -> Vec<(Handle, ProcessSpec)> {
        self.world().executed.clone()
    }

    /// The containers have files from now on: each its own folder below this one.
    pub fn keep_files_in(&self, folder: &Path) {
        self.world().roots = Some(folder.to_owned());
    }

    /// A container is gone, as after a restart of the machine.
    pub fn vanish(&self, handle: &Handle) {
        self.world().containers.remove(handle);
        self.changed.notify_waiters();
    }

    /// The containers there are.
    #[must_use]
    pub fn handles(&self) -> Vec<Handle> {
        self.world().containers.keys().cloned().collect()
    }

    /// Where a process is in its life, if there is such a one.
    #[must_use]
    pub fn process(&self, handle: &Handle, process: &ProcessId) -> Option<ProcessState> {
        let world = self.world();
        world.containers.get(handle)?.info.processes.get(process).cloned()
    }

    /// Ends a process that runs.
    pub fn finish(
        &self,
        handle: &Handle,
        process: &ProcessId,
        status: ExitStatus,
        out_of_memory: Option<OomReport>,
    ) {
        if let Some(container) = self.world().containers.get_mut(handle) {
            container.finish(process, status, out_of_memory);
        }
        self.changed.notify_waiters();
    }

    /// Lets a process write.
    pub fn write(&self, handle: &Handle, process: &ProcessId, stream: OutputStream, bytes: &[u8]) {
        if let Some(container) = self.world().containers.get_mut(handle) {
            let (process, bytes) = (process.clone(), bytes.to_vec());
            let time_ns = clock::wall_ns();
            container.output.push(OutputRecord { time_ns, process, stream, bytes });
            container.info.output_end.0 += 1;
        }
        self.changed.notify_waiters();
    }

    /// Sets what a container uses.
    pub fn set_metrics(&self, handle: &Handle, metrics: Metrics) {
        if let Some(container) = self.world().containers.get_mut(handle) {
            container.metrics = metrics;
        }
    }

    /// Sets what an inspection of a container tells.
    pub fn set_inspection(&self, handle: &Handle, inspection: Inspection) {
        if let Some(container) = self.world().containers.get_mut(handle) {
            container.inspection = inspection;
        }
    }

    /// A container's init is killed from outside, and with it all that runs in it.
    pub fn stop_container(&self, handle: &Handle) {
        if let Some(container) = self.world().containers.get_mut(handle) {
            container.info.state = ContainerState::Stopped;
            let ids: Vec<ProcessId> = container.info.processes.keys().cloned().collect();
            for id in ids {
                container.finish(&id, ExitStatus::Signaled { signal: 9 }, None);
            }
        }
        self.changed.notify_waiters();
    }

    /// Everything that was run in a container, in order.
    #[must_use]
    pub fn runs(&self, handle: &Handle) -> Vec<ProcessSpec> {
        let world = self.world();
        world.containers.get(handle).map_or_else(Vec::new, |container| container.runs.clone())
    }

    /// What is seen of the host in a container.
    #[must_use]
    pub fn bind_mounts(&self, handle: &Handle) -> Vec<BindMount> {
        let mounted = self.with(handle, |container| container.bind_mounts.clone());
        mounted.unwrap_or_default()
    }

    /// Every signal ever sent in a container, in order, also when it is gone.
    #[must_use]
    pub fn signals(&self, handle: &Handle) -> Vec<(ProcessId, Signal)> {
        let world = self.world();
        let of_container = world.signals.iter().filter(|(known, _, _)| known == handle);
        of_container.map(|(_, process, signal)| (process.clone(), *signal)).collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        handle: &Handle,
        ask: impl FnOnce(&mut FakeContainer) -> T,
    ) -> Result<T, Error> {
        let mut world = self.world();
        let container = world.containers.get_mut(handle);
        container.map(ask).ok_or_else(|| Error::UnknownHandle { handle: handle.clone() })
    }

    /// Waits until a look at a container gives something.
    async fn until<T>(&self, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change is missed in between.
            changed.as_mut().enable();
            if let Some(found) = look(self) {
                return found;
            }
            changed.await;
        }
    }
}

impl FakeContainer {
    fn finish(&mut self, id: &ProcessId, status: ExitStatus, out_of_memory: Option<OomReport>) {
        if let Some(state) = self.info.processes.get_mut(id)
            && let ProcessState::Running { started_at_ns, .. } = *state
        {
            *state = ProcessState::Ended(ExitRecord {
                process: id.clone(),
                status,
                out_of_memory,
                started_at_ns,
                ended_at_ns: clock::wall_ns(),
                output_end: self.info.output_end,
                is_fleeting: self.runs.iter().any(|run| run.id == *id && run.is_fleeting),
            });
        }
    }
}

#[async_trait]
impl Garden for FakeGarden {
    async fn create(&self, spec: ContainerSpec) -> Result<ContainerInfo, Error> {
        spec.validate()?;
        let mut world = self.world();
        let handle = spec.handle;
        if let Some(reason) = world.create_failure.take() {
            return Err(Error::Create { handle, reason });
        }
        if world.containers.contains_key(&handle) {
            return Err(Error::HandleInUse { handle });
        }
        world.created = world.created.wrapping_add(1);
        let info = ContainerInfo {
            handle: handle.clone(),
            rootfs: spec.rootfs,
            address: Ipv4Addr::new(10, 254, 0, world.created),
            cgroup: format!("diario/fake/{handle}"),
            created_at_ns: clock::wall_ns(),
            limits: spec.limits,
            properties: spec.properties,
            state: ContainerState::Running,
            processes: BTreeMap::new(),
            output_end: OutputCursor::default(),
        };
        let container = FakeContainer {
            info: info.clone(),
            runs: Vec::new(),
            output: Vec::new(),
            metrics: Metrics {
                memory_bytes: 0,
                memory_peak_bytes: 0,
                cpu_ns: 0,
                pids: 1,
                received_bytes: Some(0),
                sent_bytes: Some(0),
            },
            inspection: Inspection::default(),
            bind_mounts: spec.bind_mounts,
        };
        world.containers.insert(handle, container);
        Ok(info)
    }

    async fn run(&self, handle: &Handle, process: ProcessSpec) -> Result<(), Error> {
        process.validate()?;
        let scripted = self.world().scripted_exits.get(&process.path).copied();
        if let Some(reason) = self.world().run_failure.take() {
            let (handle, process) = (handle.clone(), process.id);
            return Err(Error::Run { handle, process, reason });
        }
        let executed = (handle.clone(), process.clone());
        let outcome = self.with(handle, |container| {
            let id = process.id.clone();
            if container.info.processes.contains_key(&id) {
                return Err(Error::ProcessInUse { handle: handle.clone(), process: id });
            }
            let running = ProcessState::Running { pid: 1, started_at_ns: clock::wall_ns() };
            container.info.processes.insert(id.clone(), running);
            container.runs.push(process);
            if let Some(status) = scripted {
                container.finish(&id, status, None);
            }
            Ok(())
        })?;
        if outcome.is_ok() {
            self.world().executed.push(executed);
            self.changed.notify_waiters();
        }
        outcome
    }

    async fn signal(
        &self,
        handle: &Handle,
        process: &ProcessId,
        signal: Signal,
    ) -> Result<(), Error> {
        let ignoring = self.world().ignoring.clone();
        self.world().signals.push((handle.clone(), process.clone(), signal));
        let known = self.with(handle, |container| {
            let run = container.runs.iter().find(|run| run.id == *process);
            let ignores = run.is_some_and(|run| ignoring.contains(&run.path));
            match signal {
                Signal::Terminate if ignores => {}
                Signal::Terminate => {
                    container.finish(process, ExitStatus::Signaled { signal: 15 }, None);
                }
                Signal::Kill => {
                    container.finish(process, ExitStatus::Signaled { signal: 9 }, None);
                }
            }
            container.info.processes.contains_key(process)
        })?;
        self.changed.notify_waiters();
        let unknown = || Error::UnknownProcess { handle: handle.clone(), process: process.clone() };
        if known { Ok(()) } else { Err(unknown()) }
    }

    async fn wait(&self, handle: &Handle, process: &ProcessId) -> Result<ExitRecord, Error> {
        self.until(|garden| {
            let state =
                garden.with(handle, |container| container.info.processes.get(process).cloned());
            match state {
                Err(_) => Some(Err(Error::Stopped { handle: handle.clone() })),
                Ok(None) => Some(Err(Error::UnknownProcess {
                    handle: handle.clone(),
                    process: process.clone(),
                })),
                Ok(Some(ProcessState::Running { .. })) => None,
                Ok(Some(ProcessState::Ended(record))) => Some(Ok(record)),
            }
        })
        .await
    }

    async fn read_output(
        &self,
        handle: &Handle,
        after: OutputCursor,
        _max_bytes: usize,
    ) -> Result<OutputChunk, Error> {
        self.with(handle, |container| {
            let seen = usize::try_from(after.0).unwrap_or(usize::MAX);
            let records = container.output.iter().skip(seen).cloned().collect();
            OutputChunk { records, next: container.info.output_end, dropped_bytes: 0 }
        })
    }

    async fn output_ready(&self, handle: &Handle, after: OutputCursor) {
        self.until(|garden| {
            let end = garden.with(handle, |container| container.info.output_end);
            end.map_or(Some(()), |end| (end > after).then_some(()))
        })
        .await;
    }

    async fn metrics(&self, handle: &Handle) -> Result<Metrics, Error> {
        self.with(handle, |container| container.metrics)
    }

    async fn disk_usage(&self, handle: &Handle) -> Result<u64, Error> {
        self.with(handle, |_| 4096)
    }

    async fn inspect(&self, handle: &Handle) -> Result<Inspection, Error> {
        self.with(handle, |container| container.inspection.clone())
    }

    async fn root(&self, handle: &Handle) -> Result<OwnedFd, Error> {
        self.with(handle, |_| ())?;
        let roots = self.world().roots.clone();
        let roots = roots.ok_or_else(|| Error::Stopped { handle: handle.clone() })?;
        let root = roots.join(handle.as_str());
        let opened = fs::create_dir_all(&root).and_then(|()| File::open(&root));
        opened.map(OwnedFd::from).map_err(Error::host("open the root of a fake container"))
    }

    async fn state(&self, handle: &Handle) -> Option<ContainerState> {
        self.with(handle, |container| container.info.state).ok()
    }

    async fn until_stopped(&self, handle: &Handle) {
        self.until(|garden| {
            let state = garden.with(handle, |container| container.info.state).ok();
            (state != Some(ContainerState::Running)).then_some(())
        })
        .await;
    }

    async fn list(&self) -> Vec<ContainerInfo> {
        self.world().containers.values().map(|container| container.info.clone()).collect()
    }

    async fn destroy(&self, handle: &Handle) -> Result<(), Error> {
        self.world().containers.remove(handle);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn capacity(&self) -> Result<Capacity, Error> {
        Ok(Capacity { memory_bytes: 1 << 34, disk_bytes: 1 << 36, containers_max: 250 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::garden::{Environment, Limits, RootfsName};

    #[tokio::test]
    async fn a_process_runs_until_the_test_ends_it() {
        let garden = FakeGarden::default();
        let (handle, id) = (Handle::parse("c").unwrap(), ProcessId::parse("app").unwrap());
        let spec = ContainerSpec {
            handle: handle.clone(),
            rootfs: RootfsName::parse("preloaded:x").unwrap(),
            hostname: "c".to_owned(),
            environment: Environment::default(),
            limits: Limits::default(),
            bind_mounts: Vec::new(),
            properties: BTreeMap::new(),
        };
        let process = ProcessSpec {
            id: id.clone(),
            path: "/app".to_owned(),
            args: Vec::new(),
            environment: Environment::default(),
            dir: None,
            user: None,
            nofile: None,
            is_fleeting: false,
        };
        garden.create(spec).await.unwrap();
        garden.run(&handle, process.clone()).await.unwrap();

        let waiting = garden.wait(&handle, &id);
        let ending = async { garden.finish(&handle, &id, ExitStatus::Exited { code: 3 }, None) };
        let (record, ()) = tokio::join!(waiting, ending);

        assert_eq!(record.unwrap().status, ExitStatus::Exited { code: 3 });
        assert!(garden.run(&handle, process).await.is_err());
        garden.destroy(&handle).await.unwrap();
        assert!(garden.wait(&handle, &id).await.is_err());
    }
}
