//! Two tasks on two cells: every order of placing, asking, recording, running and converging, and of
//! two faults among cells that are cut off, die or are replaced, agents that restart, answers that
//! are lost, and users who cancel. Whatever happens, a task's process is run at most once.
//!
//! Guids, positions and instants make no difference and are left out; cells that are alike are one.

use std::collections::BTreeMap;

use domain::{
    bbs::{
        placement::Placement,
        task::{self, State, Task, TaskReference, TaskResult},
    },
    command::Command,
    id::{InstanceGuid, TaskGuid},
    testing::{desire_task, task_guid},
    units::Milliseconds,
};

use crate::{
    is_full,
    log::Bug,
    machines::{Machines, Unheld},
    search::Model,
    search_all,
};

const TASKS: [&str; 2] = ["t", "u"];

/// What a container does, whether or not anybody has heard it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    /// It may ask whether its process may be run.
    Made,
    /// It was told so and has written that down; its process is not run yet.
    Recorded,
    Runs,
    /// It ended, or will never be run, and its cell has not told yet.
    Ended,
}

#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    machines: Machines<TaskReference, Phase>,
    runs: BTreeMap<TaskGuid, u8>,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Converge(Command),
    Place(TaskGuid, usize),
    Begin(TaskReference),
    /// A cell asks, records, runs, or tells the end.
    GoOn(InstanceGuid),
    End(InstanceGuid),
    Stop(TaskReference),
    Return(usize),
    Fault(Fault),
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
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
    pub(crate) fn new(faults_left: u8, bug: Option<Bug>) -> Self {
        let mut machines = Machines::new(2, faults_left, bug);
        for task in TASKS {
            machines.log.submit(desire_task(task)).unwrap();
        }
        Self { machines, runs: BTreeMap::new() }
    }

    fn tasks(&self) -> impl Iterator<Item = &Task> {
        TASKS.iter().filter_map(|name| self.machines.log.aggregates.task(&task_guid(name)))
    }

    /// What cells are assigned, and whether it is wanted.
    fn assigned(&self) -> Vec<(TaskReference, bool)> {
        let of = |task: &Task| {
            let is_wanted = matches!(task.state, State::Placed(_) | State::Running(_));
            Some((reference(task, task.placement()?), is_wanted))
        };
        self.tasks().filter_map(of).collect()
    }

    fn go_on(&mut self, guid: &InstanceGuid) {
        let container = self.machines.containers.get_mut(guid).unwrap();
        let task = container.reference.clone();
        match container.phase {
            Phase::Made => {
                let accepted = self.machines.log.submit(task::Command::Start { task }).is_ok();
                // Refused: it is never run, and goes when it is on no list any more.
                container.phase = if accepted { Phase::Recorded } else { Phase::Ended };
            }
            Phase::Recorded => {
                container.phase = Phase::Runs;
                *self.runs.entry(task.task_guid).or_default() += 1;
            }
            Phase::Runs => {}
            Phase::Ended => {
                self.machines.containers.remove(guid);
                let failure_reason = Some("ended".to_owned());
                let result = TaskResult {
                    failure_reason,
                    exit: None,
                    evidence: None,
                    result: String::new(),
                };
                let _told = self.machines.log.submit(task::Command::Complete { task, result });
            }
        }
    }

    fn fault(&mut self, fault: &Fault) {
        match fault {
            Fault::CutOff(cell) => self.machines.lose(*cell),
            Fault::Dies(cell) => {
                self.machines.on(*cell).for_each(|container| container.phase = Phase::Ended);
                self.machines.lose(*cell);
            }
            Fault::Replaced(cell) => self.machines.replace(*cell),
            Fault::AgentRestarts(cell) => {
                // Without a record nobody knows whether it was run: it is not run any more.
                let unrecorded = self.machines.on(*cell).filter(|it| it.phase == Phase::Made);
                unrecorded.for_each(|container| container.phase = Phase::Ended);
            }
            Fault::AnswerLost(guid) => {
                let task = self.machines.containers[guid].reference.clone();
                let _lost = self.machines.log.submit(task::Command::Start { task });
            }
            Fault::Cancel(task_guid) => {
                let task_guid = task_guid.clone();
                let _refused_or_not = self.machines.log.submit(task::Command::Cancel { task_guid });
            }
            Fault::TimePasses => {
                let log = &mut self.machines.log;
                log.now = log.now.plus(Milliseconds::from_seconds(1801));
            }
        }
    }

    fn faults(&self, cells: &[usize]) -> Vec<Fault> {
        let machines = &self.machines;
        if machines.faults_left == 0 {
            return Vec::new();
        }
        let present = cells.iter().copied().filter(|cell| machines.is_present(*cell));
        let of_cells = present.flat_map(|cell| {
            [
                Fault::CutOff(cell),
                Fault::Dies(cell),
                Fault::Replaced(cell),
                Fault::AgentRestarts(cell),
            ]
        });
        let asking = machines.containers.iter().filter(|(_, it)| it.phase == Phase::Made);
        let asking = asking.filter(|(_, it)| machines.can_speak(&it.reference));
        let lost = asking.map(|(guid, _)| Fault::AnswerLost(guid.clone()));
        let cancels = self.tasks().map(|it| Fault::Cancel(it.task_guid.clone()));
        of_cells.chain(lost).chain(cancels).chain([Fault::TimePasses]).collect()
    }

    /// What a cell is and what is on it, whatever its name.
    fn told_of(&self, cell: usize) -> Vec<u8> {
        let (machines, cell) = (&self.machines, self.machines.cell(cell));
        let mut told = vec![u8::from(cell.is_present())];
        for (index, guid) in (0..).zip(TASKS.map(task_guid)) {
            let task = machines.log.aggregates.task(&guid);
            let placement = task.and_then(Task::placement);
            let Some(placement) = placement.filter(|it| it.cell_id == cell.cell_id) else {
                continue;
            };
            let is_of_now = !machines.log.aggregates.is_replaced(placement);
            let container = machines.containers.get(&placement.instance_guid);
            let phase = container.map_or(0, |container| 1 + container.phase as u8);
            told.extend([index, u8::from(is_of_now), phase]);
        }
        told
    }

    /// Takes out the containers that are no task's any more, and counts those that are free to run
    /// their process as running it: nothing keeps them from it, and nothing else comes of it.
    fn forget_strays(&mut self) -> Result<(), String> {
        let assigned = self.assigned();
        for stray in self.machines.take_strays(&assigned) {
            if stray.phase == Phase::Recorded {
                *self.runs.entry(stray.reference.task_guid.clone()).or_default() += 1;
            }
            let task = || stray.reference.clone();
            let result = TaskResult {
                failure_reason: None,
                exit: None,
                evidence: None,
                result: String::new(),
            };
            let says = [
                task::Command::Start { task: task() },
                task::Command::Complete { task: task(), result },
                task::Command::Release { task: task() },
            ];
            self.machines.check_unheard(&says.map(Command::from))?;
        }
        Ok(())
    }
}

impl Model for Cluster {
    type Action = Action;

    fn key(&self) -> Vec<u8> {
        let machines = &self.machines;
        let mut told = vec![machines.faults_left];
        for guid in TASKS.map(task_guid) {
            told.push(self.runs.get(&guid).copied().unwrap_or_default());
            let Some(task) = machines.log.aggregates.task(&guid) else {
                told.push(255);
                continue;
            };
            told.push(match &task.state {
                State::Pending => 1,
                State::Placed(_) => 2,
                State::Running(_) => 3,
                State::Completed(_) => 4,
                State::Resolving { .. } => 5,
                State::Deleting(_) => 6,
            });
            let is_due = task.expires_at().is_some_and(|at| machines.log.now >= at);
            told.push(u8::from(is_due));
        }
        told.extend(machines.told(|cell| self.told_of(cell)));
        told
    }

    fn actions(&self) -> Vec<Action> {
        let machines = &self.machines;
        let mut actions: Vec<Action> =
            machines.log.planned().into_iter().map(Action::Converge).collect();
        let assigned = self.assigned();
        for (guid, container) in &machines.containers {
            // A process goes on whether or not its cell is heard.
            if container.phase == Phase::Runs {
                actions.push(Action::End(guid.clone()));
            }
            if container.phase == Phase::Recorded {
                actions.push(Action::GoOn(guid.clone()));
            }
            if !machines.can_speak(&container.reference) {
                continue;
            }
            let is_wanted =
                assigned.iter().any(|(it, is_wanted)| *it == container.reference && *is_wanted);
            match container.phase {
                Phase::Ended => actions.push(Action::GoOn(guid.clone())),
                Phase::Made | Phase::Recorded | Phase::Runs if !is_wanted => {
                    actions.push(Action::Stop(container.reference.clone()));
                }
                Phase::Made => actions.push(Action::GoOn(guid.clone())),
                Phase::Recorded | Phase::Runs => {}
            }
        }
        actions.extend(machines.unheld(assigned).map(|unheld| match unheld {
            Unheld::Begin(reference) => Action::Begin(reference),
            Unheld::Stop(reference) => Action::Stop(reference),
        }));
        let cells = machines.unlike(|cell| self.told_of(cell));
        for task in self.tasks().filter(|task| task.state == State::Pending) {
            let present = cells.iter().filter(|cell| machines.is_present(**cell));
            actions.extend(present.map(|cell| Action::Place(task.task_guid.clone(), *cell)));
        }
        let lost = cells.iter().filter(|cell| !machines.is_present(**cell));
        actions.extend(lost.map(|cell| Action::Return(*cell)));
        actions.extend(self.faults(&cells).into_iter().map(Action::Fault));
        actions
    }

    fn after(&self, action: &Action) -> Result<Option<Self>, String> {
        let mut next = self.clone();
        match action {
            Action::Converge(command) => {
                if next.machines.log.submit(command.clone()) != Ok(true) {
                    return Err("planned in vain".to_owned());
                }
            }
            Action::Place(task_guid, cell) => {
                let place = task::Command::Place {
                    task_guid: task_guid.clone(),
                    instance_guid: next.machines.next_guid(),
                    cell_id: self.machines.id(*cell).clone(),
                    cell_epoch: self.machines.cell(*cell).cell_epoch,
                    candidates: None,
                };
                if next.machines.log.submit(place).is_err() {
                    return Ok(None);
                }
            }
            Action::Begin(reference) => next.machines.begin(reference.clone(), Phase::Made),
            Action::GoOn(guid) => next.go_on(guid),
            Action::End(guid) => {
                next.machines.containers.get_mut(guid).unwrap().phase = Phase::Ended;
            }
            Action::Stop(task) => {
                next.machines.containers.remove(&task.instance_guid);
                let task = task.clone();
                let _told = next.machines.log.submit(task::Command::Release { task });
            }
            Action::Return(cell) => next.machines.come_back(*cell),
            Action::Fault(fault) => {
                next.machines.faults_left -= 1;
                next.fault(fault);
            }
        }
        next.forget_strays()?;
        Ok(Some(next))
    }

    fn check(&self) -> Result<(), String> {
        match self.runs.iter().find(|(_, runs)| **runs > 1) {
            Some((task, runs)) => Err(format!("{task} was run {runs} times")),
            None => Ok(()),
        }
    }

    fn is_calm(&self, action: &Action) -> bool {
        match action {
            Action::Fault(_) => false,
            Action::Return(_) => self.machines.are_all_lost(),
            Action::Converge(_)
            | Action::Place(..)
            | Action::Begin(_)
            | Action::GoOn(_)
            | Action::End(_)
            | Action::Stop(_) => true,
        }
    }

    fn check_settled(&self) -> Result<(), String> {
        if let Some(task) = self.tasks().find(|task| task.ended().is_none()) {
            return Err(format!("not ended in the end: {task:?}"));
        }
        // Nobody's were taken out: what is left is still some task's.
        match self.machines.containers.values().next() {
            Some(left) => Err(format!("left in the end: {left:?}")),
            None => Ok(()),
        }
    }
}

#[test]
fn every_way_of_two_tasks_holds() {
    let faults = if is_full() { 3 } else { 2 };

    let what = format!("{} tasks, 2 cells, {faults} faults", TASKS.len());
    search_all(&what, &Cluster::new(faults, None));
}
