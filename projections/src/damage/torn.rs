//! A write-ahead log whose end is torn, as a power cut leaves it: every batch whose frames are
//! whole is there, and nothing else.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use domain::{event::Event, log::Recorded, testing::Dice};

use super::{below, dice, share, spread, tell};
use crate::{
    event_store::{
        EventStore,
        conformance::samples::{INCARNATION, START, fill},
        sqlite::{Database, SqliteStore},
    },
    verify::{self, Live, LogOptions},
};

const PAGE: usize = 4_096;
const FILE_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const FRAME: usize = FRAME_HEADER + PAGE;
const SECTOR: usize = 512;

/// How many of the last bytes are torn at.
const TORN_BYTES: usize = 4_096;

/// How many bits are flipped.
const FLIPS: usize = 4_000;

/// A database as it stood on the disk while a process had it open.
struct Torn {
    file: Vec<u8>,
    log: Vec<u8>,
    /// Where the frames of each commit end in the log, and the head that it made.
    commits: BTreeMap<usize, usize>,
    written: Vec<Recorded<Event>>,
}

/// Where the last commit of the present generation ends. Frames of an earlier one may stand behind
/// it; their salts differ from those of the log's header.
fn last_commit(log: &[u8]) -> usize {
    let salts = &log[16..24];
    let mut last = 0;
    for (number, frame) in log[FILE_HEADER..].chunks_exact(FRAME).enumerate() {
        if frame[8..16] != *salts {
            break;
        }
        // Only a commit names the size that the database has after it.
        if frame[4..8] != [0; 4] {
            last = FILE_HEADER + (number + 1) * FRAME;
        }
    }
    last
}

impl Torn {
    /// `earlier`: batches that were moved into the file before, so that their frames stand behind
    /// the later ones in the log.
    async fn new(earlier: &[usize], later: &[usize]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("diario.db");
        let beside = folder.path().join("diario.db-wal");
        let database = Database::open(&path, INCARNATION).await.unwrap();
        let store = SqliteStore::new(database.clone());
        let mut written = fill(&store, earlier).await;
        if !earlier.is_empty() {
            let moved = sqlx::query("PRAGMA wal_checkpoint(RESTART)").execute(database.readers());
            moved.await.unwrap();
        }
        // All before is in the file itself.
        let mut commits = BTreeMap::from([(0, written.len())]);
        for size in later {
            written.extend(fill(&store, &[*size]).await);
            commits.insert(last_commit(&fs::read(&beside).unwrap()), written.len());
        }
        let (file, log) = (fs::read(&path).unwrap(), fs::read(&beside).unwrap());
        database.close().await;
        Self { file, log, commits, written }
    }

    fn end(&self) -> usize {
        *self.commits.last_key_value().unwrap().0
    }

    /// How many events are there when the log holds what was written up to a byte and something
    /// else from it on.
    fn whole_at(&self, byte: usize) -> usize {
        *self.commits.range(..=byte).next_back().unwrap().1
    }

    /// The log torn at a byte, and the first byte that differs.
    fn torn(&self, at: usize, tear: Tear, dice: &mut Dice) -> (Vec<u8>, usize) {
        let mut log = self.log.clone();
        match tear {
            Tear::Cut => log.truncate(at),
            Tear::Zeros => log[at..].fill(0),
            Tear::Garbage => log[at..].fill_with(|| garbage(dice)),
            Tear::Sector => {
                let end = log.len().min((at / SECTOR + 1) * SECTOR);
                log[at..end].fill_with(|| garbage(dice));
            }
        }
        let same = log.iter().zip(&self.log).take_while(|(torn, whole)| torn == whole).count();
        (log, same)
    }
}

fn garbage(dice: &mut Dice) -> u8 {
    u8::try_from(dice.below(256)).unwrap()
}

/// What stands from the torn byte on.
#[derive(Debug, Clone, Copy)]
enum Tear {
    /// Nothing.
    Cut,
    /// Zeros, as where a file was made longer and its bytes never came.
    Zeros,
    /// Anything.
    Garbage,
    /// Anything up to the end of a sector, and behind it what was written.
    Sector,
}

/// Opens the database with a log and proves all that is there. Gives the events.
async fn opened(folder: &Path, file: &[u8], log: &[u8]) -> Result<Vec<Recorded<Event>>, String> {
    let path = folder.join("diario.db");
    fs::write(&path, file).unwrap();
    fs::write(folder.join("diario.db-wal"), log).unwrap();
    let database = Database::open(&path, INCARNATION).await.map_err(|it| it.to_string())?;
    let store = Arc::new(SqliteStore::new(database.clone()));
    let live = Live { store: store.clone(), tables: store.clone(), archive: None };
    let report = verify::log(&live, &LogOptions::default(), &|_| {}).await;
    let events = store.read_all(START, 1_000).await;
    // It goes on where it ended.
    fill(store.as_ref(), &[1]).await;
    database.close().await;
    match report.map_err(|it| it.to_string())?.fault {
        Some(fault) => Err(fault.to_string()),
        None => events.map_err(|it| it.to_string()),
    }
}

async fn torn_everywhere(name: &str, torn: &Torn) {
    let (mut dice, seed) = dice(1);
    let folder = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for tear in [Tear::Cut, Tear::Zeros, Tear::Garbage, Tear::Sector] {
        for back in spread(TORN_BYTES) {
            let at = torn.end() - 1 - back;
            let (log, same) = torn.torn(at, tear, &mut dice);

            let events = opened(folder.path(), &torn.file, &log).await;

            let events = events.unwrap_or_else(|it| panic!("seed {seed}, {tear:?} at {at}: {it}"));
            let whole = torn.whole_at(same);
            assert!(events == torn.written[..whole], "seed {seed}, {tear:?} at {at}: not {whole}");
            tried += 1;
        }
    }
    tell(&format!("{name}: torn {tried} times in its last {TORN_BYTES} bytes, seed {seed}"));
}

#[tokio::test]
async fn a_log_torn_at_any_of_its_last_bytes_leaves_every_whole_batch() {
    let torn = Torn::new(&[], &[3, 2, 40, 1, 5, 300, 2]).await;
    assert_eq!(opened(tempfile::tempdir().unwrap().path(), &torn.file, &torn.log).await, {
        Ok(torn.written.clone())
    });
    torn_everywhere("A write-ahead log", &torn).await;
}

/// The frames of an earlier generation are whole, and stand right behind the torn ones.
#[tokio::test]
async fn a_log_torn_in_front_of_older_frames_never_brings_them_back() {
    let torn = Torn::new(&[300, 3, 300, 2, 300], &[2, 5, 1]).await;
    assert!(torn.log.len() > torn.end() + 4 * FRAME, "there are older frames");
    torn_everywhere("A write-ahead log before older frames", &torn).await;
}

/// Not only the last frame: any byte of the whole log.
#[tokio::test]
async fn a_flipped_bit_anywhere_in_the_log_leaves_the_batches_before_it() {
    let torn = Torn::new(&[], &[3, 2, 40, 1, 5, 300, 2]).await;
    let (mut dice, seed) = dice(2);
    let folder = tempfile::tempdir().unwrap();
    let flips = share(FLIPS);
    for _ in 0..flips {
        let mut log = torn.log.clone();
        let byte = below(&mut dice, torn.end());
        log[byte] ^= 1 << dice.below(8);

        let events = opened(folder.path(), &torn.file, &log).await;

        let events = events.unwrap_or_else(|it| panic!("seed {seed}, byte {byte}: {it}"));
        let whole = torn.whole_at(byte);
        assert!(events == torn.written[..whole], "seed {seed}, byte {byte}: not {whole}");
    }
    tell(&format!("A write-ahead log: {flips} flipped bits, seed {seed}"));
}
