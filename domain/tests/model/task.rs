//! Two tasks on two cells: every order of placing, asking, recording, running and converging, and of
//! two faults among cells that are cut off, die or are replaced, agents that restart, answers that
//! are lost, and users who cancel. Whatever happens, a task's process is run at most once.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
};

use domain::{
    bbs::{
        cell,
        placement::Placement,
        task::{self, State, Task, TaskReference, TaskResult},
    },
    command::Command,
    convergence::{self, Discrepancies},
    id::{CellId, InstanceGuid, TaskGuid},
    testing::{cell_id, desire_task, instance_guid, register, task_guid},
    units::{Milliseconds, Timestamp},
};

use crate::{
    is_full,
    search::{Log, Model, search},
};

const TASKS: [&str; 2] = ["t", "u"];

/// What a container does, whether or not anybody has heard it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    /// It may ask whether its process may be run.
    Made,
    /// It was told so and has written that down; its process is not run yet.
    Recorded,
    Runs,
    /// It ended, or will never be run, and its cell has not told yet.
    Ended,
}

#[derive(Debug, Clone)]
struct Container {
    reference: TaskReference,
    phase: Phase,
}

#[derive(Debug, Clone)]
struct Cluster {
    log: Log,
    cells: Vec<CellId>,
    machines: Vec<u128>,
    containers: BTreeMap<InstanceGuid, Container>,
    runs: BTreeMap<TaskGuid, u8>,
    faults_left: u8,
    placed: u32,
}

#[derive(Debug, Clone)]
enum Action {
    Converge(Command),
    Place(TaskGuid, usize),
    Begin(TaskReference),
    /// A cell asks, records, runs, or tells the end.
    GoOn(InstanceGuid),
    End(InstanceGuid),
    Stop(InstanceGuid),
    Return(usize),
    Fault(Fault),
}

#[derive(Debug, Clone)]
enum Fault {
    CutOff(usize),
    Dies(usize),
    Replaced(usize),
    AgentRestarts(usize),
    /// A cell asks whether it may run a process, and the answer never comes.
    AnswerLost(InstanceGuid),
    Cancel(TaskGuid),
    TimePasses,
}

fn reference(task: &Task, placement: &Placement) -> TaskReference {
    let Placement { instance_guid, cell_id, cell_epoch, placement_epoch, .. } = placement.clone();
    let task_guid = task.task_guid.clone();
    TaskReference { task_guid, instance_guid, placement_epoch, cell_id, cell_epoch }
}

impl Cluster {
    fn new(faults_left: u8) -> Self {
        let cells: Vec<CellId> = ["cell-0", "cell-1"].map(cell_id).to_vec();
        let machines: Vec<u128> = (0..cells.len() as u128).collect();
        let mut log = Log::new();
        for (cell_id, machine) in cells.iter().zip(&machines) {
            log.submit(register(cell_id.as_str(), *machine)).unwrap();
        }
        for task in TASKS {
            log.submit(desire_task(task)).unwrap();
        }
        let (containers, runs) = (BTreeMap::new(), BTreeMap::new());
        Self { log, cells, machines, containers, runs, faults_left, placed: 0 }
    }

    fn is_present(&self, cell: usize) -> bool {
        self.log.aggregates.cell(&self.cells[cell]).unwrap().is_present()
    }

    fn can_speak(&self, container: &Container) -> bool {
        let cell = self.log.aggregates.cell(&container.reference.cell_id).unwrap();
        cell.is_present() && cell.cell_epoch == container.reference.cell_epoch
    }

    /// What cells are assigned, and whether it is wanted.
    fn assigned(&self) -> Vec<(TaskReference, bool)> {
        let of = |task: &Task| {
            let is_wanted = matches!(task.state, State::Placed(_) | State::Running(_));
            Some((reference(task, task.placement()?), is_wanted))
        };
        self.log.aggregates.tasks().filter_map(of).collect()
    }

    fn planned(&self) -> Vec<Command> {
        let aggregates = &self.log.aggregates;
        convergence::plan(&Discrepancies::of(aggregates), aggregates, self.log.now)
    }

    fn lose(&mut self, cell: usize) {
        let lose = cell::Command::Lose {
            cell_id: self.cells[cell].clone(),
            last_heard_at: Timestamp(0),
            heard_by: "model".to_owned(),
        };
        self.log.submit(lose).unwrap();
    }

    fn go_on(&mut self, guid: &InstanceGuid) {
        let container = self.containers.get_mut(guid).unwrap();
        let task = container.reference.clone();
        match container.phase {
            Phase::Made => {
                let accepted = self.log.submit(task::Command::Start { task }).is_ok();
                // Refused: it is never run, and goes when it is on no list any more.
                container.phase = if accepted { Phase::Recorded } else { Phase::Ended };
            }
            Phase::Recorded => {
                container.phase = Phase::Runs;
                *self.runs.entry(task.task_guid).or_default() += 1;
            }
            Phase::Runs => {}
            Phase::Ended => {
                self.containers.remove(guid);
                let failure_reason = Some("ended".to_owned());
                let result = TaskResult {
                    failure_reason,
                    exit: None,
                    evidence: None,
                    result: String::new(),
                };
                let _told = self.log.submit(task::Command::Complete { task, result });
            }
        }
    }

    fn on(&mut self, cell: usize) -> impl Iterator<Item = &mut Container> {
        let cell_id = self.cells[cell].clone();
        self.containers.values_mut().filter(move |it| it.reference.cell_id == cell_id)
    }

    fn fault(&mut self, fault: &Fault) {
        match fault {
            Fault::CutOff(cell) => self.lose(*cell),
            Fault::Dies(cell) => {
                self.on(*cell).for_each(|container| container.phase = Phase::Ended);
                self.lose(*cell);
            }
            Fault::Replaced(cell) => {
                let cell_id = self.cells[*cell].clone();
                self.containers.retain(|_, it| it.reference.cell_id != cell_id);
                self.machines[*cell] += 100;
                self.lose(*cell);
                self.log.submit(register(cell_id.as_str(), self.machines[*cell])).unwrap();
            }
            Fault::AgentRestarts(cell) => {
                // Without a record nobody knows whether it was run: it is not run any more.
                let unrecorded = self.on(*cell).filter(|it| it.phase == Phase::Made);
                unrecorded.for_each(|container| container.phase = Phase::Ended);
            }
            Fault::AnswerLost(guid) => {
                let task = self.containers[guid].reference.clone();
                let _lost = self.log.submit(task::Command::Start { task });
            }
            Fault::Cancel(task_guid) => {
                let task_guid = task_guid.clone();
                let _refused_or_not = self.log.submit(task::Command::Cancel { task_guid });
            }
            Fault::TimePasses => {
                self.log.now = self.log.now.plus(Milliseconds::from_seconds(1801));
            }
        }
    }

    fn faults(&self) -> Vec<Fault> {
        if self.faults_left == 0 {
            return Vec::new();
        }
        let present = (0..self.cells.len()).filter(|cell| self.is_present(*cell));
        let of_cells = present.flat_map(|cell| {
            [
                Fault::CutOff(cell),
                Fault::Dies(cell),
                Fault::Replaced(cell),
                Fault::AgentRestarts(cell),
            ]
        });
        let asking = self.containers.iter().filter(|(_, it)| it.phase == Phase::Made);
        let asking = asking.filter(|(_, it)| self.can_speak(it));
        let lost = asking.map(|(guid, _)| Fault::AnswerLost(guid.clone()));
        let cancels = self.log.aggregates.tasks().map(|it| Fault::Cancel(it.task_guid.clone()));
        of_cells.chain(lost).chain(cancels).chain([Fault::TimePasses]).collect()
    }
}

impl Model for Cluster {
    type Action = Action;
    type Key = Vec<u8>;

    fn key(&self) -> Vec<u8> {
        let aggregates = &self.log.aggregates;
        let mut key = vec![self.faults_left];
        let number = |cell_id: &CellId| {
            u8::try_from(self.cells.iter().position(|it| it == cell_id).unwrap()).unwrap()
        };
        key.extend((0..self.cells.len()).map(|cell| u8::from(self.is_present(cell))));
        for name in TASKS {
            let guid = task_guid(name);
            key.extend([254, self.runs.get(&guid).copied().unwrap_or_default()]);
            if let Some(task) = aggregates.task(&guid) {
                key.push(match &task.state {
                    State::Pending => 1,
                    State::Placed(_) => 2,
                    State::Running(_) => 3,
                    State::Completed(_) => 4,
                    State::Resolving { .. } => 5,
                    State::Deleting(_) => 6,
                });
                let is_due = task.expires_at().is_some_and(|at| self.log.now >= at);
                key.push(u8::from(is_due));
                if let Some(placement) = task.placement() {
                    let is_of_now = !aggregates.is_replaced(placement);
                    let guid = &placement.instance_guid;
                    let phase = self.containers.get(guid).map_or(0, |it| 1 + it.phase as u8);
                    key.extend([number(&placement.cell_id), u8::from(is_of_now), phase]);
                }
            }
            let known: BTreeSet<_> =
                self.assigned().into_iter().map(|(it, _)| it.instance_guid).collect();
            let mut others: Vec<[u8; 3]> = self
                .containers
                .iter()
                .filter(|(id, it)| it.reference.task_guid == guid && !known.contains(*id))
                .map(|(_, it)| {
                    let is_of_now = aggregates
                        .cell(&it.reference.cell_id)
                        .is_some_and(|cell| cell.cell_epoch == it.reference.cell_epoch);
                    [number(&it.reference.cell_id), u8::from(is_of_now), it.phase as u8]
                })
                .collect();
            others.sort_unstable();
            key.push(253);
            key.extend(others.into_iter().flatten());
        }
        key
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions: Vec<Action> = self.planned().into_iter().map(Action::Converge).collect();
        let assigned = self.assigned();
        for (guid, container) in &self.containers {
            // A process goes on whether or not its cell is heard.
            if container.phase == Phase::Runs {
                actions.push(Action::End(guid.clone()));
            }
            if container.phase == Phase::Recorded {
                actions.push(Action::GoOn(guid.clone()));
            }
            if !self.can_speak(container) {
                continue;
            }
            let is_wanted =
                assigned.iter().any(|(it, is_wanted)| *it == container.reference && *is_wanted);
            match container.phase {
                Phase::Ended => actions.push(Action::GoOn(guid.clone())),
                _ if !is_wanted => actions.push(Action::Stop(guid.clone())),
                Phase::Made => actions.push(Action::GoOn(guid.clone())),
                Phase::Recorded | Phase::Runs => {}
            }
        }
        for (reference, is_wanted) in assigned {
            let Some(cell) = self.log.aggregates.cell(&reference.cell_id) else { continue };
            let is_its = cell.is_present() && cell.cell_epoch == reference.cell_epoch;
            if is_its && !self.containers.contains_key(&reference.instance_guid) {
                actions.push(if is_wanted {
                    Action::Begin(reference)
                } else {
                    Action::Stop(reference.instance_guid)
                });
            }
        }
        let pending = self.log.aggregates.tasks().filter(|task| task.state == State::Pending);
        for task in pending {
            let present = (0..self.cells.len()).filter(|cell| self.is_present(*cell));
            actions.extend(present.map(|cell| Action::Place(task.task_guid.clone(), cell)));
        }
        let lost = (0..self.cells.len()).filter(|cell| !self.is_present(*cell));
        actions.extend(lost.map(Action::Return));
        actions.extend(self.faults().into_iter().map(Action::Fault));
        actions
    }

    fn after(&self, action: &Action) -> Option<Self> {
        let mut next = self.clone();
        match action {
            Action::Converge(command) => {
                let decided = next.log.submit(command.clone());
                decided.ok().filter(|decision| !decision.events.is_empty())?;
            }
            Action::Place(task_guid, cell) => {
                next.placed += 1;
                let place = task::Command::Place {
                    task_guid: task_guid.clone(),
                    instance_guid: instance_guid(&format!("i-{}", next.placed)),
                    cell_id: self.cells[*cell].clone(),
                    cell_epoch: self.log.aggregates.cell(&self.cells[*cell])?.cell_epoch,
                    candidates: None,
                };
                next.log.submit(place).ok()?;
            }
            Action::Begin(reference) => {
                let container = Container { reference: reference.clone(), phase: Phase::Made };
                next.containers.insert(reference.instance_guid.clone(), container);
            }
            Action::GoOn(guid) => next.go_on(guid),
            Action::End(guid) => next.containers.get_mut(guid)?.phase = Phase::Ended,
            Action::Stop(guid) => {
                let known = next.containers.remove(guid).map(|it| it.reference);
                let assigned = || {
                    let mut all = self.assigned().into_iter().map(|(reference, _)| reference);
                    all.find(|reference| reference.instance_guid == *guid)
                };
                let task = known.or_else(assigned)?;
                let _told = next.log.submit(task::Command::Release { task });
            }
            Action::Return(cell) => {
                let cell_id = self.cells[*cell].as_str();
                next.log.submit(register(cell_id, self.machines[*cell])).ok()?;
            }
            Action::Fault(fault) => {
                next.faults_left -= 1;
                next.fault(fault);
            }
        }
        Some(next)
    }

    fn check(&self) -> Result<(), String> {
        if let Some((task, runs)) = self.runs.iter().find(|(_, runs)| **runs > 1) {
            return Err(format!("{task} was run {runs} times"));
        }
        for command in self.planned() {
            let decided = self.log.clone().submit(command.clone());
            if !decided.is_ok_and(|decision| !decision.events.is_empty()) {
                return Err(format!("planned in vain: {command:?}"));
            }
        }
        Ok(())
    }

    fn settling(&self) -> Option<Self> {
        let calm = self.actions().into_iter().find(|action| match action {
            Action::Fault(_) => false,
            Action::Return(_) => (0..self.cells.len()).all(|cell| !self.is_present(cell)),
            Action::Converge(_)
            | Action::Place(..)
            | Action::Begin(_)
            | Action::GoOn(_)
            | Action::End(_)
            | Action::Stop(_) => true,
        });
        calm.and_then(|action| self.after(&action))
    }

    fn check_settled(&self) -> Result<(), String> {
        let unsettled = self.log.aggregates.tasks().find(|task| task.ended().is_none());
        if let Some(task) = unsettled {
            return Err(format!("not ended in the end: {task:?}"));
        }
        let left = self.containers.values().find(|container| self.can_speak(container));
        left.map_or(Ok(()), |left| Err(format!("left in the end: {left:?}")))
    }
}

#[test]
fn every_way_of_two_tasks_holds() {
    let faults = if is_full() { 3 } else { 2 };

    let found = search(Cluster::new(faults));

    // Not by a macro, whose output a passing test would hide.
    let told = format!("{} tasks, 2 cells, {faults} faults: {found:?}", TASKS.len());
    writeln!(std::io::stderr(), "{told}").unwrap();
    assert!(found.states > 1000, "{found:?}");
}
