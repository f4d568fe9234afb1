//! A start from a snapshot, and a look at the past, give what a fold of the whole log gives.

use domain::{
    event::Event,
    id::CommandId,
    log::{Actor, ActorKind, Incarnation},
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
            event: recorded.event.clone(),
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
    let is_loaded = || history.slot(Position(3)).initialized();
    let others_end = async {
        tokio::task::yield_now().await;
        assert!(!is_loaded(), "it waits for its turn");
        drop(others_load);
    };

    let (one, other, ()) = tokio::join!(history.at(asked), history.at(asked), others_end);

    assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()), "it is loaded once");
    for position in 1..20 {
        history.at(Instant::Position(Position(position))).await.unwrap();
        assert!(history.open.lock().unwrap().len() <= OPEN_WORLDS_MAX);
    }
    assert!(!is_loaded(), "the oldest has given way");
}
