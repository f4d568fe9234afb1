//! The archive in a store that speaks S3, over real HTTP: as any other place, and with all that
//! can go wrong on the way. No answer is ever wrong, and what fails says what.

use std::time::Duration;

use super::*;
use crate::testing::s3::{Call, Fault, SECRET_KEY, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_archive_is_in_s3_behaves_as_any_other() {
    let server = Server::start();
    let factory = Archived { server: Some(server), ..Archived::new() };
    conformance::run(&factory).await;
    let server = factory.server.as_ref().unwrap();
    let segments = server.objects().keys().filter(|key| key.contains("/segments/")).count();
    assert!(segments > 10, "{segments}");
}

/// A log with events, and its archive on a server.
struct Scene {
    factory: Archived,
    written: Vec<Recorded<Event>>,
    hot: Arc<SqliteStore>,
    store: ArchivedStore,
}

impl Scene {
    async fn new() -> Self {
        let factory = Archived { server: Some(Server::start()), ..Archived::new() };
        let place = Place::in_s3(factory.server.as_ref().unwrap(), "a");
        let archiving = factory.open("a.db", place).await;
        let written = samples::fill(archiving.hot.as_ref(), &[3, 2, 4, 1, 2, 3, 2]).await;
        let Archiving { store, hot, .. } = archiving;
        Self { factory, written, hot, store }
    }

    fn server(&self) -> &Server {
        self.factory.server.as_ref().unwrap()
    }

    async fn archive(&self) -> Result<super::super::Moved, Error> {
        let policy = Policy {
            keep_events: 1,
            before: None,
            segment_events: 3,
            short_segments: ShortSegments::Write,
        };
        run(self.hot.clone(), self.hot.as_ref(), self.store.archive(), policy).await
    }

    /// What a node that was just started answers.
    async fn read_anew(&self) -> Result<Vec<Recorded<Event>>, event_store::Error> {
        let place = Place::in_s3(self.server(), "a");
        let archive = Archive::of_log(place, self.hot.identity().await?).await?;
        ArchivedStore::new(self.hot.clone(), self.hot.clone(), Arc::new(archive))
            .read_all(START, 100)
            .await
    }

    async fn check(&self) {
        assert_eq!(self.read_anew().await.unwrap(), self.written);
        let (store, archive) = (Arc::new(self.store.clone()), self.store.archive().clone());
        let live = Live { store, tables: self.hot.clone(), archive: Some(archive) };
        let report = verify::log(&live, &LogOptions::default(), &|_| {}).await.unwrap();
        assert_eq!(report.fault, None);
    }
}

fn told(failure: &dyn std::error::Error) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(failure) = cause {
        text = format!("{text}: {failure}");
        cause = failure.source();
    }
    text
}

#[tokio::test]
async fn whatever_happens_on_the_way_costs_tries_and_never_an_event_or_a_wrong_answer() {
    let (rounds, seed) = (number("DIARIO_S3_ROUNDS", 12), number("DIARIO_SEED", 4));
    let mut failed = 0;
    for round in 0..rounds {
        let scene = Scene::new().await;
        let mut dice = Dice::new(u64::from(seed + round));
        scene.server().plan(move |_: &Call| {
            let faults = [
                Fault::Busy,
                Fault::Dropped,
                Fault::AnswerLost,
                Fault::CutOff,
                Fault::Old,
                Fault::Late(Duration::from_millis(30)),
            ];
            dice.one_in(3).then(|| dice.pick(&faults))
        });
        for _ in 0..1_000 {
            let moved = scene.archive().await;
            failed += u32::from(moved.is_err());
            for read in [scene.read_anew().await, scene.store.read_all(START, 100).await] {
                match read {
                    Ok(events) => assert_eq!(events, scene.written, "seed {}", seed + round),
                    Err(_) => failed += 1,
                }
            }
            if moved.is_ok_and(|moved| moved.floor == Position(15)) {
                break;
            }
        }
        scene.server().heal();
        scene.archive().await.unwrap();
        assert_eq!(scene.hot.floor().await.unwrap().position, Position(15));
        scene.check().await;
    }
    assert!(failed > 0, "nothing ever went wrong: this test has shown nothing");
}

#[tokio::test]
async fn a_store_that_refuses_does_not_answer_or_is_away_is_named_and_nothing_is_deleted() {
    let scene = Scene::new().await;
    let away = Fault::Late(Duration::from_secs(20));
    for (fault, word) in [
        (Fault::Denied, "AccessDenied"),
        (Fault::Busy, "503"),
        (Fault::Dropped, "archive.json"),
        (away, "archive.json"),
    ] {
        scene.server().plan(move |_: &Call| Some(fault));
        let failure = scene.archive().await.unwrap_err();
        let text = told(&failure);
        assert!(text.contains(word), "{fault:?}: {text}");
        assert!(!text.contains(SECRET_KEY), "{text}");
        assert_eq!(scene.hot.floor().await.unwrap().position, START);
    }
    scene.server().heal();
    scene.archive().await.unwrap();
    scene.check().await;

    // What is archived already: refused while the store is away, right again afterwards.
    scene.server().plan(|_: &Call| Some(Fault::Denied));
    let failure = scene.read_anew().await.unwrap_err();
    assert!(told(&failure).contains("AccessDenied"), "{}", told(&failure));
    scene.server().heal();
    scene.check().await;
}

#[tokio::test]
async fn a_list_that_lacks_what_was_just_written_is_no_answer() {
    let scene = Scene::new().await;
    scene.server().plan(|call: &Call| {
        (call.method == "GET" && call.key.ends_with("archive.json")).then_some(Fault::Old)
    });

    let refused = scene.archive().await.unwrap_err();

    assert!(matches!(refused, Error::ReadBack { .. }), "{refused}");
    assert_eq!(scene.hot.floor().await.unwrap().position, START, "nothing was deleted");
    scene.server().heal();
    scene.archive().await.unwrap();
    scene.server().plan(|call: &Call| call.key.ends_with("archive.json").then_some(Fault::Old));
    let failure = scene.read_anew().await.unwrap_err();
    assert!(told(&failure).contains("lacks positions"), "{}", told(&failure));
    scene.server().heal();
    scene.check().await;
    // Nothing rests on a listing, which may lag too: none was ever asked for.
    assert!(scene.server().calls().iter().all(|call| !call.key.is_empty()));
}
