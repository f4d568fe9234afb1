//! What only a server with several writers can suffer.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Database, PostgresStore};
use crate::{
    event_store::{
        EventStore,
        conformance::{self, Factory},
    },
    testing::postgres,
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
