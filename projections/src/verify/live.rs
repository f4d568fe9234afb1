//! Checks a log in its database, beside running nodes: what they write meanwhile is left out,
//! and what they move to the archive meanwhile is no fault.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use domain::log::Position;

use super::{Check, Piece, Report, Source, StoreSource, Streams, Trust, beside};
use crate::{
    archive::{Archive, ArchiveSource},
    checkpoint::{self, Checkpoint, PublicKey},
    event_store::{
        Error, EventStore, Floor, Head, HotLog, READ_EVENTS_MAX,
        chain::{FaultKind, fault},
    },
};

/// How often the check begins anew because events moved to the archive under it.
const RESTARTS_MAX: usize = 8;

/// A log with all that is kept beside it.
#[derive(Debug, Clone)]
pub struct Live {
    /// Its events: the database's, or with the archive's before them.
    pub store: Arc<dyn EventStore>,
    /// What the database keeps beside them.
    pub tables: Arc<dyn HotLog>,
    /// The archive that `store` begins with. Without one, what is before the database's floor is
    /// not checked.
    pub archive: Option<Arc<Archive>>,
}

impl Live {
    /// The end and link of the batch before the first one that can be checked.
    fn begin(&self, floor: &Floor) -> (Position, [u8; 32]) {
        let archive = self.archive.as_ref().map(|archive| archive.manifest().begin());
        archive.unwrap_or((floor.position, floor.link))
    }
}

/// The archive's part of a log, then the database's.
struct Joined {
    archived: Option<ArchiveSource>,
    hot: StoreSource,
}

#[async_trait]
impl Source for Joined {
    async fn next(&mut self) -> Result<Vec<Piece>, Error> {
        if let Some(archived) = &mut self.archived {
            let pieces = archived.next().await?;
            if !pieces.is_empty() {
                return Ok(pieces);
            }
            self.archived = None;
        }
        self.hot.next().await
    }

    fn end(&self) -> Position {
        self.hot.end()
    }
}

/// What of a log is checked.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// From the batch that holds this position on.
    pub from: Option<Position>,
    /// Up to the batch that holds this position.
    pub to: Option<Position>,
    /// The keys that may have signed checkpoints; empty trusts those that they name.
    pub keys: BTreeSet<PublicKey>,
    /// The newest checkpoint as it is remembered outside of the database, read before the log was
    /// opened.
    pub last: Option<Checkpoint>,
}

/// Checks a log. See [`super::run`] for `progress`.
///
/// # Errors
/// When the log cannot be read at all.
pub async fn log(
    live: &Live,
    options: &LogOptions,
    progress: &(dyn Fn(Position) + Sync),
) -> Result<Report, Error> {
    let mut floor = live.tables.floor().await?;
    for _ in 0..RESTARTS_MAX {
        let report = once(live, &floor, options, progress).await;
        let now = live.tables.floor().await?;
        let has_moved = now.position > floor.position && live.archive.is_none();
        let is_clean = report.as_ref().is_ok_and(|report| report.fault.is_none());
        if is_clean || !has_moved {
            return report;
        }
        floor = now;
    }
    once(live, &floor, options, progress).await
}

async fn once(
    live: &Live,
    floor: &Floor,
    options: &LogOptions,
    progress: &(dyn Fn(Position) + Sync),
) -> Result<Report, Error> {
    let store = &live.store;
    // First: nothing is read by way of an index or a page that is damaged.
    let misfit = live.tables.misfit().await?;
    let head = store.head().await?;
    let log = live.tables.identity().await?;
    let begin = live.begin(floor);
    let until = options.to.map_or(head.position, |to| to.min(head.position));
    let first = begin.0.next();
    let from = options.from.map_or(first, |from| from.max(first));
    // Segments are checked whole, faster than row by row, and with their own digests.
    let archive = live.archive.as_ref().filter(|_| from <= floor.position);
    let archived = archive
        .map(|archive| ArchiveSource::new(Arc::clone(archive), from, until.min(floor.position)));
    let (position, link) = match &archived {
        Some(archived) => archived.begin(),
        None => StoreSource::before(store.as_ref(), from, begin).await?,
    };
    let hot_after = archived.as_ref().map_or(position, ArchiveSource::last);
    let all = all_checkpoints(live).await?;
    let missing = beside::missing(&all, options.last.as_ref(), log);
    let checkpoints = before(live, &head, all, options.last.as_ref()).await?;
    let keys = options.keys.clone();
    let trust = Trust { position, link, checkpoints, log: Some(log), keys };
    let mut check = Check::new(trust);
    check.streams = Some(Streams::new());
    let hot = StoreSource::open(Arc::clone(store), hot_after, until).await?;
    let end = hot.end();
    let mut source = Joined { archived, hot };
    check.all(&mut source, progress).await?;
    if let Some(archive) = &live.archive
        && let Some(base) = archive.carried_base(log).await?
    {
        check.report.keys.insert(base.key());
    }
    let reaches_head = until == head.position;
    let is_chain_whole = check.report.fault.is_none();
    if is_chain_whole && reaches_head {
        let found = beside::head(&check, &head, end);
        check.report.add(found);
        let found = check.cut_off();
        check.report.add(found);
        let found = beside::incarnation(&check, log);
        check.report.add(found);
        let mut seen = check.streams.take().unwrap_or_default();
        let is_whole = position == Position(0);
        let found = beside::streams(live, &mut seen, is_whole, until).await?;
        check.report.add(found);
    }
    check.report.add(missing);
    check.report.add(misfit);
    if options.from.is_none() && check.report.fault.is_none() {
        let found = floor_agrees(live, floor).await?;
        check.report.add(found);
    }
    if options.from.is_none() && options.to.is_none() && check.report.fault.is_none() {
        live.tables.check_lookups().await?;
    }
    Ok(check.report)
}

/// With an archive before it, the database's floor must be the end of one of its batches.
async fn floor_agrees(
    live: &Live,
    floor: &Floor,
) -> Result<Option<crate::event_store::chain::Fault>, Error> {
    if live.archive.is_none() || floor.position == Position(0) {
        return Ok(None);
    }
    let begin = live.begin(floor).0;
    let store = live.store.as_ref();
    let at = StoreSource::before(store, floor.position.next(), (begin, floor.link)).await?;
    let agrees = at == (floor.position, floor.link);
    Ok((!agrees).then(|| fault(floor.position, FaultKind::FloorAltered)))
}

/// Those of the database, and those that its archive keeps.
async fn all_checkpoints(live: &Live) -> Result<Vec<Checkpoint>, Error> {
    let mut all =
        live.archive.as_ref().map(|archive| archive.manifest().checkpoints()).unwrap_or_default();
    let mut after = Position(0);
    loop {
        let page = live.tables.checkpoints(after, READ_EVENTS_MAX).await?;
        let Some(last) = page.last() else { break };
        after = checkpoint::advanced(after, last)?;
        all.extend(page);
    }
    all.sort_by_key(|checkpoint| (checkpoint.position, checkpoint.signed_at));
    all.dedup();
    Ok(all)
}

/// The checkpoints up to what the log was when the check began. Those that came later are behind
/// its end; only a checkpoint behind the head that was signed before shows a cut.
async fn before(
    live: &Live,
    head: &Head,
    mut all: Vec<Checkpoint>,
    last: Option<&Checkpoint>,
) -> Result<Vec<Checkpoint>, Error> {
    // One that was taken out of the database still vouches for its position.
    let incarnation = head.incarnation;
    let remembered = last.filter(|last| last.incarnation == incarnation && !all.contains(last));
    all.extend(remembered.cloned());
    all.sort_by_key(|checkpoint| (checkpoint.position, checkpoint.signed_at));
    // The head was read first: a node may have gone on and signed since.
    let now = live.store.head().await?;
    if now.position > head.position {
        all.retain(|checkpoint| {
            checkpoint.position <= head.position || checkpoint.position > now.position
        });
    }
    Ok(all)
}
