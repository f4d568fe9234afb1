//! The one connection that appends, owned by one worker.
//!
//! Appends, turns and look-ups of batches run one after another inside the worker, each to its
//! end, so a caller that goes away never leaves half of one behind. A connection whose state is in
//! doubt is thrown away, and its append's outcome is told as unknown.

use std::{sync::Arc, time::Duration};

use domain::{event::Event, log::Recorded};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    super::{AppendError, Batch, BatchId, Error, commit::Commit},
    append::{self, Answer, NoAnswer},
    database::{Database, SELECT_CLOCK},
    failure::is_refusal,
    read, rows,
    shared::Shared,
    turn,
};
use crate::failpoint::{self, Step};

/// How many jobs may wait.
const QUEUE_MAX: usize = 256;
/// How long the server may take for one answer. Its own limits are shorter: past this, it or the
/// network is gone.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(60);

pub(super) type Events = Vec<Recorded<Event>>;

/// What the worker is asked for.
pub(super) enum Job {
    Append(Batch, oneshot::Sender<Result<Events, AppendError>>),
    Turn(oneshot::Sender<Result<turn::Granted, AppendError>>),
    Find(BatchId, oneshot::Sender<Result<Option<Events>, Error>>),
}

/// A cheap handle on the appending worker.
#[derive(Debug, Clone)]
pub(super) struct Appender {
    queue: mpsc::Sender<Job>,
}

impl Appender {
    pub(super) fn start(database: &Database, shared: Arc<Shared>) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let worker = Worker { database: database.clone(), shared, held: None };
        database.keep(crate::worker::spawn("postgres appender", worker.run(jobs)));
        Self { queue }
    }

    pub(super) async fn append(&self, batch: Batch) -> Result<Events, AppendError> {
        let id = batch.id;
        let (answer, answered) = oneshot::channel();
        let sent = self.queue.send(Job::Append(batch, answer)).await;
        sent.map_err(|_| AppendError::Failed(Error::Closed))?;
        answered.await.unwrap_or(Err(AppendError::OutcomeUnknown { batch: id }))
    }

    pub(super) async fn turn(&self) -> Result<turn::Granted, AppendError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.queue.send(Job::Turn(answer)).await;
        sent.map_err(|_| AppendError::Failed(Error::Closed))?;
        answered.await.unwrap_or(Err(AppendError::Failed(Error::Closed)))
    }

    pub(super) async fn find(&self, id: BatchId) -> Result<Option<Events>, Error> {
        let (answer, answered) = oneshot::channel();
        let sent = self.queue.send(Job::Find(id, answer)).await;
        sent.map_err(|_| Error::Closed)?;
        answered.await.unwrap_or(Err(Error::Closed))
    }
}

/// A connection and when the clocks were last compared on it.
pub(super) struct Held {
    pub(super) connection: PgConnection,
    clock_checked: Instant,
}

pub(super) struct Worker {
    pub(super) database: Database,
    pub(super) shared: Arc<Shared>,
    held: Option<Held>,
}

impl Worker {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let closing = self.database.closing().clone();
        loop {
            let job = tokio::select! {
                biased;
                () = closing.cancelled() => break,
                job = jobs.recv() => job,
            };
            let Some(job) = job else { break };
            self.serve(job).await;
        }
        jobs.close();
        while let Ok(job) = jobs.try_recv() {
            refuse(job);
        }
        if let Some(held) = self.held.take() {
            // A clean goodbye only saves the server a line in its log.
            drop(timeout(ANSWER_MAX, held.connection.close()).await);
        }
    }

    async fn serve(&mut self, job: Job) {
        // Whoever asked may have gone away.
        match job {
            Job::Append(batch, answer) => drop(answer.send(self.append(batch).await)),
            Job::Find(id, answer) => drop(answer.send(self.find(id).await)),
            Job::Turn(answer) => self.turn(answer).await,
        }
    }

    async fn append(&mut self, batch: Batch) -> Result<Events, AppendError> {
        let id = batch.id;
        let mut held = self.take().await.map_err(AppendError::Failed)?;
        let shared = Arc::clone(&self.shared);
        let _until_published = shared.appending();
        let appending = append::append(&mut held.connection, &self.shared, batch);
        let no_answer = match timeout(ANSWER_MAX, appending).await {
            Ok(Ok(answer)) => {
                self.held = Some(held);
                return match answer {
                    Answer::Written(commit) => Ok(self.publish(commit)),
                    Answer::Refused(refused) => Err(refused),
                };
            }
            Ok(Err(no_answer)) => no_answer,
            Err(_) => NoAnswer::Sent(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        };
        let (source, was_sent) = match no_answer {
            NoAnswer::NotSent(source) => (source, false),
            NoAnswer::Sent(source) => (source, true),
        };
        if is_refusal(&source) {
            self.held = Some(held);
        } else if was_sent {
            tracing::warn!(failure = %source, batch = %id, "An append's outcome is unknown.");
            return Err(AppendError::OutcomeUnknown { batch: id });
        }
        Err(AppendError::Failed(self.database.failed("append", source)))
    }

    /// Notes what was committed and tells the subscribers of its events, which come back.
    pub(super) fn publish(&self, commit: Commit) -> Events {
        failpoint::reached(Step::Committed);
        let Commit { events, head, .. } = commit;
        self.shared.lineage.saw(head);
        self.shared.saw_events(&events);
        if !self.shared.feed.publish_next(&events) {
            self.shared.wake.notify_one();
        }
        events
    }

    async fn find(&mut self, id: BatchId) -> Result<Option<Events>, Error> {
        let operation = "look a batch up";
        let mut held = self.take().await?;
        let source = match timeout(ANSWER_MAX, find(&mut held.connection, id)).await {
            Ok(Ok(found)) => {
                self.held = Some(held);
                // Its commit may have been taken for failed: then nobody has heard of it yet.
                self.shared.wake.notify_one();
                return found.map(|rows| read::decoded(operation, &rows)).transpose();
            }
            Ok(Err(source)) => source,
            Err(_) => sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()),
        };
        if is_refusal(&source) {
            self.held = Some(held);
        }
        Err(self.database.failed(operation, source))
    }

    async fn turn(&mut self, answer: oneshot::Sender<Result<turn::Granted, AppendError>>) {
        match self.take().await {
            Ok(held) => self.held = turn::serve(self, held, answer).await,
            Err(failure) => drop(answer.send(Err(AppendError::Failed(failure)))),
        }
    }

    /// The connection, whose clock agrees with ours. It is put back by whoever leaves it clean.
    async fn take(&mut self) -> Result<Held, Error> {
        self.shared.lineage.intact()?;
        let (mut connection, checked) = match self.held.take() {
            Some(held) => (held.connection, Some(held.clock_checked)),
            None => (self.database.connect_appender().await?, None),
        };
        let clock_checked = match checked {
            Some(at) if at.elapsed() < CLOCK_CHECK_INTERVAL => at,
            Some(_) | None => {
                self.check_clock(&mut connection).await?;
                Instant::now()
            }
        };
        Ok(Held { connection, clock_checked })
    }

    async fn check_clock(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let operation = "compare the clocks";
        let before = self.database.now();
        let asked = sqlx::query(SELECT_CLOCK).fetch_one(connection);
        let theirs: i64 = timeout(ANSWER_MAX, asked)
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
            .and_then(|row| row.try_get(0))
            .map_err(|source| self.database.failed(operation, source))?;
        self.database.check_clock(before, theirs)
    }
}

fn refuse(job: Job) {
    match job {
        Job::Append(_, answer) => drop(answer.send(Err(AppendError::Failed(Error::Closed)))),
        Job::Find(_, answer) => drop(answer.send(Err(Error::Closed))),
        Job::Turn(answer) => drop(answer.send(Err(AppendError::Failed(Error::Closed)))),
    }
}

async fn find(
    connection: &mut PgConnection,
    id: BatchId,
) -> Result<Option<Vec<sqlx::postgres::PgRow>>, sqlx::Error> {
    let found = sqlx::query("SELECT * FROM diario_find_batch($1)")
        .bind(id.0.as_bytes().as_slice())
        .fetch_optional(&mut *connection)
        .await?;
    match found {
        None => Ok(None),
        Some(row) => read::batch_on(connection, &rows::batch(&row)?).await.map(Some),
    }
}
