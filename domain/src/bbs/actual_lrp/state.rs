//! A slot as its events tell it.

use std::{net::Ipv4Addr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Event, ReadinessChanged, Restart};
use crate::{
    bbs::placement::{Placement, RETRY_AFTER},
    id::{ActualLrpKey, FreshnessDomainName, InstanceGuid},
    log::{PlacementEpoch, Position, Stamp},
    units::Timestamp,
};

/// One slot. It holds the ordinary instance; a suspect and an evacuating one may stand beside it.
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
    /// An instance on a lost cell, which may still run there.
    pub suspect: Option<Box<Twin>>,
    /// An instance that runs on until the ordinary one does.
    pub evacuating: Option<Box<Twin>>,
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
    /// Whether it may take requests.
    pub is_ready: bool,
}

/// An instance beside the ordinary one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// What it does, or did when its cell was last heard.
    pub state: TwinState,
    /// Since when it does that: becoming a twin restarts no clock.
    pub since: Timestamp,
}

/// What an instance beside the ordinary one does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TwinState {
    /// The cell makes its container.
    Claimed(Placement),
    /// The instance is healthy.
    Running(Running),
}

/// Which of a slot's instances one is, under Diego's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstancePresence {
    /// The one that the slot is about.
    Ordinary,
    /// It runs on until the ordinary one does.
    Evacuating,
    /// Its cell is lost.
    Suspect,
}

/// One of a slot's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance<'a> {
    /// Which.
    pub presence: InstancePresence,
    /// Where it is.
    pub placement: &'a Placement,
    /// How it is reached, once it is healthy.
    pub running: Option<&'a Running>,
    /// Since when it does what it does.
    pub since: Timestamp,
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

impl Twin {
    /// Where it is.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        match &self.state {
            TwinState::Claimed(placement) => placement,
            TwinState::Running(running) => &running.placement,
        }
    }

    fn instance(&self, presence: InstancePresence) -> Instance<'_> {
        let running = match &self.state {
            TwinState::Claimed(_) => None,
            TwinState::Running(running) => Some(running),
        };
        Instance { presence, placement: self.placement(), running, since: self.since }
    }
}

impl ActualLrp {
    /// Its instances: the ordinary one, while there is one, and those beside it.
    pub fn instances(&self) -> impl Iterator<Item = Instance<'_>> {
        let running = match &self.state {
            State::Running(running) => Some(running),
            State::Unclaimed | State::Placed(_) | State::Claimed(_) | State::Crashed(_) => None,
        };
        let ordinary = self.placement().map(|placement| {
            let presence = InstancePresence::Ordinary;
            Instance { presence, placement, running, since: self.since }
        });
        let evacuating = self.evacuating.as_ref();
        let evacuating = evacuating.map(|twin| twin.instance(InstancePresence::Evacuating));
        let suspect = self.suspect.as_ref();
        let suspect = suspect.map(|twin| twin.instance(InstancePresence::Suspect));
        ordinary.into_iter().chain(evacuating).chain(suspect)
    }

    /// The one that stands for the slot where only one is shown: in Diego's order the ordinary one
    /// when it is healthy, then a healthy or claimed suspect, then the ordinary one. A healthy
    /// evacuating one comes before what is not healthy: it serves.
    #[must_use]
    pub fn resolved(&self) -> Option<Instance<'_>> {
        let rank = |instance: &Instance<'_>| match (instance.presence, instance.running) {
            (InstancePresence::Ordinary, Some(_)) => 0,
            (InstancePresence::Suspect, Some(_)) => 1,
            (InstancePresence::Evacuating, Some(_)) => 2,
            (InstancePresence::Suspect, None) => 3,
            (InstancePresence::Ordinary, None) => 4,
            (InstancePresence::Evacuating, None) => 5,
        };
        self.instances().min_by_key(rank)
    }

    /// Whether an instance stands beside the ordinary one.
    #[must_use]
    pub fn has_twin(&self) -> bool {
        self.suspect.is_some() || self.evacuating.is_some()
    }

    /// Where its ordinary instance is, while there is one.
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
            suspect: None,
            evacuating: None,
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
    // What is heard of a suspect says nothing of the ordinary instance.
    let is_of_slot = !matches!(
        event,
        Event::Started(started) if is_of_suspect(slot, &started.instance_guid)
    );
    move_twins(slot, event, stamp);
    if let Some(next) = next_state(slot, event, stamp) {
        slot.state = next;
        slot.since = stamp.recorded_at;
    }
    if is_of_slot {
        note(slot, event, stamp);
    }
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
        Event::Started(started) if is_of_suspect(slot, &started.instance_guid) => None,
        Event::Started(started) => slot.placement().cloned().map(|placement| {
            State::Running(Running {
                placement,
                net_info: started.net_info.clone(),
                is_ready: true,
            })
        }),
        Event::Crashed(crashed) => Some(match crashed.restart {
            Restart::Immediately => State::Unclaimed,
            Restart::NotBefore(_) | Restart::Never => State::Crashed(crashed.restart),
        }),
        Event::Refused(_) | Event::Unclaimed(_) => Some(State::Unclaimed),
        Event::Created(_)
        | Event::PlacementFailed(_)
        | Event::Retired(_)
        | Event::Removed(_)
        | Event::Suspected(_)
        | Event::SuspectRestored(_)
        | Event::SuspectRemoved(_)
        | Event::EvacuationStarted(_)
        | Event::EvacuationEnded(_)
        | Event::ReadinessChanged(_) => None,
    }
}

/// Moves the instance that an event is about between the ordinary place and those beside it.
fn move_twins(slot: &mut ActualLrp, event: &Event, stamp: Stamp) {
    match event {
        Event::Suspected(_) => slot.suspect = leave_place(slot, stamp),
        Event::Started(started) => {
            let suspect = slot.suspect.as_mut();
            let suspect =
                suspect.filter(|it| it.placement().instance_guid == started.instance_guid);
            if let Some(suspect) = suspect {
                let placement = suspect.placement().clone();
                let net_info = started.net_info.clone();
                suspect.state = TwinState::Running(Running { placement, net_info, is_ready: true });
                suspect.since = stamp.recorded_at;
            }
        }
        Event::EvacuationStarted(started) => {
            slot.evacuating = if is_of_suspect(slot, &started.instance_guid) {
                slot.suspect.take()
            } else {
                leave_place(slot, stamp)
            };
        }
        Event::SuspectRestored(_) => {
            if let Some(suspect) = slot.suspect.take() {
                slot.state = match suspect.state {
                    TwinState::Claimed(placement) => State::Claimed(placement),
                    TwinState::Running(running) => State::Running(running),
                };
                slot.since = suspect.since;
                slot.placement_error = None;
                slot.refused_until = None;
            }
        }
        Event::SuspectRemoved(_) => slot.suspect = None,
        Event::EvacuationEnded(_) => slot.evacuating = None,
        Event::ReadinessChanged(changed) => set_ready(slot, changed),
        Event::Created(_)
        | Event::Placed(_)
        | Event::PlacementFailed(_)
        | Event::Refused(_)
        | Event::Claimed(_)
        | Event::Crashed(_)
        | Event::Unclaimed(_)
        | Event::Retired(_)
        | Event::Removed(_) => {}
    }
}

fn is_of_suspect(slot: &ActualLrp, instance_guid: &InstanceGuid) -> bool {
    slot.suspect.as_ref().is_some_and(|suspect| suspect.placement().instance_guid == *instance_guid)
}

/// Takes the instance out of the ordinary place, which is unclaimed then.
fn leave_place(slot: &mut ActualLrp, stamp: Stamp) -> Option<Box<Twin>> {
    let left = std::mem::replace(&mut slot.state, State::Unclaimed);
    let since = std::mem::replace(&mut slot.since, stamp.recorded_at);
    let state = match left {
        State::Placed(placement) | State::Claimed(placement) => TwinState::Claimed(placement),
        State::Running(running) => TwinState::Running(running),
        State::Unclaimed | State::Crashed(_) => return None,
    };
    Some(Box::new(Twin { state, since }))
}

/// Readiness is no state: the time since when the instance is healthy stays.
fn set_ready(slot: &mut ActualLrp, changed: &ReadinessChanged) {
    let ordinary = match &mut slot.state {
        State::Running(running) => Some(running),
        State::Unclaimed | State::Placed(_) | State::Claimed(_) | State::Crashed(_) => None,
    };
    let twins = [&mut slot.suspect, &mut slot.evacuating].into_iter().flatten();
    let twins = twins.filter_map(|twin| match &mut twin.state {
        TwinState::Claimed(_) => None,
        TwinState::Running(running) => Some(running),
    });
    for running in ordinary.into_iter().chain(twins) {
        if running.placement.instance_guid == changed.instance_guid {
            running.is_ready = changed.is_ready;
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
        Event::Created(_)
        | Event::Unclaimed(_)
        | Event::Removed(_)
        | Event::Suspected(_)
        | Event::SuspectRestored(_)
        | Event::SuspectRemoved(_)
        | Event::EvacuationStarted(_)
        | Event::EvacuationEnded(_)
        | Event::ReadinessChanged(_) => {}
    }
}
