//! Forgetting an owner's secrets: an event says so, then the keys are deleted.
//!
//! The event comes first, so that the log tells of every key that is gone. What a crash leaves
//! between the two is done by the keeper: it runs on every node, deletes what events say is
//! forgotten, and drops it from memory. Doing it twice, or on several nodes, is harmless.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use domain::{
    command::Envelope,
    id::CommandId,
    log::{Actor, ActorKind, LeaseEpoch, Owner, Position},
    secrets::{self, Forgetting, Secrets},
};
use projections::{
    event_store::{
        self,
        keys::{self, Forgotten, Keyring},
    },
    history,
    storage::Storage,
    world::World,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    clock::Clock,
    command_bus::{self, Accepted, CommandBus},
    control_plane::{self, ControlPlane, Wish},
};

/// How long the keeper lets events gather before it looks at them.
const PERIOD: Duration = Duration::from_millis(100);
/// The pause before what failed, or what a reader was in the way of, is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl ControlPlane {
    /// Makes all secrets that an owner has now unreadable for ever, and its evidence. Answers once
    /// the keys are deleted.
    ///
    /// # Errors
    /// Why it was refused; [`control_plane::Error::Forget`] when the event is durable but the keys are not
    /// deleted yet: the keeper goes on with that.
    pub async fn forget_secrets(
        &self,
        owner: &Owner,
        wish: impl FnOnce(secrets::Command) -> Wish,
    ) -> Result<Accepted, control_plane::Error> {
        let failed = |source| control_plane::Error::Forget { owner: owner.clone(), source };
        let key_ids = self.keyring.key_ids(owner).await.map_err(failed)?;
        let command = secrets::Command::Forget { owner: owner.clone(), key_ids };
        let accepted = self.submit(wish(command)).await?;
        let forgotten = self.now.read(|world| {
            world.aggregates().secrets(owner).map(all_of).into_iter().flatten().collect()
        });
        if !self.keyring.forget(forgotten).await.map_err(failed)? {
            warn!(%owner, "Readers are in the way of overwriting forgotten keys; it is tried again.");
        }
        info!(%owner, position = %accepted.position, "The secrets of an owner are forgotten.");
        Ok(accepted)
    }
}

fn all_of(secrets: &Secrets) -> Vec<Forgotten> {
    secrets.forgotten.iter().map(|forgetting| of(&secrets.owner, forgetting)).collect()
}

fn of(owner: &Owner, forgetting: &Forgetting) -> Forgotten {
    let Forgetting { key_ids, at, position: _ } = forgetting;
    Forgotten { owner: owner.clone(), key_ids: key_ids.clone(), forgotten_at: *at }
}

/// What was forgotten by events behind a position.
fn behind(world: &World, after: Position) -> Vec<Forgotten> {
    let secrets = world.aggregates().all_secrets().filter(|it| it.last_position > after);
    secrets
        .flat_map(|secrets| secrets.forgotten.iter().map(|forgetting| (&secrets.owner, forgetting)))
        .filter(|(_, forgetting)| forgetting.position > after)
        .map(|(owner, forgetting)| of(owner, forgetting))
        .collect()
}

/// Why secrets cannot be forgotten without a node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The present cannot be folded.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] event_store::Error),
    /// It was refused, or could not be judged.
    #[error(transparent)]
    Bus(#[from] command_bus::Error),
    /// That the secrets are forgotten is in the log, but their keys are not deleted.
    #[error("the keys of {owner} are not deleted yet; do it again, or start a node")]
    Keys {
        /// Whose.
        owner: Owner,
        /// Why not.
        source: keys::Error,
    },
}

/// Forgets an owner's secrets on an open log, without a node.
///
/// # Errors
/// Why it was refused, or what failed; doing it again is harmless.
pub async fn forget_offline(
    storage: &Storage,
    owner: &Owner,
    command_id: CommandId,
) -> Result<Accepted, Error> {
    let failed = |source| Error::Keys { owner: owner.clone(), source };
    let head = storage.store.head().await?;
    let (store, snapshots) = (storage.store.as_ref(), storage.snapshots.as_ref());
    let mut world = history::load(store, snapshots, head.position).await?.world;
    let clock = Arc::new(Clock::default());
    let bus = CommandBus::start(Arc::clone(&storage.store), &world, clock, LeaseEpoch(0));
    let key_ids = storage.keys.key_ids(owner).await.map_err(failed)?;
    let envelope = Envelope {
        correlation: command_id.clone(),
        command_id,
        actor: Actor { kind: ActorKind::User, name: "operator".to_owned(), via: "cli".to_owned() },
        seen: None,
        causation: None,
        command: secrets::Command::Forget { owner: owner.clone(), key_ids }.into(),
    };
    let accepted = bus.submit(envelope).await?;
    for recorded in storage.store.read_all(world.position(), usize::from(u16::MAX)).await? {
        world.apply(&recorded);
    }
    let forgotten = world.aggregates().secrets(owner).map(all_of).unwrap_or_default();
    storage.keys.reapply_forgotten(forgotten).await.map_err(failed)?;
    Ok(accepted)
}

/// Deletes what events say is forgotten, until the node goes down.
pub async fn run(control_plane: ControlPlane, shutdown: CancellationToken) {
    let mut moved = control_plane.now.moved();
    let mut keeper = Keeper::default();
    loop {
        moved.borrow_and_update();
        let pause = match keeper.step(&control_plane).await {
            Ok(true) => PERIOD,
            Ok(false) => RETRY_PAUSE,
            Err(failure) => {
                warn!(error = %failure, "Forgotten keys could not be deleted; it is tried again.");
                RETRY_PAUSE
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if keeper.is_done {
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = moved.changed() => if changed.is_err() { return },
            }
        }
    }
}

#[derive(Debug, Default)]
struct Keeper {
    /// Up to where all is deleted; `None` before the first look.
    done: Option<Position>,
    /// Nothing is left to do until the next event.
    is_done: bool,
}

impl Keeper {
    /// `false` when traces could not be erased yet.
    async fn step(&mut self, control_plane: &ControlPlane) -> Result<bool, keys::Error> {
        self.is_done = false;
        let keyring = &control_plane.keyring;
        let after = self.done.unwrap_or_default();
        let (position, mut forgotten) =
            control_plane.now.read(|world| (world.position(), behind(world, after)));
        if self.done.is_none() {
            leave_out_what_is_gone(keyring, &mut forgotten).await?;
        }
        let erased = forgotten.is_empty() || keyring.forget(forgotten).await?;
        if erased {
            self.done = Some(position);
            self.is_done = true;
        }
        Ok(erased)
    }
}

/// At a start nearly all was deleted long ago.
async fn leave_out_what_is_gone(
    keyring: &Keyring,
    forgotten: &mut Vec<Forgotten>,
) -> Result<(), keys::Error> {
    if forgotten.is_empty() {
        return Ok(());
    }
    let noted = keyring.store().forgotten().await?;
    let gone: BTreeSet<Uuid> = noted.into_iter().flat_map(|it| it.key_ids).collect();
    forgotten.retain(|it| it.key_ids.iter().any(|key_id| !gone.contains(key_id)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use domain::sealed::PlainText;

    use super::*;
    use crate::testing::InMemory;

    #[tokio::test]
    async fn what_a_crash_left_between_event_and_deletion_is_done_at_the_next_start() {
        let inner = InMemory::start(1);
        let control_plane = &inner.control_plane;
        let owner: Owner = "task/t".parse().unwrap();
        let secret = PlainText("s".to_owned());
        let sealed = control_plane.keyring.seal(&owner, &secret).await.unwrap();
        let command =
            secrets::Command::Forget { owner: owner.clone(), key_ids: vec![sealed.key_id] };
        let actor =
            Actor { kind: ActorKind::User, name: "ann".to_owned(), via: "graphql".to_owned() };
        let wish = Wish { actor, command_id: None, command: command.into() };
        control_plane.submit(wish).await.unwrap();
        assert!(control_plane.keyring.open_sealed(&owner, &sealed).await.is_ok());

        let mut keeper = Keeper::default();
        assert!(keeper.step(control_plane).await.unwrap());

        let refused = control_plane.keyring.open_sealed(&owner, &sealed).await;
        assert!(matches!(refused, Err(keys::Error::Forgotten { .. })));
        let later = control_plane.keyring.seal(&owner, &secret).await.unwrap();
        for mut keeper in [keeper, Keeper::default()] {
            assert!(keeper.step(control_plane).await.unwrap());
        }
        assert!(control_plane.keyring.open_sealed(&owner, &later).await.is_ok());
    }
}
