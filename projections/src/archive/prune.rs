//! Drops the oldest segments of an archive, the only thing that ever drops an event: the state
//! that they led to is written, signed, read back and listed first.

use domain::{aggregates::Aggregate, log::Position, sealed::Digest};

use super::{Archive, ArchivedStore, BaseEntry, Error, Manifest, base};
use crate::{checkpoint::CheckpointKey, event_store::HotLog, history, snapshot::SnapshotStore};

/// What was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// How many segments.
    pub segments: u64,
    /// The last event that was dropped.
    pub floor: Position,
    /// How many bytes the archive is smaller by.
    pub bytes: u64,
}

/// Drops the segments that lie wholly before a position.
///
/// # Errors
/// [`Error::NothingToPrune`], or what cannot be read or written; the archive is whole then.
pub async fn prune(
    store: &ArchivedStore,
    tables: &dyn HotLog,
    snapshots: &dyn SnapshotStore,
    key: &CheckpointKey,
    before: Position,
) -> Result<Pruned, Error> {
    let archive = store.archive();
    archive.refresh().await?;
    let manifest = archive.manifest();
    let floor = tables.floor().await?.position;
    let dropped = manifest.segments.iter().filter(|it| it.last < before && it.last <= floor);
    let dropped: Vec<_> = dropped.cloned().collect();
    let Some(last) = dropped.last() else {
        return Err(Error::NothingToPrune { reason: why_not(&manifest, before) });
    };
    let log = tables.identity().await?;
    let aggregates = state_at(store, snapshots, last.last).await?;
    let stamp = domain::log::Stamp { position: last.last, recorded_at: last.last_time };
    let packed = base::encode(log, stamp, last.link_after.0, &aggregates, key)?;
    let sha256 = Digest::of(&packed);
    let object = base::object_of(last.last, &sha256);
    let entry = BaseEntry {
        object: object.clone(),
        position: last.last,
        recorded_at: last.last_time,
        link: last.link_after,
        sha256,
    };
    archive.place().put(&object, packed).await?;
    let read_back = read(archive, &entry, &manifest).await?;
    if read_back.aggregates != aggregates {
        return Err(Error::ReadBack { object });
    }
    let mut pruned = Manifest::clone(&manifest);
    pruned.base = Some(entry);
    pruned.segments.retain(|segment| segment.last > last.last);
    pruned.replace(archive.place(), &manifest).await?;
    archive.set_manifest(pruned);
    for segment in &dropped {
        archive.place().delete(&segment.object).await?;
    }
    if let Some(old) = &manifest.base {
        archive.place().delete(&old.object).await?;
    }
    Ok(Pruned {
        segments: u64::try_from(dropped.len()).unwrap_or(u64::MAX),
        floor: last.last,
        bytes: dropped.iter().map(|segment| segment.bytes).sum(),
    })
}

fn why_not(manifest: &Manifest, before: Position) -> String {
    match manifest.segments.first() {
        None => "the archive holds no segment".to_owned(),
        Some(first) => format!(
            "no segment lies wholly before position {before}; the oldest one ends at {}",
            first.last
        ),
    }
}

async fn state_at(
    store: &ArchivedStore,
    snapshots: &dyn SnapshotStore,
    position: Position,
) -> Result<Vec<Aggregate>, Error> {
    let loaded = history::load(store, snapshots, position).await.map_err(|failure| {
        let because = std::error::Error::source(&failure).map(ToString::to_string);
        let reason = match because {
            Some(because) => format!("{failure}: {because}"),
            None => failure.to_string(),
        };
        Error::NothingToPrune { reason }
    })?;
    Ok(loaded.world.aggregates().all().collect())
}

/// Reads a base state that a manifest lists.
pub(super) async fn read(
    archive: &Archive,
    entry: &BaseEntry,
    manifest: &Manifest,
) -> Result<base::BaseState, Error> {
    let packed = archive.place().get_whole(&entry.object).await?;
    if Digest::of(&packed) != entry.sha256 {
        return Err(Error::damaged(&entry.object, "its digest does not fit"));
    }
    let state = base::decode(&entry.object, manifest.log_id, &packed)?;
    let is_listed = state.stamp.position == entry.position
        && state.stamp.recorded_at == entry.recorded_at
        && state.link == entry.link.0;
    if is_listed {
        return Ok(state);
    }
    Err(Error::damaged(&entry.object, "it is not the one that was listed"))
}
