//! What waits for a cell: unclaimed slots and pending tasks, in the order of the auction.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    aggregates::Aggregates,
    auction::{Auction, Demand, Lane, Shown, Waiting},
    bbs::{
        actual_lrp::{self, ActualLrp},
        task::{self, Task},
    },
    id::{ActualLrpKey, ProcessGuid, TaskGuid},
    log::StreamId,
    rep::WorkKind,
    units::Timestamp,
};

use crate::view::View;

/// What waits for a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuctionQueue {
    waiting: Waiting,
    processes: BTreeMap<ProcessGuid, WaitingProcess>,
}

/// A process of which slots wait.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WaitingProcess {
    /// What each of them needs; none while the process is not desired.
    demand: Option<Arc<Demand>>,
    /// How many.
    slots: u32,
}

impl AuctionQueue {
    /// The unclaimed slots.
    pub fn slots(&self) -> impl Iterator<Item = &ActualLrpKey> {
        self.waiting.works().filter_map(|work| match work {
            WorkKind::Lrp(key) => Some(key),
            WorkKind::Task(_) => None,
        })
    }

    /// The pending tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskGuid> {
        self.waiting.works().filter_map(|work| match work {
            WorkKind::Lrp(_) => None,
            WorkKind::Task(task_guid) => Some(task_guid),
        })
    }

    /// As the auctioneer takes it, step by step.
    #[must_use]
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// All that may be auctioned now, for a round of the whole: what was refused, once its pause is
    /// over. What it needs, and since when it waits, is looked up in the aggregates.
    #[must_use]
    pub fn auctions(&self, aggregates: &Aggregates, now: Timestamp) -> Vec<Auction> {
        let slots = self.slots().filter_map(|key| {
            let lrp = aggregates.desired_lrp(&key.process_guid)?;
            aggregates.slot(key).filter(|slot| slot.may_be_auctioned(now))?;
            let work = WorkKind::Lrp(key.clone());
            Some(Auction { work, demand: Demand::of(lrp.definition.shared().as_ref()) })
        });
        let tasks = self.tasks().filter_map(|task_guid| {
            let task = aggregates.task(task_guid)?;
            let work = WorkKind::Task(task_guid.clone());
            task.may_be_auctioned(now)
                .then(|| Auction { work, demand: Demand::of(task.definition.as_ref()) })
        });
        slots.chain(tasks).collect()
    }

    fn put_slot(&mut self, aggregates: &Aggregates, slot: &ActualLrp) {
        let process_guid = &slot.key.process_guid;
        if !self.processes.contains_key(process_guid) {
            let demand = demand(aggregates, process_guid);
            self.processes.insert(process_guid.clone(), WaitingProcess { demand, slots: 0 });
        }
        let Some(process) = self.processes.get_mut(process_guid) else { return };
        let lane = process.demand.as_ref().map(|demand| Lane {
            not_before: slot.refused_until,
            demand: Arc::clone(demand),
            shown: Shown::Slot(slot.placement_error.clone()),
        });
        let is_new = self.waiting.put(&WorkKind::Lrp(slot.key.clone()), lane);
        process.slots += u32::from(is_new);
    }

    fn remove_slot(&mut self, key: &ActualLrpKey) {
        if !self.waiting.remove(&WorkKind::Lrp(key.clone())) {
            return;
        }
        if let Some(process) = self.processes.get_mut(&key.process_guid) {
            process.slots -= 1;
            if process.slots == 0 {
                self.processes.remove(&key.process_guid);
            }
        }
    }

    /// Another wish may need something else.
    fn wish_again(&mut self, aggregates: &Aggregates, process_guid: &ProcessGuid) {
        let Some(process) = self.processes.get_mut(process_guid) else { return };
        let demand = demand(aggregates, process_guid);
        if process.demand == demand {
            return;
        }
        process.demand = demand;
        let key = |index| WorkKind::Lrp(ActualLrpKey { process_guid: process_guid.clone(), index });
        let slots: Vec<WorkKind> =
            self.waiting.works_from_to(key(0), key(u32::MAX)).cloned().collect();
        for work in slots {
            if let WorkKind::Lrp(key) = work
                && let Some(slot) = aggregates.slot(&key)
            {
                self.put_slot(aggregates, slot);
            }
        }
    }

    fn put_task(&mut self, task: &Task) {
        let lane = Lane {
            not_before: task.pauses_until(),
            demand: Arc::new(Demand::of(task.definition.as_ref())),
            shown: Shown::Task,
        };
        self.waiting.put(&WorkKind::Task(task.task_guid.clone()), Some(lane));
    }
}

fn demand(aggregates: &Aggregates, process_guid: &ProcessGuid) -> Option<Arc<Demand>> {
    let lrp = aggregates.desired_lrp(process_guid)?;
    Some(Arc::new(Demand::of(lrp.definition.shared().as_ref())))
}

impl View for AuctionQueue {
    const NAME: &'static str = "auction_queue";

    fn fill(aggregates: &Aggregates) -> Self {
        let mut queue = Self::default();
        let slots = aggregates.processes_by_chance().flat_map(|(_, process)| process.slots());
        for slot in slots.filter(|slot| slot_waits(slot)) {
            queue.put_slot(aggregates, slot);
        }
        for task in aggregates.tasks_by_chance().filter(|task| task_waits(task)) {
            queue.put_task(task);
        }
        queue
    }

    fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId) {
        match stream {
            StreamId::ActualLrp(key) => {
                match aggregates.slot(key).filter(|slot| slot_waits(slot)) {
                    Some(slot) => self.put_slot(aggregates, slot),
                    None => self.remove_slot(key),
                }
            }
            StreamId::DesiredLrp(process_guid) => self.wish_again(aggregates, process_guid),
            StreamId::Task(guid) => match aggregates.task(guid).filter(|task| task_waits(task)) {
                Some(task) => self.put_task(task),
                None => {
                    self.waiting.remove(&WorkKind::Task(guid.clone()));
                }
            },
            StreamId::Cell(_) | StreamId::FreshnessDomain(_) | StreamId::Secrets(_) => {}
        }
    }

    fn content(&self) -> String {
        format!("{self:?}")
    }
}

fn slot_waits(slot: &ActualLrp) -> bool {
    slot.state == actual_lrp::State::Unclaimed
}

fn task_waits(task: &Task) -> bool {
    task.state == task::State::Pending
}
