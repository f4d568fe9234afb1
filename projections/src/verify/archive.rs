//! Checks an archive by itself, without the database that goes on where it ends.

use std::sync::Arc;

use domain::log::{Incarnation, Position};
use uuid::Uuid;

use super::{LogOptions, Report, Trust, run};
use crate::{
    archive::{Archive, ArchiveSource},
    event_store::{Error, LogIdentity},
};

/// Checks the segments of an archive, the checkpoints that it keeps, and the state that it begins
/// with. See [`run`] for `progress`.
///
/// # Errors
/// When the archive cannot be read at all, or is damaged where no position can be named.
pub async fn archive(
    archive: Arc<Archive>,
    options: &LogOptions,
    progress: &(dyn Fn(Position) + Sync),
) -> Result<Report, Error> {
    let manifest = archive.manifest();
    let checkpoints = manifest.checkpoints();
    // Each checkpoint names the life that it was signed in; the archive is of all of them.
    let incarnation = checkpoints.last().map_or(Incarnation(Uuid::nil()), |it| it.incarnation);
    let log = LogIdentity { log_id: manifest.log_id, incarnation };
    let base = archive.carried_base(log).await?;
    let from = options.from.unwrap_or_default();
    let to = options.to.unwrap_or_else(|| manifest.end().0);
    let mut source = ArchiveSource::new(archive, from, to);
    let (position, link) = source.begin();
    let keys = options.keys.clone();
    let trust = Trust { position, link, checkpoints, log: Some(log), keys };
    let mut report = run(&mut source, trust, progress).await?;
    report.keys.extend(base.map(|base| base.key()));
    Ok(report)
}
