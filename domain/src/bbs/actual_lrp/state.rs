//! What a slot is; how its events make it so is in `evolve`.

use std::{net::Ipv4Addr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Restart;
use crate::{
    bbs::placement::Placement,
    id::{ActualLrpKey, FreshnessDomainName, InstanceGuid},
    log::Position,
    units::Timestamp,
};

/// The most leaving instances that one slot keeps. More than a few are there only while cells that
/// are heard do not stop what they should: then the oldest is let go. Its cell stops it all the same,
/// as anything that is not on its list, but nobody waits for it any more.
pub const LEAVING_MAX: usize = 8;

/// One slot. It holds the ordinary instance; a suspect and an evacuating one may stand beside it,
/// and some that leave.
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
    /// Instances that are none of the slot's any more and whose containers may still be there, at
    /// most [`LEAVING_MAX`], the oldest first.
    pub leaving: Vec<Leaving>,
    /// Those of its instances that have lost their routes and are not yet their cell's to stop.
    #[serde(default)]
    pub withdrawing: Vec<Withdrawing>,
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
    /// The slot is gone, and is kept for its leaving instances only: whoever looks for the slot
    /// finds none, and it may be created anew.
    Removed,
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

/// An instance that is to be stopped: it serves no more, reserves what it did, and stays on its
/// cell's list until the cell says that the container is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Where it is.
    pub placement: Placement,
    /// Since when it leaves.
    pub since: Timestamp,
}

/// An instance that has lost its routes, and runs on until routers have followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawing {
    /// Which.
    pub instance_guid: InstanceGuid,
    /// From where on the log leads no request to it.
    pub position: Position,
    /// Since when.
    pub since: Timestamp,
}

/// Which of a slot's instances one is, under Diego's names; Diego forgets what leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstancePresence {
    /// The one that the slot is about.
    Ordinary,
    /// It runs on until the ordinary one does.
    Evacuating,
    /// Its cell is lost.
    Suspect,
    /// It is none of the slot's any more, and its container may still be there.
    Leaving,
}

/// One of a slot's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance<'a> {
    /// Which.
    pub presence: InstancePresence,
    /// Where it is.
    pub placement: &'a Placement,
    /// How it is reached, while it is healthy and does not leave.
    pub running: Option<&'a Running>,
    /// Whether its cell is to stop it.
    pub is_stopping: bool,
    /// Whether that waits until no router leads to it any more.
    pub is_withdrawing: bool,
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
        let (placement, since) = (self.placement(), self.since);
        let (is_stopping, is_withdrawing) = (false, false);
        Instance { presence, placement, running, is_stopping, is_withdrawing, since }
    }
}

impl Leaving {
    fn instance(&self) -> Instance<'_> {
        let Self { placement, since } = self;
        Instance {
            presence: InstancePresence::Leaving,
            placement,
            running: None,
            is_stopping: true,
            is_withdrawing: false,
            since: *since,
        }
    }
}

impl ActualLrp {
    /// Its instances: the ordinary one, while there is one, those beside it and those that leave.
    pub fn instances(&self) -> impl Iterator<Item = Instance<'_>> {
        let running = match &self.state {
            State::Running(running) => Some(running),
            State::Unclaimed
            | State::Placed(_)
            | State::Claimed(_)
            | State::Crashed(_)
            | State::Removed => None,
        };
        let ordinary = self.placement().map(|placement| {
            let (presence, is_stopping) = (InstancePresence::Ordinary, self.is_stopping);
            let (is_withdrawing, since) = (false, self.since);
            Instance { presence, placement, running, is_stopping, is_withdrawing, since }
        });
        let evacuating = self.evacuating.as_ref();
        let evacuating = evacuating.map(|twin| twin.instance(InstancePresence::Evacuating));
        let suspect = self.suspect.as_ref();
        let suspect = suspect.map(|twin| twin.instance(InstancePresence::Suspect));
        let leaving = self.leaving.iter().map(Leaving::instance);
        let all = ordinary.into_iter().chain(evacuating).chain(suspect).chain(leaving);
        all.map(|instance| {
            let is_withdrawing = self.is_withdrawing(&instance.placement.instance_guid);
            Instance { is_withdrawing, ..instance }
        })
    }

    /// Whether an instance has lost its routes and is not yet its cell's to stop.
    #[must_use]
    pub fn is_withdrawing(&self, instance_guid: &InstanceGuid) -> bool {
        self.withdrawing.iter().any(|it| it.instance_guid == *instance_guid)
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
            (InstancePresence::Leaving, _) => 6,
        };
        let own = self.instances().filter(|it| it.presence != InstancePresence::Leaving);
        own.min_by_key(rank)
    }

    /// Whether it has no instance but an ordinary one: nothing stands beside that, nothing leaves.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        !self.has_twin() && self.leaving.is_empty()
    }

    /// Whether an instance stands beside the ordinary one and may serve.
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
            State::Unclaimed | State::Crashed(_) | State::Removed => None,
        }
    }

    /// Whether the slot is gone, and known for the sake of its leaving instances only.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.state == State::Removed
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
            State::Unclaimed | State::Placed(_) | State::Removed => "UNCLAIMED",
            State::Claimed(_) => "CLAIMED",
            State::Running(_) => "RUNNING",
            State::Crashed(_) => "CRASHED",
        }
    }
}
