//! What a log is made of: events and bytes by type and by owner, batches, sizes, and how fast it
//! grows.
//!
//! Read-only and beside running nodes. Holds some 100 bytes for each owner of the log.

use std::collections::HashMap;

use domain::{log::Position, units::Timestamp};

use crate::{
    backup::Endpoint,
    event_store::{self, Floor, Head, LogId},
    snapshot::{self, SnapshotStore},
    transfer::{self, Progress, write::Pages},
};

/// An hour in nanoseconds, for the rate of late.
const HOUR_NS: i64 = 3_600_000_000_000;

/// A day in nanoseconds, for the rate of late.
const DAY_NS: i64 = 24 * HOUR_NS;

/// Why a log cannot be counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] event_store::Error),
    /// Its rows cannot be read.
    #[error(transparent)]
    Rows(#[from] transfer::Error),
    /// The snapshots cannot be read.
    #[error(transparent)]
    Snapshots(#[from] snapshot::Error),
}

/// Events of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The type's or the owner's name.
    pub name: String,
    /// How many events.
    pub events: u64,
    /// How many bytes of payload.
    pub payload_bytes: u64,
}

/// What only reading every event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// How many batches.
    pub batches: u64,
    /// How many bytes of payload.
    pub payload_bytes: u64,
    /// The types, those with the most events first.
    pub types: Vec<Counted>,
    /// The owners, those with the most events first.
    pub owners: Vec<Counted>,
    /// How many owners there are.
    pub owners_all: u64,
}

/// What a log is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStats {
    /// Which log.
    pub log_id: LogId,
    /// Where it ends.
    pub head: Head,
    /// Where the database begins; what is before is in an archive.
    pub floor: Floor,
    /// How many bytes the database has, where that is known.
    pub stored_bytes: Option<u64>,
    /// How many snapshots there are.
    pub snapshots: u64,
    /// How many bytes they have.
    pub snapshot_bytes: u64,
    /// How many events were recorded in the last hour.
    pub last_hour: u64,
    /// How many events were recorded in the last day.
    pub last_day: u64,
    /// What only reading every event tells, where it was asked for.
    pub contents: Option<Contents>,
}

/// How much is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only what is known without reading events.
    Quick,
    /// Every event; the lists end after so many names.
    Everything {
        /// How many types and owners are named.
        top: usize,
    },
}

/// Counts a log up to its head of now.
///
/// # Errors
/// When it cannot be read.
pub async fn count(
    endpoint: &Endpoint,
    snapshots: &dyn SnapshotStore,
    now: Timestamp,
    depth: Depth,
    progress: Progress<'_>,
) -> Result<LogStats, Error> {
    let store = endpoint.store.as_ref();
    let head = store.head().await?;
    let since = async |span_ns: i64| -> Result<u64, Error> {
        let before = Timestamp(now.0.saturating_sub(span_ns));
        let position = store.position_at(before).await?;
        Ok(head.position.0.saturating_sub(position.0))
    };
    let (last_hour, last_day) = (since(HOUR_NS).await?, since(DAY_NS).await?);
    let contents = match depth {
        Depth::Quick => None,
        Depth::Everything { top } => Some(contents(endpoint, &head, top, progress).await?),
    };
    Ok(LogStats {
        log_id: store.log_id().await?,
        head,
        floor: endpoint.hot.floor().await?,
        stored_bytes: store.stored_bytes().await?,
        snapshots: u64::try_from(snapshots.positions().await?.len()).unwrap_or(u64::MAX),
        snapshot_bytes: endpoint.beside.snapshot_bytes().await?,
        last_hour,
        last_day,
        contents,
    })
}

type Counts = HashMap<String, (u64, u64)>;

async fn contents(
    endpoint: &Endpoint,
    head: &Head,
    top: usize,
    progress: Progress<'_>,
) -> Result<Contents, Error> {
    let mut pages = Pages::new(endpoint.store.as_ref(), Position(0));
    let (mut types, mut owners) = (Counts::new(), Counts::new());
    let (mut batches, mut payload_bytes) = (0_u64, 0_u64);
    while let Some(stored) = pages.next().await? {
        if stored.batch.first > head.position {
            break;
        }
        batches = batches.saturating_add(1);
        for (row, _) in stored.rows {
            let bytes = u64::try_from(row.payload.len()).unwrap_or(u64::MAX);
            payload_bytes = payload_bytes.saturating_add(bytes);
            add(&mut types, row.type_name, bytes);
            add(&mut owners, row.owner, bytes);
        }
        progress(stored.batch.last().0);
    }
    let owners_all = u64::try_from(owners.len()).unwrap_or(u64::MAX);
    let (types, owners) = (first(types, top), first(owners, top));
    Ok(Contents { batches, payload_bytes, types, owners, owners_all })
}

fn add(counts: &mut Counts, name: String, bytes: u64) {
    let counted = counts.entry(name).or_default();
    counted.0 = counted.0.saturating_add(1);
    counted.1 = counted.1.saturating_add(bytes);
}

/// Those with the most events, and of equal ones those with the first name.
fn first(counts: Counts, top: usize) -> Vec<Counted> {
    let counted = |(name, (events, payload_bytes))| Counted { name, events, payload_bytes };
    let mut all: Vec<Counted> = counts.into_iter().map(counted).collect();
    all.sort_by(|a, b| b.events.cmp(&a.events).then_with(|| a.name.cmp(&b.name)));
    all.truncate(top);
    all
}
