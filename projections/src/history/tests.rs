//! A start from a snapshot, and a look at the past, give what a fold of the whole log gives.

use domain::{
    event::Event,
    id::CommandId,
    log::{Actor, ActorKind, Incarnation, Recorded},
    sealed::Digest,
    testing::{Dice, given},
};

use super::*;
use crate::{
    event_store::{
        Batch, BatchId, NewEvent,
        memory::{MemoryLog, MemoryStore},
    },
    projector::Now,
    snapshot::MemorySnapshotStore,
};

/// A log of a random but reproducible history, all of it caused by reports of one cell.
async fn random_log(seed: u64) -> Arc<dyn EventStore> {
    let store = MemoryStore::new(MemoryLog::new(Incarnation(uuid::Uuid::from_u128(1))));
    for recorded in given([]).walk(&mut Dice::new(seed), 300).recorded {
        store.append(batch(&recorded)).await.unwrap();
    }
    Arc::new(store)
}

fn batch(recorded: &Recorded<Event>) -> Batch {
    let number = recorded.position.0;
    let command_id = CommandId::new(&format!("report/cell-1/1/{number}")).unwrap();
    Batch {
        id: BatchId(uuid::Uuid::from_u128(number.into())),
        decided_on: Position(number - 1),
        recorded_at: recorded.recorded_at,
        lease: None,
        events: vec![NewEvent {
            stream: recorded.stream.clone(),
            event: recorded.event.clone().into(),
            actor: Actor { kind: ActorKind::Cell, name: "cell-1".into(), via: "test".into() },
            correlation: command_id.clone(),
            command_id,
            causation: None,
        }],
    }
}

#[tokio::test]
async fn every_start_and_every_past_is_the_same_as_a_whole_fold() {
    for seed in 0..20 {
        let store = random_log(seed).await;
        let head = store.head().await.unwrap().position;
        let snapshots: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshotStore::default());
        let none = MemorySnapshotStore::default();
        let third = Position(head.0 / 3);
        for position in [third, Position(third.0 * 2), head] {
            let whole = load(store.as_ref(), &none, position).await.unwrap().world;

            let loaded = load(store.as_ref(), snapshots.as_ref(), position).await.unwrap();
            assert_eq!(loaded.world.content(), whole.content(), "seed {seed} at {position}");
            take_snapshot(&snapshots, loaded).await;
        }
        let history = History::new(Arc::clone(&store), snapshots);
        let time = load(store.as_ref(), &none, third).await.unwrap().world.recorded_at();
        let past = history.at(Instant::Time(time)).await.unwrap();
        assert!(past.position() >= third && past.recorded_at() == time);
        let whole = load(store.as_ref(), &none, past.position()).await.unwrap().world;
        assert_eq!(past.content(), whole.content(), "seed {seed}");
        let ahead = history.at(Instant::Position(head.next())).await.unwrap_err();
        assert!(matches!(ahead, Error::AheadOfHead { .. }));
    }
}

#[tokio::test]
async fn a_view_that_was_kept_up_is_the_same_as_one_that_was_filled() {
    for seed in 0..10 {
        let mut kept_up = World::empty();
        kept_up.fill_views();
        for recorded in random_log(seed).await.read_all(Position(0), 10_000).await.unwrap() {
            kept_up.apply(&recorded);
            let filled = kept_up.without_views();
            assert!(kept_up.has_views() && !filled.has_views());
            assert_eq!(kept_up.content(), filled.content(), "seed {seed}: {recorded:?}");
        }
    }
}

async fn take_snapshot(snapshots: &Arc<dyn SnapshotStore>, loaded: Loaded) {
    // Followed on an empty log: only the snapshotter's own work is looked at here.
    let empty = MemoryStore::new(MemoryLog::new(Incarnation(uuid::Uuid::from_u128(2))));
    let Loaded { world, base, dirty } = loaded;
    let now = Now::follow(Arc::new(empty), world);
    Snapshotter::new(now, Arc::clone(snapshots), base, dirty).save().await;
}

#[tokio::test]
async fn few_pasts_are_loaded_at_a_time_and_each_once() {
    let store = random_log(1).await;
    let history = History::new(store, Arc::new(MemorySnapshotStore::default()));
    let asked = Instant::Position(Position(3));
    let others_load = history.loads.acquire_many(u32::try_from(LOADS_MAX).unwrap()).await.unwrap();
    let is_loaded = || history.open.slot(Position(3)).initialized();
    let others_end = async {
        tokio::task::yield_now().await;
        assert!(!is_loaded(), "it waits for its turn");
        drop(others_load);
    };

    let (one, other, ()) = tokio::join!(history.at(asked), history.at(asked), others_end);

    assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()), "it is loaded once");
    for position in 1..20 {
        history.at(Instant::Position(Position(position))).await.unwrap();
        assert!(history.open.len() <= open_worlds::OPEN_WORLDS_MAX);
    }
    assert!(!is_loaded(), "the oldest has given way");
}

#[tokio::test]
async fn steps_both_ways_lead_to_the_worlds_that_a_fold_leads_to() {
    for seed in 0..6 {
        let store = random_log(seed).await;
        let head = store.head().await.unwrap().position;
        let none: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshotStore::default());
        let mut worlds = vec![World::empty()];
        for recorded in store.read_all(Position(0), 10_000).await.unwrap() {
            let mut world = worlds.last().unwrap().clone();
            world.apply(&recorded);
            worlds.push(world);
        }
        let same = |stepper: &Stepper, what: &str| {
            let at = stepper.world().position();
            let expected = worlds[usize::try_from(at.0).unwrap()].content();
            assert_eq!(stepper.world().content(), expected, "seed {seed}: {what} to {at}");
        };
        let mut stepper =
            Stepper::open(Arc::clone(&store), Arc::clone(&none), Position(0), true).await.unwrap();
        assert_eq!(stepper.back().await.unwrap(), None);

        let mut forwards = Vec::new();
        while let Some(step) = stepper.next().await.unwrap() {
            assert_eq!(stepper.world().position(), step.recorded.position);
            same(&stepper, "next");
            forwards.push(step);
        }
        assert_eq!(stepper.world().position(), head);
        while let Some(step) = stepper.back().await.unwrap() {
            assert_eq!(forwards.pop().as_ref(), Some(&step), "it undoes what was done");
            same(&stepper, "back");
        }
        assert!(forwards.is_empty());
        let mut dice = Dice::new(seed);
        for _ in 0..40 {
            let end = u32::try_from(head.0 + 1).unwrap();
            match dice.below(4) {
                0 => drop(stepper.next().await.unwrap()),
                1 => drop(stepper.back().await.unwrap()),
                _ => stepper.go(Position(dice.below(end).into())).await.unwrap(),
            }
            same(&stepper, "a jump");
        }
        assert!(matches!(stepper.go(head.next()).await, Err(Error::AheadOfHead { .. })));
    }
}

#[tokio::test]
async fn a_step_tells_which_fields_it_changed() {
    let store = MemoryStore::new(MemoryLog::new(Incarnation(uuid::Uuid::from_u128(1))));
    for recorded in domain::testing::running_story().recorded {
        store.append(batch(&recorded)).await.unwrap();
    }
    let none = Arc::new(MemorySnapshotStore::default());
    let mut stepper = Stepper::open(Arc::new(store), none, Position(0), false).await.unwrap();
    let mut told = Vec::new();
    while let Some(step) = stepper.next().await.unwrap() {
        for change in step.changes {
            let name = step.recorded.event.type_name();
            let state = change.fields.iter().find(|field| field.name.starts_with("state"));
            let state = state.map(|field| field.name.clone());
            told.push((name, change.kind, change.thing, state));
        }
    }
    let started = told.iter().find(|it| it.0 == "actual_lrp.started").unwrap();
    assert_eq!((started.1, started.2.as_str()), (changes::ChangeKind::Changed, "actual/web/0"));
    assert!(started.3.is_some(), "its state is another: {told:?}");
    assert!(told.iter().any(|it| it.2 == "desired/web" && it.1 == changes::ChangeKind::Added));
}

#[tokio::test]
async fn a_planted_difference_is_found_in_its_view_and_nothing_else_is() {
    let store = random_log(3).await;
    let head = store.head().await.unwrap().position;
    let world = load(store.as_ref(), &MemorySnapshotStore::default(), head).await.unwrap().world;
    let digests = views::digests(&world);
    assert_eq!(views::first_difference(&world, &digests), None);
    assert_eq!(views::first_difference_between(&world, &world.clone()), None);

    // A running world that has missed an aggregate.
    let without: Vec<Aggregate> = world.aggregates().all().skip(1).collect();
    let differing = World::from_aggregates(without, stamp_of(&world));
    let found = views::first_difference(&world, &views::digests(&differing)).unwrap();
    assert_eq!(found.view, "aggregates");
    let found = views::first_difference_between(&world, &differing).unwrap();
    assert_eq!(found.view, "aggregates");

    for (index, name) in views::NAMES.iter().enumerate() {
        let mut planted = digests.clone();
        planted[index].digest.0[7] ^= 1;
        planted[index].pieces = "0".repeat(planted[index].pieces.len());
        let found = views::first_difference(&world, &planted).unwrap();
        assert_eq!(&found.view, name);
        assert!(found.hint.contains("behind byte 0"), "{}", found.hint);
        assert!(views::dump(&world, name).is_some());
    }
    let mut fewer = digests;
    fewer.pop();
    assert_eq!(views::first_difference(&world, &fewer).unwrap().view, "desired_vs_actual");
    assert_eq!(views::dump(&world, "weather"), None);
}

#[tokio::test]
async fn a_snapshot_of_another_format_is_passed_over_and_that_is_known() {
    let store = random_log(4).await;
    let head = store.head().await.unwrap().position;
    let snapshots: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshotStore::default());
    let whole = load(store.as_ref(), snapshots.as_ref(), Position(9)).await.unwrap();
    take_snapshot(&snapshots, whole).await;
    let stamp = Stamp { position: Position(12), recorded_at: Timestamp(0) };
    let dirty = vec![(snapshot::ShardId::new(0).unwrap(), b"of another program".to_vec())];
    let newer = snapshot::NewSnapshot { stamp, format_version: 4_000, base: None, dirty };
    snapshots.save(newer).await.unwrap();

    let loaded = load(store.as_ref(), snapshots.as_ref(), head).await.unwrap();

    assert_eq!(loaded.base, Some(Position(9)));
    let none = MemorySnapshotStore::default();
    let whole = load(store.as_ref(), &none, head).await.unwrap().world;
    assert_eq!(loaded.world.content(), whole.content());
    let passed_over = |at, base| newest_passed_over(snapshots.as_ref(), at, base);
    assert_eq!(passed_over(head, loaded.base).await.unwrap(), Some(Position(12)));
    assert_eq!(passed_over(Position(11), loaded.base).await.unwrap(), None);
}

/// Snapshots of which some bytes are damaged.
#[derive(Debug)]
struct Damaged {
    kept: Arc<dyn SnapshotStore>,
    damage: Damage,
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Missing(Digest),
    Altered(Digest),
}

#[async_trait::async_trait]
impl SnapshotStore for Damaged {
    async fn save(&self, _: snapshot::NewSnapshot) -> Result<snapshot::Manifest, snapshot::Error> {
        unreachable!("nothing is saved here")
    }

    async fn newest_at_or_before(
        &self,
        position: Position,
        format_version: u32,
    ) -> Result<Option<snapshot::Manifest>, snapshot::Error> {
        self.kept.newest_at_or_before(position, format_version).await
    }

    async fn blobs(&self, digests: &[Digest]) -> Result<Vec<Vec<u8>>, snapshot::Error> {
        let mut read = self.kept.blobs(digests).await?;
        match self.damage {
            Damage::Missing(gone) => read.retain(|bytes| Digest::of(bytes) != gone),
            Damage::Altered(altered) => {
                for bytes in read.iter_mut().filter(|bytes| Digest::of(bytes) == altered) {
                    bytes[0] ^= 1;
                }
            }
        }
        Ok(read)
    }

    async fn positions(&self) -> Result<Vec<Position>, snapshot::Error> {
        self.kept.positions().await
    }
}

#[tokio::test]
async fn any_damaged_shard_costs_only_time() {
    let store = random_log(7).await;
    let head = store.head().await.unwrap().position;
    let kept: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshotStore::default());
    for position in [Position(head.0 / 3), Position(head.0 * 2 / 3)] {
        let loaded = load(store.as_ref(), kept.as_ref(), position).await.unwrap();
        take_snapshot(&kept, loaded).await;
    }
    let none = MemorySnapshotStore::default();
    let whole = load(store.as_ref(), &none, head).await.unwrap().world;
    let manifest = kept.newest_at_or_before(head, SHARD_FORMAT).await.unwrap().unwrap();
    for (shard, digest) in &manifest.shards {
        for damage in [Damage::Missing(*digest), Damage::Altered(*digest)] {
            let snapshots = Damaged { kept: Arc::clone(&kept), damage };

            let loaded = load(store.as_ref(), &snapshots, head).await.unwrap();

            assert_eq!(loaded.world.content(), whole.content(), "{damage:?} of shard {shard}");
            assert!(loaded.dirty.whole().any(|it| it == shard.whole_number()), "shard {shard}");
        }
    }
}

/// A kept snapshot with all that is in it, and other bytes in place of one shard's.
async fn copy(
    kept: &dyn SnapshotStore,
    position: Position,
    altered: Option<snapshot::ShardId>,
) -> snapshot::NewSnapshot {
    let manifest = kept.newest_at_or_before(position, SHARD_FORMAT).await.unwrap().unwrap();
    let mut dirty = Vec::new();
    for shard in manifest.shards.keys() {
        let bytes = kept.load_shard(&manifest, *shard).await.unwrap().unwrap();
        let is_altered = altered == Some(*shard);
        dirty.push((*shard, if is_altered { b"what nobody writes".to_vec() } else { bytes }));
    }
    let (stamp, format_version) = (manifest.stamp(), SHARD_FORMAT);
    snapshot::NewSnapshot { stamp, format_version, base: None, dirty }
}

#[tokio::test]
async fn bytes_of_the_right_digest_that_mean_nothing_cost_only_time() {
    let store = random_log(7).await;
    let head = store.head().await.unwrap().position;
    let (first, newest) = (Position(head.0 / 3), Position(head.0 * 2 / 3));
    let kept: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshotStore::default());
    for position in [first, newest] {
        take_snapshot(&kept, load(store.as_ref(), kept.as_ref(), position).await.unwrap()).await;
    }
    let none = MemorySnapshotStore::default();
    let whole = load(store.as_ref(), &none, head).await.unwrap().world;
    let manifest = kept.newest_at_or_before(head, SHARD_FORMAT).await.unwrap().unwrap();
    for shard in manifest.shards.keys() {
        let odd = MemorySnapshotStore::default();
        odd.save(copy(kept.as_ref(), first, None).await).await.unwrap();
        odd.save(copy(kept.as_ref(), head, Some(*shard)).await).await.unwrap();

        let loaded = load(store.as_ref(), &odd, head).await.unwrap();

        assert_eq!(loaded.world.content(), whole.content(), "shard {shard}");
        assert!(loaded.dirty.whole().any(|it| it == shard.whole_number()), "shard {shard}");
    }
}

#[tokio::test]
async fn one_owner_and_a_playback_show_what_the_whole_shows() {
    let store = random_log(9).await;
    let head = store.head().await.unwrap().position;
    let kept: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshotStore::default());
    let loaded = load(store.as_ref(), kept.as_ref(), Position(head.0 / 2)).await.unwrap();
    take_snapshot(&kept, loaded).await;
    let history = History::new(Arc::clone(&store), kept);
    let mut played = history.playback(Instant::Position(Position(0))).await.unwrap();
    let all = store.read_all(Position(0), 10_000).await.unwrap();
    for recorded in &all {
        assert_eq!(played.step().await.unwrap().as_ref(), Some(recorded));
        let position = recorded.position;
        let owner = recorded.stream.owner();
        // One that is open would be answered from.
        let fresh = History::new(Arc::clone(&store), Arc::clone(&history.snapshots));

        let part = fresh.owner_at(&owner, Instant::Position(position)).await.unwrap();

        assert_eq!(part.position(), position);
        assert_eq!(part.recorded_at(), recorded.recorded_at);
        assert_eq!(
            part.aggregates().of_owner(&owner),
            played.world().aggregates().of_owner(&owner),
            "{owner} at {position}"
        );
    }
    assert_eq!(played.step().await.unwrap(), None);
    let whole = history.at(Instant::Position(head)).await.unwrap();
    assert_eq!(played.world().content(), whole.content());
}

/// A log of the first events of a workload.
async fn workload(seed: u64, lrps: u32, events: usize) -> Arc<dyn EventStore> {
    let store = MemoryStore::new(MemoryLog::new(Incarnation(uuid::Uuid::from_u128(1))));
    let shape = domain::workload::Shape { seed, lrps };
    let mut workload = domain::workload::Workload::new(shape).take(events).peekable();
    while workload.peek().is_some() {
        let events: Vec<Recorded<Event>> = workload.by_ref().take(1000).collect();
        let recorded_at = events.last().unwrap().recorded_at;
        let mut batch = batch(events.first().unwrap());
        batch.recorded_at = recorded_at;
        batch.events = events.iter().map(|it| self::batch(it).events.remove(0)).collect();
        store.append(batch).await.unwrap();
    }
    Arc::new(store)
}

#[tokio::test]
async fn a_log_without_snapshots_gets_those_of_its_growth() {
    let store = workload(1, 300, 41_500).await;
    let snapshots: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshotStore::default());

    take_as_it_grew(store.as_ref(), Arc::clone(&snapshots), Position(41_500)).await.unwrap();

    let taken = snapshots.positions().await.unwrap();
    assert_eq!(taken, [Position(SPACING_EVENTS), Position(41_500)], "none is late");
    let none = MemorySnapshotStore::default();
    for position in [Position(39_999), Position(41_000), Position(41_500)] {
        let whole = load(store.as_ref(), &none, position).await.unwrap().world;
        let loaded = load(store.as_ref(), snapshots.as_ref(), position).await.unwrap();
        assert_eq!(loaded.base, taken.iter().copied().rfind(|taken| *taken <= position));
        assert_eq!(loaded.world.content(), whole.content(), "at {position}");
    }
}

#[tokio::test]
async fn a_snapshot_of_changes_gives_what_was_saved() {
    let store = workload(4, 3000, 24_000).await;
    let kept: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshotStore::default());
    let mut with_changes = 0;
    for position in [18_000, 18_300, 18_700, 24_000].map(Position) {
        let loaded = load(store.as_ref(), kept.as_ref(), position).await.unwrap();
        take_snapshot(&kept, loaded).await;
        let manifest = kept.newest_at_or_before(position, SHARD_FORMAT).await.unwrap().unwrap();
        assert_eq!(manifest.position, position);
        let changes: Vec<_> = snapshot::ShardId::all().flat_map(|it| it.changes()).collect();
        with_changes += manifest.shards.keys().filter(|it| changes.contains(it)).count();
        let none = MemorySnapshotStore::default();
        let whole = load(store.as_ref(), &none, position).await.unwrap();
        let loaded = load(store.as_ref(), kept.as_ref(), position).await.unwrap();
        assert_eq!(loaded.world.content(), whole.world.content(), "at {position}");
    }
    assert!(with_changes > 50, "changes are written beside {with_changes} shards");
}

/// Counts what is read of snapshots.
#[derive(Debug)]
struct Counting {
    kept: Arc<dyn SnapshotStore>,
    read: std::sync::atomic::AtomicUsize,
}

impl Counting {
    fn take(&self) -> usize {
        self.read.swap(0, std::sync::atomic::Ordering::Relaxed)
    }
}

#[async_trait::async_trait]
impl SnapshotStore for Counting {
    async fn save(
        &self,
        new: snapshot::NewSnapshot,
    ) -> Result<snapshot::Manifest, snapshot::Error> {
        self.kept.save(new).await
    }

    async fn newest_at_or_before(
        &self,
        position: Position,
        format_version: u32,
    ) -> Result<Option<snapshot::Manifest>, snapshot::Error> {
        self.kept.newest_at_or_before(position, format_version).await
    }

    async fn blobs(&self, digests: &[Digest]) -> Result<Vec<Vec<u8>>, snapshot::Error> {
        self.read.fetch_add(digests.len(), std::sync::atomic::Ordering::Relaxed);
        self.kept.blobs(digests).await
    }

    async fn positions(&self) -> Result<Vec<Position>, snapshot::Error> {
        self.kept.positions().await
    }
}

#[tokio::test]
async fn worlds_near_each_other_read_what_they_have_in_common_once() {
    let store = workload(4, 300, 6_000).await;
    let kept: Arc<dyn SnapshotStore> = Arc::new(MemorySnapshotStore::default());
    for position in [4_000, 4_100].map(Position) {
        take_snapshot(&kept, load(store.as_ref(), kept.as_ref(), position).await.unwrap()).await;
    }
    let counting = Arc::new(Counting { kept, read: Default::default() });
    let history = History::new(Arc::clone(&store), Arc::clone(&counting) as Arc<dyn SnapshotStore>);
    let at = async |position| history.at(Instant::Position(Position(position))).await.unwrap();

    let (first, all) = (at(4_050).await, counting.take());
    let (second, again) = (at(4_060).await, counting.take());
    let (third, changed) = (at(4_150).await, counting.take());

    assert!(all > 300, "{all} shards are read");
    assert_eq!(again, 0, "the same snapshot is read once");
    assert!((1..all).contains(&changed), "of the next one what differs: {changed} of {all}");
    for world in [first, second, third] {
        let none = MemorySnapshotStore::default();
        let whole = load(store.as_ref(), &none, world.position()).await.unwrap();
        assert_eq!(world.content(), whole.world.content());
    }
}
