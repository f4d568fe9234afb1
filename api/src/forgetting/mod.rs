//! Forgetting an owner's secrets: an event says so, then it is noted on lists outside of the
//! database, and the keys are deleted.
//!
//! The event comes first, so that the log tells of every key that is gone. What a crash leaves
//! between these steps is done by the keeper: it runs on every node, lists and deletes what events
//! say is forgotten, and drops it from memory. Doing it twice, or on several nodes, is harmless.
//!
//! The database may be an older copy, put back by whatever means: what a list tells and the log
//! does not is forgotten again at the next start of a node. So each node's data folder is a list
//! that outlives the database.

pub mod lists;
pub mod offline;

use std::{collections::BTreeSet, time::Duration};

use domain::{
    log::{Actor, ActorKind, Owner, Position},
    secrets::{self, Forgetting, Secrets},
};
use projections::{
    event_store::keys::{self, Forgotten, Keyring},
    world::World,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    command_bus::{self, Accepted},
    control_plane::{self, ControlPlane, Wish},
};

/// How long the keeper lets events gather before it looks at them.
const PERIOD: Duration = Duration::from_millis(100);
/// The pause before what failed, or what a reader was in the way of, is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl ControlPlane {
    /// Makes all secrets that an owner has now unreadable for ever, and its evidence. Answers once
    /// the keys are deleted, and noted on this node's lists.
    ///
    /// # Errors
    /// Why it was refused; [`control_plane::Error::Forget`] when the event is durable but the keys
    /// are not deleted or noted yet: the keeper goes on with that.
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

/// What of a list a log does not tell of.
fn unknown_to(world: &World, listed: &[Forgotten]) -> Vec<Forgotten> {
    let new = |forgotten: &Forgotten| {
        let secrets = world.aggregates().secrets(&forgotten.owner);
        forgotten.without(|key_id| secrets.is_some_and(|it| it.has_forgotten(key_id)))
    };
    listed.iter().filter_map(new).collect()
}

/// Why what lists tell is not forgotten again.
#[derive(Debug, thiserror::Error)]
enum NotForgotten {
    /// Keys or lists cannot be used.
    #[error("the keys or the lists of forgotten keys cannot be used")]
    Keys(#[from] keys::Error),
    /// The log does not take it.
    #[error("the log cannot be written")]
    Bus(#[from] command_bus::Error),
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
                warn!(error = %failure, cause = ?std::error::Error::source(&failure),
                    "Forgotten keys could not be deleted or listed; it is tried again.");
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
    async fn step(&mut self, control_plane: &ControlPlane) -> Result<bool, NotForgotten> {
        self.is_done = false;
        let keyring = &control_plane.keyring;
        let after = self.done.unwrap_or_default();
        let (position, mut forgotten) =
            control_plane.now.read(|world| (world.position(), behind(world, after)));
        if self.done.is_none() {
            keyring.list(&forgotten)?;
            forget_again(control_plane).await?;
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

/// Forgets what lists tell and the log does not: the database is an older copy. The keys go first,
/// because the event that says so is in an earlier life of the log.
async fn forget_again(control_plane: &ControlPlane) -> Result<(), NotForgotten> {
    let keyring = &control_plane.keyring;
    let listed = keyring.listed()?;
    let again = control_plane.now.read(|world| unknown_to(world, &listed));
    if again.is_empty() {
        return Ok(());
    }
    warn!(
        forgettings = again.len(),
        "This log is older than the list of forgotten keys: they are forgotten again."
    );
    keyring.forget(again.clone()).await?;
    for Forgotten { owner, key_ids, forgotten_at: _ } in again {
        let actor = Actor {
            kind: ActorKind::Loop,
            name: "keeper of forgotten keys".into(),
            via: control_plane.node.clone(),
        };
        let command = secrets::Command::Forget { owner, key_ids };
        let wish = Wish { actor, command_id: None, command: command.into() };
        control_plane.submit(wish).await?;
    }
    Ok(())
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
        let actor = Actor { kind: ActorKind::User, name: "ann".into(), via: "graphql".into() };
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
