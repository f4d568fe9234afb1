//! An archive whose files were cut off: the file is named, and nothing is answered from it.

use std::{fs, path::Path, sync::Arc};

use domain::{log::Position, testing::Dice};

use super::{spread, tell};
use crate::{
    archive::{self, Archive, ArchiveSource, ArchivedStore, Place, Policy, ShortSegments},
    event_store::{
        EventStore, HotLog, READ_EVENTS_MAX,
        conformance::samples::{INCARNATION, START, batch, lost},
        sqlite::{Database, SqliteStore},
    },
    verify::{self, Trust},
};

/// How many of each file's last bytes are cut off.
const CUT_BYTES: usize = 4_096;

/// Events whose payloads do not get smaller.
async fn fill(store: &SqliteStore, batches: u128) {
    let mut dice = Dice::new(1);
    for number in 1..=batches {
        let head = store.head().await.unwrap();
        let mut words = || -> String {
            (0..8).map(|_| hex::encode(dice.next_number().to_be_bytes())).collect()
        };
        let events = vec![lost("cell-1", &words()), lost("cell-2", &words())];
        let seconds = i64::try_from(number).unwrap();
        store.append(batch(number, head.position, seconds, events)).await.unwrap();
    }
}

/// What the archive answers, and whether `verify` finds it whole.
async fn asked(hot: &Arc<SqliteStore>, folder: &Path) -> (Result<usize, String>, bool) {
    let read = async {
        let place = Place::open(folder.to_str().unwrap(), None)?;
        let archive = Arc::new(Archive::of_log(place, hot.identity().await?).await?);
        let last = archive.manifest().end().0;
        let mut source = ArchiveSource::new(Arc::clone(&archive), Position(1), last);
        let proven = verify::run(&mut source, Trust::default(), &|_| {}).await;
        let is_whole = proven.is_ok_and(|report| report.fault.is_none());
        let store = ArchivedStore::new(hot.clone(), hot.clone(), archive);
        let events = store.read_all(START, READ_EVENTS_MAX).await;
        Ok::<_, archive::Error>((events.map(|events| events.len()), is_whole))
    };
    match read.await {
        Ok((Ok(events), is_whole)) => (Ok(events), is_whole),
        Ok((Err(failure), is_whole)) => (Err(failure.with_cause()), is_whole),
        Err(failure) => (Err(failure.to_string()), false),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_cut_off_at_any_of_its_last_bytes_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("a.db"), INCARNATION).await.unwrap();
    let hot = Arc::new(SqliteStore::new(database));
    fill(&hot, 120).await;
    let at = folder.path().join("archive");
    let place = Place::create(at.to_str().unwrap(), None).unwrap();
    let made = Archive::of_log(place, hot.identity().await.unwrap()).await.unwrap();
    let policy = Policy {
        keep_events: 1,
        before: None,
        segment_events: 120,
        short_segments: ShortSegments::Write,
    };
    archive::run(hot.clone(), hot.as_ref(), &made, policy).await.unwrap();
    let manifest = made.manifest();
    let objects: Vec<&str> = std::iter::once("archive.json")
        .chain(manifest.segments.iter().map(|segment| segment.object.as_str()))
        .collect();
    assert_eq!(objects.len(), 3);
    assert_eq!(asked(&hot, &at).await, (Ok(240), true));
    let mut cuts = 0;

    for object in objects {
        let path = at.join(object);
        let whole = fs::read(&path).unwrap();
        assert!(whole.len() > CUT_BYTES || object == "archive.json", "{object}: {}", whole.len());
        for back in spread(CUT_BYTES.min(whole.len())) {
            let kept = whole.len() - 1 - back;
            fs::write(&path, &whole[..kept]).unwrap();

            let (answer, is_whole) = asked(&hot, &at).await;

            let told = answer.expect_err("an answer from what is left");
            assert!(told.contains(object) && told.contains("damaged"), "at {kept}: {told}");
            assert!(told.contains("bring it back"), "at {kept}: {told}");
            assert!(!is_whole, "{object} cut off at {kept}: verify must find it");
            cuts += 1;
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(asked(&hot, &at).await, (Ok(240), true));
    tell(&format!("An archive: {cuts} cuts in the last {CUT_BYTES} bytes of each of its files"));
}
