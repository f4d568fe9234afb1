//! What a change of a slot is to Diego's streams: records that came, changed and went, a crash first.
//!
//! In the newer stream a record is told by its slot and its instance; in the older one by its place in
//! the group.

use prost::Message as _;

use super::{change::Row, kinds::is_on, sse::Named};
use crate::bbs::{
    actual_lrps::groups::group,
    proto::{self, actual_lrp::Presence},
};

/// What became of one record.
enum Step<'r> {
    Created(&'r Row),
    Changed(&'r Row, &'r Row),
    Removed(&'r Row),
}

impl Step<'_> {
    /// What runs is told first, so that a route is added before another one goes.
    fn ends_running(&self) -> bool {
        match self {
            Self::Created(row) | Self::Changed(_, row) => row.state == "RUNNING",
            Self::Removed(_) => false,
        }
    }
}

/// A crash, as it is told before all else.
pub(super) type Crashed = proto::ActualLrpCrashedEvent;

/// The events of the newer stream.
pub(super) fn instances(
    before: &[Row],
    after: &[Row],
    crashed: Option<&Crashed>,
    trace_id: &str,
    cell_id: &str,
) -> Vec<Named> {
    let mut steps = steps(before, after);
    steps.sort_by_key(|step| !step.ends_running());
    let crash = crashed.and_then(|crashed| crash_event(crashed, cell_id));
    let events = steps.iter().filter_map(|step| instance_event(step, trace_id, cell_id));
    crash.into_iter().chain(events).collect()
}

fn crash_event(crashed: &Crashed, cell_id: &str) -> Option<Named> {
    let is_asked = cell_id.is_empty() || crashed.actual_lrp_instance_key.cell_id == cell_id;
    is_asked.then(|| Named::new("actual_lrp_crashed", crashed.encode_to_vec()))
}

fn instance_event(step: &Step<'_>, trace_id: &str, cell_id: &str) -> Option<Named> {
    let trace_id = trace_id.to_owned();
    Some(match *step {
        Step::Created(row) if is_on(row, cell_id) => {
            let actual_lrp = Some(row.clone());
            let event = proto::ActualLrpInstanceCreatedEvent { actual_lrp, trace_id };
            Named::new("actual_lrp_instance_created", event.encode_to_vec())
        }
        Step::Changed(before, after) => {
            let is_placed = !after.actual_lrp_instance_key.instance_guid.is_empty();
            let named = if is_placed { after } else { before };
            if !is_on(named, cell_id) {
                return None;
            }
            let event = proto::ActualLrpInstanceChangedEvent {
                actual_lrp_key: named.actual_lrp_key.clone(),
                actual_lrp_instance_key: named.actual_lrp_instance_key.clone(),
                before: Some(info(before)),
                after: Some(info(after)),
                trace_id,
            };
            Named::new("actual_lrp_instance_changed", event.encode_to_vec())
        }
        Step::Removed(row) if is_on(row, cell_id) => {
            let actual_lrp = Some(row.clone());
            let event = proto::ActualLrpInstanceRemovedEvent { actual_lrp, trace_id };
            Named::new("actual_lrp_instance_removed", event.encode_to_vec())
        }
        Step::Created(_) | Step::Removed(_) => return None,
    })
}

fn info(row: &Row) -> proto::ActualLrpInfo {
    proto::ActualLrpInfo {
        actual_lrp_net_info: row.actual_lrp_net_info.clone(),
        crash_count: row.crash_count,
        crash_reason: row.crash_reason.clone(),
        state: row.state.clone(),
        placement_error: row.placement_error.clone(),
        since: row.since,
        modification_tag: row.modification_tag.clone(),
        presence: row.presence,
        routable: row.routable,
        availability_zone: row.availability_zone.clone(),
    }
}

/// Whether a record says the same: a position moves with every event of the log, and when a slot began
/// to wait for a cell's answer is nobody's business but ours.
fn is_same(before: &Row, after: &Row) -> bool {
    let mut before = before.clone();
    before.modification_tag = after.modification_tag.clone();
    if before.state == "UNCLAIMED" && after.state == "UNCLAIMED" {
        before.since = after.since;
    }
    before == *after
}

fn steps<'r>(before: &'r [Row], after: &'r [Row]) -> Vec<Step<'r>> {
    let mut steps = Vec::new();
    let (mut gone, mut come): (Vec<&Row>, Vec<&Row>) = (before.iter().collect(), Vec::new());
    for row in after {
        let key = &row.actual_lrp_instance_key;
        let known = gone.iter().position(|before| {
            !key.instance_guid.is_empty() && before.actual_lrp_instance_key == *key
        });
        match known {
            Some(index) => change(gone.swap_remove(index), row, &mut steps),
            None => come.push(row),
        }
    }
    // What is left of the ordinary record has, or had, no instance: it is the same one, except that
    // an instance that gave its slot back is told as one that went.
    for row in come {
        let is_ordinary = |row: &&Row| row.presence() == Presence::Ordinary;
        let other = gone.iter().position(is_ordinary).filter(|_| is_ordinary(&row));
        match other.map(|index| gone.swap_remove(index)) {
            Some(before) if is_given_back(before, row) => {
                steps.push(Step::Created(row));
                steps.push(Step::Removed(before));
            }
            Some(before) => change(before, row, &mut steps),
            None => steps.push(Step::Created(row)),
        }
    }
    steps.extend(gone.into_iter().map(Step::Removed));
    steps
}

fn is_given_back(before: &Row, after: &Row) -> bool {
    !before.actual_lrp_instance_key.instance_guid.is_empty() && after.state == "UNCLAIMED"
}

fn change<'r>(before: &'r Row, after: &'r Row, steps: &mut Vec<Step<'r>>) {
    if !is_same(before, after) {
        steps.push(Step::Changed(before, after));
    }
}

/// The events of the older stream.
pub(super) fn groups(
    before: &[Row],
    after: &[Row],
    crashed: Option<&Crashed>,
    cell_id: &str,
) -> Vec<Named> {
    let (before, after) = (group(before).unwrap_or_default(), group(after).unwrap_or_default());
    let mut steps: Vec<Step<'_>> = [
        step(before.instance.as_ref(), after.instance.as_ref()),
        step(before.evacuating.as_ref(), after.evacuating.as_ref()),
    ]
    .into_iter()
    .flatten()
    .collect();
    steps.sort_by_key(|step| !step.ends_running());
    let crash = crashed.and_then(|crashed| crash_event(crashed, cell_id));
    let events = steps.iter().filter_map(|step| group_event(step, cell_id));
    crash.into_iter().chain(events).collect()
}

fn step<'r>(before: Option<&'r Row>, after: Option<&'r Row>) -> Option<Step<'r>> {
    match (before, after) {
        (None, Some(row)) => Some(Step::Created(row)),
        (Some(row), None) => Some(Step::Removed(row)),
        (Some(before), Some(after)) if !is_same(before, after) => {
            Some(Step::Changed(before, after))
        }
        (Some(_), Some(_)) | (None, None) => None,
    }
}

fn group_event(step: &Step<'_>, cell_id: &str) -> Option<Named> {
    let one = |row: &Row| group(std::slice::from_ref(row));
    Some(match *step {
        Step::Created(row) if is_on(row, cell_id) => {
            let event = proto::ActualLrpCreatedEvent { actual_lrp_group: one(row) };
            Named::new("actual_lrp_created", event.encode_to_vec())
        }
        Step::Changed(before, after) if is_on(before, cell_id) || is_on(after, cell_id) => {
            let event = proto::ActualLrpChangedEvent { before: one(before), after: one(after) };
            Named::new("actual_lrp_changed", event.encode_to_vec())
        }
        Step::Removed(row) if is_on(row, cell_id) => {
            let event = proto::ActualLrpRemovedEvent { actual_lrp_group: one(row) };
            Named::new("actual_lrp_removed", event.encode_to_vec())
        }
        Step::Created(_) | Step::Changed(..) | Step::Removed(_) => return None,
    })
}
