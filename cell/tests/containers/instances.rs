//! The whole cell on real containers: instances become healthy, serve, die with evidence, and
//! outlive their agent.

use std::net::SocketAddr;
use std::sync::Arc;

use cell::agent;
use cell::clock;
use cell::config::{Config, OnShutdown};
use cell::garden::{Garden, Signal};
use domain::action::{Action, Run};
use domain::bbs::actual_lrp::NetInfo;
use domain::bbs::definition::{Definition, Rootfs};
use domain::check::{Check, CheckDefinition, HttpCheck};
use domain::exit::ExitStatus;
use domain::id::{ActualLrpKey, CellId, InstanceGuid, ProcessGuid, TaskGuid};
use domain::log::{PlacementEpoch, Position};
use domain::observation::ObservationRecord;
use domain::rep::{Ended, Observed, Wanted, Work, WorkKind, WorkReference};
use domain::sealed::{Digest, PlainText};
use domain::units::{Mebibytes, Milliseconds};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{BINARY, World, eventually, handle, process, tests};
use crate::isolation::get;
use crate::plane::FakePlane;

tests![
    an_instance_becomes_healthy_serves_and_dies_with_evidence,
    an_instance_that_does_not_answer_never_becomes_healthy,
    an_instance_outlives_its_agent_and_its_lines_are_not_lost,
    a_task_runs_to_its_end,
    a_stop_lets_an_instance_end_by_itself,
    an_app_has_as_long_to_end_as_it_asks_for,
    an_app_that_does_not_end_within_its_own_grace_is_killed_and_that_is_told,
    an_app_that_was_replaced_meanwhile_gets_no_longer_than_the_cell_gives_everybody,
    a_check_ends_an_instance_only_after_as_many_failures_as_it_says,
];

/// An agent on the world's garden.
pub(crate) struct Agent {
    task: JoinHandle<Result<agent::Outcome, agent::Error>>,
    shutdown: CancellationToken,
}

impl Agent {
    pub(crate) fn start(world: &World, plane: &FakePlane, on_shutdown: OnShutdown) -> Self {
        let cells_default = Milliseconds::from_seconds(10);
        Self::with_grace(world, plane, on_shutdown, cells_default)
    }

    #[expect(clippy::disallowed_methods, reason = "a test aborts its agent as a kill would")]
    fn with_grace(
        world: &World,
        plane: &FakePlane,
        on_shutdown: OnShutdown,
        grace: Milliseconds,
    ) -> Self {
        let cell_id = CellId::new("cell-1").unwrap();
        let folder = world.home.path().join("agent");
        let unused = (vec!["http://unused".to_owned()], PlainText(String::new()));
        let mut config = Config::new(cell_id, folder, unused.0, unused.1);
        config.preloaded_rootfses.insert("diario".to_owned());
        config.on_shutdown = on_shutdown;
        config.containers.graceful_stop = grace;
        let shutdown = CancellationToken::new();
        let garden = Arc::new(world.garden.clone());
        let run = agent::run_with(config, garden, Arc::new(plane.clone()), shutdown.clone());
        Self { task: tokio::spawn(run), shutdown }
    }

    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn stop(self) -> agent::Outcome {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap()
    }
}

pub(crate) fn app(path: &str, argument: &str) -> Definition<PlainText> {
    let check = Check::Http(HttpCheck {
        port: 8080,
        path: path.to_owned(),
        timeout_ms: Milliseconds(0),
        interval_ms: Milliseconds(0),
        unhealthy_interval_ms: Milliseconds(0),
        failure_threshold: 0,
    });
    let args = argument.split(' ').map(str::to_owned).collect();
    let action = Action::Run(Run { args, ..Run::new(BINARY, "vcap") });
    let rootfs = Rootfs::new("preloaded:diario").unwrap();
    Definition {
        check: Some(CheckDefinition { checks: vec![check], ..CheckDefinition::default() }),
        start_timeout_ms: Milliseconds(2000),
        ports: vec![8080],
        ..Definition::new(rootfs, action, Mebibytes(64), Mebibytes(10))
    }
}

fn lrp() -> Work {
    let process_guid = ProcessGuid::new("app").unwrap();
    work(WorkKind::Lrp(ActualLrpKey { process_guid, index: 3 }))
}

pub(crate) fn work(kind: WorkKind) -> Work {
    let reference = WorkReference {
        kind,
        instance_guid: InstanceGuid::new("one").unwrap(),
        placement_epoch: PlacementEpoch(Position(7)),
    };
    Work { reference, wanted: Wanted::Run, definition: Digest::of(b"one"), labels: None }
}

async fn until_healthy(plane: &FakePlane) -> NetInfo {
    let healthy = || {
        plane.reports().into_iter().find_map(|told| {
            if let Observed::Healthy { net_info, .. } = told.report.observed {
                Some(net_info)
            } else {
                None
            }
        })
    };
    eventually("it is healthy", || healthy().is_some()).await;
    healthy().unwrap()
}

pub(crate) async fn until_ended(plane: &FakePlane) -> Ended {
    let ended = || {
        plane.reports().into_iter().find_map(|told| {
            if let Observed::Ended(ended) = told.report.observed { Some(*ended) } else { None }
        })
    };
    eventually("it ended", || ended().is_some()).await;
    ended().unwrap()
}

pub(crate) fn lines(plane: &FakePlane) -> Vec<String> {
    let line = |record| match record {
        ObservationRecord::Line(line) => Some(line.text),
        ObservationRecord::Metrics(_) => None,
    };
    plane.observations().into_iter().filter_map(|observation| line(observation.record)).collect()
}

async fn an_instance_becomes_healthy_serves_and_dies_with_evidence(world: &mut World) {
    let plane = FakePlane::default();
    let agent = Agent::start(world, &plane, OnShutdown::DestroyAll);
    let placed = clock::monotonic();
    plane.place(&lrp(), app("/health", "sample-app"));

    let net_info = until_healthy(&plane).await;
    println!("placed to healthy: {} ms", placed.elapsed().as_millis());
    let address = SocketAddr::from((net_info.instance_address, 8080));
    let answer = get(address, "/");
    assert!(answer.contains("index=3 instance=one host=one"), "{answer}");
    get(address, "/log/last-words");
    get(address, "/kill/9");
    let ended = until_ended(&plane).await;

    assert_eq!(ended.failure_reason.as_deref(), Some("APP: Exited with status 137"));
    assert_eq!(ended.exit.unwrap().status, ExitStatus::Signalled(9));
    let told: Vec<_> = ended.evidence.log_lines.iter().map(|line| line.text.as_str()).collect();
    assert!(told.contains(&"last-words"), "{told:?}");
    assert_eq!(told.last(), Some(&"Exit status 137"));
    assert!(ended.evidence.metrics.iter().any(|sample| sample.memory_bytes > 0));
    assert_eq!(agent.stop().await, agent::Outcome::Destroyed);
    assert!(world.garden.list().await.is_empty());
}

async fn an_instance_that_does_not_answer_never_becomes_healthy(world: &mut World) {
    let plane = FakePlane::default();
    let agent = Agent::start(world, &plane, OnShutdown::DestroyAll);
    plane.place(&lrp(), app("/nowhere", "sample-app"));

    let reason = until_ended(&plane).await.failure_reason.unwrap();

    assert!(
        reason.starts_with("Instance never healthy after 2s: Timed out after 2s ("),
        "{reason}"
    );
    let wanted = "to '/nowhere' on port 8080: received status code 404 in ";
    assert!(reason.contains(wanted), "{reason}");
    agent.stop().await;
}

async fn an_instance_outlives_its_agent_and_its_lines_are_not_lost(world: &mut World) {
    let plane = FakePlane::default();
    let agent = Agent::start(world, &plane, OnShutdown::LeaveRunning);
    plane.place(&lrp(), app("/health", "sample-app"));
    let address = SocketAddr::from((until_healthy(&plane).await.instance_address, 8080));
    get(address, "/log/before");
    eventually("the line", || lines(&plane).contains(&"before".to_owned())).await;

    agent.kill().await;
    world.between(async |_| {}).await;
    get(address, "/log/meanwhile");
    let agent = Agent::start(world, &plane, OnShutdown::DestroyAll);
    eventually("the line", || lines(&plane).contains(&"meanwhile".to_owned())).await;
    get(address, "/exit/7");
    let ended = until_ended(&plane).await;

    assert_eq!(ended.failure_reason.as_deref(), Some("APP: Exited with status 7"));
    let told: Vec<_> = ended.evidence.log_lines.iter().map(|line| line.text.as_str()).collect();
    assert!(told.contains(&"before") && told.contains(&"meanwhile"), "{told:?}");
    agent.stop().await;
}

async fn a_task_runs_to_its_end(world: &mut World) {
    let plane = FakePlane::default();
    let agent = Agent::start(world, &plane, OnShutdown::DestroyAll);
    plane.place(&work(WorkKind::Task(TaskGuid::new("t").unwrap())), app("/", "inside exit 5"));

    let ended = until_ended(&plane).await;

    assert_eq!(ended.failure_reason.as_deref(), Some("APP: Exited with status 5"));
    eventually("the end of its log", || lines(&plane).contains(&"Exit status 5".to_owned())).await;
    agent.stop().await;
}

async fn a_stop_lets_an_instance_end_by_itself(world: &mut World) {
    let plane = FakePlane::default();
    let agent = Agent::start(world, &plane, OnShutdown::LeaveRunning);
    plane.place(&lrp(), app("/health", "sample-app"));
    until_healthy(&plane).await;
    // One that is no process of the recipe does not matter.
    let signalled = world.garden.signal(&handle("one"), &process("run-9"), Signal::Kill).await;
    assert!(signalled.is_err());

    plane.want_stop(&lrp());
    let is_gone = |plane: &FakePlane| {
        plane.reports().iter().any(|told| told.report.observed == Observed::Gone)
    };
    eventually("it is gone", || is_gone(&plane)).await;

    assert!(world.garden.list().await.is_empty());
    let told = lines(&plane);
    eventually("its last words", || lines(&plane).contains(&"SIGTERM: ending".to_owned())).await;
    assert!(!told.iter().any(|line| line.contains("exceeded")), "{told:?}");
    assert_eq!(agent.stop().await, agent::Outcome::LeftRunning);
}

/// An app without checks, which is healthy once it runs.
fn unchecked(argument: &str, grace: u64) -> Definition<PlainText> {
    let graceful_stop_ms = Some(Milliseconds(grace));
    Definition { check: None, graceful_stop_ms, ..app("/", argument) }
}

/// Stops the instance once it has said a line, and gives what was reported in the end.
async fn stopped_after(plane: &FakePlane, line: &str) -> Observed {
    eventually(line, || lines(plane).iter().any(|told| told == line)).await;
    plane.want_stop(&lrp());
    let last = || plane.reports().pop().map(|told| told.report.observed);
    let is_told = || matches!(last(), Some(Observed::Gone | Observed::Killed(_)));
    eventually("its end is reported", is_told).await;
    last().unwrap()
}

async fn an_app_has_as_long_to_end_as_it_asks_for(world: &mut World) {
    let plane = FakePlane::default();
    let cells_default = Milliseconds(50);
    let agent = Agent::with_grace(world, &plane, OnShutdown::LeaveRunning, cells_default);
    plane.place(&lrp(), unchecked("inside end-after 500", 20_000));

    let told = stopped_after(&plane, "waiting").await;

    assert_eq!(told, Observed::Gone);
    eventually("its end", || lines(&plane).contains(&"Exit status 7".to_owned())).await;
    assert_eq!(agent.stop().await, agent::Outcome::LeftRunning);
}

async fn an_app_that_does_not_end_within_its_own_grace_is_killed_and_that_is_told(
    world: &mut World,
) {
    let plane = FakePlane::default();
    let agent = Agent::start(world, &plane, OnShutdown::LeaveRunning);
    plane.place(&lrp(), unchecked("inside stubborn", 100));

    let told = stopped_after(&plane, "stubborn").await;

    let Observed::Killed(killed) = told else { panic!("{told:?}") };
    assert_eq!(killed.grace, Milliseconds(100));
    let evidence = killed.evidence;
    assert!(evidence.peaks.is_some_and(|peaks| peaks.memory_bytes > 0), "{evidence:?}");
    let wanted = "Exit status 137 (exceeded 100ms graceful shutdown interval)".to_owned();
    eventually("its end", || lines(&plane).contains(&wanted)).await;
    assert_eq!(agent.stop().await, agent::Outcome::LeftRunning);
}

async fn an_app_that_was_replaced_meanwhile_gets_no_longer_than_the_cell_gives_everybody(
    world: &mut World,
) {
    let plane = FakePlane::default();
    let cells_default = Milliseconds(100);
    let agent = Agent::with_grace(world, &plane, OnShutdown::LeaveRunning, cells_default);
    plane.place(&lrp(), unchecked("inside stubborn", 3_600_000));
    eventually("it runs", || lines(&plane).iter().any(|told| told == "stubborn")).await;

    plane.unlist(&lrp());

    let wanted = "Exit status 137 (exceeded 100ms graceful shutdown interval)".to_owned();
    eventually("its end", || lines(&plane).contains(&wanted)).await;
    assert_eq!(agent.stop().await, agent::Outcome::LeftRunning);
}

fn patient(failures: u32, threshold: u32) -> Definition<PlainText> {
    let check = Check::Http(HttpCheck {
        port: 8080,
        path: "/health".to_owned(),
        timeout_ms: Milliseconds(0),
        interval_ms: Milliseconds(20),
        unhealthy_interval_ms: Milliseconds(5),
        failure_threshold: threshold,
    });
    let check = Some(CheckDefinition { checks: vec![check], ..CheckDefinition::default() });
    Definition { check, ..app("/health", &format!("inside flaky-web {failures}")) }
}

async fn a_check_ends_an_instance_only_after_as_many_failures_as_it_says(world: &mut World) {
    let plane = FakePlane::default();
    let agent = Agent::start(world, &plane, OnShutdown::DestroyAll);

    plane.place(&lrp(), patient(2, 3));
    until_healthy(&plane).await;
    let recovered = "answer 5: 200".to_owned();
    eventually("it is looked at after its failures", || lines(&plane).contains(&recovered)).await;
    let is_end = |observed: &Observed| matches!(observed, Observed::Ended(_));
    assert!(!plane.reports().iter().any(|told| is_end(&told.report.observed)));

    let mut other = lrp();
    other.reference.instance_guid = InstanceGuid::new("two").unwrap();
    other.definition = Digest::of(b"two");
    plane.place(&other, patient(3, 3));
    let reason = until_ended(&plane).await.failure_reason.unwrap();

    let begins = "Instance became unhealthy: Liveness check unsuccessful: \
                  failed to make HTTP request to '/health' on port 8080: received status code 500 in ";
    assert!(reason.starts_with(begins) && reason.ends_with("ms (3 in a row)"), "{reason}");
    assert_eq!(agent.stop().await, agent::Outcome::Destroyed);
}
