//! What the node that holds the lease does for its log now and then: sign checkpoints, and move
//! what is old to the archive.

use std::sync::Arc;

use domain::{log::Position, units::Timestamp};
use tracing::info;

use super::{Archive, ArchivedStore, Error, Place, Policy, run};
use crate::{
    checkpoint::{self, Checkpoint, CheckpointKey, EVENTS_PER_CHECKPOINT, last::LastFile},
    event_store::{EventStore, HotLog, LogIdentity, READ_EVENTS_MAX},
};

/// What an archive is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It must be there.
    Read,
    /// It is begun where it is missing.
    Write,
}

/// Joins a database's log with its archive: the one that is named, or the one that its events
/// were moved to. A log that has none is given back as it is.
///
/// # Errors
/// What is wrong with the archive.
pub async fn join(
    hot: Arc<dyn EventStore>,
    tables: Arc<dyn HotLog>,
    (location, s3_endpoint): (Option<&str>, Option<&str>),
    purpose: Purpose,
) -> Result<(Arc<dyn EventStore>, Option<Arc<Archive>>), Error> {
    let floor = tables.floor().await?;
    let known = Some(floor.archive.as_str()).filter(|archive| !archive.is_empty());
    let Some(location) = location.or(known) else { return Ok((hot, None)) };
    let log = tables.identity().await?;
    let archive = match purpose {
        Purpose::Read => {
            let place = Place::open(location, s3_endpoint)?;
            let archive = Archive::of_log(place, log).await?;
            if archive.manifest().end().0 == Position(0) {
                return Err(Error::NoArchive { location: location.to_owned() });
            }
            archive
        }
        Purpose::Write => Archive::of_log(Place::create(location, s3_endpoint)?, log).await?,
    };
    let archive = Arc::new(archive);
    archive.reach(floor.position).await?;
    let store = ArchivedStore::new(hot, tables, Arc::clone(&archive));
    Ok((Arc::new(store), Some(archive)))
}

/// Keeps a log.
#[derive(Debug)]
pub struct Keeper {
    hot: Arc<dyn EventStore>,
    tables: Arc<dyn HotLog>,
    key: CheckpointKey,
    /// Where to and how; `None` moves nothing.
    archive: Option<(Arc<Archive>, Policy)>,
    /// Where what it signs is remembered, outside of the database.
    last: Option<LastFile>,
    /// The newest checkpoint that the database was seen to hold; `None` before it was looked up.
    newest: Option<Checkpoint>,
    /// What is remembered.
    remembered: Option<Checkpoint>,
}

impl Keeper {
    /// A keeper of a database's log; `archive` is where its older part goes, and what of it.
    #[must_use]
    pub fn new(
        hot: Arc<dyn EventStore>,
        tables: Arc<dyn HotLog>,
        key: CheckpointKey,
        archive: Option<(Arc<Archive>, Policy)>,
    ) -> Self {
        Self { hot, tables, key, archive, last: None, newest: None, remembered: None }
    }

    /// Remembers what it signs in a file beside the key.
    #[must_use]
    pub fn remembering(self, last: LastFile) -> Self {
        Self { last: Some(last), ..self }
    }

    /// Looks again at what was signed: another node may have kept the log meanwhile.
    pub fn take_over(&mut self) {
        self.newest = None;
    }

    /// Does what is due. May be ended at any instant.
    ///
    /// # Errors
    /// What failed; it is tried again the next time.
    pub async fn step(&mut self, now: Timestamp) -> Result<(), Error> {
        let head = self.hot.head().await?.position;
        let signed = self.signed().await?;
        // A new life of the log is vouched for at once: its old checkpoints name the one before.
        let is_new_life = signed == Position(0);
        if is_new_life || head.0 >= signed.0.saturating_add(EVENTS_PER_CHECKPOINT) {
            self.sign(now).await?;
        }
        let Some((archive, policy)) = &self.archive else { return Ok(()) };
        let moved = run(Arc::clone(&self.hot), self.tables.as_ref(), archive, *policy).await?;
        if moved.segments > 0 {
            info!(events = moved.events, floor = %moved.floor, "Moved events to the archive.");
        }
        Ok(())
    }

    /// Signs the head, unless that was done.
    ///
    /// # Errors
    /// When the log cannot be read or the checkpoint not be kept.
    pub async fn sign(&mut self, now: Timestamp) -> Result<(), Error> {
        let head = self.hot.head().await?;
        let log = self.tables.identity().await?;
        // Another node may have signed since.
        self.look().await?;
        if head.position > self.newest_of(log).map_or(Position(0), |newest| newest.position) {
            let signed = self.key.checkpoint_behind(self.newest.as_ref(), log, &head, now);
            self.tables.save_checkpoint(&signed).await?;
            self.look().await?;
        }
        self.remember(log)
    }

    /// The position of the newest checkpoint of this life of the log; 0 when there is none.
    async fn signed(&mut self) -> Result<Position, Error> {
        if self.newest.is_none() {
            self.look().await?;
        }
        let log = self.tables.identity().await?;
        Ok(self.newest_of(log).map_or(Position(0), |newest| newest.position))
    }

    fn newest_of(&self, log: LogIdentity) -> Option<&Checkpoint> {
        self.newest.as_ref().filter(|newest| newest.incarnation == log.incarnation)
    }

    /// Looks for the newest checkpoint, from the one that was the newest on.
    async fn look(&mut self) -> Result<(), Error> {
        let known = self.newest.as_ref().map_or(0, |newest| newest.position.0);
        let mut after = Position(known.saturating_sub(1));
        loop {
            let page = self.tables.checkpoints(after, READ_EVENTS_MAX).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = checkpoint::advanced(after, last)?;
            self.newest = Some(last.clone());
        }
    }

    /// Only what this node has signed and the database was seen to hold: of two nodes that sign the
    /// same head the database keeps one.
    fn remember(&mut self, log: LogIdentity) -> Result<(), Error> {
        let own = self.key.public_key();
        let newest = self.newest_of(log).filter(|newest| newest.key == own).cloned();
        if let (Some(last), Some(signed)) = (&self.last, &newest)
            && self.remembered != newest
        {
            last.write(log.log_id, signed).map_err(Error::Remember)?;
            self.remembered = newest;
        }
        Ok(())
    }
}
