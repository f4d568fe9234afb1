//! What waits for a cell: unclaimed slots and pending tasks.

use std::collections::BTreeSet;

use domain::{
    aggregates::Aggregates,
    auction::{Auction, Demand},
    bbs::{
        actual_lrp::{self, ActualLrp},
        task::{self, Task},
    },
    id::{ActualLrpKey, TaskGuid},
    log::StreamId,
    rep::WorkKind,
    units::Timestamp,
};

use crate::view::View;

/// What waits for a cell. The auction brings it into Diego's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuctionQueue {
    slots: BTreeSet<ActualLrpKey>,
    tasks: BTreeSet<TaskGuid>,
}

impl AuctionQueue {
    /// The unclaimed slots.
    pub fn slots(&self) -> impl Iterator<Item = &ActualLrpKey> {
        self.slots.iter()
    }

    /// The pending tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskGuid> {
        self.tasks.iter()
    }

    /// What may be auctioned now: what was refused, once its pause is over.
    #[must_use]
    pub fn auctions(&self, aggregates: &Aggregates, now: Timestamp) -> Vec<Auction> {
        let slots = self.slots.iter().filter_map(|key| {
            let lrp = aggregates.desired_lrp(&key.process_guid)?;
            aggregates.slot(key).filter(|slot| slot.may_be_auctioned(now))?;
            let work = WorkKind::Lrp(key.clone());
            Some(Auction { work, demand: Demand::of(lrp.definition.shared().as_ref()) })
        });
        let tasks = self.tasks.iter().filter_map(|task_guid| {
            let task = aggregates.task(task_guid)?;
            let work = WorkKind::Task(task_guid.clone());
            task.may_be_auctioned(now)
                .then(|| Auction { work, demand: Demand::of(task.definition.as_ref()) })
        });
        slots.chain(tasks).collect()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.tasks.is_empty()
    }
}

impl View for AuctionQueue {
    const NAME: &'static str = "auction_queue";

    fn fill(aggregates: &Aggregates) -> Self {
        let slots = aggregates.processes_by_chance().flat_map(|(_, process)| process.slots());
        let slots = slots.filter(|slot| slot_waits(slot)).map(|slot| slot.key.clone());
        let tasks = aggregates.tasks_by_chance().filter(|task| task_waits(task));
        let tasks = tasks.map(|task| task.task_guid.clone());
        Self { slots: slots.collect(), tasks: tasks.collect() }
    }

    fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId) {
        match stream {
            StreamId::ActualLrp(key) => {
                let waits = aggregates.slot(key).is_some_and(slot_waits);
                keep(&mut self.slots, key, waits);
            }
            StreamId::Task(task_guid) => {
                let waits = aggregates.task(task_guid).is_some_and(task_waits);
                keep(&mut self.tasks, task_guid, waits);
            }
            StreamId::DesiredLrp(_)
            | StreamId::Cell(_)
            | StreamId::FreshnessDomain(_)
            | StreamId::Secrets(_) => {}
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

fn keep<T: Ord + Clone>(set: &mut BTreeSet<T>, member: &T, is_member: bool) {
    if is_member {
        set.insert(member.clone());
    } else {
        set.remove(member);
    }
}
