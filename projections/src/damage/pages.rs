//! A flipped bit anywhere in the file of a log and all that is kept beside it: the file is refused,
//! or `verify` names what is wrong, or everything reads as it was written.

use std::{collections::BTreeSet, fs, path::Path};

use domain::{
    event::Event,
    id::CommandId,
    log::{Actor, ActorKind, Owner, Position, Recorded, StreamId, StreamVersion},
    sealed::{Digest, PlainText, Sealed},
    testing::{Dice, given},
    units::Timestamp,
};
use uuid::Uuid;

use super::{Bit, dice, share, tell};
use crate::{
    checkpoint::{Checkpoint, CheckpointKey},
    event_store::{
        Batch, BatchId, BatchRow, Filter, Leaf, NewEvent, Order, Row,
        conformance::samples::{INCARNATION, START},
        keys::{KeyLabel, Keyring, MasterKey, MasterKeySource, MasterKeys, SeededEntropy},
        sqlite::index_all,
    },
    history::{Snapshotter, load},
    projector::Now,
    storage::{Location, SQLITE_FILE, Storage},
    testing::postgres::wall_clock,
    verify::{self, Live, LogOptions},
};

const FLIPS: usize = 4_000;
const READ: usize = 10_000;

/// What else was kept, to be asked for again.
struct Kept {
    secrets: Vec<(Owner, Sealed)>,
    evidence: Digest,
    last: Checkpoint,
}

/// All that can be read of a log and what is beside it.
struct Seen {
    events: Vec<Recorded<Event>>,
    rows: Vec<(Row, Leaf)>,
    batches: Vec<BatchRow>,
    checkpoints: Vec<Checkpoint>,
    streams: Vec<Option<Vec<Recorded<Event>>>>,
    owners: Vec<Option<Vec<Recorded<Event>>>>,
    commands: Vec<Option<Option<Vec<Recorded<Event>>>>>,
    times: Vec<Option<Position>>,
    world: Option<Vec<(&'static str, String)>>,
    secrets: Vec<Option<PlainText>>,
    evidence: Option<Option<Vec<u8>>>,
}

async fn opened(folder: &Path) -> Result<Storage, String> {
    let location = Location::in_folder(folder);
    Storage::open(&location, INCARNATION, wall_clock()).await.map_err(|it| it.to_string())
}

async fn keyring(storage: &Storage) -> Option<Keyring> {
    let entropy = Box::new(SeededEntropy::new(5));
    let keys = MasterKeys::only(KeyLabel::default(), MasterKey::from_bytes([1; 32]));
    Keyring::open(MasterKeySource::Given(keys), storage.keys.clone(), entropy).await.ok()
}

fn batch(number: u128, head: Position, recorded: &[Recorded<Event>]) -> Batch {
    let event = |recorded: &Recorded<Event>| {
        let command_id = CommandId::new(&format!("report/cell-1/1/{number}")).unwrap();
        NewEvent {
            stream: recorded.stream.clone(),
            event: recorded.event.clone().into(),
            actor: Actor { kind: ActorKind::Cell, name: "cell-1".into(), via: "test".into() },
            correlation: command_id.clone(),
            command_id,
            causation: None,
        }
    };
    Batch {
        id: BatchId(Uuid::from_u128(number)),
        decided_on: head,
        recorded_at: recorded.last().unwrap().recorded_at,
        lease: None,
        events: recorded.iter().map(event).collect(),
    }
}

/// A history of a few hundred events with checkpoints and snapshots in it, secrets and evidence.
async fn written(folder: &Path) -> Kept {
    let storage = opened(folder).await.unwrap();
    let key = CheckpointKey::from_bytes([7; 32]);
    let story = given([]).walk(&mut Dice::new(3), 300).recorded;
    let mut last: Option<Checkpoint> = None;
    for (number, some) in (1_u128..).zip(story.chunks(7)) {
        let head = storage.store.head().await.unwrap().position;
        storage.store.append(batch(number, head, some)).await.unwrap();
        if number.is_multiple_of(5) {
            let identity = storage.tables.identity().await.unwrap();
            let head = storage.store.head().await.unwrap();
            let signed = key.checkpoint_behind(last.as_ref(), identity, &head, Timestamp(5));
            storage.tables.save_checkpoint(&signed).await.unwrap();
            last = Some(signed);
            snapshot(&storage).await;
        }
    }
    let keyring = keyring(&storage).await.unwrap();
    let mut secrets = Vec::new();
    for name in ["process/one", "process/two", "process/three"] {
        let owner: Owner = name.parse().unwrap();
        let sealed = keyring.seal(&owner, &PlainText(format!("secret of {name}"))).await.unwrap();
        secrets.push((owner, sealed));
    }
    let evidence = keyring.put_sealed_blob(&secrets[0].0, b"what it wrote last").await.unwrap();
    let head = storage.store.head().await.unwrap();
    storage.close().await;
    // As in a log that has grown: what its events are found by is in the file too.
    index_all(&folder.join(SQLITE_FILE), head, 64).await.unwrap();
    Kept { secrets, evidence, last: last.unwrap() }
}

async fn snapshot(storage: &Storage) {
    let head = storage.store.head().await.unwrap().position;
    let loaded = load(storage.store.as_ref(), storage.snapshots.as_ref(), head).await.unwrap();
    let now = Now::follow(storage.store.clone(), loaded.world);
    Snapshotter::new(now, storage.snapshots.clone(), loaded.base, loaded.dirty).save().await;
}

/// `verify`, as an operator would run it.
async fn proven(storage: &Storage, kept: &Kept) -> Result<(), String> {
    let live = Live { store: storage.store.clone(), tables: storage.tables.clone(), archive: None };
    let options = LogOptions { last: Some(kept.last.clone()), ..LogOptions::default() };
    let report = verify::log(&live, &options, &|_| {}).await.map_err(|it| it.to_string())?;
    report.fault.map_or(Ok(()), |fault| Err(fault.to_string()))
}

/// Reads everything; what is refused by name is `None`. `known` says what there is to ask for.
async fn seen(storage: &Storage, kept: &Kept, known: &[Recorded<Event>]) -> Result<Seen, String> {
    let failed = |it: crate::event_store::Error| it.to_string();
    let store = storage.store.as_ref();
    let mut seen = Seen {
        events: store.read_all(START, READ).await.map_err(failed)?,
        rows: store.read_rows(START, READ).await.map_err(failed)?,
        batches: store.read_batches(START, READ).await.map_err(failed)?,
        checkpoints: storage.tables.checkpoints(START, READ).await.map_err(failed)?,
        streams: Vec::new(),
        owners: Vec::new(),
        commands: Vec::new(),
        times: Vec::new(),
        world: None,
        secrets: Vec::new(),
        evidence: None,
    };
    let streams: BTreeSet<&StreamId> = known.iter().map(|it| &it.stream).collect();
    for stream in streams {
        seen.streams.push(store.read_stream(stream, StreamVersion(0), READ).await.ok());
        let filter = Filter { owner: Some(stream.owner()), ..Filter::default() };
        seen.owners.push(store.read_filtered(&filter, START, READ, Order::NewestFirst).await.ok());
    }
    for recorded in known.iter().step_by(5) {
        seen.commands.push(store.find_command(&recorded.command_id).await.ok());
        seen.times.push(store.position_at(recorded.recorded_at).await.ok());
    }
    let head = store.head().await.map_err(failed)?.position;
    let world = load(store, storage.snapshots.as_ref(), head).await.ok();
    seen.world = world.map(|loaded| loaded.world.content());
    if let Some(keyring) = keyring(storage).await {
        for (owner, sealed) in &kept.secrets {
            seen.secrets.push(keyring.open_sealed(owner, sealed).await.ok());
        }
        seen.evidence = keyring.get_blob(kept.evidence).await.ok();
    }
    Ok(seen)
}

/// Whether an answer is the right one, or none.
fn is_right<T: PartialEq>(answer: &Option<T>, right: &Option<T>) -> bool {
    answer.is_none() || answer == right
}

fn are_right<T: PartialEq>(answers: &[Option<T>], right: &[Option<T>]) -> bool {
    answers.iter().zip(right).all(|(answer, right)| is_right(answer, right))
}

impl Seen {
    /// What is answered otherwise than it was written.
    fn wrong(&self, right: &Self) -> Option<&'static str> {
        [
            ("the events", self.events == right.events),
            ("the rows", self.rows == right.rows),
            ("the batches", self.batches == right.batches),
            ("the checkpoints", self.checkpoints == right.checkpoints),
            ("a stream", are_right(&self.streams, &right.streams)),
            ("an owner's events", are_right(&self.owners, &right.owners)),
            ("a command's events", are_right(&self.commands, &right.commands)),
            ("the position of a time", are_right(&self.times, &right.times)),
            ("the world", is_right(&self.world, &right.world)),
            ("a secret", are_right(&self.secrets, &right.secrets)),
            ("a piece of evidence", is_right(&self.evidence, &right.evidence)),
        ]
        .into_iter()
        .find_map(|(what, is_right)| (!is_right).then_some(what))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_anywhere_in_a_database_is_refused_found_or_harmless() {
    let (mut dice, seed) = dice(3);
    let folder = tempfile::tempdir().unwrap();
    let kept = written(folder.path()).await;
    let path = folder.path().join(SQLITE_FILE);
    let whole = fs::read(&path).unwrap();
    let storage = opened(folder.path()).await.unwrap();
    proven(&storage, &kept).await.unwrap();
    let known = storage.store.read_all(START, READ).await.unwrap();
    let right = seen(&storage, &kept, &known).await.unwrap();
    assert!(right.secrets.iter().all(Option::is_some) && right.evidence.is_some());
    assert!(right.streams.len() > 9 && right.checkpoints.len() > 2 && right.world.is_some());
    storage.close().await;
    let [mut refused, mut found, mut harmless] = [0; 3];

    for _ in 0..share(FLIPS) {
        let flip = Bit::any(&mut dice, whole.len());
        let mut bytes = whole.clone();
        flip.flip(&mut bytes);
        fs::write(&path, &bytes).unwrap();

        match opened(folder.path()).await {
            Err(_) => refused += 1,
            Ok(storage) => {
                match proven(&storage, &kept).await {
                    Err(_) => found += 1,
                    Ok(()) => {
                        let seen = seen(&storage, &kept, &known).await.unwrap();
                        let wrong = seen.wrong(&right);
                        assert_eq!(wrong, None, "seed {seed}, {flip:?}: answered otherwise");
                        harmless += 1;
                    }
                }
                storage.close().await;
            }
        }
    }

    tell(&format!(
        "A database of {} bytes, seed {seed}: of {} flipped bits {refused} were refused at once, \
         {found} found by verify, {harmless} harmless",
        whole.len(),
        share(FLIPS)
    ));
}
