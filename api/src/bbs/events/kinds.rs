//! Which changes go into which stream, in which generation of messages.

use prost::Message as _;

use super::{
    change::{Change, Row, Shown},
    slots,
    sse::Named,
};
use crate::bbs::{
    convert::{Generation, layers},
    proto,
};

/// One of the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bbs) struct Kind {
    about: About,
    generation: Generation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Groups,
    Instances,
    Tasks,
}

impl Kind {
    pub(in crate::bbs) const GROUPS_R0: Self =
        Self { about: About::Groups, generation: Generation::Oldest };
    pub(in crate::bbs) const GROUPS_R1: Self =
        Self { about: About::Groups, generation: Generation::Newest };
    pub(in crate::bbs) const INSTANCES_R0: Self =
        Self { about: About::Instances, generation: Generation::Oldest };
    pub(in crate::bbs) const INSTANCES_R1: Self =
        Self { about: About::Instances, generation: Generation::Newest };
    pub(in crate::bbs) const TASKS_R0: Self =
        Self { about: About::Tasks, generation: Generation::Oldest };
    pub(in crate::bbs) const TASKS_R1: Self =
        Self { about: About::Tasks, generation: Generation::Newest };

    /// The events of a change that go into this stream, in their order; of instances only those of one
    /// cell, when one is asked for.
    pub(in crate::bbs) fn events(self, change: &Change, cell_id: &str) -> Vec<Named> {
        match (&change.shown, self.about) {
            (Shown::Desired(before, after), About::Groups | About::Instances) => {
                let old = |lrp: &proto::DesiredLrp| layers::of_lrp(lrp.clone(), self.generation);
                let (before, after) = (before.as_ref().map(old), after.as_ref().map(old));
                desired(before, after, &change.trace_id).into_iter().collect()
            }
            (Shown::Slot { before, after, crashed }, About::Instances) => {
                slots::instances(before, after, crashed.as_ref(), &change.trace_id, cell_id)
            }
            (Shown::Slot { before, after, crashed }, About::Groups) => {
                slots::groups(before, after, crashed.as_ref(), cell_id)
            }
            (Shown::Task(before, after), About::Tasks) => {
                let old = |task: &proto::Task| layers::of_whole_task(task.clone(), self.generation);
                let (before, after) = (before.as_ref().map(old), after.as_ref().map(old));
                task(before, after).into_iter().collect()
            }
            (Shown::Desired(..) | Shown::Slot { .. }, About::Tasks)
            | (Shown::Task(..), About::Groups | About::Instances) => Vec::new(),
        }
    }
}

fn desired(
    before: Option<proto::DesiredLrp>,
    after: Option<proto::DesiredLrp>,
    trace_id: &str,
) -> Option<Named> {
    let trace_id = trace_id.to_owned();
    Some(match (before, after) {
        (None, Some(lrp)) => {
            let event = proto::DesiredLrpCreatedEvent { desired_lrp: Some(lrp), trace_id };
            Named::new("desired_lrp_created", event.encode_to_vec())
        }
        (before @ Some(_), after @ Some(_)) => {
            let event = proto::DesiredLrpChangedEvent { before, after, trace_id };
            Named::new("desired_lrp_changed", event.encode_to_vec())
        }
        (Some(lrp), None) => {
            let event = proto::DesiredLrpRemovedEvent { desired_lrp: Some(lrp), trace_id };
            Named::new("desired_lrp_removed", event.encode_to_vec())
        }
        (None, None) => return None,
    })
}

fn task(before: Option<proto::Task>, after: Option<proto::Task>) -> Option<Named> {
    Some(match (before, after) {
        (None, task @ Some(_)) => {
            Named::new("task_created", proto::TaskCreatedEvent { task }.encode_to_vec())
        }
        (before @ Some(_), after @ Some(_)) => {
            Named::new("task_changed", proto::TaskChangedEvent { before, after }.encode_to_vec())
        }
        (task @ Some(_), None) => {
            Named::new("task_removed", proto::TaskRemovedEvent { task }.encode_to_vec())
        }
        (None, None) => return None,
    })
}

/// Whether a record is of the cell that is asked for.
pub(super) fn is_on(row: &Row, cell_id: &str) -> bool {
    cell_id.is_empty() || row.actual_lrp_instance_key.cell_id == cell_id
}
