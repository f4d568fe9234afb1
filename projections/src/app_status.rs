//! What Cloud Controller shows of an app's instances: a function of the live aggregates.
//!
//! One resolved view per slot: while a suspect or an evacuating instance is healthy, the slot runs.
//! An instance that is not placed is not running: it is STARTING while it may still be placed, and
//! DOWN with the reason once a placement failed (cloud_controller_ng, instances reporter).

use domain::{
    aggregates::Aggregates,
    bbs::actual_lrp::{ActualLrp, Restart, State},
    id::ProcessGuid,
    units::Timestamp,
};

/// What Cloud Controller calls an instance's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// It is healthy.
    Running,
    /// It waits for a cell, or its container is being made.
    Starting,
    /// It is being stopped.
    Stopping,
    /// It ended and waits to be restarted, or was given up.
    Crashed,
    /// It is missing, or no cell can take it.
    Down,
}

/// One instance as Cloud Controller shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceStatus {
    /// Which slot.
    pub index: u32,
    /// Its state.
    pub state: InstanceState,
    /// Since when; absent for a slot that does not exist.
    pub since: Option<Timestamp>,
    /// Why it is not running.
    pub details: Option<String>,
}

/// The instances that are desired, and those that are there beyond them, by index.
#[must_use]
pub fn app_status(aggregates: &Aggregates, process_guid: &ProcessGuid) -> Vec<InstanceStatus> {
    let wanted = aggregates.desired_lrp(process_guid).map_or(0, |lrp| lrp.instances);
    let mut statuses: Vec<InstanceStatus> =
        aggregates.slots_of(process_guid).filter_map(status_of).collect();
    let missing: Vec<u32> = (0..wanted)
        .filter(|index| statuses.binary_search_by_key(index, |status| status.index).is_err())
        .collect();
    statuses.extend(missing.into_iter().map(|index| InstanceStatus {
        index,
        state: InstanceState::Down,
        since: None,
        details: Some("not created yet".to_owned()),
    }));
    statuses.sort_by_key(|status| status.index);
    statuses
}

/// None of a slot that is gone and whose last instances leave.
fn status_of(slot: &ActualLrp) -> Option<InstanceStatus> {
    let is_served = slot.resolved().is_some_and(|instance| instance.running.is_some());
    let (state, details) = match &slot.state {
        State::Removed => return None,
        _ if slot.is_stopping => (InstanceState::Stopping, None),
        State::Running(_) => (InstanceState::Running, None),
        _ if is_served => (InstanceState::Running, None),
        State::Claimed(_) | State::Placed(_) => (InstanceState::Starting, None),
        State::Unclaimed => match &slot.placement_error {
            Some(error) => (InstanceState::Down, Some(error.clone())),
            None => (InstanceState::Starting, Some("waiting for a cell".to_owned())),
        },
        State::Crashed(restart) => (InstanceState::Crashed, Some(crash_details(slot, *restart))),
    };
    Some(InstanceStatus { index: slot.key.index, state, since: Some(slot.since), details })
}

fn crash_details(slot: &ActualLrp, restart: Restart) -> String {
    let reason = slot.last_crash.as_ref().map_or("", |crash| &*crash.reason);
    match restart {
        Restart::Immediately | Restart::NotBefore(_) => reason.to_owned(),
        Restart::Never => format!("{reason} (not restarted; crash {} in a row)", slot.crash_count),
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        bbs::{
            actual_lrp::{Command, UnclaimReason},
            cell, desired_lrp,
        },
        testing::{cell_id, key, process_guid, running_story},
        units::Milliseconds,
    };

    use super::*;

    #[test]
    fn a_slot_is_shown_once_and_runs_while_any_of_its_instances_does() {
        let lose = cell::Command::Lose {
            cell_id: cell_id("cell-1"),
            last_heard_at: Timestamp(0),
            heard_by: "node-1".to_owned(),
        };
        let (key, reason) = (key("web", 0), UnclaimReason::CellLost);
        let story = running_story().after(lose).after(Command::Unclaim { key, reason });

        let statuses = app_status(&story.aggregates, &process_guid("web"));

        let states: Vec<_> = statuses.iter().map(|status| (status.index, status.state)).collect();
        assert_eq!(states, [(0, InstanceState::Running)]);
    }

    #[test]
    fn a_slot_that_is_gone_is_not_shown_for_the_instance_that_still_leaves() {
        let evacuate = cell::Command::Evacuate {
            cell_id: cell_id("cell-1"),
            timeout: Milliseconds(600_000),
            instances_away_max: cell::INSTANCES_AWAY_MAX,
        };
        let process_guid = process_guid("web");
        let story = running_story().after(evacuate).after(Command::Evacuate { key: key("web", 0) });
        assert_eq!(app_status(&story.aggregates, &process_guid).len(), 1);

        let unwish = desired_lrp::Command::Remove { process_guid: process_guid.clone() };
        let story = story.after(unwish);

        let slot = story.aggregates.slot(&key("web", 0));
        assert!(slot.is_some_and(|slot| slot.is_removed() && !slot.leaving.is_empty()));
        assert!(app_status(&story.aggregates, &process_guid).is_empty());
    }
}
