//! A turn: a transaction that holds the head's lock while its holder decides.
//!
//! It ends when it is used, dropped or too old. Until its COMMIT is sent nothing can have been
//! written; the server takes back the turn of a process that does not even run.

use async_trait::async_trait;
use domain::{
    event::Event,
    log::{Position, Recorded},
};
use sqlx::PgConnection;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{
    super::{AppendError, Batch, Error, Head, TURN_MAX, Turn},
    append::{self, Answer, NoAnswer},
    appender::{ANSWER_MAX, Events, Held, Worker},
    failure::is_refusal,
    read, rows,
};
use crate::failpoint::{self, Step};

/// What the holder of a turn asks for.
pub(super) enum TurnJob {
    Read(Position, usize, oneshot::Sender<Result<Events, Error>>),
    Append(Batch, oneshot::Sender<Result<Events, AppendError>>),
}

/// A turn in the hand of its holder; dropping it ends the turn.
pub(super) struct Granted {
    head: Head,
    jobs: mpsc::Sender<TurnJob>,
}

#[async_trait]
impl Turn for Granted {
    fn head(&self) -> Head {
        self.head
    }

    async fn read_all(
        &mut self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, Error> {
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.send(TurnJob::Read(after, limit, answer)).await;
        sent.map_err(|_| Error::TurnTakenBack)?;
        answered.await.unwrap_or(Err(Error::TurnTakenBack))
    }

    async fn append(self: Box<Self>, batch: Batch) -> Result<Vec<Recorded<Event>>, AppendError> {
        let id = batch.id;
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.send(TurnJob::Append(batch, answer)).await;
        sent.map_err(|_| AppendError::Failed(Error::TurnTakenBack))?;
        answered.await.unwrap_or(Err(AppendError::OutcomeUnknown { batch: id }))
    }
}

/// Gives the turn to whoever waits for `answer` and serves it to its end. Comes back with the
/// connection if that is clean.
pub(super) async fn serve(
    worker: &Worker,
    mut held: Held,
    answer: oneshot::Sender<Result<Granted, AppendError>>,
) -> Option<Held> {
    let failed = |source| AppendError::Failed(worker.database.failed("take a turn", source));
    let committed = worker.shared.lineage.known().position;
    let head = match within(begin(&mut held.connection)).await {
        Ok(head) => head,
        Err(source) => {
            let is_clean = is_refusal(&source) && end(&mut held.connection, "ROLLBACK").await;
            drop(answer.send(Err(failed(source))));
            return is_clean.then_some(held);
        }
    };
    worker.shared.lineage.saw_behind(committed, head);
    if let Err(replaced) = worker.shared.intact() {
        drop(answer.send(Err(replaced)));
        return None;
    }
    let (jobs, mut asked) = mpsc::channel(1);
    if answer.send(Ok(Granted { head, jobs })).is_err() {
        return end(&mut held.connection, "ROLLBACK").await.then_some(held);
    }
    let last_instant = Instant::now() + TURN_MAX;
    loop {
        match timeout_at(last_instant, asked.recv()).await {
            Ok(Some(TurnJob::Read(after, limit, answer))) => {
                let reading = read::all_on(&mut held.connection, after, limit);
                let found = within(reading).await;
                let is_lost = found.is_err();
                let events = found
                    .map_err(|source| worker.database.failed("read in a turn", source))
                    .and_then(|rows| read::decoded("read in a turn", &rows));
                if let Ok(events) = &events {
                    // It is committed, for nobody writes in another's turn: the tailer need not
                    // read it too.
                    worker.shared.saw_events(events);
                    worker.shared.feed.publish_next(events);
                }
                // Whoever asked may have gone away: then the turn ends with the next look.
                drop(answer.send(events));
                if is_lost {
                    return None;
                }
            }
            Ok(Some(TurnJob::Append(batch, answer))) => {
                let (result, is_clean) = append(worker, &mut held.connection, batch).await;
                drop(answer.send(result));
                return is_clean.then_some(held);
            }
            Ok(None) => return end(&mut held.connection, "ROLLBACK").await.then_some(held),
            Err(_) => {
                tracing::warn!("A turn was not used in time and is taken back.");
                return end(&mut held.connection, "ROLLBACK").await.then_some(held);
            }
        }
    }
}

async fn within<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let timed_out = |_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
    timeout(ANSWER_MAX, work).await.unwrap_or_else(timed_out)
}

async fn begin(connection: &mut PgConnection) -> Result<Head, sqlx::Error> {
    sqlx::query("BEGIN").execute(&mut *connection).await?;
    failpoint::reached(Step::TurnBegins);
    // A locked row is answered as it is once the lock is had; what is read behind it, in
    // statements of their own, is as of the lock.
    let row = sqlx::query(rows::LOCK_HEAD).fetch_one(connection).await?;
    failpoint::reached(Step::TurnTaken);
    rows::head(&row, 0)
}

/// Whether the transaction was ended and the connection is clean.
async fn end(connection: &mut PgConnection, statement: &'static str) -> bool {
    within(sqlx::query(statement).execute(connection)).await.is_ok()
}

/// Appends and commits. Comes with whether the connection is clean.
async fn append(
    worker: &Worker,
    connection: &mut PgConnection,
    batch: Batch,
) -> (Result<Events, AppendError>, bool) {
    let id = batch.id;
    let failed = |source| AppendError::Failed(worker.database.failed("append in a turn", source));
    let _until_published = worker.shared.appending();
    let appending = append::append(connection, &worker.shared, batch);
    let commit = match timeout(ANSWER_MAX, appending).await {
        Ok(Ok(Answer::Written(commit))) => commit,
        Ok(Ok(Answer::Refused(refused))) => {
            return (Err(refused), end(connection, "ROLLBACK").await);
        }
        // Nothing was committed.
        Ok(Err(NoAnswer::NotSent(source) | NoAnswer::Sent(source))) => {
            let is_clean = is_refusal(&source) && end(connection, "ROLLBACK").await;
            return (Err(failed(source)), is_clean);
        }
        Err(_) => {
            let source = sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
            return (Err(failed(source)), false);
        }
    };
    failpoint::reached(Step::HeadMoved);
    let committing = sqlx::query("COMMIT").execute(&mut *connection);
    match within(failpoint::once_sent(Step::CommitSent, committing)).await {
        Ok(_) => (Ok(worker.publish(commit)), true),
        Err(source) if is_refusal(&source) => (Err(failed(source)), false),
        Err(source) => {
            tracing::warn!(failure = %source, batch = %id, "A turn's outcome is unknown.");
            (Err(AppendError::OutcomeUnknown { batch: id }), false)
        }
    }
}
