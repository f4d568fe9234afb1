//! Room in the write-ahead log before it is needed.
//!
//! A commit that makes the file longer waits for the file's length to be on the disk too, which
//! takes about as long again as a small commit itself. SQLite writes the log from its start again
//! and again, so this counts until it has once been as long as it gets: here it is made so early,
//! in few steps. Zeros behind the last frame are no frame to SQLite, as what an earlier turn has
//! left there is none.

use std::{
    fs::{self, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use rusqlite::Connection;

/// A log that is shorter stays as SQLite made it: most are never longer.
const SHORTEST: u64 = 256 << 10;

/// As long as the log gets between two checkpoints, see [`super::library::WRITES`], and a large
/// batch.
const LONGEST: u64 = 20 << 20;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The room in one file's log.
#[derive(Debug)]
pub(super) struct WalRoom {
    log: PathBuf,
    /// How long the log was when it was last looked at.
    length: u64,
}

impl WalRoom {
    pub(super) fn of(database: &Path) -> Self {
        let mut log = database.to_owned().into_os_string();
        log.push("-wal");
        Self { log: log.into(), length: 0 }
    }

    /// To be called between two transactions: makes the log twice as long once SQLite has filled
    /// it.
    pub(super) fn keep(&mut self, connection: &Connection) {
        let length = fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        let has_grown = length > self.length;
        self.length = length;
        if !has_grown || !(SHORTEST..LONGEST).contains(&length) {
            return;
        }
        // Nobody else makes it longer meanwhile.
        let locked = connection.execute_batch("BEGIN IMMEDIATE");
        if locked.is_err() {
            return;
        }
        match self.lengthen() {
            Ok(length) => self.length = length,
            // What it needs, SQLite asks for itself, and tells when there is none.
            Err(failure) => tracing::debug!(%failure, "No room was made for the log."),
        }
        if let Err(failure) = connection.execute_batch("ROLLBACK") {
            tracing::warn!(%failure, "The log's lock could not be given back.");
        }
    }

    fn lengthen(&self) -> io::Result<u64> {
        let mut log = OpenOptions::new().write(true).open(&self.log)?;
        let length = log.seek(SeekFrom::End(0))?;
        let target = length.saturating_mul(2).min(LONGEST);
        let lengthened = zeros(&mut log, target.saturating_sub(length));
        if lengthened.is_err() {
            // The rest of the disk is not for this.
            log.set_len(length)?;
        }
        lengthened.map(|()| target)
    }
}

fn zeros(log: &mut fs::File, mut count: u64) -> io::Result<()> {
    while count > 0 {
        let piece = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        log.write_all(ZEROS.get(..piece).unwrap_or_default())?;
        count = count.saturating_sub(u64::try_from(piece).unwrap_or(u64::MAX));
    }
    log.sync_data()
}
