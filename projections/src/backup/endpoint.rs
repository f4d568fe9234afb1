//! A database as an end of a transfer: its log, to be read and to be written as it was, and what
//! stands beside it.

use std::sync::Arc;

use super::{Beside, restore, take};
use crate::{
    archive::{Archive, Place},
    event_store::{
        EventStore, HotLog, ImportLog, keys::KeyStore, postgres::PostgresStore, sqlite::SqliteStore,
    },
    storage::{Backend, Storage},
};

/// The parts of an open database that a backup, a restore, an export or an import need.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The log as readers see it.
    pub store: Arc<dyn EventStore>,
    /// The log, to be written as it was.
    pub log: Arc<dyn ImportLog>,
    /// Its floor and checkpoints.
    pub hot: Arc<dyn HotLog>,
    /// Keys and evidence.
    pub beside: Arc<dyn Beside>,
    /// What was forgotten.
    pub keys: Arc<dyn KeyStore>,
    /// The archive that the log begins with, where `store` reads one.
    pub archive: Option<Arc<Archive>>,
}

impl Endpoint {
    /// The parts of an open storage.
    #[must_use]
    pub fn of(storage: &Storage) -> Self {
        let (store, keys) = (Arc::clone(&storage.store), Arc::clone(&storage.keys));
        match &storage.backend {
            Backend::Sqlite(database) => {
                let log = Arc::new(SqliteStore::new(database.clone()));
                let beside = Arc::new(database.clone());
                Self { store, log: log.clone(), hot: log, beside, keys, archive: None }
            }
            Backend::Postgres(database) => {
                let log = Arc::new(PostgresStore::new(database.clone()));
                let beside = Arc::new(database.clone());
                Self { store, log: log.clone(), hot: log, beside, keys, archive: None }
            }
        }
    }

    /// To take a backup from.
    #[must_use]
    pub fn as_source(&self) -> take::From<'_> {
        let (store, hot, beside) = (&*self.store, &*self.hot, &*self.beside);
        take::From { store, hot, beside, keys: &*self.keys, archive: self.archive.as_deref() }
    }

    /// To restore a backup into; the state that a pruned log begins with goes to a new archive.
    #[must_use]
    pub fn as_target<'a>(&'a self, archive: Option<&'a Place>) -> restore::Into<'a> {
        let (store, log, hot) = (&*self.store, &*self.log, &*self.hot);
        restore::Into { store, log, hot, beside: &*self.beside, keys: &*self.keys, archive }
    }
}
