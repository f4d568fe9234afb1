//! Exports of a sample log, whole and damaged, in both forms.

use std::{fs, path::PathBuf};

use domain::{log::Position, sealed::Digest, units::Timestamp};
use uuid::Uuid;

use super::{
    Error, Export, Fault, Format, Range, check, export, header::Header, import, write::Origin,
};
use crate::event_store::{
    EventStore, LogId, StoredBatch,
    chain::{self, Verifier},
    conformance::samples::{INCARNATION, batch, fill, lost, upserted},
    memory::{MemoryLog, MemoryStore},
    sqlite::{Database, SqliteStore},
};

const FORMATS: [Format; 2] = [Format::Ndjson, Format::Compact];
const EVERYTHING: Range = Range { from: None, to: None };

fn empty() -> MemoryStore {
    MemoryStore::new(MemoryLog::new(INCARNATION))
}

/// Positions 1 to 10, in batches of 3, 1, 2, 1 and 3.
async fn sample() -> MemoryStore {
    let store = empty();
    fill(&store, &[3, 1, 2]).await;
    store
        .append(batch(77, Position(6), 50, vec![lost("cell-9", "ünïcode \\ \n \u{0}")]))
        .await
        .unwrap();
    fill(&store, &[3]).await;
    store
}

fn origin() -> Origin {
    let log_id = LogId(INCARNATION.0);
    Origin {
        log_id,
        program_version: "0.0.0".to_owned(),
        created_at: Timestamp(5),
        floor: (Position(0), chain::GENESIS),
    }
}

/// A folder, and a file in it.
pub(crate) struct File {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl File {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, bytes).unwrap();
        Self { _folder: folder, path }
    }
}

/// An export of a log.
pub(crate) async fn written(
    store: &MemoryStore,
    range: Range,
    format: Format,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let path = PathBuf::from("somewhere");
    export(store, origin(), range, format, (&path, &mut bytes), &|_| {}).await?;
    Ok(bytes)
}

async fn imported(bytes: &[u8], into: &MemoryStore) -> Result<u64, Error> {
    let file = File::of(bytes);
    Ok(import(&file.path, into, into, &|_| {}).await?.written)
}

/// An error with its causes.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn assert_same(a: &MemoryStore, b: &MemoryStore) {
    let start = Position(0);
    assert_eq!(a.read_rows(start, 99).await.unwrap(), b.read_rows(start, 99).await.unwrap());
    let batches = b.read_batches(start, 99).await.unwrap();
    assert_eq!(a.read_batches(start, 99).await.unwrap(), batches);
    assert_eq!(a.head().await.unwrap().link, b.head().await.unwrap().link);
    assert_eq!(chain::verify(b).await.unwrap(), None);
}

#[tokio::test]
async fn an_export_is_taken_in_with_the_same_positions_and_hashes() {
    for format in FORMATS {
        let store = sample().await;
        let bytes = written(&store, EVERYTHING, format).await.unwrap();
        let other = empty();

        assert_eq!(imported(&bytes, &other).await.unwrap(), 10);

        assert_same(&store, &other).await;
        assert_eq!(imported(&bytes, &other).await.unwrap(), 0, "again: all of it is there");
        // The log that was made of it goes on by itself, and takes what its origin wrote later.
        fill(&store, &[2]).await;
        let range = Range { from: Some(Position(12)), to: None };
        let rest = written(&store, range, format).await.unwrap();
        assert_eq!(imported(&rest, &other).await.unwrap(), 2);
        assert_same(&store, &other).await;
        let all = written(&store, EVERYTHING, format).await.unwrap();
        let (half, _) = halves(&store, format).await;
        let broken_off = empty();
        imported(&half, &broken_off).await.unwrap();
        assert_eq!(imported(&all, &broken_off).await.unwrap(), 8, "it goes on where it ended");
        assert_same(&store, &broken_off).await;
    }
}

/// Up to position 4, and from 5 on.
async fn halves(store: &MemoryStore, format: Format) -> (Vec<u8>, Vec<u8>) {
    let first = Range { from: None, to: Some(Position(4)) };
    let second = Range { from: Some(Position(5)), to: None };
    (written(store, first, format).await.unwrap(), written(store, second, format).await.unwrap())
}

#[tokio::test]
async fn a_range_is_widened_to_whole_batches_and_verified_by_its_link_before() {
    let store = sample().await;
    for (from, to, first, last) in [
        (1, 1, 1, 3),
        (2, 4, 1, 4),
        (4, 4, 4, 4),
        (5, 9, 5, 10),
        (6, 7, 5, 7),
        (10, 10, 8, 10),
        (3, 10, 1, 10),
    ] {
        for format in FORMATS {
            let range = Range { from: Some(Position(from)), to: Some(Position(to)) };
            let file = File::of(&written(&store, range, format).await.unwrap());

            let (header, end) = check(&file.path, &|_| {}).unwrap();

            let Header { first: begins, last: ends, .. } = header;
            assert_eq!((begins.0, ends.0), (first, last), "{from} to {to}");
            assert_eq!(end.events, last - first + 1);
        }
    }
    for (from, to, refusal) in [
        (Some(11), None, "position 11 is behind the log's end, 10: name one up to 10"),
        (None, Some(11), "position 11 is behind the log's end, 10: name one up to 10"),
        (Some(5), Some(4), "the range ends at position 4, before its start 5"),
    ] {
        let range = Range { from: from.map(Position), to: to.map(Position) };
        let refused = written(&store, range, Format::Ndjson).await.unwrap_err();
        assert_eq!(refused.to_string(), refusal);
    }
}

#[tokio::test]
async fn an_export_gives_its_batches_to_any_verifier() {
    for format in FORMATS {
        let file = File::of(&written(&sample().await, EVERYTHING, format).await.unwrap());
        let export = Export::open(&file.path).unwrap();
        let header = export.header().clone();
        let mut verifier = Verifier::new(header.before(), header.link_before.0);
        let mut events = 0;
        for stored in export {
            let StoredBatch { batch, rows } = stored.unwrap();
            verifier.batch(&batch, &rows, header.last).unwrap();
            events += rows.len();
        }
        assert_eq!(events, 10);
    }
}

#[tokio::test]
async fn a_sqlite_log_takes_an_export_and_gives_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let other = domain::log::Incarnation(Uuid::from_u128(7));
    let database = Database::open(&folder.path().join("log.db"), other).await.unwrap();
    let sqlite = SqliteStore::new(database.clone());
    let store = sample().await;
    for format in FORMATS {
        let bytes = written(&store, EVERYTHING, format).await.unwrap();
        let file = File::of(&bytes);

        let done = import(&file.path, &sqlite, &sqlite, &|_| {}).await.unwrap();

        let head = store.head().await.unwrap();
        assert_eq!((done.head.position, done.head.link), (head.position, head.link));
        assert_eq!(done.head.incarnation, other, "a life of its own");
        assert_eq!(sqlite.log_id().await.unwrap(), LogId(INCARNATION.0), "of the same log");
        assert_eq!(chain::verify(&sqlite).await.unwrap(), None);
        let mut again = Vec::new();
        let into = (file.path.as_path(), &mut again);
        export(&sqlite, origin(), EVERYTHING, format, into, &|_| {}).await.unwrap();
        let file = File::of(&again);
        assert_eq!(check(&file.path, &|_| {}).unwrap().1.link, Digest(head.link));
        // What was taken in is followed by what is decided on it.
        fill(&sqlite, &[2]).await;
        let range = Range { from: Some(Position(head.position.0 + 1)), to: None };
        let mut rest = Vec::new();
        export(&sqlite, origin(), range, format, (&file.path, &mut rest), &|_| {}).await.unwrap();
        imported(&rest, &store).await.unwrap();
    }
    database.close().await;
    let database = Database::open(&folder.path().join("log.db"), INCARNATION).await.unwrap();
    assert_eq!(chain::verify(&SqliteStore::new(database)).await.unwrap(), None);
}

#[tokio::test]
async fn an_empty_log_has_an_export() {
    for format in FORMATS {
        let bytes = written(&empty(), EVERYTHING, format).await.unwrap();
        assert_eq!(imported(&bytes, &empty()).await.unwrap(), 0);
    }
}

/// The lines of an export, changed.
fn edited(text: &str, edit: impl Fn(&mut Vec<String>)) -> Vec<u8> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    edit(&mut lines);
    (lines.join("\n") + "\n").into_bytes()
}

#[tokio::test]
async fn a_damaged_file_is_refused_by_line_and_changes_nothing() {
    let text = written(&sample().await, EVERYTHING, Format::Ndjson).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    // 1 header, 2 batch, 3 to 5 events, 6 batch, 7 event, 8 batch, 9 and 10 events ...
    let replace = |line: usize, from: &'static str, to: &'static str| {
        edited(&text, move |lines| {
            assert!(lines[line - 1].contains(from), "{}", lines[line - 1]);
            lines[line - 1] = lines[line - 1].replace(from, to);
        })
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "line 1: this is no export of a Diario log"),
        ("something else", b"{\"a\": 1}\n".to_vec(), "line 1: this is no export"),
        ("binary", vec![0xff; 99], "line 1: the file is cut off here"),
        ("newer form", replace(1, "\"formatVersion\":1", "\"formatVersion\":2"), "newer than 1"),
        ("half a line", text.as_bytes()[..text.len() / 2].to_vec(), "the file is cut off here"),
        ("no end", edited(&text, |lines| drop(lines.pop())), "line 17: the file is cut off here"),
        (
            "an altered column",
            replace(4, "cell-1", "cell-7"),
            "line 4: the event at position 2 was altered",
        ),
        (
            "an altered payload",
            replace(7, "node-1", "node-2"),
            "line 7: the event at position 4 was altered",
        ),
        (
            "a batch's time",
            replace(6, "\"recordedAt\":", "\"recordedAt\":1"),
            "line 7: the batch that begins at position 4 was altered",
        ),
        (
            "an event left out",
            edited(&text, |lines| drop(lines.remove(3))),
            "line 4: the event at position 2 is missing: the file has a hole",
        ),
        (
            "a last event left out",
            edited(&text, |lines| drop(lines.remove(4))),
            "line 5: the event at position 3 is missing",
        ),
        (
            "a batch left out",
            edited(&text, |lines| drop(lines.drain(5..7))),
            "line 6: the event at position 4 is missing",
        ),
        (
            "two events swapped",
            edited(&text, |lines| lines.swap(2, 3)),
            "line 3: the event at position 1 is missing",
        ),
        (
            "an unknown field",
            replace(4, "{\"event\":{", "{\"event\":{\"x\":1,"),
            "line 4: unknown field",
        ),
        (
            "a log id",
            edited(&text, |lines| lines[0] = lines[0].replace("0d1a", "0d1b")),
            "line 17: its digest does not fit",
        ),
        (
            "two files joined",
            [text.as_bytes(), text.as_bytes()].concat(),
            "line 18: something follows the end",
        ),
        ("a newer event", newer(&text), "line 3: the event at position 1 is of a newer diario"),
    ];
    for (what, bytes, expected) in cases {
        let target = empty();

        let refused = imported(&bytes, &target).await.expect_err(what);

        let refused = chain_of(&refused);
        assert!(refused.contains(expected), "{what}: {refused}");
        assert_eq!(target.head().await.unwrap().position, Position(0), "{what}");
    }
}

/// The sample's first batch, whose first event is of an unknown type, with hashes that hold.
fn newer(text: &str) -> Vec<u8> {
    let file = File::of(text.as_bytes());
    let mut export = Export::open(&file.path).unwrap();
    let mut stored = export.next().unwrap().unwrap();
    stored.rows[0].0.type_name = "cell.exploded".to_owned();
    for (row, leaf) in &mut stored.rows {
        *leaf = chain::leaf(row);
    }
    let leaves: Vec<_> = stored.rows.iter().map(|(_, leaf)| *leaf).collect();
    stored.batch.link = chain::link(&chain::GENESIS, &chain::root(&leaves), &stored.batch);
    let mut bytes = Vec::new();
    let mut sink = super::ndjson::Lines::new(&mut bytes);
    super::write::Sink::header(&mut sink, export.header()).unwrap();
    super::write::Sink::batch(&mut sink, &stored).unwrap();
    drop(sink);
    bytes
}

#[tokio::test]
async fn a_damaged_compact_file_is_refused_and_changes_nothing() {
    let bytes = written(&sample().await, EVERYTHING, Format::Compact).await.unwrap();
    let target = empty();
    for length in (0..bytes.len()).step_by(7) {
        assert!(imported(&bytes[..length], &target).await.is_err(), "cut off at {length}");
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        // A bit of zstd's frame header may mean nothing to the content: then it is the same.
        if let Ok(count) = imported(&flipped, &empty()).await {
            assert_eq!(count, 10, "a flipped bit at {at}");
        }
    }
    assert_eq!(target.head().await.unwrap().position, Position(0));
    let joined = [bytes.as_slice(), bytes.as_slice()].concat();
    assert!(imported(&joined, &empty()).await.is_err(), "two files joined");
}

#[tokio::test]
async fn an_export_that_does_not_belong_there_is_refused() {
    let store = sample().await;
    let (first, second) = halves(&store, Format::Compact).await;

    let gap = imported(&second, &empty()).await.unwrap_err();
    assert!(matches!(gap, Error::Gap { first: Position(5), head: Position(0) }), "{gap}");

    let ahead = imported(&first, &sample().await).await.unwrap_err();
    assert!(matches!(ahead, Error::TargetAhead { .. }), "{ahead}");

    let diverged = empty();
    imported(&first, &diverged).await.unwrap();
    diverged.append(batch(5, Position(4), 90, vec![upserted("a")])).await.unwrap();
    let refused = imported(&second, &diverged).await.unwrap_err();
    assert!(matches!(refused, Error::Diverged { position: Position(5) }), "{refused}");

    let other = MemoryStore::new(MemoryLog::new(domain::log::Incarnation(Uuid::from_u128(9))));
    fill(&other, &[4]).await;
    let refused = imported(&second, &other).await.unwrap_err();
    assert!(matches!(refused, Error::OtherLog { .. }), "{refused}");
    let fault = Fault::CutOff;
    assert!(fault.to_string().contains("copy it again"), "each says what to do");
}
