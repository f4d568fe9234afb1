//! Moves the older part of a log into an archive: write a segment, read it back and prove it,
//! list it, and only then delete from the database.
//!
//! May be stopped at any instant: what was half done is done again, nothing is lost, and nothing
//! is in neither place.

use std::sync::Arc;

use domain::{log::Position, sealed::Digest, units::Timestamp};

use super::{
    Archive, Error, Manifest, SegmentEntry, SegmentSource,
    segment::{SegmentWriter, floor_at},
};
use crate::{
    event_store::{EventStore, HotLog, READ_EVENTS_MAX, Row, chain::Verifier},
    failpoint::{self, Step},
    verify::{self, Content, Piece, Source as _, StoreSource, Trust},
};

/// How many events a segment holds, where there are enough.
pub const SEGMENT_EVENTS: u64 = 100_000;

/// How many events one transaction deletes, about: writers wait for it.
const TRIM_EVENTS: u64 = 2_000;

/// What of a log is moved.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The newest events that stay in the database.
    pub keep_events: u64,
    /// Only what was recorded before this instant.
    pub before: Option<Timestamp>,
    /// How many events a segment holds.
    pub segment_events: u64,
    /// Whether a last segment may be shorter.
    pub short_segments: ShortSegments,
}

/// What becomes of a rest that fills no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShortSegments {
    /// It stays in the database.
    Wait,
    /// It is moved as a shorter segment.
    Write,
}

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many segments were written.
    pub segments: u64,
    /// How many events they hold.
    pub events: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// The database's floor afterwards.
    pub floor: Position,
}

/// Archives what a policy names. `store` is the database alone, without an archive before it.
///
/// # Errors
/// What is wrong with log, archive or place; what was listed before stays.
pub async fn run(
    store: Arc<dyn EventStore>,
    tables: &dyn HotLog,
    archive: &Archive,
    policy: Policy,
) -> Result<Moved, Error> {
    archive.refresh().await?;
    let floor = tables.floor().await?.position;
    let failure = match move_all(store, tables, archive, policy).await {
        Err(failure @ (Error::LogDamaged { .. } | Error::Hole { .. })) => failure,
        ended => return ended,
    };
    // Also what another archiver deletes under our eyes looks like that.
    let listed = Manifest::read(archive.place()).await?;
    let is_ours = listed.is_none_or(|listed| listed == *archive.manifest());
    if is_ours && tables.floor().await?.position == floor {
        return Err(failure);
    }
    Err(Error::Concurrent { location: archive.place().to_string() })
}

async fn move_all(
    store: Arc<dyn EventStore>,
    tables: &dyn HotLog,
    archive: &Archive,
    policy: Policy,
) -> Result<Moved, Error> {
    let mut moved = Moved::default();
    let until = boundary(store.as_ref(), policy).await?;
    check_joint(store.as_ref(), tables, archive).await?;
    loop {
        let (after, link) = archive.manifest().end();
        let left = until.0.saturating_sub(after.0);
        let is_enough = match policy.short_segments {
            ShortSegments::Wait => left >= policy.segment_events,
            ShortSegments::Write => left > 0,
        };
        if !is_enough {
            break;
        }
        let source = StoreSource::open(Arc::clone(&store), after, until).await?;
        let Some(entry) = write(source, tables, archive, (after, link), until, policy).await?
        else {
            break;
        };
        moved.segments += 1;
        moved.events += entry.last.0.saturating_sub(after.0);
        moved.bytes += entry.bytes;
    }
    moved.floor = trim(store.as_ref(), tables, archive, until).await?;
    Ok(moved)
}

/// The last position that may move. The last batch never does.
async fn boundary(store: &dyn EventStore, policy: Policy) -> Result<Position, Error> {
    let head = store.head().await?.position;
    let mut until = head.0.saturating_sub(policy.keep_events.max(1));
    if let Some(before) = policy.before {
        let at = store.position_at(Timestamp(before.0.saturating_sub(1))).await?;
        until = until.min(at.0);
    }
    Ok(Position(until))
}

/// The archive must end where the database can go on, on the same log.
async fn check_joint(
    store: &dyn EventStore,
    tables: &dyn HotLog,
    archive: &Archive,
) -> Result<(), Error> {
    let floor = tables.floor().await?;
    let (end, link) = archive.manifest().end();
    if end < floor.position {
        let location = archive.place().to_string();
        return Err(Error::Hole { location, from: end.next(), to: floor.position });
    }
    let here = StoreSource::before(store, end.next(), (floor.position, floor.link)).await?;
    if here == (end, link) {
        return Ok(());
    }
    let fault = crate::event_store::chain::fault(
        end,
        crate::event_store::chain::FaultKind::Rewritten { trusted: archive.manifest().begin().0 },
    );
    Err(Error::LogDamaged { fault })
}

/// Writes the next segment, proves it and lists it.
async fn write(
    mut source: StoreSource,
    tables: &dyn HotLog,
    archive: &Archive,
    (after, link): (Position, [u8; 32]),
    until: Position,
    policy: Policy,
) -> Result<Option<SegmentEntry>, Error> {
    let log = tables.identity().await?;
    let mut verifier = Verifier::new(after, link);
    let mut writer = SegmentWriter::new(log, after.next(), link);
    let mut times: Option<(Timestamp, Timestamp)> = None;
    'reading: loop {
        let pieces = source.next().await?;
        if pieces.is_empty() {
            break;
        }
        for Piece { batch, content } in pieces {
            let Content::Rows(rows) = content else { continue };
            if batch.last() > until || writer.count() >= policy.segment_events {
                break 'reading;
            }
            let end = source.end();
            verifier.batch(&batch, &rows, end).map_err(|fault| Error::LogDamaged { fault })?;
            let time = batch.recorded_at;
            times = Some((times.map_or(time, |(first, _)| first), time));
            let rows: Vec<Row> = rows.into_iter().map(|(row, _)| row).collect();
            writer.add(batch, rows)?;
        }
    }
    let Some((first_time, last_time)) = times else { return Ok(None) };
    let (bytes, types) = writer.finish()?;
    let (first, last) = (after.next(), verifier.position());
    let sha256 = Digest::of(&bytes);
    let entry = SegmentEntry {
        object: object_name(first, last, sha256),
        first,
        last,
        link_before: Digest(link),
        link_after: Digest(verifier.link()),
        first_time,
        last_time,
        bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        sha256,
        types,
    };
    archive.place().put(&entry.object, bytes).await?;
    prove(archive, &entry).await?;
    failpoint::reached(Step::SegmentWritten);
    list(tables, archive, entry.clone()).await?;
    failpoint::reached(Step::SegmentListed);
    Ok(Some(entry))
}

/// What a segment is called: by its content, so that two programs which write at the same time
/// never put different bytes under one name.
fn object_name(first: Position, last: Position, sha256: Digest) -> String {
    format!("segments/{:020}-{:020}-{}.diar", first.0, last.0, sha256.short())
}

/// Reads a segment back and proves all of it.
async fn prove(archive: &Archive, entry: &SegmentEntry) -> Result<(), Error> {
    let read_back = || Error::ReadBack { object: entry.object.clone() };
    let bytes = archive.place().get_whole(&entry.object).await?;
    if Digest::of(&bytes) != entry.sha256 {
        return Err(read_back());
    }
    let mut source = SegmentSource::open(&entry.object, bytes)?;
    let (position, link) = source.begin();
    let trust = Trust { position, link, ..Trust::default() };
    let report = verify::run(&mut source, trust, &|_| {}).await?;
    let is_whole = report.fault.is_none()
        && (report.after.next(), report.last) == (entry.first, entry.last)
        && report.link == entry.link_after.0;
    if is_whole { Ok(()) } else { Err(read_back()) }
}

async fn list(tables: &dyn HotLog, archive: &Archive, entry: SegmentEntry) -> Result<(), Error> {
    let before = archive.manifest();
    let mut manifest = Manifest::clone(&before);
    let checkpoints = tables.checkpoints(manifest.end().0, READ_EVENTS_MAX).await?;
    manifest.segments.push(entry);
    manifest.add_checkpoints(&checkpoints);
    manifest.replace(archive.place(), &before).await?;
    archive.set_manifest(manifest);
    Ok(())
}

/// Deletes from the database what the archive holds, a few batches at a time.
async fn trim(
    store: &dyn EventStore,
    tables: &dyn HotLog,
    archive: &Archive,
    until: Position,
) -> Result<Position, Error> {
    let location = archive.place().to_string();
    let until = archive.manifest().end().0.min(until);
    if tables.floor().await?.position < until {
        // A run before this one may have listed the segments and then failed to sync the list.
        let manifest = archive.manifest();
        manifest.replace(archive.place(), &manifest).await?;
    }
    loop {
        let floor = tables.floor().await?.position;
        if floor >= until {
            return Ok(floor);
        }
        let batches = store.read_batches(floor, 2_000).await?;
        let enough = Position(floor.0.saturating_add(TRIM_EVENTS));
        let mut step = None;
        for batch in batches.iter().take_while(|batch| batch.last() <= until) {
            step = Some(batch);
            if batch.last() >= enough {
                break;
            }
        }
        let Some(batch) = step else { return Ok(floor) };
        tables.trim(floor_at(batch, &location)).await?;
        failpoint::reached(Step::DatabaseTrimmed);
        if tables.floor().await?.position == floor {
            return Ok(floor);
        }
    }
}
