//! Exports that were altered, shortened and reordered, in both forms: all is found, with the
//! position where it begins and its place in the file.

use domain::{log::Position, testing::Dice, units::Timestamp};

use super::{LogOptions, Report, Trust, export};
use crate::{
    checkpoint::CheckpointKey,
    event_store::{
        EventStore as _, LogId, LogIdentity, StoredBatch,
        chain::FaultKind,
        conformance::samples::{INCARNATION, fill},
        memory::{MemoryLog, MemoryStore},
    },
    transfer::{
        self, Export, Format, Range,
        tests::{File, written},
    },
};

const FORMATS: [Format; 2] = [Format::Ndjson, Format::Compact];

impl File {
    fn verified(&self, from: Option<u64>, to: Option<u64>) -> Result<Report, transfer::Error> {
        let (from, to) = (from.map(Position), to.map(Position));
        let options = LogOptions { from, to, ..LogOptions::default() };
        export(&self.path, &options, Trust::default(), &|_| {}).map(|(_, report)| report)
    }
}

/// Positions 1 to 12, in batches of 3, 1, 2, 4 and 2.
async fn store() -> MemoryStore {
    let store = MemoryStore::new(MemoryLog::new(INCARNATION));
    fill(&store, &[3, 1, 2, 4, 2]).await;
    store
}

async fn lines() -> Vec<String> {
    let text = written(&store().await, Range::default(), Format::Ndjson).await.unwrap();
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_whole_export_holds_and_so_does_each_part_of_it() {
    for format in FORMATS {
        let file = File::of(&written(&store().await, Range::default(), format).await.unwrap());
        for (from, to, first, last) in [
            (None, None, 1, 12),
            (Some(5), None, 5, 12),
            (Some(6), Some(6), 5, 6),
            (None, Some(8), 1, 10),
            (Some(12), None, 11, 12),
        ] {
            let report = file.verified(from, to).unwrap();
            assert_eq!(report.fault, None);
            assert_eq!((report.after.next().0, report.last.0), (first, last), "{from:?} {to:?}");
        }
        let refused = file.verified(Some(13), None).unwrap_err().to_string();
        assert!(refused.contains("position 13 is behind the log's end, 12"), "{refused}");
        assert!(matches!(file.verified(Some(5), Some(4)), Err(transfer::Error::Backwards { .. })));
        let rest = Range { from: Some(Position(5)), to: None };
        let report =
            File::of(&written(&store().await, rest, format).await.unwrap()).verified(None, None);
        assert_eq!(report.unwrap().events(), 8);
    }
}

#[tokio::test]
async fn what_is_wrong_with_lines_is_named_with_its_position_and_line() {
    type Edit = fn(&mut Vec<String>);
    let malformed = |reason: &str| FaultKind::Malformed { reason: reason.to_owned() };
    let around = |reason: &str| FaultKind::FileAltered { reason: reason.to_owned() };
    // 1 header, 2 batch, 3 to 5 events, 6 batch, 7 event 4, 8 batch, 9 and 10 events 5 and 6, 11
    // batch, 12 to 15 events 7 to 10, 16 batch, 17 and 18 events 11 and 12, 19 end.
    let cases: Vec<(&str, Edit, u64, FaultKind, &str)> = vec![
        (
            "an event",
            |it| it[8] = it[8].replacen("\"actorName\":\"", "\"actorName\":\"x", 1),
            5,
            FaultKind::Altered,
            "line 9",
        ),
        (
            "a batch's link",
            |it| it[5] = it[5].replacen("\"link\":\"", "\"link\":\"00", 1),
            4,
            malformed(""),
            "line 6",
        ),
        (
            "a batch's time",
            |it| it[5] = it[5].replacen("\"recordedAt\":", "\"recordedAt\":1", 1),
            4,
            FaultKind::BatchAltered,
            "line 7",
        ),
        ("an event left out", |it| drop(it.remove(8)), 5, FaultKind::Missing, "line 9"),
        ("a batch left out", |it| drop(it.drain(7..10)), 5, FaultKind::Missing, "line 8"),
        ("events swapped", |it| it.swap(11, 13), 7, FaultKind::Misplaced, "line 12"),
        ("events of two batches swapped", |it| it.swap(8, 16), 5, FaultKind::Misplaced, "line 9"),
        (
            "batches swapped",
            |it| {
                let batch: Vec<_> = it.drain(5..7).collect();
                drop(it.splice(8..8, batch));
            },
            4,
            FaultKind::Misplaced,
            "line 6",
        ),
        (
            "an event twice",
            |it| {
                let line = it[11].clone();
                it.insert(12, line);
            },
            8,
            malformed("position 7 stands where 8 belongs"),
            "line 13",
        ),
        (
            "another number",
            |it| it[8] = it[8].replacen("\"position\":5", "\"position\":9", 1),
            5,
            malformed("position 9 stands where 5 belongs"),
            "line 9",
        ),
        (
            "a longer batch",
            |it| it[7] = it[7].replacen("\"count\":2", "\"count\":3", 1),
            7,
            malformed("the batch before it says that it is longer"),
            "line 11",
        ),
        ("cut off between lines", |it| it.truncate(12), 8, FaultKind::CutOff, "line 13"),
        ("no end", |it| drop(it.pop()), 12, around("its end is cut off"), "line 19"),
        (
            "another log",
            |it| it[0] = it[0].replacen("0d1a", "0d1b", 1),
            12,
            around("its digest does not fit"),
            "line 19",
        ),
        (
            "more lines",
            |it| {
                let line = it[0].clone();
                it.push(line);
            },
            12,
            around("something follows its end"),
            "line 20",
        ),
    ];
    for (what, edit, position, kind, place) in cases {
        let mut edited = lines().await;
        edit(&mut edited);
        let file = File::of((edited.join("\n") + "\n").as_bytes());

        let report = file.verified(None, None).unwrap();

        let fault = report.fault.unwrap_or_else(|| panic!("{what} was not found"));
        assert_eq!(
            (fault.position, report.place.unwrap().to_string().as_str()),
            (Position(position), place),
            "{what}: {fault}"
        );
        match (&fault.kind, &kind) {
            (FaultKind::Malformed { .. }, FaultKind::Malformed { reason }) if reason.is_empty() => {
            }
            (found, expected) => assert_eq!(found, expected, "{what}"),
        }
    }
    let text = lines().await.join("\n");
    let half = File::of(&text.as_bytes()[..text.len() / 2]).verified(None, None).unwrap();
    assert_eq!(half.fault.unwrap().kind, FaultKind::CutOff);
    assert!(File::of(b"{}\n").verified(None, None).is_err(), "something else is no export");
}

/// The sample in the compact form, its batches changed and its digest made to fit again.
async fn compact(edit: impl FnOnce(&mut Vec<StoredBatch>)) -> File {
    let file = File::of(&written(&store().await, Range::default(), Format::Compact).await.unwrap());
    let export = Export::open(&file.path).unwrap();
    let header = export.header().clone();
    let mut batches: Vec<StoredBatch> = export.map(Result::unwrap).collect();
    edit(&mut batches);
    File::of(&transfer::compact_of(&header, &batches))
}

#[tokio::test]
async fn what_is_wrong_with_records_is_named_though_their_digest_fits() {
    type Edit = fn(&mut Vec<StoredBatch>);
    let cases: [(&str, Edit, u64, FaultKind); 6] = [
        ("nothing", |_| {}, 0, FaultKind::Missing),
        ("an event", |it| it[2].rows[1].0.payload.push(b' '), 6, FaultKind::Altered),
        ("events swapped", |it| it[3].rows.swap(0, 2), 7, FaultKind::Misplaced),
        ("an event left out", |it| drop(it[3].rows.remove(1)), 8, FaultKind::Missing),
        ("a batch left out", |it| drop(it.remove(1)), 4, FaultKind::Missing),
        ("a batch's id", |it| it[4].batch.id.0 = uuid::Uuid::nil(), 11, FaultKind::BatchAltered),
    ];
    for (what, edit, position, kind) in cases {
        let report = compact(edit).await.verified(None, None).unwrap();
        let found = report.fault.map(|fault| (fault.position.0, fault.kind));
        assert_eq!(found, (position > 0).then_some((position, kind)), "{what}");
    }
}

/// How many bytes of each form are changed, where the environment names no other number.
const FLIPS: u32 = 400;

fn below(dice: &mut Dice, bound: usize) -> usize {
    usize::try_from(dice.below(u32::try_from(bound).unwrap())).unwrap()
}

#[tokio::test]
async fn every_changed_byte_is_found() {
    let seed = super::tests::number("DIARIO_SEED", 1);
    let flips = super::tests::number("DIARIO_FLIPS", FLIPS);
    let mut dice = Dice::new(u64::from(seed));
    for format in FORMATS {
        let bytes = written(&store().await, Range::default(), format).await.unwrap();
        let whole = File::of(&bytes).verified(None, None).unwrap();
        for _ in 0..flips {
            let at = below(&mut dice, bytes.len());
            let mut altered = bytes.clone();
            altered[at] ^= 1;

            let report = File::of(&altered).verified(None, None);

            // A bit of zstd's frame header may mean nothing: then the content is the same.
            let is_same = format == Format::Compact;
            let is_found = report.as_ref().map_or(true, |report| report.fault.is_some());
            assert!(is_found || (is_same && report.unwrap() == whole), "{format:?} {at}, {seed}");
        }
        for _ in 0..flips / 8 {
            let length = below(&mut dice, bytes.len());
            let report = File::of(&bytes[..length]).verified(None, None);
            assert!(report.map_or(true, |report| report.fault.is_some()), "{format:?} {length}");
        }
    }
}

#[tokio::test]
async fn a_checkpoint_shows_an_export_that_was_written_anew_or_shortened() {
    let store = store().await;
    let log = LogIdentity { log_id: LogId(INCARNATION.0), incarnation: INCARNATION };
    let key = CheckpointKey::from_bytes([7; 32]);
    let head = store.head().await.unwrap();
    let signed = key.checkpoint(log, &head, Timestamp(9));
    let other = MemoryStore::new(MemoryLog::new(INCARNATION));
    fill(&other, &[3, 1, 2, 5, 1]).await;
    let part = Range { from: None, to: Some(Position(10)) };
    for (bytes, position, is_cut) in [
        (written(&store, Range::default(), Format::Ndjson).await.unwrap(), 0, false),
        (written(&other, Range::default(), Format::Compact).await.unwrap(), 12, false),
        (written(&store, part, Format::Compact).await.unwrap(), 11, true),
    ] {
        let file = File::of(&bytes);
        let trust = Trust { checkpoints: vec![signed.clone()], log: Some(log), ..Trust::default() };
        let (_, report) = export(&file.path, &LogOptions::default(), trust, &|_| {}).unwrap();
        let found = report.fault.map(|fault| (fault.position.0, fault.kind));
        let kind =
            if is_cut { FaultKind::CutOff } else { FaultKind::Rewritten { trusted: Position(0) } };
        assert_eq!(found, (position > 0).then_some((position, kind)));
        assert_eq!(report.signed.0, if position == 0 { 12 } else { 0 });
    }
}
