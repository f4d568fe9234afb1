//! Forgetting on an open log, without a node: as an operator asks, or once more after a restore.

use std::sync::Arc;

use domain::{
    command::Envelope,
    id::CommandId,
    log::{Actor, ActorKind, LeaseEpoch, Owner, Position},
    secrets,
};
use projections::{
    archive::{self, Purpose},
    event_store::{
        self, EventStore,
        keys::{self, Forgotten, ForgottenLists},
    },
    history,
    storage::{Backend, Storage},
    world::World,
};

use super::{all_of, unknown_to};
use crate::{
    clock::{self, Clock},
    command_bus::{self, Accepted, CommandBus, Writers},
    lease::Lease,
};

/// Why secrets cannot be forgotten without a node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The present cannot be folded.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] event_store::Error),
    /// The log's older part cannot be read.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// It was refused, or could not be judged.
    #[error(transparent)]
    Bus(#[from] command_bus::Error),
    /// That the secrets are forgotten is in the log, but their keys are not deleted or not listed.
    #[error("the keys of {owner} are not deleted and listed yet; do it again, or start a node")]
    Keys {
        /// Whose.
        owner: Owner,
        /// Why not.
        source: keys::Error,
    },
    /// What was forgotten cannot be looked up.
    #[error(transparent)]
    Lists(#[from] keys::Error),
}

/// A log that is written without a node.
struct Offline {
    store: Arc<dyn EventStore>,
    world: World,
    bus: CommandBus,
}

impl Offline {
    /// `s3_endpoint` is where the archive is, if in an S3 store other than the usual one.
    async fn open(storage: &Storage, s3_endpoint: Option<&str>) -> Result<Self, Error> {
        let (hot, tables) = (Arc::clone(&storage.store), Arc::clone(&storage.tables));
        let (store, _) = archive::join(hot, tables, (None, s3_endpoint), Purpose::Read).await?;
        let head = store.head().await?;
        let snapshots = storage.snapshots.as_ref();
        let world = history::load(store.as_ref(), snapshots, head.position).await?.world;
        let writers = match &storage.backend {
            Backend::Sqlite(_) => Writers::This,
            // Nodes may run on it.
            Backend::Postgres(_) => Writers::Several,
        };
        let (clock, lease) = (Arc::new(Clock::default()), Lease::held(LeaseEpoch(0)));
        let bus = CommandBus::start_under(Arc::clone(&store), &world, clock, lease, writers);
        Ok(Self { store, world, bus })
    }

    async fn forget(
        &self,
        owner: &Owner,
        key_ids: Vec<uuid::Uuid>,
        command_id: CommandId,
        via: &str,
    ) -> Result<Accepted, Error> {
        let actor = Actor { kind: ActorKind::User, name: "operator".into(), via: via.into() };
        let envelope = Envelope {
            correlation: command_id.clone(),
            command_id,
            actor,
            seen: None,
            causation: None,
            command: secrets::Command::Forget { owner: owner.clone(), key_ids }.into(),
        };
        Ok(self.bus.submit(envelope).await?)
    }

    /// Folds what was written since.
    async fn follow(&mut self) -> Result<(), Error> {
        loop {
            let page = self.store.read_all(self.world.position(), usize::from(u16::MAX)).await?;
            if page.is_empty() {
                return Ok(());
            }
            for recorded in &page {
                self.world.apply(recorded);
            }
        }
    }
}

/// Forgets an owner's secrets on an open log, without a node.
///
/// # Errors
/// Why it was refused, or what failed; doing it again is harmless.
pub async fn forget(
    storage: &Storage,
    lists: &ForgottenLists,
    owner: &Owner,
    command_id: CommandId,
) -> Result<Accepted, Error> {
    let failed = |source| Error::Keys { owner: owner.clone(), source };
    let mut offline = Offline::open(storage, None).await?;
    let key_ids = storage.keys.key_ids(owner).await.map_err(failed)?;
    let accepted = offline.forget(owner, key_ids, command_id, "cli").await?;
    offline.follow().await?;
    let forgotten = offline.world.aggregates().secrets(owner).map(all_of).unwrap_or_default();
    let listed = lists.add(&forgotten);
    storage.keys.reapply_forgotten(forgotten).await.map_err(failed)?;
    listed.map_err(failed)?;
    Ok(accepted)
}

/// What was noted in a log of what was forgotten in an earlier life of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// How many owners' secrets.
    pub owners: u64,
    /// Where the log ends now.
    pub position: Position,
}

/// Notes in a restored log that secrets are forgotten whose keys were left out. What the log tells
/// of already is not told twice. `s3_endpoint` is where the archive is that the log begins with, if
/// in an S3 store other than the usual one.
///
/// # Errors
/// What failed; doing it again is harmless.
pub async fn note(
    storage: &Storage,
    s3_endpoint: Option<&str>,
    forgotten: &[Forgotten],
) -> Result<Noted, Error> {
    if forgotten.is_empty() {
        // The log need not be folded for that.
        return Ok(Noted { owners: 0, position: storage.store.head().await?.position });
    }
    let offline = Offline::open(storage, s3_endpoint).await?;
    let mut noted = Noted { owners: 0, position: offline.world.position() };
    for Forgotten { owner, key_ids, forgotten_at: _ } in unknown_to(&offline.world, forgotten) {
        let command_id = clock::new_command_id();
        let accepted = offline.forget(&owner, key_ids, command_id, "restore").await?;
        noted.owners = noted.owners.saturating_add(1);
        noted.position = noted.position.max(accepted.position);
    }
    Ok(noted)
}
