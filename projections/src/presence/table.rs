//! Which cell was heard how long ago, by any of several nodes: told in batches, on one clock.
//!
//! Never in the log. What a crash of the database loses here counts as heard a little earlier.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use domain::{id::CellId, log::Position, units::Milliseconds};
use sqlx::Row as _;
use tokio::time::Instant;

use super::RouterSeen;
use crate::event_store::{Error, postgres::Database};

/// Shares who was heard.
#[async_trait]
pub trait PresenceTable: Send + Sync + std::fmt::Debug {
    /// Notes that these cells were heard just now.
    async fn heard(&self, cells: &[CellId]) -> Result<(), Error>;

    /// How long ago each cell was last heard by any node. A cell that is not here was never
    /// heard.
    async fn ages(&self) -> Result<BTreeMap<CellId, Milliseconds>, Error>;

    /// Notes that a node's router has followed the routes up to a position.
    async fn followed(&self, node: &str, position: Position) -> Result<(), Error>;

    /// A node's router ends: nobody needs to wait for it.
    async fn router_ends(&self, node: &str) -> Result<(), Error>;

    /// How far the routers of all nodes have followed, and how long ago they said so.
    async fn routers(&self) -> Result<BTreeMap<String, RouterSeen>, Error>;

    /// Whether other nodes may share this table.
    fn is_shared(&self) -> bool;
}

/// The table of a control plane that has one node.
#[derive(Debug, Default)]
pub struct MemoryPresenceTable {
    heard: Mutex<BTreeMap<CellId, Instant>>,
}

#[async_trait]
impl PresenceTable for MemoryPresenceTable {
    async fn heard(&self, cells: &[CellId]) -> Result<(), Error> {
        let now = Instant::now();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.extend(cells.iter().map(|cell_id| (cell_id.clone(), now)));
        Ok(())
    }

    async fn ages(&self) -> Result<BTreeMap<CellId, Milliseconds>, Error> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |at: &Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(heard.iter().map(|(cell_id, at)| (cell_id.clone(), Milliseconds(age(at)))).collect())
    }

    async fn followed(&self, _: &str, _: Position) -> Result<(), Error> {
        Ok(())
    }

    async fn router_ends(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn routers(&self) -> Result<BTreeMap<String, RouterSeen>, Error> {
        Ok(BTreeMap::new())
    }

    fn is_shared(&self) -> bool {
        false
    }
}

/// The table in a Postgres database, on the database's clock.
#[derive(Debug, Clone)]
pub struct PostgresPresenceTable {
    database: Database,
}

impl PostgresPresenceTable {
    /// The table of an open database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

/// Does not wait for the disk. In one order, so that two nodes never wait for each other.
const HEARD: &str = "WITH lazily AS (SELECT set_config('synchronous_commit', 'off', true)) \
     INSERT INTO presence (cell_id, heard_at) \
     SELECT cell_id, clock_timestamp() FROM unnest($1) AS cell_id, lazily \
     GROUP BY cell_id ORDER BY cell_id \
     ON CONFLICT (cell_id) DO UPDATE SET heard_at = excluded.heard_at";

const FOLLOWED: &str = "WITH lazily AS (SELECT set_config('synchronous_commit', 'off', true)) \
     INSERT INTO routers (node, position, heard_at) \
     SELECT $1, $2, clock_timestamp() FROM lazily \
     ON CONFLICT (node) DO UPDATE SET position = excluded.position, heard_at = excluded.heard_at";

/// Those that were silent for a minute are of nobody's interest.
const ROUTERS: &str = "SELECT node, position, \
     greatest(0, extract(epoch FROM clock_timestamp() - heard_at) * 1000)::bigint FROM routers \
     WHERE heard_at > clock_timestamp() - interval '1 minute'";

const AGES: &str = "SELECT cell_id, \
     greatest(0, extract(epoch FROM clock_timestamp() - heard_at) * 1000)::bigint FROM presence";

#[async_trait]
impl PresenceTable for PostgresPresenceTable {
    async fn heard(&self, cells: &[CellId]) -> Result<(), Error> {
        let names: Vec<&str> = cells.iter().map(CellId::as_str).collect();
        let query = || sqlx::query(HEARD).bind(names.as_slice());
        self.database.fetch_writing("note who was heard", query).await.map(drop)
    }

    async fn ages(&self) -> Result<BTreeMap<CellId, Milliseconds>, Error> {
        let operation = "read who was heard";
        let found = self.database.fetch(operation, || sqlx::query(AGES)).await?;
        let mut ages = BTreeMap::new();
        for row in &found {
            let failed = |source| Error::Database { operation, source };
            let (name, age): (&str, i64) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            // A name that is none was written by hand; it is nobody's.
            if let Ok(cell_id) = CellId::new(name) {
                ages.insert(cell_id, Milliseconds(u64::try_from(age).unwrap_or(0)));
            }
        }
        Ok(ages)
    }

    async fn followed(&self, node: &str, position: Position) -> Result<(), Error> {
        let position = i64::try_from(position.0).unwrap_or(i64::MAX);
        let query = || sqlx::query(FOLLOWED).bind(node).bind(position);
        self.database.fetch_writing("note how far a router has followed", query).await.map(drop)
    }

    async fn router_ends(&self, node: &str) -> Result<(), Error> {
        let query = || sqlx::query("DELETE FROM routers WHERE node = $1 RETURNING node").bind(node);
        self.database.fetch_writing("note that a router ends", query).await.map(drop)
    }

    async fn routers(&self) -> Result<BTreeMap<String, RouterSeen>, Error> {
        let operation = "read how far routers have followed";
        let found = self.database.fetch(operation, || sqlx::query(ROUTERS)).await?;
        let mut routers = BTreeMap::new();
        for row in &found {
            let failed = |source| Error::Database { operation, source };
            let node: String = row.try_get(0).map_err(failed)?;
            let position: i64 = row.try_get(1).map_err(failed)?;
            let age: i64 = row.try_get(2).map_err(failed)?;
            let position = Position(u64::try_from(position).unwrap_or(0));
            let age = Milliseconds(u64::try_from(age).unwrap_or(0));
            routers.insert(node, RouterSeen { position, age });
        }
        Ok(routers)
    }

    fn is_shared(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::postgres;

    async fn behaves(table: &dyn PresenceTable) {
        let cells = ["a", "b", "a"].map(|name| CellId::new(name).unwrap());
        assert!(table.ages().await.unwrap().is_empty());
        table.heard(&[]).await.unwrap();
        table.heard(&cells).await.unwrap();
        let at_least = Milliseconds(50);
        let until_older = async {
            while table.ages().await.unwrap().values().any(|age| *age < at_least) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(10), until_older);
        waited.await.expect("ages grow");

        table.heard(&cells[..1]).await.unwrap();

        let ages = table.ages().await.unwrap();
        assert_eq!(ages.len(), 2);
        assert!(ages[&cells[0]] < ages[&cells[1]], "{ages:?}");
    }

    #[tokio::test]
    async fn presence_in_memory() {
        behaves(&MemoryPresenceTable::default()).await;
    }

    #[tokio::test]
    async fn presence_in_postgres() {
        let database = postgres::open(&postgres::shared().fresh_database()).await;
        behaves(&PostgresPresenceTable::new(database)).await;
    }

    #[tokio::test]
    async fn nodes_tell_each_other_how_far_their_routers_are() {
        let database = postgres::open(&postgres::shared().fresh_database()).await;
        let table = PostgresPresenceTable::new(database);
        table.followed("one", Position(7)).await.unwrap();
        table.followed("two", Position(3)).await.unwrap();
        table.followed("one", Position(9)).await.unwrap();

        let routers = table.routers().await.unwrap();
        assert_eq!((routers.len(), routers["one"].position), (2, Position(9)));
        assert!(routers["two"].age < Milliseconds::from_seconds(60), "{routers:?}");

        table.router_ends("two").await.unwrap();
        assert!(!table.routers().await.unwrap().contains_key("two"));
    }
}
