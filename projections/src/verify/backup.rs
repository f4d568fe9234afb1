//! Checks a backup where it lies: its log with the checkpoints beside it, then every other file.

use std::path::Path;

use domain::{log::Position, sealed::Digest};

use super::{LogOptions, Report, Trust, beside, export};
use crate::{
    backup::{
        BLOBS_FILE, CHECKPOINTS_FILE, Error, KEYS_FILE, LOG_FILE, Manifest, beside::BlobRow, floor,
        key_file, records::Records, take::CheckpointRecord,
    },
    checkpoint::Checkpoint,
    event_store::chain::{FaultKind, fault},
};

/// Checks a backup. The log comes first, so that a position is named where one is wrong. See
/// [`super::run`] for `progress`.
///
/// # Errors
/// When something else than the log is wrong, or the backup cannot be read at all.
pub fn backup(
    folder: &Path,
    options: &LogOptions,
    progress: &(dyn Fn(Position) + Sync),
) -> Result<(Manifest, Report), Error> {
    let manifest = Manifest::read(folder)?;
    manifest.check_presence(folder)?;
    let log = Some(manifest.identity());
    let checkpoints = checkpoints(folder)?;
    let trust = Trust { checkpoints, log, keys: options.keys.clone(), ..Trust::default() };
    let newest = trust.checkpoints.last().cloned();
    let path = folder.join(LOG_FILE);
    let (header, mut report) = export(&path, options, trust, progress)?;
    if report.fault.is_none() {
        report.add(newest.and_then(|newest| beside::life(&newest, manifest.identity())));
    }
    if report.fault.is_some() {
        return Ok((manifest, report));
    }
    let is_of = (header.log_id, header.incarnation) == (manifest.log_id, manifest.incarnation)
        && (header.before(), header.link_before.0) == manifest.begin()
        && header.last == manifest.position;
    let reaches_end = report.last == manifest.position;
    if !is_of || (reaches_end && report.link != manifest.link.0) {
        return Err(Error::Mixed { path });
    }
    if let Some(base) = floor::read(folder, &manifest)?
        && !options.keys.is_empty()
        && !options.keys.contains(&base.key())
    {
        report.add(Some(fault(base.end().0, FaultKind::BaseForeign)));
    }
    manifest.check_files(folder)?;
    check_blobs(folder, &manifest)?;
    let keys = folder.join(KEYS_FILE);
    if keys.exists() {
        key_file::check(&keys, manifest.log_id)?;
    }
    Ok((manifest, report))
}

fn checkpoints(folder: &Path) -> Result<Vec<Checkpoint>, Error> {
    let path = folder.join(CHECKPOINTS_FILE);
    let mut records = Records::open(&path)?;
    let mut found = Vec::new();
    while let Some(record) = records.next::<CheckpointRecord>()? {
        let altered = || Error::FileAltered { path: path.clone() };
        found.push(record.checkpoint().ok_or_else(altered)?);
    }
    Ok(found)
}

/// A piece of evidence is known by its digest.
fn check_blobs(folder: &Path, manifest: &Manifest) -> Result<(), Error> {
    let path = folder.join(BLOBS_FILE);
    let mut records = Records::open(&path)?;
    let mut count: u64 = 0;
    while let Some(blob) = records.next::<BlobRow>()? {
        if Digest::of(&blob.bytes) != blob.digest {
            return Err(Error::FileAltered { path });
        }
        count = count.saturating_add(1);
    }
    if count == manifest.blobs { Ok(()) } else { Err(Error::FileAltered { path }) }
}
