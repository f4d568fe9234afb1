//! What one event of the log changes of what Diego shows: how a thing was, and how it is.

use std::sync::Arc;

use domain::{
    aggregates::Aggregates,
    bbs::{actual_lrp, desired_lrp::DesiredLrp, task::Task},
    event::Event,
    id::{ActualLrpKey, CellId, InstanceGuid},
    log::{Incarnation, Position, Recorded, StreamId},
};

use super::slots::Crashed;
use crate::{
    bbs::{
        actual_lrps::rows::rows,
        cells::at_most,
        convert::{self, Generation},
        proto,
        tasks::{read::with_definition, rows::row},
    },
    control_plane::ControlPlane,
};

/// A record of a slot.
pub(super) type Row = proto::ActualLrp;

/// What one event of the log changes of what Diego shows.
#[derive(Debug)]
pub(in crate::bbs) struct Change {
    /// The event.
    pub(super) position: Position,
    /// What its client calls the request that caused it.
    pub(super) trace_id: String,
    /// What is shown.
    pub(super) shown: Shown,
}

/// How a thing was, and how it is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way to the wire")]
pub(super) enum Shown {
    /// A wish.
    Desired(Option<proto::DesiredLrp>, Option<proto::DesiredLrp>),
    /// The records of a slot.
    Slot {
        /// Before.
        before: Vec<Row>,
        /// After.
        after: Vec<Row>,
        /// The crash, when it is one.
        crashed: Option<Crashed>,
    },
    /// A task.
    Task(Option<proto::Task>, Option<proto::Task>),
}

/// A thing as it stands.
#[derive(Debug)]
pub(in crate::bbs) enum Sight {
    Desired(Option<Arc<DesiredLrp>>),
    Slot(Vec<Row>),
    Task(Option<Arc<Task>>),
    /// Diego tells nobody of it.
    Other,
}

impl Sight {
    /// How what a stream of the log is about stands.
    pub(in crate::bbs) fn of(
        aggregates: &Aggregates,
        incarnation: Incarnation,
        stream: &StreamId,
    ) -> Self {
        match stream {
            StreamId::DesiredLrp(process_guid) => {
                Self::Desired(aggregates.desired_lrp(process_guid).cloned().map(Arc::new))
            }
            StreamId::ActualLrp(key) => {
                let slot = aggregates.slot(key);
                Self::Slot(slot.map(|slot| rows(aggregates, incarnation, slot)).unwrap_or_default())
            }
            StreamId::Task(task_guid) => {
                Self::Task(aggregates.task(task_guid).cloned().map(Arc::new))
            }
            StreamId::Cell(_) | StreamId::FreshnessDomain(_) | StreamId::Secrets(_) => Self::Other,
        }
    }
}

/// Tells what an event changed; none when Diego shows nothing of it.
pub(in crate::bbs) async fn tell(
    control_plane: &ControlPlane,
    recorded: &Recorded<Event>,
    before: Sight,
    after: Sight,
) -> Option<Change> {
    let shown = match (before, after) {
        (Sight::Desired(before), Sight::Desired(after)) => {
            let before = desired(control_plane, before.as_deref()).await;
            let after = desired(control_plane, after.as_deref()).await;
            if is_same_wish(before.as_ref(), after.as_ref()) {
                return None;
            }
            Shown::Desired(before, after)
        }
        (Sight::Slot(before), Sight::Slot(after)) => {
            let crashed = crashed(recorded, &after);
            Shown::Slot { before, after, crashed }
        }
        (Sight::Task(before), Sight::Task(after)) => {
            let before = task(control_plane, before.as_deref()).await;
            let after = task(control_plane, after.as_deref()).await;
            if before == after {
                return None;
            }
            Shown::Task(before, after)
        }
        (Sight::Desired(_) | Sight::Slot(_) | Sight::Task(_) | Sight::Other, _) => return None,
    };
    let trace_id = recorded.correlation.to_string();
    Some(Change { position: recorded.position, trace_id, shown })
}

/// Some of what we know of a wish is nothing that Diego shows.
fn is_same_wish(before: Option<&proto::DesiredLrp>, after: Option<&proto::DesiredLrp>) -> bool {
    let without_tag = |lrp: &proto::DesiredLrp| {
        let mut lrp = lrp.clone();
        lrp.modification_tag = None;
        lrp
    };
    before.map(without_tag) == after.map(without_tag)
}

async fn desired(
    control_plane: &ControlPlane,
    lrp: Option<&DesiredLrp>,
) -> Option<proto::DesiredLrp> {
    Some(convert::desired_lrp::write(control_plane, lrp?).await)
}

async fn task(control_plane: &ControlPlane, task: Option<&Task>) -> Option<proto::Task> {
    let task = task?;
    Some(with_definition(control_plane, task, row(task)?, Generation::Newest).await)
}

/// The crash of an ordinary instance, with what it was.
fn crashed(recorded: &Recorded<Event>, after: &[Row]) -> Option<Crashed> {
    let StreamId::ActualLrp(key) = &recorded.stream else { return None };
    let Event::ActualLrp(actual_lrp::Event::Crashed(crashed)) = &recorded.event else {
        return None;
    };
    let domain = after.first().map(|row| row.actual_lrp_key.domain.clone());
    Some(Crashed {
        actual_lrp_key: actual_lrp_key(key, domain.unwrap_or_default()),
        actual_lrp_instance_key: instance_key(&crashed.instance_guid, &crashed.cell_id),
        crash_count: at_most(crashed.crash_count),
        crash_reason: crashed.reason.to_string(),
        since: recorded.recorded_at.0,
    })
}

fn actual_lrp_key(key: &ActualLrpKey, domain: String) -> proto::ActualLrpKey {
    proto::ActualLrpKey {
        process_guid: key.process_guid.to_string(),
        index: at_most(key.index),
        domain,
    }
}

fn instance_key(instance_guid: &InstanceGuid, cell_id: &CellId) -> proto::ActualLrpInstanceKey {
    proto::ActualLrpInstanceKey {
        instance_guid: instance_guid.to_string(),
        cell_id: cell_id.to_string(),
    }
}
