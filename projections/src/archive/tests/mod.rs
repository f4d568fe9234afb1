//! The archive under the suite of every store, under damage of every kind, and how small it is.

mod archivers;
mod s3;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use domain::{
    bbs::actual_lrp,
    event::Event,
    id::{ActualLrpKey, CommandId, InstanceGuid, ProcessGuid},
    log::{Owner, Position, Recorded, StreamId, StreamVersion},
    testing::{Dice, definition, net_info, sample_events},
    units::Timestamp,
};
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    Archive, ArchiveSource, ArchivedStore, Error, Place, Policy, SegmentSource, ShortSegments, run,
    segment::{self, SegmentWriter},
};
use crate::{
    event_store::{
        self, AppendError, Batch, BatchId, BatchRow, EventStore, Filter, Head, HotLog, Leaf, LogId,
        LogIdentity, NewEvent, NewestOfType, Order, OwnerSubscription, Row, Subscription, Turn,
        conformance::{
            self, Factory,
            samples::{self, INCARNATION, START},
        },
        memory::{MemoryLog, MemoryStore},
        sqlite::{Database, SqliteStore},
    },
    verify::{self, Live, LogOptions, Report, Trust},
};

/// A setting of the long run.
fn number(name: &str, default: u32) -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the long run names its size")]
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

/// A store that archives all but its last batch after each append.
#[derive(Debug, Clone)]
struct Archiving {
    store: ArchivedStore,
    hot: Arc<SqliteStore>,
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
}

impl Archiving {
    async fn archive(&self) {
        let _turn = self.one_at_a_time.lock().await;
        let policy = Policy {
            keep_events: 1,
            before: None,
            segment_events: 3,
            short_segments: ShortSegments::Write,
        };
        let (hot, archive) = (Arc::clone(&self.hot), self.store.archive());
        run(hot, self.hot.as_ref(), archive, policy).await.expect("what may move moves");
    }
}

#[async_trait]
impl EventStore for Archiving {
    async fn head(&self) -> Result<Head, event_store::Error> {
        self.store.head().await
    }
    async fn log_id(&self) -> Result<LogId, event_store::Error> {
        self.store.log_id().await
    }
    async fn append(&self, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        let events = self.store.append(batch).await?;
        self.archive().await;
        Ok(events)
    }
    async fn turn(&self) -> Result<Box<dyn Turn>, AppendError> {
        self.store.turn().await
    }
    async fn find_batch(
        &self,
        id: BatchId,
    ) -> Result<Option<Vec<Recorded<Event>>>, event_store::Error> {
        self.store.find_batch(id).await
    }
    async fn find_commands(
        &self,
        ids: &[CommandId],
    ) -> Result<HashMap<CommandId, Vec<Recorded<Event>>>, event_store::Error> {
        self.store.find_commands(ids).await
    }
    async fn read_all(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, event_store::Error> {
        self.store.read_all(after, limit).await
    }
    async fn read_stream(
        &self,
        stream: &StreamId,
        after: StreamVersion,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, event_store::Error> {
        self.store.read_stream(stream, after, limit).await
    }
    async fn read_filtered(
        &self,
        filter: &Filter,
        after: Position,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Recorded<Event>>, event_store::Error> {
        self.store.read_filtered(filter, after, limit, order).await
    }
    async fn newest_of_each_type(&self) -> Result<Vec<NewestOfType>, event_store::Error> {
        self.store.newest_of_each_type().await
    }
    fn pruned(&self) -> Position {
        self.store.pruned()
    }
    async fn base(&self) -> Result<Option<super::BaseState>, event_store::Error> {
        self.store.base().await
    }
    async fn position_at(&self, time: Timestamp) -> Result<Position, event_store::Error> {
        self.store.position_at(time).await
    }
    async fn read_rows(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<(Row, Leaf)>, event_store::Error> {
        self.store.read_rows(after, limit).await
    }
    async fn read_batches(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<BatchRow>, event_store::Error> {
        self.store.read_batches(after, limit).await
    }
    fn subscribe(&self, after: Position) -> Subscription {
        self.store.subscribe(after)
    }
    fn subscribe_to(&self, owner: &Owner, after: Position) -> OwnerSubscription {
        self.store.subscribe_to(owner, after)
    }
}

struct Archived {
    folder: TempDir,
    opened: std::sync::Mutex<Vec<(Database, Place)>>,
    /// Where archives go; into memory without it.
    server: Option<crate::testing::s3::Server>,
}

impl Archived {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, opened: std::sync::Mutex::default(), server: None }
    }

    async fn open(&self, name: &str, place: Place) -> Archiving {
        let database = Database::open(&self.folder.path().join(name), INCARNATION).await.unwrap();
        self.opened.lock().unwrap().push((database.clone(), place.clone()));
        let hot = Arc::new(SqliteStore::new(database));
        let archive = Archive::of_log(place, hot.identity().await.unwrap()).await.unwrap();
        let store = ArchivedStore::new(hot.clone(), hot.clone(), Arc::new(archive));
        Archiving { store, hot, one_at_a_time: Arc::default() }
    }
}

#[async_trait]
impl Factory for Archived {
    async fn fresh(&self) -> Arc<dyn EventStore> {
        let number = self.opened.lock().unwrap().len();
        let place = match &self.server {
            Some(server) => Place::in_s3(server, &format!("archives/{number}")),
            None => Place::in_memory(),
        };
        Arc::new(self.open(&format!("{number}.db"), place).await)
    }

    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        drop(store);
        let (last, place) = self.opened.lock().unwrap().last().cloned()?;
        last.close().await;
        Some(Arc::new(self.open(last.path().file_name()?.to_str()?, place).await))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_older_part_is_archived_behaves_as_any_other() {
    let factory = Archived::new();
    conformance::run(&factory).await;
    let archived = factory.opened.lock().unwrap().len();
    assert!(archived > 10, "{archived}");
}

async fn check(store: &Archiving) -> Report {
    let live = Live {
        store: Arc::new(store.store.clone()),
        tables: store.hot.clone(),
        archive: Some(Arc::clone(store.store.archive())),
    };
    verify::log(&live, &LogOptions::default(), &|_| {}).await.unwrap()
}

#[tokio::test]
async fn an_archive_that_is_gone_holed_or_of_another_log_is_named() {
    let factory = Archived::new();
    let place =
        Place::create(factory.folder.path().join("archive").to_str().unwrap(), None).unwrap();
    let store = factory.open("a.db", place.clone()).await;
    samples::fill(&store, &[3, 2, 4, 1, 2, 3, 2]).await;
    let floor = store.hot.floor().await.unwrap();
    assert_eq!(floor.position, Position(15));
    assert_eq!(floor.archive, place.to_string());
    assert_eq!(check(&store).await.fault, None);
    let other = factory.open("b.db", Place::in_memory()).await;
    samples::fill(&other, &[1]).await;
    let mut stranger = other.hot.identity().await.unwrap();
    stranger.log_id = LogId(Uuid::from_u128(99));

    let refused = Archive::of_log(place.clone(), stranger).await;

    assert!(matches!(refused, Err(Error::OtherLog { .. })), "{refused:?}");
    let empty = Archive::of_log(Place::in_memory(), store.hot.identity().await.unwrap()).await;
    let empty = Arc::new(empty.unwrap());
    let forgetful = ArchivedStore::new(store.hot.clone(), store.hot.clone(), Arc::clone(&empty));
    let holed = forgetful.read_all(START, 10).await.unwrap_err();
    let told = format!("{:#}", std::error::Error::source(&holed).expect("its cause"));
    assert!(told.contains("lacks positions 1 to 15"), "{told}");
    let policy = Policy {
        keep_events: 1,
        before: None,
        segment_events: 3,
        short_segments: ShortSegments::Write,
    };
    let refused = run(store.hot.clone(), store.hot.as_ref(), &empty, policy).await;
    assert!(matches!(refused, Err(Error::Hole { .. })), "{refused:?}");
    let segment = store.store.archive().manifest().segments[1].object.clone();
    place.delete(&segment).await.unwrap();
    let archive = Archive::open(place.clone()).await.unwrap();
    let missing = archive.read_all(START, Position(15), 100).await.unwrap_err();
    let told = std::error::Error::source(&missing).expect("its cause").to_string();
    assert!(told.contains(&segment), "{told}");
    place.put("archive.json", b"{}\n".to_vec()).await.unwrap();
    assert!(matches!(Archive::open(place.clone()).await, Err(Error::Damaged { .. })));
    place.delete("archive.json").await.unwrap();
    assert!(matches!(Archive::open(place).await, Err(Error::NoArchive { .. })));
}

/// Batches as many processes make them: slots are placed, claimed, started, and crash.
fn typical(events: usize, seed: u64) -> MemoryLog {
    let mut dice = Dice::new(seed);
    let mut log = MemoryLog::new(INCARNATION);
    let uuid = |dice: &mut Dice| {
        let (high, low) = (dice.next_number(), dice.next_number());
        Uuid::from_u64_pair(high, low)
    };
    let digest = definition().digest();
    let mut written = 0;
    while written < events {
        let mut batch = Vec::new();
        for _ in 0..16 {
            let process = ProcessGuid::new(&uuid(&mut dice).to_string()).unwrap();
            let key = ActualLrpKey { process_guid: process, index: dice.below(4) };
            let instance_guid = InstanceGuid::new(&uuid(&mut dice).to_string()).unwrap();
            let cell_id = domain::id::CellId::new(&format!("cell-{}", dice.below(40))).unwrap();
            let resources = domain::bbs::placement::Resources::default();
            let cell_epoch = domain::log::CellEpoch(1);
            let mut net_info = net_info();
            net_info.ports = vec![8080, 2222, 61_000, 61_001];
            let reason = format!(
                "the process exited with status {} after {} ms; its last words were: \
                 connection to the database at 10.0.{}.{}:5432 was refused, giving up after 5 \
                 tries of {} ms each; see the log of the app for more about each of these tries, and the page of the \
                 status of the platform",
                dice.below(255),
                dice.below(100_000),
                dice.below(255),
                dice.below(255),
                dice.below(1000)
            );
            let happened: Vec<actual_lrp::Event> = vec![
                actual_lrp::Placed {
                    instance_guid: instance_guid.clone(),
                    cell_id: cell_id.clone(),
                    cell_epoch,
                    definition: digest,
                    resources,
                    candidates: None,
                }
                .into(),
                actual_lrp::Claimed { instance_guid: instance_guid.clone() }.into(),
                actual_lrp::Started {
                    instance_guid: instance_guid.clone(),
                    net_info,
                    is_ready: true,
                }
                .into(),
                actual_lrp::PlacementFailed { error: reason.clone(), candidates: None }.into(),
                actual_lrp::Refused { instance_guid, cell_id, reason: reason.repeat(3) }.into(),
            ];
            for event in happened {
                let command_id = CommandId::from_uuid(uuid(&mut dice));
                batch.push(NewEvent {
                    stream: StreamId::ActualLrp(key.clone()),
                    event: Event::from(event).into(),
                    actor: samples::actor("auctioneer"),
                    causation: Some(log.head().position),
                    correlation: command_id.clone(),
                    command_id,
                });
            }
        }
        written += batch.len();
        let recorded_at =
            Timestamp(log.head().recorded_at.0 + 1_000_000 + i64::from(dice.below(9_000_000)));
        let id = BatchId(uuid(&mut dice));
        let decided_on = log.head().position;
        log.append(Batch { id, decided_on, recorded_at, lease: None, events: batch }).unwrap();
    }
    log
}

/// One of every event.
fn every_event() -> MemoryLog {
    let mut log = MemoryLog::new(INCARNATION);
    for (number, (stream, event)) in (1_u128..).zip(sample_events()) {
        let new = NewEvent {
            stream,
            event: event.into(),
            actor: samples::actor("somebody"),
            command_id: samples::command(&format!("report/cell-1/1/{number}")),
            causation: (number % 3 == 0).then_some(log.head().position),
            correlation: samples::command("first"),
        };
        let decided_on = log.head().position;
        let id = BatchId(Uuid::from_u128(number));
        let recorded_at = Timestamp(log.head().recorded_at.0 + 7);
        let events = vec![new.clone(), new];
        log.append(Batch { id, decided_on, recorded_at, lease: None, events }).unwrap();
    }
    log
}

async fn segment_of(store: &MemoryStore) -> Vec<u8> {
    let identity = LogIdentity { log_id: LogId(Uuid::from_u128(1)), incarnation: INCARNATION };
    let mut writer = SegmentWriter::new(identity, Position(1), [0; 32]);
    let mut position = START;
    loop {
        let batches = store.read_batches(position, 1_000).await.unwrap();
        let Some(last) = batches.last() else { return writer.finish().unwrap().0 };
        for batch in &batches {
            let before = Position(batch.first.0 - 1);
            let count = usize::try_from(batch.count).unwrap();
            let rows = store.read_rows(before, count).await.unwrap();
            writer.add(batch.clone(), rows.into_iter().map(|(row, _)| row).collect()).unwrap();
        }
        position = last.first;
    }
}

async fn proven(bytes: Vec<u8>) -> Result<Report, Error> {
    let mut source = SegmentSource::open("a segment", bytes)?;
    let (position, link) = source.begin();
    let trust = Trust { position, link, ..Trust::default() };
    Ok(verify::run(&mut source, trust, &|_| {}).await?)
}

#[tokio::test]
async fn every_event_reads_back_as_it_was_written() {
    for log in [every_event(), typical(6_000, 1)] {
        let store = MemoryStore::new(log);
        let bytes = segment_of(&store).await;
        let head = store.head().await.unwrap();

        let report = proven(bytes.clone()).await.unwrap();

        assert_eq!((report.fault, report.last, report.link), (None, head.position, head.link));
        let (_, footer) = segment::open_whole("a segment", &bytes).unwrap();
        let (mut rows, mut events) = (Vec::new(), Vec::new());
        for entry in &footer.blocks {
            let packed = segment::block_bytes("a segment", &bytes, entry).unwrap();
            let block = super::reader::decode_block("a segment", entry, packed).unwrap();
            for index in block.behind(START) {
                let row = block.row(index).unwrap();
                rows.push((row.to_row(), super::block::leaf(&row, &mut Vec::new())));
                events.push(block.event(index).unwrap());
            }
        }
        assert_eq!(rows.len(), usize::try_from(head.position.0).unwrap());
        let mut expected = (Vec::new(), Vec::new());
        while expected.0.len() < rows.len() {
            let after = Position(u64::try_from(expected.0.len()).unwrap());
            expected.0.extend(store.read_rows(after, 10_000).await.unwrap());
            expected.1.extend(store.read_all(after, 10_000).await.unwrap());
        }
        assert!(rows == expected.0, "the rows differ");
        assert!(events == expected.1, "the events differ");
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_and_a_cut_at_any_byte_are_found() {
    let (flips, seed) = (number("DIARIO_FLIPS", 300), number("DIARIO_SEED", 1));
    let store = MemoryStore::new(every_event());
    let whole = segment_of(&store).await;
    assert!(proven(whole.clone()).await.unwrap().fault.is_none());
    let is_found = async |bytes: Vec<u8>| match proven(bytes).await {
        Ok(report) => report.fault.is_some(),
        Err(_) => true,
    };
    for cut in 1..whole.len().min(4_097) {
        assert!(is_found(whole[..whole.len() - cut].to_vec()).await, "{cut} bytes cut off");
    }
    let mut dice = Dice::new(u64::from(seed));
    for flip in 0..flips {
        let mut bytes = whole.clone();
        let place = dice.below(u32::try_from(bytes.len()).unwrap());
        let bit = dice.below(8);
        bytes[usize::try_from(place).unwrap()] ^= 1 << bit;
        assert!(is_found(bytes).await, "seed {seed}, flip {flip}: bit {bit} of byte {place}");
    }
}

#[tokio::test]
async fn a_damaged_archive_is_never_answered_from() {
    let (flips, seed) = (number("DIARIO_FLIPS", 60), number("DIARIO_SEED", 2));
    let factory = Archived::new();
    let place =
        Place::create(factory.folder.path().join("archive").to_str().unwrap(), None).unwrap();
    let store = factory.open("a.db", place.clone()).await;
    let written = samples::fill(&store, &[3, 2, 4, 1, 2, 3, 2]).await;
    let objects: Vec<String> = std::iter::once("archive.json".to_owned())
        .chain(store.store.archive().manifest().segments.iter().map(|it| it.object.clone()))
        .collect();
    let mut dice = Dice::new(u64::from(seed));
    for _ in 0..flips {
        let object = dice.pick(&objects);
        let whole = place.get_whole(&object).await.unwrap();
        let mut bytes = whole.clone();
        let at = usize::try_from(dice.below(u32::try_from(bytes.len()).unwrap())).unwrap();
        if dice.one_in(3) {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << dice.below(8);
        }
        place.put(&object, bytes).await.unwrap();

        let read = async {
            let archive = Arc::new(Archive::open(place.clone()).await?);
            let events = archive.read_all(START, Position(15), 100).await?;
            let mut source = ArchiveSource::new(Arc::clone(&archive), Position(1), Position(15));
            let proven = verify::run(&mut source, Trust::default(), &|_| {}).await;
            Ok::<_, Error>((events, proven))
        };
        if let Ok((events, proven)) = read.await {
            assert_eq!(events, written[..15], "{object}, byte {at}");
            assert!(proven.is_err(), "{object}, byte {at}: verify must find it");
        }

        place.put(&object, whole).await.unwrap();
    }
    let archive = Arc::new(Archive::open(place.clone()).await.unwrap());
    let mut source = ArchiveSource::new(archive, Position(1), Position(15));
    let proven = verify::run(&mut source, Trust::default(), &|_| {}).await.unwrap();
    assert_eq!((proven.fault, proven.last), (None, Position(15)));
}

#[tokio::test]
async fn an_archived_event_is_small() {
    let events = number("DIARIO_ARCHIVED_EVENTS", 20_000);
    let store = MemoryStore::new(typical(usize::try_from(events).unwrap(), 3));
    let rows = store.read_rows(START, 10_000).await.unwrap();
    let payload: usize = rows.iter().map(|(row, _)| row.payload.len()).sum();
    let payload = payload / rows.len();

    let bytes = segment_of(&store).await;

    let head = store.head().await.unwrap().position.0;
    let each = u64::try_from(bytes.len()).unwrap() / head;
    assert!((300..400).contains(&payload), "a payload has {payload} bytes");
    assert!(each <= 120, "{each} bytes an event of {payload} bytes of payload");
}

#[tokio::test]
async fn what_was_pruned_is_told_and_the_log_goes_on_from_its_base_state() {
    let factory = Archived::new();
    let store = factory.open("a.db", Place::in_memory()).await;
    let story = domain::testing::given([]).walk(&mut Dice::new(3), 300);
    for recorded in story.recorded {
        let decided_on = store.head().await.unwrap().position;
        let events = vec![NewEvent {
            stream: recorded.stream,
            event: recorded.event.into(),
            actor: recorded.actor,
            command_id: recorded.command_id,
            causation: recorded.causation,
            correlation: recorded.correlation,
        }];
        let id = BatchId(Uuid::from_u128(u128::from(recorded.position.0)));
        let batch =
            Batch { id, decided_on, recorded_at: recorded.recorded_at, lease: None, events };
        store.append(batch).await.unwrap();
    }
    let head = store.head().await.unwrap();
    let snapshots = crate::snapshot::MemorySnapshotStore::default();
    let before = crate::history::load(&store, &snapshots, head.position).await.unwrap();
    let key = crate::checkpoint::CheckpointKey::from_bytes([3; 32]);
    let prune = async |before| {
        super::prune(&store.store, store.hot.as_ref(), &snapshots, &key, Position(before)).await
    };
    assert!(matches!(prune(1).await, Err(Error::NothingToPrune { .. })));
    let middle = head.position.0 / 2;

    let first = prune(middle / 2).await.unwrap();
    let pruned = prune(middle).await.unwrap();

    assert!(pruned.segments > 1 && pruned.floor < Position(middle), "{pruned:?}");
    assert!(first.floor < pruned.floor);
    let floor = pruned.floor;
    let refused = store.read_all(START, 10).await;
    assert!(
        matches!(refused, Err(event_store::Error::Pruned { floor: told, .. }) if told == floor)
    );
    let gone = crate::history::load(&store, &snapshots, Position(floor.0 - 1)).await;
    assert!(gone.unwrap_err().to_string().contains("cannot read"));
    let after = crate::history::load(&store, &snapshots, head.position).await.unwrap();
    assert_eq!(after.world.content(), before.world.content());
    let early = store.position_at(Timestamp(0)).await;
    assert!(matches!(early, Err(event_store::Error::Pruned { .. })));
    assert_eq!(check(&store).await.fault, None);
    let archive = Archive::open(store.store.archive().place().clone()).await.unwrap();
    assert_eq!(archive.manifest().begin().0, floor);
}
