//! What only a server with several writers can suffer.

mod faults;
mod opening;
mod replaced;
mod writers;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;

use super::{Database, PostgresStore};
use crate::{
    event_store::{
        EventStore,
        chain::Fault,
        conformance::{self, Factory},
    },
    testing::postgres,
    verify,
};

#[derive(Default)]
struct Postgres {
    last: Mutex<Option<(String, Database)>>,
}

#[async_trait]
impl Factory for Postgres {
    async fn fresh(&self) -> Arc<dyn EventStore> {
        let url = postgres::shared().fresh_database();
        let database = postgres::open(&url).await;
        *self.last.lock().unwrap() = Some((url, database.clone()));
        Arc::new(PostgresStore::new(database))
    }

    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        drop(store);
        let (url, database) = self.last.lock().unwrap().take()?;
        database.close().await;
        Some(Arc::new(PostgresStore::new(postgres::open(&url).await)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_postgres_store_behaves() {
    conformance::run(&Postgres::default()).await;
}

/// A store of its own on a database that others may use too.
async fn store(url: &str) -> PostgresStore {
    PostgresStore::new(postgres::open(url).await)
}

/// The name of the database at the end of a URL.
fn database_of(url: &str) -> &str {
    url.rsplit_once('/').unwrap().1
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(30), future).await;
    ended.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// The first fault that `verify` finds.
async fn verified(store: PostgresStore) -> Option<Fault> {
    let store = Arc::new(store);
    let tables = store.clone();
    let live = verify::Live { store, tables, archive: None };
    let report = verify::log(&live, &verify::LogOptions::default(), &|_| {}).await;
    report.unwrap().fault
}
