//! A seeded walk: commands as users, loops and cells send them, sensible ones and stale ones.

use std::sync::Arc;

use super::{
    Dice, Story, cell_id, crash_report, definition, instance_guid, key, net_info, process_guid,
    registration, task_guid,
};
use crate::{
    bbs::{
        actual_lrp, cell,
        definition::Definition,
        desired_lrp, freshness_domain,
        restart_policy::{RestartPolicy, RestartWhen},
        task,
        task::{CallbackOutcome, Calls, TaskResult},
    },
    command::Command,
    convergence,
    id::{ActualLrpKey, CellId},
    labels::{Labels, MetricTag},
    log::{CellEpoch, Owner},
    routes::{Hostname, HttpRoute},
    secrets,
    units::{Mebibytes, Milliseconds, Timestamp},
};

const PROCESSES: [&str; 3] = ["a", "b", "c"];
const TASKS: [&str; 4] = ["t", "u", "v", "w"];
const CELLS: [&str; 3] = ["cell-1", "cell-2", "cell-3"];
const INDEX_BOUND: u32 = 5;

impl Story {
    /// Goes on by `steps` random commands, refused or not, with time passing between them.
    #[must_use]
    pub fn walk(mut self, dice: &mut Dice, steps: usize) -> Self {
        for _ in 0..steps {
            self.now = self.now.plus(Milliseconds(u64::from(dice.below(20_000))));
            let command = random_command(dice, &self);
            let _refused_or_not = self.submit(command);
        }
        self
    }
}

/// A command that somebody might send now.
#[must_use]
pub fn random_command(dice: &mut Dice, story: &Story) -> Command {
    match dice.below(14) {
        0 => of_wish(dice).into(),
        1 | 12 => of_cell(dice, story).into(),
        2 => task_of_user(dice).into(),
        3 if dice.one_in(4) => forget(dice).into(),
        3 => vouch(dice).into(),
        4 | 5 | 13 => planned(dice, story).unwrap_or_else(|| of_wish(dice).into()),
        6 | 7 => of_slot(dice, story).into(),
        8 | 9 => report_of_slot(dice, story).unwrap_or_else(|| of_slot(dice, story)).into(),
        10 if dice.one_in(2) => {
            note_callback(dice, story).unwrap_or_else(|| place_task(dice, story)).into()
        }
        10 => place_task(dice, story).into(),
        _ => report_of_task(dice, story).unwrap_or_else(|| place_task(dice, story)).into(),
    }
}

fn random_definition(dice: &mut Dice) -> Arc<Definition> {
    let memory_mb = Mebibytes(dice.pick(&[32, 100, 400]));
    Arc::new(Definition { memory_mb, ..definition() })
}

fn of_wish(dice: &mut Dice) -> desired_lrp::Command {
    let process_guid = process_guid(dice.pick(&PROCESSES));
    match dice.below(4) {
        0 => desired_lrp::Command::Remove { process_guid },
        1 => {
            let instances = Some(dice.below(INDEX_BOUND));
            let restart = dice.one_in(8).then(|| match dice.one_in(4) {
                true => desired_lrp::RestartSource::Domain,
                false => desired_lrp::RestartSource::Own(random_policy(dice)),
            });
            let Labels { internal_routes, metric_tags } = random_labels(dice);
            let update = desired_lrp::Update {
                instances: instances.filter(|_| !dice.one_in(4)),
                restart,
                internal_routes: dice.one_in(3).then_some(internal_routes),
                metric_tags: dice.one_in(3).then_some(metric_tags),
                ..desired_lrp::Update::default()
            };
            desired_lrp::Command::Update { process_guid, update }
        }
        _ => desired_lrp::Command::Desire {
            process_guid,
            domain: super::build::domain(),
            instances: dice.below(INDEX_BOUND),
            definition: random_definition(dice),
            routes: random_routes(dice),
            annotation: String::new(),
            restart: dice.one_in(8).then(|| random_policy(dice)),
            labels: random_labels(dice),
            client_routes: None,
        },
    }
}

fn random_labels(dice: &mut Dice) -> Labels {
    let routes = ["a.internal", "b.internal"].map(Hostname::new).into_iter().flatten();
    let tags = ["a", "b"].map(|name| (name.to_owned(), MetricTag::Static("x".to_owned())));
    Labels {
        internal_routes: routes.filter(|_| dice.one_in(3)).collect(),
        metric_tags: tags.into_iter().filter(|_| dice.one_in(3)).collect(),
    }
}

fn random_routes(dice: &mut Dice) -> Vec<HttpRoute> {
    let hostnames: Vec<Hostname> = Hostname::new("a.test").into_iter().collect();
    if dice.one_in(2) { vec![HttpRoute { hostnames, port: 8080 }] } else { Vec::new() }
}

fn random_policy(dice: &mut Dice) -> RestartPolicy {
    let when = dice.pick(&[RestartWhen::Always, RestartWhen::OnFailure, RestartWhen::Never]);
    RestartPolicy { when, crashes_max: 2 + dice.below(4), ..RestartPolicy::default() }
}

fn of_cell(dice: &mut Dice, story: &Story) -> cell::Command {
    let (cell_id, cell_epoch) = random_cell(dice, story);
    match dice.below(9) {
        8 => {
            let failure = dice.one_in(4).then(|| "no more veth".to_owned());
            cell::Command::NoteHealth { cell_id, cell_epoch, failure }
        }
        0 if !dice.one_in(3) => cell::Command::Evacuate {
            cell_id,
            timeout: Milliseconds(u64::from(dice.below(60_000))),
            instances_away_max: 1 + dice.below(2),
        },
        0 | 1 => cell::Command::CancelEvacuation { cell_id },
        2 | 3 => cell::Command::Lose {
            cell_id,
            last_heard_at: Timestamp(0),
            heard_by: "node-1".to_owned(),
        },
        4 | 5 => cell::Command::Return { cell_id, cell_epoch },
        _ => {
            let registration = Box::new(registration(u128::from(dice.one_in(5))));
            cell::Command::Register { cell_id, registration }
        }
    }
}

/// A cell with its present epoch, or now and then another one.
fn random_cell(dice: &mut Dice, story: &Story) -> (CellId, CellEpoch) {
    let cell_id = cell_id(dice.pick(&CELLS));
    let present = story.aggregates.cell(&cell_id).map_or(1, |cell| cell.cell_epoch.0);
    let cell_epoch = CellEpoch(present + u64::from(dice.one_in(10)));
    (cell_id, cell_epoch)
}

fn task_of_user(dice: &mut Dice) -> task::Command {
    let task_guid = task_guid(dice.pick(&TASKS));
    match dice.below(12) {
        0 | 1 => task::Command::Cancel { task_guid },
        2 => task::Command::Fail { task_guid, reason: "by hand".to_owned() },
        3 | 4 => task::Command::Resolve { task_guid },
        5 => task::Command::Delete { task_guid },
        _ => task::Command::Desire {
            task_guid,
            domain: super::build::domain(),
            definition: random_definition(dice),
            annotation: String::new(),
            completion_callback_url: dice.one_in(2).then(super::build::sealed),
        },
    }
}

/// What calls came to that are under way.
fn note_callback(dice: &mut Dice, story: &Story) -> Option<task::Command> {
    let (task_guid, resolving) = story.aggregates.tasks().find_map(|task| match &task.state {
        task::State::Resolving { by, .. } => Some((task.task_guid.clone(), *by)),
        task::State::Pending
        | task::State::Placed(_)
        | task::State::Running(_)
        | task::State::Completed(_)
        | task::State::Deleting(_) => None,
    })?;
    let outcome = if dice.one_in(2) {
        CallbackOutcome::Delivered(200)
    } else {
        CallbackOutcome::Failed("refused".to_owned())
    };
    let calls = Calls { attempts: 1 + dice.below(3), outcome };
    Some(task::Command::NoteCallback { task_guid, resolving, calls })
}

fn vouch(dice: &mut Dice) -> freshness_domain::Command {
    let name = super::build::domain();
    if dice.one_in(4) {
        let restart = dice.one_in(2).then(|| random_policy(dice));
        return freshness_domain::Command::SetRestart { name, restart };
    }
    let time_to_live = (!dice.one_in(5)).then(|| Milliseconds(u64::from(dice.below(60_000))));
    freshness_domain::Command::Upsert { name, time_to_live }
}

/// Few keys, so that some are forgotten twice; never the one that definitions are sealed under.
fn forget(dice: &mut Dice) -> secrets::Command {
    let owner = Owner::Process(process_guid(dice.pick(&PROCESSES)));
    let key_ids = vec![uuid::Uuid::from_u128(1000 + u128::from(dice.below(4)))];
    secrets::Command::Forget { owner, key_ids }
}

fn planned(dice: &mut Dice, story: &Story) -> Option<Command> {
    let discrepancies = convergence::Discrepancies::of(&story.aggregates);
    let plan = convergence::plan(&discrepancies, &story.aggregates, story.now);
    (!plan.is_empty()).then(|| dice.pick(&plan))
}

fn of_slot(dice: &mut Dice, story: &Story) -> actual_lrp::Command {
    let key = key(dice.pick(&PROCESSES), dice.below(INDEX_BOUND));
    match dice.below(10) {
        9 => end_withdrawal(dice, story, key),
        8 => {
            let twins = story.aggregates.slots().filter(|slot| !slot.is_alone());
            let keys: Vec<_> = twins.map(|slot| slot.key.clone()).collect();
            let key = if keys.is_empty() { key } else { dice.pick(&keys) };
            actual_lrp::Command::SettleTwins { key }
        }
        0 => actual_lrp::Command::Create { key },
        1 => actual_lrp::Command::FailPlacement {
            key,
            error: "no cell".to_owned(),
            candidates: None,
        },
        2 => actual_lrp::Command::Retire { key },
        _ => {
            let (cell_id, cell_epoch) = random_cell(dice, story);
            let instance_guid = instance_guid(&format!("i-{:x}", dice.next_number()));
            actual_lrp::Command::Place { key, instance_guid, cell_id, cell_epoch, candidates: None }
        }
    }
}

fn end_withdrawal(dice: &mut Dice, story: &Story, key: ActualLrpKey) -> actual_lrp::Command {
    let waiting = story.aggregates.slots().flat_map(|slot| {
        slot.withdrawing.iter().map(|it| (slot.key.clone(), it.instance_guid.clone()))
    });
    let waiting: Vec<_> = waiting.collect();
    let (key, instance_guid) =
        if waiting.is_empty() { (key, instance_guid("i-0")) } else { dice.pick(&waiting) };
    let cause = if dice.one_in(3) {
        actual_lrp::WithdrawalEnd::TimedOut { missing: vec!["two".to_owned()] }
    } else {
        actual_lrp::WithdrawalEnd::Seen { routers: dice.below(3) }
    };
    actual_lrp::Command::EndWithdrawal { key, instance_guid, cause }
}

fn report_of_slot(dice: &mut Dice, story: &Story) -> Option<actual_lrp::Command> {
    let keys: Vec<_> = story.aggregates.slots().map(|slot| slot.key.clone()).collect();
    let instances: Vec<_> = keys.iter().flat_map(|key| story.instances(key)).collect();
    if instances.is_empty() {
        return None;
    }
    let mut instance = dice.pick(&instances);
    instance.cell_epoch.0 += u64::from(dice.one_in(20));
    Some(match dice.below(7) {
        6 => actual_lrp::Command::SetReadiness { instance, is_ready: dice.one_in(2) },
        0 => actual_lrp::Command::Refuse { instance, reason: "no room".to_owned() },
        1 => actual_lrp::Command::Claim { instance },
        2 => actual_lrp::Command::Crash { instance, report: crash_report() },
        3 if dice.one_in(3) => {
            let (grace, evidence) = (Milliseconds(10_000), None);
            actual_lrp::Command::RemoveKilled { instance, grace, evidence }
        }
        3 => actual_lrp::Command::Remove { instance },
        _ => {
            actual_lrp::Command::Start { instance, net_info: net_info(), is_ready: !dice.one_in(4) }
        }
    })
}

fn place_task(dice: &mut Dice, story: &Story) -> task::Command {
    let task_guid = task_guid(dice.pick(&TASKS));
    if dice.one_in(6) {
        return task::Command::FailPlacement {
            task_guid,
            error: "no cell".to_owned(),
            candidates: None,
        };
    }
    let (cell_id, cell_epoch) = random_cell(dice, story);
    let instance_guid = instance_guid(&format!("i-{:x}", dice.next_number()));
    task::Command::Place { task_guid, instance_guid, cell_id, cell_epoch, candidates: None }
}

fn report_of_task(dice: &mut Dice, story: &Story) -> Option<task::Command> {
    let placed = story.aggregates.tasks().filter(|task| task.placement().is_some());
    let guids: Vec<_> = placed.map(|task| task.task_guid.clone()).collect();
    if guids.is_empty() {
        return None;
    }
    let mut task = story.task(&dice.pick(&guids));
    task.cell_epoch.0 += u64::from(dice.one_in(20));
    Some(match dice.below(5) {
        0 => task::Command::Refuse { task, reason: "no room".to_owned() },
        1 => task::Command::Release { task },
        2 => {
            let (exit, evidence, result) = (None, None, "done".to_owned());
            let result = TaskResult { failure_reason: None, exit, evidence, result };
            task::Command::Complete { task, result }
        }
        _ => task::Command::Start { task },
    })
}
