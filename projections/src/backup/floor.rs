//! What a backup of a pruned log holds instead of the events before its floor: the state that they
//! led to, as it was signed, and the versions that their streams had.

use std::{fs, io::Write as _, path::Path};

use domain::{
    log::{Position, StreamVersion},
    sealed::Digest,
};
use serde::{Deserialize, Serialize};

use super::{
    BASE_FILE, Error, STREAMS_FILE,
    manifest::{FloorEntry, Manifest},
    records::{self, Records},
    restore::Into,
    take::{self, From},
};
use crate::{
    archive::CarriedBase,
    event_store::{Floor, StreamRow},
};

/// How many streams are read or written at a time.
const STREAMS_PAGE: usize = 1_000;

/// A stream as a backup holds it.
#[derive(Debug, Serialize, Deserialize)]
struct StreamRecord {
    stream: String,
    version: StreamVersion,
    last_position: Position,
}

/// Writes the floor's files into a backup's folder, if the log was pruned.
///
/// To be called before the log's end is looked up: a stream that has an event by then stands in
/// the log that follows, which tells its version, and no other one moves.
pub(super) async fn write(from: From<'_>, folder: &Path) -> Result<Option<FloorEntry>, Error> {
    let Some(archive) = from.archive else { return Ok(None) };
    let log = from.hot.identity().await?;
    let Some(base) = archive.carried_base(log).await? else { return Ok(None) };
    let (position, link) = base.end();
    take::write(&folder.join(BASE_FILE), async |file, path| {
        file.write_all(base.packed())
            .map_err(|source| Error::Write { path: path.to_owned(), source })
    })
    .await?;
    take::write(&folder.join(STREAMS_FILE), async |file, path| {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let mut after = String::new();
        loop {
            let page = from.hot.streams(&after, STREAMS_PAGE).await?;
            let Some(newest) = page.last() else { return Ok(()) };
            after.clone_from(&newest.stream);
            for row in page.into_iter().filter(|row| row.last_position <= position) {
                let StreamRow { stream, version, last_position } = row;
                let record = StreamRecord { stream, version, last_position };
                records::write(file, &record).map_err(failed)?;
            }
        }
    })
    .await?;
    Ok(Some(FloorEntry { position, link: Digest(link) }))
}

/// Reads the base state of a backup of a pruned log, and checks that its log goes on from there.
///
/// # Errors
/// [`Error::Archive`] says what is wrong with it, [`Error::Mixed`] that it is another one's.
pub(crate) fn read(folder: &Path, manifest: &Manifest) -> Result<Option<CarriedBase>, Error> {
    let Some(floor) = manifest.floor else { return Ok(None) };
    let path = folder.join(BASE_FILE);
    let packed = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let name = path.display().to_string();
    let base = CarriedBase::read(&name, manifest.identity(), packed)?;
    if base.end() != (floor.position, floor.link.0) {
        return Err(Error::Mixed { path });
    }
    Ok(Some(base))
}

/// Begins the log of a pruned backup in an empty database.
pub(super) async fn begin(
    folder: &Path,
    floor: Floor,
    manifest: &Manifest,
    into: Into<'_>,
) -> Result<(), Error> {
    into.hot.begin_behind(manifest.log_id, floor).await?;
    let mut records = Records::open(&folder.join(STREAMS_FILE))?;
    let mut page = Vec::new();
    while let Some(StreamRecord { stream, version, last_position }) = records.next()? {
        page.push(StreamRow { stream, version, last_position });
        if page.len() >= STREAMS_PAGE {
            into.hot.add_streams(std::mem::take(&mut page)).await?;
        }
    }
    into.hot.add_streams(page).await?;
    Ok(())
}
