//! One request: who asks, of which node, under which name of the client's own.

use std::{sync::Arc, time::Duration};

use domain::{
    aggregates::Aggregates,
    command::Command,
    id::CommandId,
    log::{Actor, ActorKind},
    units::Timestamp,
};

use super::hub::Hub;
use crate::{
    command_bus::{self, Accepted},
    control_plane::{ControlPlane, Wish},
};

/// The header in which a client names what its request is a part of.
pub(super) const REQUEST_ID: &str = "x-vcap-request-id";
/// How the edge is called in the actor of a command.
const VIA: &str = "bbs";
/// The actor's name where no certificate is asked for.
const LOOPBACK_NAME: &str = "local";
const NAME_BYTES_MAX: usize = 255;

/// What every request needs of the node.
#[derive(Debug, Clone)]
pub struct Bbs {
    pub(super) control_plane: ControlPlane,
    pub(super) hub: Arc<Hub>,
    /// How long a wish waits until its slots are there.
    pub(super) slots_wait: Duration,
}

/// Who asks: whoever holds a certificate of the right authority, by the name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller(Actor);

impl Caller {
    /// By the name in its certificate; of any text only so much as an actor's name may hold.
    pub(super) fn named(name: &str) -> Self {
        let mut name: String = name.chars().filter(|c| !c.is_control()).collect();
        while name.len() > NAME_BYTES_MAX {
            name.pop();
        }
        let name = if name.is_empty() { "unnamed" } else { name.as_str() };
        Self(Actor { kind: ActorKind::User, name: name.into(), via: VIA.into() })
    }

    /// Whoever is on this machine.
    pub(super) fn on_loopback() -> Self {
        Self::named(LOOPBACK_NAME)
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) bbs: Bbs,
    pub(super) caller: Caller,
    pub(super) request_id: Option<CommandId>,
}

impl Call {
    pub(super) fn control_plane(&self) -> &ControlPlane {
        &self.bbs.control_plane
    }

    pub(super) fn now(&self) -> Timestamp {
        self.bbs.control_plane.clock.now()
    }

    /// The present, to be looked at for as long as it takes: nobody waits for that.
    pub(super) fn aggregates(&self) -> Aggregates {
        self.bbs.control_plane.now.read(|world| world.aggregates().clone())
    }

    /// Submits a command and waits a little until the views show what it caused.
    pub(super) async fn submit(
        &self,
        command: impl Into<Command>,
    ) -> Result<Accepted, command_bus::Error> {
        let wish = Wish { actor: self.caller.0.clone(), command_id: None, command: command.into() };
        self.bbs.control_plane.submit_within(wish, self.request_id.clone()).await
    }
}
