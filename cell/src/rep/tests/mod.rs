//! A cell with its real rep and executor, on a fake garden and a fake control plane, in virtual
//! time.
//!
//! The agent is killed and started again as often as a test likes; folder, garden and control
//! plane live on.

mod adoption;
mod ends;
mod files;
mod identity;
mod lrp;
mod plane;
mod readiness;
mod spools;
mod steps;
mod task;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::action::{Action, EnvironmentVariable, Run};
use domain::bbs::definition::{Definition, Rootfs};
use domain::check::{Check, CheckDefinition, TcpCheck};
use domain::id::{ActualLrpKey, CellId, InstanceGuid, ProcessGuid, TaskGuid};
use domain::log::{PlacementEpoch, Position};
use domain::observation::ObservationRecord;
use domain::rep::{Ended, Observed, Wanted, Work, WorkKind, WorkReference};
use domain::sealed::{Digest, PlainText};
use domain::units::{Mebibytes, Milliseconds};
use tokio_util::sync::CancellationToken;

use self::plane::FakePlane;
use super::handle_of;
use crate::agent::{self, Outcome};
use crate::config::{Config, InstanceIdentityConfig, OnShutdown};
use crate::garden::fake::FakeGarden;
use crate::garden::{ExitStatus, Garden, Handle, OutputStream, ProcessId, ProcessState};
use crate::supervise::{self, Worker};

/// A cell of 1,000 MiB that a test can kill and start again.
struct Cell {
    plane: FakePlane,
    garden: FakeGarden,
    folder: tempfile::TempDir,
    agent: Option<Worker>,
    shutdown: CancellationToken,
    outcome: Arc<Mutex<Option<Result<Outcome, agent::Error>>>>,
    on_shutdown: OnShutdown,
    self_check_every: Option<Milliseconds>,
    log_lines_per_second: Option<u64>,
    instance_identity: Option<InstanceIdentityConfig>,
}

impl Cell {
    fn started() -> Self {
        let mut cell = Self {
            plane: FakePlane::default(),
            garden: FakeGarden::default(),
            folder: tempfile::tempdir().unwrap(),
            agent: None,
            shutdown: CancellationToken::new(),
            outcome: Arc::default(),
            on_shutdown: OnShutdown::LeaveRunning,
            self_check_every: None,
            log_lines_per_second: None,
            instance_identity: None,
        };
        cell.start_agent();
        cell
    }

    fn start_agent(&mut self) {
        let urls = vec!["http://unused".to_owned()];
        let cell_id = CellId::new("cell-1").unwrap();
        let folder = self.folder.path().to_owned();
        let mut config = Config::new(cell_id, folder, urls, PlainText(String::new()));
        config.capacity.memory_mb = Some(Mebibytes(1000));
        config.preloaded_rootfses.insert("diario".to_owned());
        config.containers.healthcheck_binary = Some("/bin/true".into());
        config.on_shutdown = self.on_shutdown;
        config.self_check_every = self.self_check_every;
        config.containers.log_lines_per_second = self.log_lines_per_second;
        config.containers.instance_identity = self.instance_identity.clone();
        self.shutdown = CancellationToken::new();
        let garden: Arc<dyn Garden> = Arc::new(self.garden.clone());
        let plane = Arc::new(self.plane.clone());
        let run = agent::run_with(config, garden, plane, self.shutdown.clone());
        let outcome = Arc::clone(&self.outcome);
        self.agent = Some(supervise::spawn("agent", async move {
            let ended = Box::pin(run).await;
            *outcome.lock().unwrap() = Some(ended);
        }));
    }

    /// As `kill -9` does: nothing is said, nothing is put in order.
    async fn kill_agent(&mut self) {
        self.agent = None;
        // Aborted tasks are dropped when the runtime gets to them.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    async fn stop_agent(&mut self) -> Result<Outcome, agent::Error> {
        self.shutdown.cancel();
        self.outcome().await
    }

    async fn outcome(&mut self) -> Result<Outcome, agent::Error> {
        self.until("the agent ends", |cell| cell.outcome.lock().unwrap().is_some()).await;
        self.agent = None;
        self.outcome.lock().unwrap().take().unwrap()
    }

    /// Waits for a condition, at most ten minutes of virtual time.
    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..60_000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}; reports: {:#?}", self.plane.reports());
    }

    /// Waits for a process of a container to run.
    async fn until_runs(&self, work: &Work, process: &str) {
        self.until(process, |cell| cell.runs(work, process)).await;
    }

    fn runs(&self, work: &Work, process: &str) -> bool {
        let state = self.garden.process(&handle(work), &process_id(process));
        matches!(state, Some(ProcessState::Running { .. }))
    }

    fn exit(&self, work: &Work, process: &str, code: i32) {
        let status = ExitStatus::Exited { code };
        self.garden.finish(&handle(work), &process_id(process), status, None);
    }

    fn write(&self, work: &Work, process: &str, text: &str) {
        let bytes = text.as_bytes();
        self.garden.write(&handle(work), &process_id(process), OutputStream::Stdout, bytes);
    }

    /// Waits for a report of a container, by its name, and gives all names so far.
    async fn until_reported(&self, work: &Work, name: &str) -> Vec<&'static str> {
        self.until(name, |cell| cell.reported(work).contains(&name)).await;
        self.reported(work)
    }

    fn reported(&self, work: &Work) -> Vec<&'static str> {
        let reports = self.plane.reports();
        let of_work = reports.iter().filter(|report| report.report.work == work.reference);
        of_work.map(|report| name(&report.report.observed)).collect()
    }

    fn ended(&self, work: &Work) -> Ended {
        let reports = self.plane.reports();
        let mut of_work = reports.into_iter().filter(|told| told.report.work == work.reference);
        let ended = of_work.find_map(|told| {
            if let Observed::Ended(ended) = told.report.observed { Some(*ended) } else { None }
        });
        ended.unwrap()
    }

    fn refusal(&self, work: &Work) -> String {
        let reports = self.plane.reports();
        let mut of_work = reports.into_iter().filter(|told| told.report.work == work.reference);
        let reason = of_work.find_map(|told| {
            if let Observed::Refused(reason) = told.report.observed { Some(reason) } else { None }
        });
        reason.unwrap()
    }

    async fn until_container_is_gone(&self, work: &Work) {
        self.until("no container", |cell| !cell.has_container(work)).await;
    }

    fn has_container(&self, work: &Work) -> bool {
        self.garden.handles().contains(&handle(work))
    }

    /// How often a container's first Run step was exec'd.
    fn executions(&self, work: &Work) -> usize {
        let executed = self.garden.executed();
        let is_it =
            |handle_of_run: &Handle, id: &str| *handle_of_run == handle(work) && id == "run-0";
        executed.iter().filter(|(handle, run)| is_it(handle, run.id.as_str())).count()
    }

    /// The lines that were pushed of a container, without the cell's own.
    fn lines(&self, work: &Work) -> Vec<String> {
        self.lines_of(work, "APP")
    }

    /// The lines of a source that were pushed of a container.
    fn lines_of(&self, work: &Work, source: &str) -> Vec<String> {
        let observations = self.plane.observations();
        let of_work = observations
            .into_iter()
            .filter(|observation| observation.instance_guid == work.reference.instance_guid);
        of_work
            .filter_map(|observation| match observation.record {
                ObservationRecord::Line(line) if line.source == source => Some(line.text),
                ObservationRecord::Line(_) | ObservationRecord::Metrics(_) => None,
            })
            .collect()
    }
}

fn handle(work: &Work) -> Handle {
    handle_of(&work.reference.instance_guid)
}

fn process_id(text: &str) -> ProcessId {
    ProcessId::parse(text).unwrap()
}

fn name(observed: &Observed) -> &'static str {
    match observed {
        Observed::Refused(_) => "refused",
        Observed::Claimed => "claimed",
        Observed::Healthy { .. } => "healthy",
        Observed::Readiness(_) => "readiness",
        Observed::MayStart => "may start",
        Observed::Ended(_) => "ended",
        Observed::Gone => "gone",
        Observed::Killed(_) => "killed",
    }
}

/// An app of 400 MiB with one process.
fn app() -> Definition<PlainText> {
    let rootfs = Rootfs::new("preloaded:diario").unwrap();
    Definition {
        env: vec![EnvironmentVariable {
            name: "TOKEN".to_owned(),
            value: PlainText("hunter2".to_owned()),
        }],
        ports: vec![8080],
        ..Definition::new(rootfs, run("/app"), Mebibytes(400), Mebibytes(10))
    }
}

fn app_with_check() -> Definition<PlainText> {
    let check = Check::Tcp(TcpCheck {
        port: 8080,
        timeout_ms: Milliseconds(0),
        interval_ms: Milliseconds(0),
        unhealthy_interval_ms: Milliseconds(0),
        failure_threshold: 0,
    });
    Definition { check: Some(checked(vec![check])), ..app() }
}

fn checked(checks: Vec<Check>) -> CheckDefinition {
    CheckDefinition { checks, ..CheckDefinition::default() }
}

fn run(path: &str) -> Action<PlainText> {
    Action::Run(Run::new(path, "vcap"))
}

fn lrp(guid: &str) -> Work {
    let process_guid = ProcessGuid::new("app").unwrap();
    work(guid, WorkKind::Lrp(ActualLrpKey { process_guid, index: 0 }))
}

fn task(guid: &str) -> Work {
    work(guid, WorkKind::Task(TaskGuid::new("task").unwrap()))
}

fn work(guid: &str, kind: WorkKind) -> Work {
    let reference = WorkReference {
        kind,
        instance_guid: InstanceGuid::new(guid).unwrap(),
        placement_epoch: PlacementEpoch(Position(7)),
    };
    Work { reference, wanted: Wanted::Run, definition: Digest::of(guid.as_bytes()), labels: None }
}

fn variables(cell: &Cell, work: &Work, process: &str) -> BTreeMap<String, String> {
    let runs = cell.garden.runs(&handle(work));
    let run = runs.into_iter().find(|run| run.id.as_str() == process).unwrap();
    run.environment.0.into_iter().collect()
}
