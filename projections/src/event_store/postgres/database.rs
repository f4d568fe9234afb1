//! One Postgres database, reached through pools with a bound on how long anything may take.
//!
//! The URL's password is never shown: errors and logs name the database by [`Database::name`].

use std::{
    future::Future,
    io::ErrorKind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{log::Incarnation, units::Timestamp};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres, Row as _,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    super::{CLOCK_DISTANCE_MAX_MS, Error, LogId, TURN_MAX},
    failure::{self, is_lost},
    lineage::Lineage,
    migrate, tail,
};
use crate::storage::DatabaseUrl;

/// How long making a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long may be looked for the reason of none.
const REASON_MAX: Duration = Duration::from_secs(1);
/// How long one read may take, seen from here; the server gives up a little earlier.
pub(super) const READ_MAX: Duration = Duration::from_secs(30);
/// How many connections answer reads; one more listens.
pub(super) const READERS_MAX: u32 = 8;
/// How many connections write what is not the log: keys, snapshots, the lease, presence.
const WRITERS_MAX: u32 = 3;

/// The database's time in milliseconds.
pub(super) const SELECT_CLOCK: &str =
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// The database's time, and whether it takes no writes.
const SELECT_WRITABLE: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, \
     current_setting('transaction_read_only') = 'on'";

/// A future that borrows a connection.
pub(crate) type Work<'c, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>;

/// Tells this node's time.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// An open database: a cheap handle on its connections.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    options: PgConnectOptions,
    readers: PgPool,
    writers: PgPool,
    wall_clock: WallClock,
    log_id: Mutex<LogId>,
    lineage: Arc<Lineage>,
    closing: CancellationToken,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database that a `postgres://` URL names, and makes our tables in it when it is
    /// empty. Of several nodes that start together one brings the tables up to date and the
    /// others wait. A new log lives under `new_incarnation`; an existing one keeps its own.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Unavailable`],
    /// [`Error::OutOfConnections`], [`Error::ReadOnly`], [`Error::NotADatabase`],
    /// [`Error::NewerDatabase`], [`Error::Migrate`], [`Error::TailDamaged`].
    pub async fn open(
        url: &DatabaseUrl,
        new_incarnation: Incarnation,
        wall_clock: WallClock,
    ) -> Result<Self, Error> {
        let (options, name) = (options(url), url.to_string());
        let mut connection = connect(&name, &with(&options, "open", &[])).await?;
        migrate::run(&name, &mut connection, new_incarnation).await?;
        Self::start(name, options, connection, wall_clock).await
    }

    /// Opens a database only to read, beside nodes that may be writing it; every write fails.
    ///
    /// # Errors
    /// As [`Database::open`], and [`Error::OlderDatabase`]; nothing is changed.
    pub async fn open_to_read(url: &DatabaseUrl, wall_clock: WallClock) -> Result<Self, Error> {
        let options = with(&options(url), "inspect", &[("default_transaction_read_only", "on")]);
        let name = url.to_string();
        let mut connection = connect(&name, &options).await?;
        migrate::check(&name, &mut connection).await?;
        Self::start(name, options, connection, wall_clock).await
    }

    async fn start(
        name: String,
        options: PgConnectOptions,
        mut connection: PgConnection,
        wall_clock: WallClock,
    ) -> Result<Self, Error> {
        let (opened_at, log_id) = tail::check(&name, &mut connection).await?;
        // A clean goodbye only saves the server a line in its log.
        drop(timeout(CONNECT_MAX, connection.close()).await);
        let lineage = Arc::new(Lineage::new(name.clone(), opened_at));
        let readers = pool(
            &lineage,
            READERS_MAX.saturating_add(1),
            &with(
                &options,
                "read",
                &[("default_transaction_read_only", "on"), ("statement_timeout", "29000")],
            ),
        );
        let limits = [
            ("statement_timeout", "60000"),
            ("lock_timeout", "10000"),
            ("idle_in_transaction_session_timeout", "30000"),
        ];
        let writers = pool(&lineage, WRITERS_MAX, &with(&options, "write", &limits));
        let (closing, workers) = (CancellationToken::new(), Mutex::default());
        let inner = Inner {
            name,
            options,
            readers,
            writers,
            wall_clock,
            log_id: Mutex::new(log_id),
            lineage,
            closing,
            workers,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Compares the database's time, which was read since `before`, with this node's.
    pub(super) fn check_clock(&self, before: Timestamp, theirs: i64) -> Result<(), Error> {
        let after = self.now();
        // Theirs was read between the two of ours.
        let (earliest, latest) = (before.0 / 1_000_000, after.0 / 1_000_000);
        let milliseconds =
            if theirs < earliest { earliest - theirs } else { (latest - theirs).min(0) };
        if milliseconds.abs() > CLOCK_DISTANCE_MAX_MS {
            let database = self.name().to_owned();
            return Err(Error::ClockOff { database, milliseconds });
        }
        Ok(())
    }

    /// Refuses a database that takes no writes, or whose clock is far from this node's.
    pub(super) async fn check_writable(&self) -> Result<(), Error> {
        let operation = "see whether it can be written";
        let before = self.now();
        let found = self.fetch_writing(operation, || sqlx::query(SELECT_WRITABLE)).await?;
        let row = found.first().ok_or(sqlx::Error::RowNotFound);
        let read = row.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let (theirs, is_read_only) =
            read.map_err(|source| Error::Database { operation, source })?;
        if is_read_only {
            return Err(Error::ReadOnly { database: self.name().to_owned() });
        }
        self.check_clock(before, theirs)
    }

    /// The database's address, without a password.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Ends what is running and closes every connection. Handles that are left answer
    /// [`Error::Closed`].
    pub async fn close(&self) {
        self.inner.closing.cancel();
        let workers = std::mem::take(&mut *self.workers());
        for worker in workers {
            // A worker that panicked has told so.
            drop(worker.await);
        }
        self.inner.writers.close().await;
        self.inner.readers.close().await;
    }

    pub(super) fn log_id(&self) -> LogId {
        *self.inner.log_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The empty log here became another one.
    pub(super) fn became(&self, log_id: LogId) {
        let mut own = self.inner.log_id.lock().unwrap_or_else(PoisonError::into_inner);
        *own = log_id;
    }

    pub(super) fn lineage(&self) -> &Arc<Lineage> {
        &self.inner.lineage
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.inner.wall_clock)()
    }

    pub(super) fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    pub(super) fn readers(&self) -> &PgPool {
        &self.inner.readers
    }

    /// Ends with [`Database::close`], which waits for it.
    pub(super) fn keep(&self, worker: JoinHandle<()>) {
        self.workers().push(worker);
    }

    fn workers(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.inner.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for appends alone.
    pub(super) async fn connect_appender(&self) -> Result<PgConnection, Error> {
        let turn = TURN_MAX.as_millis().to_string();
        let settings = [
            ("synchronous_commit", "on"),
            ("statement_timeout", "8000"),
            ("lock_timeout", "8000"),
            ("idle_in_transaction_session_timeout", turn.as_str()),
            // The append's plans are always the same few index look-ups; statistics of tables
            // that were empty a minute ago must not make others of them.
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("jit", "off"),
        ];
        let options = with(&self.inner.options, "append", &settings);
        let mut connection = connect(&self.inner.name, &options).await?;
        let asked = within(self.inner.lineage.ask(&mut connection)).await;
        asked.map_err(|source| self.failed("find the log's end again", source))?;
        self.inner.lineage.intact()?;
        Ok(connection)
    }

    /// What a failure of an operation on one of its connections means.
    pub(crate) fn failed(&self, operation: &'static str, source: sqlx::Error) -> Error {
        failure::classify(&self.inner.name, operation, source)
    }

    /// A connection that reads this log and not one that took its place.
    pub(super) async fn reader(
        &self,
        operation: &'static str,
    ) -> Result<PoolConnection<Postgres>, Error> {
        self.acquire(&self.inner.readers, operation).await
    }

    async fn acquire(
        &self,
        pool: &PgPool,
        operation: &'static str,
    ) -> Result<PoolConnection<Postgres>, Error> {
        let connection = match pool.acquire().await {
            Ok(connection) => connection,
            Err(source) => return Err(self.not_acquired(operation, source).await),
        };
        self.inner.lineage.intact()?;
        Ok(connection)
    }

    /// Why there was no connection. A pool tries until its time is over and does not tell what it
    /// met with, so that is asked for once more.
    async fn not_acquired(&self, operation: &'static str, source: sqlx::Error) -> Error {
        if !matches!(source, sqlx::Error::PoolTimedOut) {
            return self.failed(operation, source);
        }
        match timeout(REASON_MAX, self.inner.options.connect()).await {
            // A server that has a connection for others and none for us is only slow.
            Ok(Ok(_)) | Err(_) => self.failed(operation, source),
            Ok(Err(reason)) => self.failed(operation, reason),
        }
    }

    /// The rows that a query reads. Connections that the server has dropped are passed over.
    pub(crate) async fn fetch(
        &self,
        operation: &'static str,
        query: impl Fn() -> Query<'static, Postgres, PgArguments> + Send,
    ) -> Result<Vec<PgRow>, Error> {
        self.fetch_from(&self.inner.readers, READERS_MAX, operation, query).await
    }

    /// As [`Database::fetch`], for one statement that writes and may simply be tried again.
    pub(crate) async fn fetch_writing(
        &self,
        operation: &'static str,
        query: impl Fn() -> Query<'static, Postgres, PgArguments> + Send,
    ) -> Result<Vec<PgRow>, Error> {
        self.fetch_from(&self.inner.writers, WRITERS_MAX, operation, query).await
    }

    async fn fetch_from(
        &self,
        pool: &PgPool,
        stale_max: u32,
        operation: &'static str,
        query: impl Fn() -> Query<'static, Postgres, PgArguments> + Send,
    ) -> Result<Vec<PgRow>, Error> {
        let mut stale = 0;
        loop {
            let mut connection = self.acquire(pool, operation).await?;
            let source = match within(query().fetch_all(&mut *connection)).await {
                Ok(rows) => return Ok(rows),
                Err(source) => source,
            };
            let is_lost = is_lost(&source);
            if is_lost {
                discard(connection);
            }
            if !is_lost || stale == stale_max || is_timeout(&source) {
                return Err(self.failed(operation, source));
            }
            stale += 1;
        }
    }

    /// Runs `work` in a transaction of a worker of its own, so that a caller that goes away leaves
    /// nothing half done. The outer error is the transaction's, the inner one the work's.
    pub(crate) async fn transaction<T, E, W>(
        &self,
        operation: &'static str,
        work: W,
    ) -> Result<Result<T, E>, Error>
    where
        T: Send + 'static,
        E: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let database = self.clone();
        drop(crate::worker::spawn("postgres transaction", async move {
            // The caller may have gone away; the transaction stands all the same.
            drop(answer.send(database.transact(operation, work).await));
        }));
        answered.await.unwrap_or(Err(Error::Closed))
    }

    async fn transact<T, E, W>(
        &self,
        operation: &'static str,
        work: W,
    ) -> Result<Result<T, E>, Error>
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, T, E>,
    {
        let mut connection = self.begin(operation).await?;
        let result = work(&mut connection).await;
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        if let Err(source) = within(sqlx::query(end).execute(&mut *connection)).await {
            discard(connection);
            if result.is_ok() {
                return Err(self.failed(operation, source));
            }
        }
        Ok(result)
    }

    async fn begin(&self, operation: &'static str) -> Result<PoolConnection<Postgres>, Error> {
        let mut stale = 0;
        loop {
            let mut connection = match self.inner.writers.acquire().await {
                Ok(connection) => connection,
                Err(source) => return Err(self.not_acquired(operation, source).await),
            };
            self.inner.lineage.intact()?;
            match within(sqlx::query("BEGIN").execute(&mut *connection)).await {
                Ok(_) => return Ok(connection),
                Err(source) => {
                    discard(connection);
                    if stale == WRITERS_MAX {
                        return Err(self.failed(operation, source));
                    }
                    stale += 1;
                }
            }
        }
    }
}

/// An answer in time, or what a connection would say that lost it.
async fn within<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let timed_out = |_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into()));
    timeout(READ_MAX, work).await.unwrap_or_else(timed_out)
}

fn is_timeout(failure: &sqlx::Error) -> bool {
    matches!(failure, sqlx::Error::Io(source) if source.kind() == ErrorKind::TimedOut)
}

/// Closes a connection in an unknown state instead of giving it back.
fn discard(connection: PoolConnection<Postgres>) {
    drop(connection.detach());
}

fn options(url: &DatabaseUrl) -> PgConnectOptions {
    url.connect_options().disable_statement_logging()
}

/// The options of one sort of connection. The server notices a dead peer by itself.
fn with(options: &PgConnectOptions, use_of: &str, settings: &[(&str, &str)]) -> PgConnectOptions {
    let keepalive = [
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
    ];
    options
        .clone()
        .application_name(&format!("diario {use_of}"))
        .options(keepalive.iter().chain(settings).copied())
}

/// Each new connection is asked whether it still leads to the same log.
fn pool(lineage: &Arc<Lineage>, max: u32, options: &PgConnectOptions) -> PgPool {
    let lineage = Arc::clone(lineage);
    PgPoolOptions::new()
        .after_connect(move |connection, _| {
            let lineage = Arc::clone(&lineage);
            Box::pin(async move { lineage.ask(connection).await })
        })
        .max_connections(max)
        .acquire_timeout(CONNECT_MAX)
        .idle_timeout(Duration::from_secs(300))
        // A dead connection shows itself at its first use, which is then tried on another.
        .test_before_acquire(false)
        .connect_lazy_with(options.clone())
}

async fn connect(name: &str, options: &PgConnectOptions) -> Result<PgConnection, Error> {
    let connecting = timeout(CONNECT_MAX, options.connect()).await;
    connecting
        .unwrap_or_else(|_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into())))
        .map_err(|source| failure::at_open(name, source))
}
