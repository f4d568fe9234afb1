//! The parts of one control-plane node, as every edge sees them.
//!
//! Edges parse, submit and show. They decide nothing and never touch the store's writing side.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{
    action::EnvironmentVariable,
    auction,
    bbs::{definition::Definition, desired_lrp, task},
    command::{Command, Envelope},
    id::CommandId,
    invalid::Invalid,
    log::{Actor, Incarnation, Owner, Position},
    sealed::{PlainText, Sealed},
};
use projections::{
    event_store::{
        self, EventStore,
        keys::{self, Keyring},
    },
    history::History,
    observations::Observations,
    presence::Presence,
    projector::Now,
    world::World,
};

use tokio::time::timeout;
use tracing::{Instrument as _, trace_span};

use crate::{
    clock::{self, Clock},
    command_bus::{self, Accepted, CommandBus},
    live_routers::LiveRouters,
    telemetry::{self, SPANS},
};

/// How long a question waits for a node that is behind.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// One control-plane node.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// The log, for reading.
    pub store: Arc<dyn EventStore>,
    /// The one door for commands.
    pub bus: CommandBus,
    /// The present.
    pub now: Now,
    /// The past.
    pub history: Arc<History>,
    /// Seals and opens secrets.
    pub keyring: Arc<Keyring>,
    /// Log lines and metrics.
    pub observations: Arc<Observations>,
    /// Which cell was heard when.
    pub presence: Arc<Mutex<Presence>>,
    /// How far the routers of all nodes have followed.
    pub routers: Arc<LiveRouters>,
    /// The node's clock.
    pub clock: Arc<Clock>,
    /// Which life of the log this is.
    pub incarnation: Incarnation,
    /// This node's name, for the actor of its loops.
    pub node: Arc<str>,
    /// How its auctioneer weighs cells.
    pub placement: auction::Settings,
}

/// Why a client's wish was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is malformed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Its secrets cannot be sealed.
    #[error("cannot seal the secrets of {owner}")]
    Seal {
        /// Whose.
        owner: Owner,
        /// Why not.
        source: keys::Error,
    },
    /// That secrets are forgotten may be in the log, but their keys are not deleted or listed yet.
    #[error("cannot delete and list the keys of {owner} yet; it is tried again")]
    Forget {
        /// Whose.
        owner: Owner,
        /// Why not.
        source: keys::Error,
    },
    /// It was refused, or could not be judged.
    #[error(transparent)]
    Bus(#[from] command_bus::Error),
}

/// Why this node's view does not show a position.
#[derive(Debug, thiserror::Error)]
pub enum NotCaughtUp {
    /// It is behind, and did not get there in time.
    #[error(
        "this node has seen the log up to position {seen} only, not {wanted}; ask again, or another node"
    )]
    Behind {
        /// What it shows.
        seen: Position,
        /// What was wanted.
        wanted: Position,
    },
    /// The log is not that long.
    #[error("the log ends at position {head}, before {wanted}")]
    AheadOfHead {
        /// Where the log ends.
        head: Position,
        /// What was wanted.
        wanted: Position,
    },
    /// The log's end cannot be read.
    #[error("the log cannot be read")]
    Log(#[source] event_store::Error),
}

/// A client's command with its id, or none to draw one.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Who asks.
    pub actor: Actor,
    /// Under which id; a repeated id changes nothing.
    pub command_id: Option<CommandId>,
    /// What is asked.
    pub command: Command,
}

impl ControlPlane {
    /// Submits a client's command, and waits a little until this node's view shows what it caused.
    ///
    /// # Errors
    /// Why it was refused or not judged; nothing has changed then.
    pub async fn submit(&self, wish: Wish) -> Result<Accepted, command_bus::Error> {
        self.submit_within(wish, None).await
    }

    /// As [`ControlPlane::submit`], of a command that is a part of something that its client has a
    /// name for.
    ///
    /// # Errors
    /// As [`ControlPlane::submit`].
    pub async fn submit_within(
        &self,
        wish: Wish,
        correlation: Option<CommandId>,
    ) -> Result<Accepted, command_bus::Error> {
        let is_new = wish.command_id.is_none();
        let command_id = wish.command_id.unwrap_or_else(clock::new_command_id);
        let envelope = Envelope {
            correlation: correlation.unwrap_or_else(|| command_id.clone()),
            command_id,
            actor: wish.actor,
            seen: None,
            causation: None,
            command: wish.command,
        };
        let accepted = if is_new {
            self.bus.submit_new(envelope).await?
        } else {
            self.bus.submit(envelope).await?
        };
        self.see(accepted.position).await;
        Ok(accepted)
    }

    /// Waits a little until this node's view shows a position that a client has seen elsewhere.
    ///
    /// # Errors
    /// The node is behind, or the log is not that long.
    pub async fn catch_up(&self, wanted: Position) -> Result<(), NotCaughtUp> {
        if self.now.read(World::position) >= wanted {
            return Ok(());
        }
        let head = self.store.head().await.map_err(NotCaughtUp::Log)?.position;
        if head < wanted {
            return Err(NotCaughtUp::AheadOfHead { head, wanted });
        }
        match timeout(CATCH_UP_MAX, self.now.reach(wanted)).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => {
                Err(NotCaughtUp::Behind { seen: self.now.read(World::position), wanted })
            }
        }
    }

    /// Waits a little until this node's view shows all that is committed now.
    ///
    /// # Errors
    /// The node is behind.
    pub async fn catch_up_to_head(&self) -> Result<(), NotCaughtUp> {
        let head = self.store.head().await.map_err(NotCaughtUp::Log)?.position;
        self.catch_up(head).await
    }

    /// Waits until the present shows a position, so that a client reads what it wrote. Only a
    /// little: what is durable is to be acknowledged also while the log cannot be read.
    async fn see(&self, position: Position) {
        let span = trace_span!(
            target: SPANS,
            "view.reach",
            diario.position = telemetry::position_attribute(position),
        );
        match timeout(CATCH_UP_MAX, self.now.reach(position).instrument(span)).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(%position, "The view stopped following the log."),
            Err(_) => tracing::warn!(%position, "A command was answered before the view shows it."),
        }
    }

    /// Checks a desired LRP and seals its secrets.
    ///
    /// # Errors
    /// What is wrong with it, by field; or why its secrets cannot be sealed.
    pub async fn desire_command(&self, spec: desired_lrp::Spec) -> Result<Command, Error> {
        let owner = Owner::Process(spec.process_guid.clone());
        let mut sealed = self.seal_all(&owner, &spec.definition).await?;
        if let Some(routes) = &spec.client_routes {
            sealed.push(self.seal(&owner, routes).await?);
        }
        let mut sealed = sealed.into_iter();
        spec.into_command(|_| next_sealed(&mut sealed)).map(Command::DesiredLrp)
    }

    /// Checks a task and seals its secrets.
    ///
    /// # Errors
    /// What is wrong with it, by field; or why its secrets cannot be sealed.
    pub async fn task_command(&self, spec: task::Spec) -> Result<Command, Error> {
        let owner = Owner::Task(spec.task_guid.clone());
        let mut sealed = self.seal_all(&owner, &spec.definition).await?;
        if let Some(url) = &spec.completion_callback_url {
            sealed.push(self.seal(&owner, url).await?);
        }
        let mut sealed = sealed.into_iter();
        spec.into_command(|_| next_sealed(&mut sealed)).map(Command::Task)
    }

    /// The secrets of a definition, sealed in the order in which mapping visits them.
    async fn seal_all(
        &self,
        owner: &Owner,
        definition: &Definition<PlainText>,
    ) -> Result<Vec<Sealed>, Error> {
        let mut secrets = Vec::new();
        definition.try_map(&mut |secret: &PlainText| {
            secrets.push(secret.clone());
            Ok::<_, Error>(())
        })?;
        let mut sealed = Vec::with_capacity(secrets.len());
        for secret in &secrets {
            sealed.push(self.seal(owner, secret).await?);
        }
        Ok(sealed)
    }

    /// A secret of an owner's, sealed.
    ///
    /// # Errors
    /// When its key cannot be made or opened.
    pub async fn seal(&self, owner: &Owner, secret: &PlainText) -> Result<Sealed, Error> {
        let sealed = self.keyring.seal(owner, secret).await;
        sealed.map_err(|source| Error::Seal { owner: owner.clone(), source })
    }

    /// A definition with its secrets in clear, for the cell that runs it.
    ///
    /// # Errors
    /// When a secret cannot be opened.
    pub async fn open_definition(
        &self,
        owner: &Owner,
        definition: &Definition,
    ) -> Result<Definition<PlainText>, keys::Error> {
        let mut secrets = Vec::new();
        definition.try_map(&mut |secret: &Sealed| {
            secrets.push(secret.clone());
            Ok::<_, keys::Error>(())
        })?;
        let mut opened = Vec::with_capacity(secrets.len());
        for secret in &secrets {
            opened.push(self.keyring.open_sealed(owner, secret).await?);
        }
        let mut opened = opened.into_iter();
        definition.try_map(&mut |secret: &Sealed| {
            opened.next().ok_or(keys::Error::UnknownKey(secret.key_id))
        })
    }
}

fn next_sealed(sealed: &mut impl Iterator<Item = Sealed>) -> Result<Sealed, Error> {
    // The same definition is visited in the same order, so there is one for each.
    sealed.next().ok_or_else(|| Error::Invalid(Invalid::one("env", "changed while it was sealed")))
}

/// A value of the environment in clear, as a client gives it.
pub type PlainVariable = EnvironmentVariable<PlainText>;
