//! What only a server with several writers can suffer.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Database, PostgresStore, WallClock};
use crate::{
    event_store::{
        EventStore,
        conformance::{self, Factory, samples::INCARNATION},
    },
    testing::postgres,
};
use domain::units::Timestamp;

#[expect(clippy::disallowed_methods, reason = "a test's clock is the machine's")]
fn wall_clock() -> WallClock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(since.as_nanos()).unwrap())
    })
}

async fn open(url: &str) -> Database {
    Database::open(url, INCARNATION, wall_clock()).await.unwrap()
}

#[derive(Default)]
struct Postgres {
    last: Mutex<Option<(String, Database)>>,
}

#[async_trait]
impl Factory for Postgres {
    async fn fresh(&self) -> Arc<dyn EventStore> {
        let url = postgres::shared().fresh_database();
        let database = open(&url).await;
        *self.last.lock().unwrap() = Some((url, database.clone()));
        Arc::new(PostgresStore::new(database))
    }

    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        drop(store);
        let (url, database) = self.last.lock().unwrap().take()?;
        database.close().await;
        Some(Arc::new(PostgresStore::new(open(&url).await)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_postgres_store_behaves() {
    conformance::run(&Postgres::default()).await;
}
