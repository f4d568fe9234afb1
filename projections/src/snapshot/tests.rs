//! One small suite for all snapshot stores.

use domain::{id::ProcessGuid, log::Incarnation, log::Owner, units::Timestamp};

use super::*;
use crate::{event_store::sqlite::Database, testing::postgres};

const FORMAT: u32 = 1;

fn shard(number: u16) -> ShardId {
    ShardId::new(number).unwrap()
}

fn snapshot(position: u64, base: Option<u64>, dirty: &[(u16, &[u8])]) -> NewSnapshot {
    NewSnapshot {
        stamp: Stamp { position: Position(position), recorded_at: Timestamp(7) },
        format_version: FORMAT,
        base: base.map(Position),
        dirty: dirty.iter().map(|(number, bytes)| (shard(*number), bytes.to_vec())).collect(),
    }
}

async fn behaves(store: &dyn SnapshotStore) {
    let no_base = store.save(snapshot(10, Some(5), &[])).await;
    assert!(matches!(no_base, Err(Error::BaseMissing { base: Position(5) })));

    let first = store.save(snapshot(10, None, &[(1, b"one"), (2, b"two")])).await.unwrap();
    let second = store.save(snapshot(20, Some(10), &[(2, b"zwei"), (3, b"three")])).await.unwrap();
    let not_newer = store.save(snapshot(20, None, &[])).await;
    assert!(matches!(not_newer, Err(Error::NotNewer { newest: Position(20) })));

    assert_eq!(second.shards[&shard(1)], first.shards[&shard(1)]);
    let found = async |position| store.newest_at_or_before(Position(position), FORMAT).await;
    assert_eq!(found(9).await.unwrap(), None);
    assert_eq!(found(19).await.unwrap(), Some(first.clone()));
    assert_eq!(found(u64::MAX).await.unwrap(), Some(second.clone()));
    assert_eq!(store.load_shard(&first, shard(2)).await.unwrap(), Some(b"two".to_vec()));
    assert_eq!(store.load_shard(&second, shard(2)).await.unwrap(), Some(b"zwei".to_vec()));
    assert_eq!(store.load_shard(&second, shard(9)).await.unwrap(), None);

    let mut other_format = snapshot(30, Some(20), &[]);
    other_format.format_version = FORMAT + 1;
    let refused = store.save(other_format).await;
    assert!(matches!(refused, Err(Error::BaseMissing { base: Position(20) })));
    let mut other_format = snapshot(30, None, &[(1, b"new")]);
    other_format.format_version = FORMAT + 1;
    store.save(other_format).await.unwrap();
    assert_eq!(found(30).await.unwrap(), Some(second));

    let emptied = store.save(snapshot(40, Some(20), &[(1, b"")])).await.unwrap();
    assert!(!emptied.shards.contains_key(&shard(1)));
}

/// Only where it is known how many bytes the log takes.
async fn stays_below_the_log_and_drops_what_no_snapshot_names(store: &dyn SnapshotStore) {
    let mut base = None;
    let mut manifests = Vec::new();
    for position in 1..=60 {
        let bytes: Vec<u8> = (0..16_000_u32).map(|it| (it * position % 251) as u8).collect();
        let new = snapshot(position.into(), base, &[(4, &bytes)]);
        manifests.push(store.save(new).await.unwrap());
        base = Some(position.into());
    }

    let kept = store.positions().await.unwrap();

    assert!((2..30).contains(&kept.len()), "{} are kept beside an empty log", kept.len());
    assert!([59, 60].iter().all(|newest| kept.contains(&Position(*newest))));
    for manifest in manifests {
        let is_there = store.load_shard(&manifest, shard(4)).await.is_ok();
        assert_eq!(is_there, kept.contains(&manifest.position));
    }
}

#[tokio::test]
async fn snapshots_in_memory() {
    behaves(&MemorySnapshotStore::default()).await;
}

async fn database(folder: &tempfile::TempDir, name: &str) -> Database {
    let incarnation = Incarnation(uuid::Uuid::from_u128(1));
    Database::open(&folder.path().join(name), incarnation).await.unwrap()
}

#[tokio::test]
async fn snapshots_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    behaves(&SqliteSnapshotStore::new(database(&folder, "a.db").await)).await;
    let store = SqliteSnapshotStore::new(database(&folder, "b.db").await);
    stays_below_the_log_and_drops_what_no_snapshot_names(&store).await;
}

#[tokio::test]
async fn snapshots_in_postgres() {
    let database = postgres::open(&postgres::shared().fresh_database()).await;
    behaves(&PostgresSnapshotStore::new(database)).await;
    let database = postgres::open(&postgres::shared().fresh_database()).await;
    stays_below_the_log_and_drops_what_no_snapshot_names(&PostgresSnapshotStore::new(database))
        .await;
}

#[tokio::test]
async fn a_damaged_shard_is_never_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(&folder, "a.db").await;
    let store = SqliteSnapshotStore::new(database.clone());
    let first = store.save(snapshot(10, None, &[(1, b"one"), (2, b"two")])).await.unwrap();
    let second = store.save(snapshot(20, Some(10), &[(2, b"zwei")])).await.unwrap();
    let damaged = second.shards[&shard(2)].0.to_vec();
    database
        .write("damage a shard", move |connection| {
            Box::pin(async move {
                sqlx::query("UPDATE snapshot_blobs SET bytes = x'00' WHERE digest = ?")
                    .bind(damaged)
                    .execute(connection)
                    .await
                    .map(drop)
            })
        })
        .await
        .unwrap();

    let read = async |manifest, number| store.load_shard(manifest, shard(number)).await;
    assert_eq!(read(&second, 1).await.unwrap(), Some(b"one".to_vec()));
    assert_eq!(read(&first, 2).await.unwrap(), Some(b"two".to_vec()));
    let damage = read(&second, 2).await;
    assert!(matches!(damage, Err(Error::ShardDamaged { position: Position(20), .. })));
}

/// Ways to damage the manifest of the snapshot at position 20.
const DAMAGE: [&str; 5] = [
    "UPDATE snapshot_manifests SET recorded_at = recorded_at + 1 WHERE position = 20",
    "UPDATE snapshot_manifests SET position = 21 WHERE position = 20",
    "UPDATE snapshot_manifests SET checksum = NULL WHERE position = 20",
    "UPDATE snapshot_shards SET shard = 3 WHERE position = 20 AND shard = 2",
    "DELETE FROM snapshot_shards WHERE position = 20 AND shard = 1",
];

async fn passes_over_the_damaged_one(store: &dyn SnapshotStore, damage: &str) {
    let newest = store.newest_at_or_before(Position(30), FORMAT).await.unwrap().unwrap();

    assert_eq!(newest.position, Position(10), "{damage}");
    // What rests on it must be written whole.
    let refused = store.save(snapshot(40, Some(20), &[(2, b"deux")])).await;
    assert!(matches!(refused, Err(Error::BaseMissing { base: Position(20) })), "{damage}");
    store.save(snapshot(40, None, &[(1, b"one"), (2, b"deux")])).await.unwrap();
    let newest = store.newest_at_or_before(Position(50), FORMAT).await.unwrap().unwrap();
    assert_eq!(newest.position, Position(40), "{damage}");
}

async fn two_saved(store: &dyn SnapshotStore) {
    store.save(snapshot(10, None, &[(1, b"one"), (2, b"two")])).await.unwrap();
    store.save(snapshot(20, Some(10), &[(2, b"zwei")])).await.unwrap();
    assert!(
        store.newest_at_or_before(Position(30), FORMAT).await.unwrap().unwrap().position.0 == 20
    );
}

#[tokio::test]
async fn a_damaged_manifest_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    for (number, damage) in DAMAGE.into_iter().enumerate() {
        let database = database(&folder, &format!("{number}.db")).await;
        let store = SqliteSnapshotStore::new(database.clone());
        two_saved(&store).await;
        database
            .write("damage a manifest", move |connection| {
                Box::pin(async move { sqlx::query(damage).execute(connection).await.map(drop) })
            })
            .await
            .unwrap();
        passes_over_the_damaged_one(&store, damage).await;

        let url = postgres::shared().fresh_database();
        let store = PostgresSnapshotStore::new(postgres::open(&url).await);
        two_saved(&store).await;
        postgres::shared().psql(url.rsplit_once('/').unwrap().1, damage);
        passes_over_the_damaged_one(&store, damage).await;
    }
}

#[test]
fn the_shard_of_an_owner_never_changes() {
    let owner = Owner::Process(ProcessGuid::new("a").unwrap());
    assert_eq!(ShardId::of(&owner).number(), 192);
}
