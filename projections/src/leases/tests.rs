//! What both leases in databases must do, and what only several nodes on one can see.

use std::time::Duration;

use domain::{
    log::{Incarnation, LeaseEpoch},
    units::Milliseconds,
};
use uuid::Uuid;

use super::{LeaseState, Leases, PostgresLeases, SqliteLeases};
use crate::{event_store::sqlite, testing::postgres};

const LONG: Milliseconds = Milliseconds::from_seconds(60);

fn held(epoch: u64) -> LeaseState {
    LeaseState::Held { lease_epoch: LeaseEpoch(epoch) }
}

async fn behaves(leases: &dyn Leases) {
    assert_eq!(leases.acquire("a", LONG).await.unwrap(), held(1));
    assert_eq!(leases.acquire("a", LONG).await.unwrap(), held(1), "renewed");
    leases.release("nobody").await.unwrap();
    assert_eq!(leases.acquire("a", LONG).await.unwrap(), held(1));
    leases.release("a").await.unwrap();
    assert_eq!(leases.acquire("b", LONG).await.unwrap(), held(2), "another's is a higher epoch");
    leases.release("b").await.unwrap();
}

#[tokio::test]
async fn the_lease_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let incarnation = Incarnation(Uuid::from_u128(1));
    let path = folder.path().join("a.db");
    let database = sqlite::Database::open(&path, incarnation).await.unwrap();
    behaves(&SqliteLeases::new(database)).await;
}

#[tokio::test]
async fn the_lease_in_postgres_has_one_holder_until_it_runs_out() {
    let database = postgres::open(&postgres::shared().fresh_database()).await;
    let leases = PostgresLeases::new(database);
    behaves(&leases).await;

    let short = Milliseconds(300);
    let contenders = (0..8).map(|number| {
        let leases = leases.clone();
        async move { leases.acquire(&format!("node-{number}"), short).await.unwrap() }
    });
    let states = futures_util::future::join_all(contenders).await;
    let holders: Vec<&LeaseState> = states.iter().filter(|state| **state == held(3)).collect();
    assert_eq!(holders.len(), 1, "{states:?}");
    let LeaseState::HeldByOther { holder, lease_epoch, left } =
        leases.acquire("late", LONG).await.unwrap()
    else {
        panic!("the lease is another's");
    };
    assert!(holder.starts_with("node-") && lease_epoch == LeaseEpoch(3) && left <= short);

    let taken_over = async {
        while leases.acquire("late", LONG).await.unwrap() != held(4) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken_over).await.expect("it runs out");
}
