//! What the log says, told a second time in a few lines and by nobody's code but its own: who is
//! placed where, what ended, how often each task was started and its process run.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    aggregates::Aggregates,
    bbs::{actual_lrp, cell, definition::UpdateStrategy, task},
    event::Event,
    id::{CellId, InstanceGuid, TaskGuid},
    log::{Position, Recorded, StreamId},
    rep::{WorkKind, WorkReference},
};

use super::{clients::Clients, restarts::Restarts};

/// Something that must never be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) invariant: &'static str,
    pub(super) detail: String,
}

/// Makes a violation out of a condition that does not hold.
pub(super) fn ensure(
    holds: bool,
    invariant: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// One wish for a task; its guid may be used again once it is forgotten.
type TaskLife = (TaskGuid, Position);

/// What the log and the cells were seen to do.
#[derive(Debug, Default)]
pub(super) struct Witness {
    placed: BTreeMap<StreamId, InstanceGuid>,
    twins: BTreeMap<StreamId, BTreeSet<InstanceGuid>>,
    ever_placed: BTreeSet<InstanceGuid>,
    ended: BTreeSet<InstanceGuid>,
    tasks: BTreeMap<TaskGuid, Vec<Position>>,
    started: BTreeMap<InstanceGuid, u32>,
    execs: BTreeMap<TaskLife, u32>,
    by_type: BTreeMap<&'static str, u64>,
    on_lost_cells: BTreeSet<InstanceGuid>,
    restarts: Restarts,
    pub(super) clients: Clients,
    /// What was killed after its grace, and whether the log says so.
    killed: BTreeMap<InstanceGuid, bool>,
    /// What was to be stopped though not every router had followed.
    not_followed: BTreeSet<InstanceGuid>,
}

impl Witness {
    /// An event was committed; `aggregates` are as it left them.
    pub(super) fn see(
        &mut self,
        recorded: &Recorded<Event>,
        aggregates: &Aggregates,
    ) -> Result<(), Violation> {
        *self.by_type.entry(recorded.event.type_name()).or_default() += 1;
        match &recorded.event {
            Event::ActualLrp(event) => {
                let (stream, now) = (&recorded.stream, recorded.recorded_at);
                self.restarts.see(stream, event, now, aggregates)?;
                self.see_slot(stream, event, aggregates)
            }
            Event::Task(event) => {
                self.clients.see(recorded, event)?;
                self.see_task(recorded, event, aggregates)
            }
            Event::Cell(event) => self.see_cell(&recorded.stream, event, aggregates),
            Event::DesiredLrp(_) | Event::FreshnessDomain(_) | Event::Secrets(_) => Ok(()),
        }
    }

    fn see_cell(
        &mut self,
        stream: &StreamId,
        event: &cell::Event,
        aggregates: &Aggregates,
    ) -> Result<(), Violation> {
        let StreamId::Cell(cell_id) = stream else { return Ok(()) };
        let slots = aggregates.slots().flat_map(|slot| slot.instances()).map(|it| it.placement);
        let all = slots.chain(aggregates.tasks().filter_map(|task| task.placement()));
        let mut here = all.filter(|placement| placement.cell_id == *cell_id);
        match event {
            cell::Event::Lost(_) => {
                self.on_lost_cells.extend(here.map(|placement| placement.instance_guid.clone()));
                Ok(())
            }
            cell::Event::Evacuated(_) => {
                let first = here.next();
                ensure(first.is_none(), "an evacuated cell holds nothing", || {
                    format!("{cell_id} is told to be empty, with {first:?} on it")
                })
            }
            cell::Event::Registered(_)
            | cell::Event::Returned(_)
            | cell::Event::EvacuationStarted(_)
            | cell::Event::HealthChanged(_)
            | cell::Event::EvacuationCancelled(_) => Ok(()),
        }
    }

    /// Whether a container was on a cell when that was lost: what became of it nobody heard.
    pub(super) fn was_on_a_lost_cell(&self, guid: &InstanceGuid) -> bool {
        self.on_lost_cells.contains(guid)
    }

    fn see_slot(
        &mut self,
        stream: &StreamId,
        event: &actual_lrp::Event,
        aggregates: &Aggregates,
    ) -> Result<(), Violation> {
        match event {
            actual_lrp::Event::Placed(placed) => {
                check_takes_work(aggregates, &placed.cell_id)?;
                self.place(stream, &placed.instance_guid)
            }
            actual_lrp::Event::Refused(_)
            | actual_lrp::Event::Crashed(_)
            | actual_lrp::Event::Unclaimed(_)
            | actual_lrp::Event::Removed(_) => {
                self.end(stream);
                Ok(())
            }
            actual_lrp::Event::Suspected(event) => self.add_twin(stream, &event.instance_guid),
            actual_lrp::Event::EvacuationStarted(event) => {
                check_may_run_twice(aggregates, stream)?;
                self.add_twin(stream, &event.instance_guid)
            }
            actual_lrp::Event::SuspectRestored(event) => {
                // Whatever was placed in its stead ends.
                self.end(stream);
                let is_twin = self.remove_twin(stream, &event.instance_guid);
                self.placed.insert(stream.clone(), event.instance_guid.clone());
                ensure(is_twin, "only a suspect is restored", || format!("{stream}"))
            }
            actual_lrp::Event::SuspectRemoved(event) => self.end_twin(stream, &event.instance_guid),
            actual_lrp::Event::TwinCrashed(event) => self.end_twin(stream, &event.instance_guid),
            actual_lrp::Event::EvacuationEnded(event) => {
                self.end_twin(stream, &event.instance_guid)
            }
            actual_lrp::Event::Left(left) => {
                let guid = &left.instance_guid;
                ensure(self.has_ended(guid), "only what has ended leaves", || {
                    format!("{stream} {guid}")
                })
            }
            actual_lrp::Event::ReadinessChanged(_)
            | actual_lrp::Event::Created(_)
            | actual_lrp::Event::PlacementFailed(_)
            | actual_lrp::Event::Claimed(_)
            | actual_lrp::Event::Started(_)
            | actual_lrp::Event::WithdrawalStarted(_)
            | actual_lrp::Event::Retired(_) => Ok(()),
            actual_lrp::Event::WithdrawalEnded(ended) => {
                match ended.cause {
                    actual_lrp::WithdrawalEnd::Seen { .. } => {}
                    actual_lrp::WithdrawalEnd::TimedOut { .. } => {
                        self.not_followed.insert(ended.instance_guid.clone());
                    }
                }
                Ok(())
            }
            actual_lrp::Event::Killed(event) => {
                let guid = &event.instance_guid;
                let was_told = self.killed.insert(guid.clone(), true);
                ensure(was_told == Some(false), "a kill is told as it was, once", || {
                    format!("{stream} {guid}: told before {was_told:?}")
                })
            }
        }
    }

    fn see_task(
        &mut self,
        recorded: &Recorded<Event>,
        event: &task::Event,
        aggregates: &Aggregates,
    ) -> Result<(), Violation> {
        let stream = &recorded.stream;
        match event {
            task::Event::Desired(_) => {
                if let StreamId::Task(guid) = stream {
                    self.tasks.entry(guid.clone()).or_default().push(recorded.position);
                }
                Ok(())
            }
            task::Event::Placed(placed) => {
                check_takes_work(aggregates, &placed.cell_id)?;
                self.place(stream, &placed.instance_guid)
            }
            task::Event::Started(started) => {
                let guid = &started.instance_guid;
                let count = self.started.entry(guid.clone()).or_default();
                *count += 1;
                ensure(*count == 1, "a task is started once", || format!("{stream} {guid}"))
            }
            task::Event::Refused(_)
            | task::Event::PlacementLost(_)
            | task::Event::Completed(_)
            | task::Event::Released(_) => {
                self.end(stream);
                Ok(())
            }
            // The container of one that was ended from here stays until its cell lets it go.
            task::Event::PlacementFailed(_)
            | task::Event::Cancelled(_)
            | task::Event::Failed(_)
            | task::Event::Resolving(_)
            | task::Event::CallbackDelivered(_)
            | task::Event::CallbackFailed(_)
            | task::Event::Demoted(_)
            | task::Event::Deleted(_) => Ok(()),
        }
    }

    fn place(&mut self, stream: &StreamId, guid: &InstanceGuid) -> Result<(), Violation> {
        ensure(self.ever_placed.insert(guid.clone()), "a container is placed once", || {
            format!("{stream} {guid}")
        })?;
        let before = self.placed.insert(stream.clone(), guid.clone());
        ensure(before.is_none(), "one placement per slot", || {
            format!("{stream} is on {guid} and still on {before:?}")
        })
    }

    /// The ordinary instance becomes one beside it, or one beside it becomes another kind.
    fn add_twin(&mut self, stream: &StreamId, guid: &InstanceGuid) -> Result<(), Violation> {
        if self.placed.get(stream) == Some(guid) {
            self.placed.remove(stream);
        }
        let twins = self.twins.entry(stream.clone()).or_default();
        twins.insert(guid.clone());
        ensure(twins.len() <= 2, "a suspect and an evacuating instance at most", || {
            format!("{stream}: {twins:?}")
        })
    }

    fn remove_twin(&mut self, stream: &StreamId, guid: &InstanceGuid) -> bool {
        self.twins.get_mut(stream).is_some_and(|twins| twins.remove(guid))
    }

    fn end_twin(&mut self, stream: &StreamId, guid: &InstanceGuid) -> Result<(), Violation> {
        let is_twin = self.remove_twin(stream, guid);
        self.ended.insert(guid.clone());
        ensure(is_twin, "only a twin ends as one", || format!("{stream} {guid}"))
    }

    fn end(&mut self, stream: &StreamId) {
        self.ended.extend(self.placed.remove(stream));
    }

    /// Whether the log says that not every router had followed when it was let be stopped.
    pub(super) fn was_not_followed(&self, guid: &InstanceGuid) -> bool {
        self.not_followed.contains(guid)
    }

    /// Whether the end of a container is committed.
    pub(super) fn has_ended(&self, guid: &InstanceGuid) -> bool {
        self.ended.contains(guid)
    }

    /// A process was run in a container.
    pub(super) fn exec(&mut self, work: &WorkReference) -> Result<(), Violation> {
        let WorkKind::Task(task_guid) = &work.kind else { return Ok(()) };
        ensure(
            self.started.contains_key(&work.instance_guid),
            "a task asks before it runs",
            || format!("{task_guid} ran as {} before it was started", work.instance_guid),
        )?;
        let lives = self.tasks.get(task_guid).map_or(&[][..], Vec::as_slice);
        let life = lives.iter().rev().find(|life| **life < work.placement_epoch.0);
        let life = life.copied().unwrap_or_default();
        let count = self.execs.entry((task_guid.clone(), life)).or_default();
        *count += 1;
        ensure(*count == 1, "a task runs at most once", || {
            format!("{task_guid} of position {life} was run {count} times")
        })
    }

    /// A process that did not end in its grace was killed.
    pub(super) fn kill(&mut self, guid: InstanceGuid) {
        self.killed.insert(guid, false);
    }

    /// Its cell was answered that this is noted.
    pub(super) fn check_kill_told(&self, guid: &InstanceGuid) -> Result<(), Violation> {
        let is_told = self.killed.get(guid) == Some(&true);
        ensure(is_told, "an accepted kill is in the log", || guid.to_string())
    }

    /// How many events of each type there were.
    pub(super) fn by_type(&self) -> &BTreeMap<&'static str, u64> {
        &self.by_type
    }

    /// How many tasks were run.
    pub(super) fn tasks_run(&self) -> usize {
        self.execs.len()
    }
}

fn check_takes_work(aggregates: &Aggregates, cell_id: &CellId) -> Result<(), Violation> {
    let takes_work = aggregates.cell(cell_id).is_some_and(|cell| cell.takes_work());
    ensure(takes_work, "nothing is placed where nothing may be", || cell_id.to_string())
}

/// What is to be recreated is stopped before another one of it starts.
fn check_may_run_twice(aggregates: &Aggregates, stream: &StreamId) -> Result<(), Violation> {
    let StreamId::ActualLrp(key) = stream else { return Ok(()) };
    let lrp = aggregates.desired_lrp(&key.process_guid);
    let strategy = lrp.map(|lrp| lrp.definition.shared().update_strategy);
    ensure(strategy != Some(UpdateStrategy::Recreate), "what is recreated is stopped first", || {
        format!("{key} runs on while its replacement starts")
    })
}
