//! Everything that runs under one registration of the cell.
//!
//! A session ends when the agent is asked to end, or when the control plane says that the
//! registration has passed. The next one takes up from the disk what this one left; under another
//! registration that is nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domain::log::{CellEpoch, Position};
use domain::rep::{Assignment, HeartbeatRequest, RegisterAnswer, WorkReference};
use tokio::sync::{Mutex, Notify, Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::definitions::Definitions;
use super::observer::{Head, Observer};
use super::reporter::{FLUSH_WAIT, Refusal, Reporter, ReporterQueue};
use super::room::Room;
use super::self_check::{self, CellHealth};
use super::worker::Worker;
use super::{Book, EarlierLife, ObservationSpool, ReportSpool, StorageError, adoption, handle_of};
use crate::clock;
use crate::config::{Config, OnShutdown, SelfCheckConfig};
use crate::control_plane::{ControlPlane, Error};
use crate::executor::Executor;
use crate::garden::Garden;
use crate::retry::BackOff;
use crate::supervise::{self, Worker as Supervised};
use domain::bbs::placement::Resources;
use domain::units::Milliseconds;

/// How many refusals may wait to be acted upon.
const REFUSALS_MAX: usize = 1024;
/// How long the end of a session waits for containers to be left in order.
const DETACH_WAIT: Duration = Duration::from_secs(2);
/// How long the end of a session waits for containers to be destroyed, beyond their grace.
const DESTROY_WAIT: Duration = Duration::from_secs(20);

/// How long a look of the cell at itself may take.
const SELF_CHECK_TIMEOUT: Milliseconds = Milliseconds::from_seconds(120);

/// The least between two polls that bring nothing new.
const POLL_PAUSE: Duration = Duration::from_millis(20);

/// What outlives a session.
#[derive(Debug, Clone)]
pub(crate) struct Equipment {
    pub(crate) config: Arc<Config>,
    pub(crate) capacity: Resources,
    pub(crate) garden: Arc<dyn Garden>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) control_plane: Arc<dyn ControlPlane>,
    pub(crate) book: Arc<Book>,
    pub(crate) reports: Arc<Mutex<ReportSpool>>,
    pub(crate) observations: Arc<ObservationSpool>,
    /// What became of the cell before this agent.
    pub(crate) earlier_life: EarlierLife,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// The agent is asked to end; containers are left or destroyed as configured.
    Shutdown,
    /// The registration has passed; containers run on.
    EpochPassed,
}

/// What the workers of a session share.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) executor: Arc<Executor>,
    pub(super) book: Arc<Book>,
    pub(super) room: Room,
    pub(super) definitions: Arc<Definitions>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) observer: Arc<Observer>,
    pub(super) preloaded_rootfses: BTreeSet<String>,
    pub(super) health: Arc<CellHealth>,
    pub(super) earlier_life: EarlierLife,
    /// Turns to make a container, and to destroy one.
    pub(super) creates: Semaphore,
    pub(super) destroys: Semaphore,
    /// Told when the plan may have changed.
    pub(super) changed: Notify,
}

/// Runs a session to its end.
///
/// # Errors
/// The disk does not take what must be on it.
pub(crate) async fn run(
    equipment: &Equipment,
    registered: &RegisterAnswer,
    shutdown: &CancellationToken,
) -> Result<SessionEnd, StorageError> {
    enter(equipment, registered).await?;
    let (session, queue) = session(equipment, registered);
    let mut worker = Worker::new(Arc::clone(&session));
    for found in adoption::find(&session, equipment.garden.as_ref()).await {
        worker.adopt(found);
    }
    let epoch_passed = CancellationToken::new();
    let (refused, mut refusals) = mpsc::channel(REFUSALS_MAX);
    let (assigned, mut assignment) = watch::channel(None);
    let loops = Loops { equipment, session: &session, registered, epoch_passed: &epoch_passed };
    let _running = loops.start(queue, refused, assigned);
    let end = loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break SessionEnd::Shutdown,
            () = epoch_passed.cancelled() => break SessionEnd::EpochPassed,
            Some((reference, refusal)) = refusals.recv() => worker.refused(&reference, refusal),
            () = session.changed.notified() => {}
            Ok(()) = assignment.changed() => {}
        }
        let current: Option<Arc<Assignment>> = assignment.borrow_and_update().clone();
        if let Some(current) = current {
            worker.work(&current).await;
        }
    };
    leave(equipment, &session, worker, end).await;
    Ok(end)
}

/// Under another registration than before, what there is belongs to nobody.
async fn enter(equipment: &Equipment, registered: &RegisterAnswer) -> Result<(), StorageError> {
    let mut reports = equipment.reports.lock().await;
    if reports.epoch() != Some(registered.cell_epoch) {
        destroy_everything(equipment).await;
        equipment.book.clear().await?;
    }
    // Last: a death before it does all of the above again.
    reports.enter(registered.cell_epoch, registered.reports_seen)?;
    equipment.observations.enter(registered.cell_epoch);
    Ok(())
}

/// Destroys all containers there are, and those that an ended session was still making: the
/// garden lists these only when they are whole, but the book knows of them.
pub(crate) async fn destroy_everything(equipment: &Equipment) {
    let listed = equipment.garden.list().await.into_iter().map(|info| info.handle);
    let entries = equipment.book.entries();
    let known = entries.iter().map(|entry| handle_of(&entry.reference.instance_guid));
    let handles: BTreeSet<_> = listed.chain(known).collect();
    adoption::destroy_all(equipment.garden.as_ref(), handles.into_iter().collect()).await;
}

fn session(equipment: &Equipment, registered: &RegisterAnswer) -> (Arc<Session>, ReporterQueue) {
    let config = &equipment.config;
    let (reporter, queue) = Reporter::new(Arc::clone(&equipment.reports));
    let observer = Observer {
        spool: Arc::clone(&equipment.observations),
        head: Head::default(),
        cell_id: config.cell_id.clone(),
    };
    observer.head.note(registered.head);
    let session = Session {
        executor: Arc::clone(&equipment.executor),
        book: Arc::clone(&equipment.book),
        room: Room::new(equipment.capacity, config.containers.room_wait.duration()),
        definitions: Arc::new(Definitions::new(Arc::clone(&equipment.control_plane))),
        reporter: Arc::new(reporter),
        observer: Arc::new(observer),
        preloaded_rootfses: config.preloaded_rootfses.clone(),
        health: Arc::default(),
        earlier_life: equipment.earlier_life.clone(),
        creates: Semaphore::new(config.containers.creates_max.max(1)),
        destroys: Semaphore::new(config.containers.destroys_max.max(1)),
        changed: Notify::new(),
    };
    (Arc::new(session), queue)
}

async fn leave(equipment: &Equipment, session: &Session, worker: Worker, end: SessionEnd) {
    match (end, equipment.config.on_shutdown) {
        (SessionEnd::Shutdown, OnShutdown::DestroyAll) => {
            let default = equipment.config.containers.graceful_stop;
            let entries = equipment.book.entries();
            let own = entries.iter().filter_map(|entry| entry.recipe.as_ref()?.graceful_stop_ms);
            let longest = own.fold(default, Milliseconds::max).duration();
            worker.destroy_all(longest + DESTROY_WAIT).await;
        }
        (SessionEnd::EpochPassed, OnShutdown::DestroyAll | OnShutdown::LeaveRunning)
        | (SessionEnd::Shutdown, OnShutdown::LeaveRunning) => worker.detach(DETACH_WAIT).await,
    }
    if end == SessionEnd::Shutdown {
        let flushed = async {
            tokio::join!(session.reporter.flushed(), session.observer.flushed());
        };
        if timeout(FLUSH_WAIT, flushed).await.is_err() {
            tracing::info!("The control plane did not take all in time; the rest is kept.");
        }
    }
}

/// The loops of a session that talk to the control plane.
struct Loops<'a> {
    equipment: &'a Equipment,
    session: &'a Arc<Session>,
    registered: &'a RegisterAnswer,
    epoch_passed: &'a CancellationToken,
}

type Assigned = watch::Sender<Option<Arc<Assignment>>>;

impl Loops<'_> {
    fn start(
        &self,
        queue: ReporterQueue,
        refused: mpsc::Sender<(WorkReference, Refusal)>,
        assigned: Assigned,
    ) -> Vec<Supervised> {
        let epoch = self.registered.cell_epoch;
        let reporter = &self.session.reporter;
        let observer = &self.session.observer;
        let (plane, passed) = (&self.equipment.control_plane, self.epoch_passed);
        let sending = Arc::clone(reporter).send(plane.clone(), epoch, refused, passed.clone());
        let pushing = Arc::clone(observer).push(plane.clone(), epoch, passed.clone());
        let every = self.registered.heartbeat_interval_ms.duration();
        let beating =
            heartbeat(plane.clone(), Arc::clone(self.session), epoch, every, passed.clone());
        let following = follow(plane.clone(), epoch, assigned, passed.clone());
        let mut running = vec![
            supervise::spawn("reports to the disk", Arc::clone(reporter).keep(queue)),
            supervise::spawn("reports to the control plane", sending),
            supervise::spawn("observations", pushing),
            supervise::spawn("heartbeat", beating),
            supervise::spawn("assignment", following),
        ];
        running.extend(self.start_self_check());
        running
    }

    fn start_self_check(&self) -> Option<Supervised> {
        let Equipment { config, garden, executor, .. } = self.equipment;
        let check = SelfCheckConfig {
            every: config.self_check_every?,
            timeout: SELF_CHECK_TIMEOUT,
            binary: executor.healthcheck_binary().to_owned(),
        };
        let rootfs = config.preloaded_rootfses.first()?;
        let rootfs = format!("preloaded:{rootfs}");
        let health = Arc::clone(&self.session.health);
        let checking = self_check::run(Arc::clone(garden), health, rootfs, check);
        Some(supervise::spawn("self check", checking))
    }
}

/// Whether the control plane knows this registration no more.
fn has_passed(error: &Error) -> bool {
    error.is_epoch_passed() || error.has_code("NOT_FOUND")
}

async fn heartbeat(
    control_plane: Arc<dyn ControlPlane>,
    session: Arc<Session>,
    cell_epoch: CellEpoch,
    every: Duration,
    epoch_passed: CancellationToken,
) {
    let mut tick = interval(every.max(Duration::from_millis(10)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = session.health.changed.notified() => {}
        }
        let health = session.health.get();
        let request = HeartbeatRequest { cell_epoch, cell_time: clock::now(), health };
        match control_plane.heartbeat(&request).await {
            Ok(answer) => session.observer.head.note(answer.head),
            Err(error) if has_passed(&error) => return epoch_passed.cancel(),
            Err(error) => tracing::debug!(%error, "A heartbeat was not heard."),
        }
    }
}

async fn follow(
    control_plane: Arc<dyn ControlPlane>,
    cell_epoch: CellEpoch,
    assigned: Assigned,
    epoch_passed: CancellationToken,
) {
    let mut after = Position::default();
    let mut back_off = BackOff::for_requests();
    loop {
        match control_plane.assignment(after, cell_epoch).await {
            Ok(assignment) if assignment.cell_epoch == cell_epoch => {
                back_off.reset();
                // A node that is behind gives an older list, which is obeyed no more.
                let is_new = assigned.borrow().is_none() || assignment.position > after;
                if is_new {
                    after = assignment.position;
                    assigned.send_replace(Some(Arc::new(assignment)));
                } else {
                    // It was held long, unless the other side errs: then this holds it.
                    sleep(POLL_PAUSE).await;
                }
            }
            Ok(_) => return epoch_passed.cancel(),
            Err(error) if has_passed(&error) => return epoch_passed.cancel(),
            Err(error) => {
                tracing::debug!(%error, "Cannot follow the assignment.");
                sleep(back_off.pause()).await;
            }
        }
    }
}
