//! A slot as its events tell it.

use std::{net::Ipv4Addr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Event, Restart};
use crate::{
    bbs::placement::{Placement, RETRY_AFTER},
    id::{ActualLrpKey, FreshnessDomainName},
    log::{PlacementEpoch, Position, Stamp},
    units::Timestamp,
};

/// One slot. It holds the ordinary instance; evacuating and suspect ones will stand beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActualLrp {
    /// Whose slot, which index.
    pub key: ActualLrpKey,
    /// Who vouches for it.
    pub domain: FreshnessDomainName,
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Whether its instance is to be stopped.
    pub is_stopping: bool,
    /// Crashes in a row.
    pub crash_count: u32,
    /// The newest crash.
    pub last_crash: Option<LastCrash>,
    /// Why it could not be placed, while it is not.
    pub placement_error: Option<String>,
    /// Until when it is not auctioned again after a cell refused it: it might be the best one
    /// still, and refuse it for ever.
    pub refused_until: Option<Timestamp>,
    /// Its last event.
    pub last_position: Position,
}

/// What a slot is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It waits for a cell.
    Unclaimed,
    /// A cell was chosen, and has not answered yet. Diego's clients see UNCLAIMED.
    Placed(Placement),
    /// The cell makes its container.
    Claimed(Placement),
    /// The instance is healthy.
    Running(Running),
    /// The instance ended and is not to be placed yet.
    Crashed(Restart),
}

/// A healthy instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Where it is.
    pub placement: Placement,
    /// How it is reached.
    pub net_info: NetInfo,
}

/// How an instance is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetInfo {
    /// The container's own address.
    pub instance_address: Ipv4Addr,
    /// The ports it listens on.
    pub ports: Vec<u16>,
}

/// The newest crash of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCrash {
    /// In words.
    #[serde(with = "crate::shared_text")]
    pub reason: Arc<str>,
    /// When it was recorded.
    pub at: Timestamp,
    /// Its event.
    pub position: Position,
}

impl ActualLrp {
    /// Where its instance is, while there is one.
    #[must_use]
    pub fn placement(&self) -> Option<&Placement> {
        match &self.state {
            State::Placed(placement) | State::Claimed(placement) => Some(placement),
            State::Running(running) => Some(&running.placement),
            State::Unclaimed | State::Crashed(_) => None,
        }
    }

    /// Whether it waits for a cell and is not in the pause after a refusal.
    #[must_use]
    pub fn may_be_auctioned(&self, now: Timestamp) -> bool {
        let is_pausing = self.refused_until.is_some_and(|instant| now < instant);
        self.state == State::Unclaimed && !is_pausing
    }

    /// The state under Diego's name.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Unclaimed | State::Placed(_) => "UNCLAIMED",
            State::Claimed(_) => "CLAIMED",
            State::Running(_) => "RUNNING",
            State::Crashed(_) => "CRASHED",
        }
    }
}

/// Folds one event. Total: history is never refused.
pub(crate) fn evolve(
    state: &mut Option<Arc<ActualLrp>>,
    key: &ActualLrpKey,
    event: &Event,
    stamp: Stamp,
) {
    if let Event::Created(created) = event {
        *state = Some(Arc::new(ActualLrp {
            key: key.clone(),
            domain: created.domain.clone(),
            state: State::Unclaimed,
            since: stamp.recorded_at,
            is_stopping: false,
            crash_count: 0,
            last_crash: None,
            placement_error: None,
            refused_until: None,
            last_position: stamp.position,
        }));
        return;
    }
    if matches!(event, Event::Removed(_)) {
        *state = None;
        return;
    }
    let Some(slot) = state.as_mut().map(Arc::make_mut) else { return };
    slot.last_position = stamp.position;
    if let Some(next) = next_state(slot, event, stamp) {
        slot.state = next;
        slot.since = stamp.recorded_at;
    }
    note(slot, event, stamp);
}

/// The state that an event leads to, where it leads to one.
fn next_state(slot: &ActualLrp, event: &Event, stamp: Stamp) -> Option<State> {
    match event {
        Event::Placed(placed) => Some(State::Placed(Placement {
            instance_guid: placed.instance_guid.clone(),
            cell_id: placed.cell_id.clone(),
            cell_epoch: placed.cell_epoch,
            placement_epoch: PlacementEpoch(stamp.position),
            definition: placed.definition,
            resources: placed.resources,
        })),
        Event::Claimed(_) => slot.placement().cloned().map(State::Claimed),
        Event::Started(started) => slot.placement().cloned().map(|placement| {
            State::Running(Running { placement, net_info: started.net_info.clone() })
        }),
        Event::Crashed(crashed) => Some(match crashed.restart {
            Restart::Immediately => State::Unclaimed,
            Restart::NotBefore(_) | Restart::Never => State::Crashed(crashed.restart),
        }),
        Event::Refused(_) | Event::Unclaimed(_) => Some(State::Unclaimed),
        Event::Created(_) | Event::PlacementFailed(_) | Event::Retired(_) | Event::Removed(_) => {
            None
        }
    }
}

/// What an event says beside the state.
fn note(slot: &mut ActualLrp, event: &Event, stamp: Stamp) {
    match event {
        Event::PlacementFailed(failed) => slot.placement_error = Some(failed.error.clone()),
        Event::Refused(refused) => {
            slot.placement_error = Some(refused.reason.clone());
            slot.refused_until = Some(stamp.recorded_at.plus(RETRY_AFTER));
        }
        Event::Placed(_) | Event::Claimed(_) | Event::Started(_) => {
            slot.placement_error = None;
            slot.refused_until = None;
        }
        Event::Crashed(crashed) => {
            slot.crash_count = crashed.crash_count;
            slot.last_crash = Some(LastCrash {
                reason: Arc::clone(&crashed.reason),
                at: stamp.recorded_at,
                position: stamp.position,
            });
        }
        Event::Retired(_) => slot.is_stopping = true,
        Event::Created(_) | Event::Unclaimed(_) | Event::Removed(_) => {}
    }
}
