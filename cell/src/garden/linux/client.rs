//! The agent's end of a shim's socket: asks it, and keeps what it tells.
//!
//! One task per container owns the connection; everyone else sees its state through a watch.
//! When the connection breaks it is made again; when that fails the shim is dead, and what it
//! left on disk is all there is.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use super::depot::{Depot, SHIM_SOCKET};
use crate::garden::{self, ExitRecord, ProcessId};
use crate::shim::protocol::{self, Answer, Command, Message, Refusal, Request, Status};

/// How often in its life a broken connection is made again; then the shim counts as dead.
const RECONNECTS_MAX: u32 = 100;
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How many requests may wait for the connection's task.
const CALLS_MAX: usize = 64;
const READ_BYTES: usize = 16 * 1024;

/// What is known of a container's processes.
pub(super) type Processes = Status;

/// A request on its way, and where its answer goes.
struct Call {
    command: Command,
    answer: oneshot::Sender<Result<Answer, Refusal>>,
}

/// A cheap handle on the task that holds the connection.
#[derive(Debug)]
pub(super) struct ShimClient {
    calls: mpsc::Sender<Call>,
    processes: watch::Receiver<Processes>,
    _task: AbortOnDropHandle<()>,
}

impl ShimClient {
    /// Connects to a container's shim. If it is dead, the client tells what it left behind.
    pub(super) async fn connect(depot: Depot) -> Self {
        let (calls, waiting) = mpsc::channel(CALLS_MAX);
        let (sender, processes) = watch::channel(Processes::default());
        let (ready_sender, ready) = oneshot::channel();
        let task = keep(depot, waiting, sender, ready_sender);
        let task = AbortOnDropHandle::new(runtime::Handle::current().spawn(task));
        // Only an error if the task died; then the watch is closed, and all callers see that.
        ready.await.unwrap_or_default();
        Self { calls, processes, _task: task }
    }

    /// Asks the shim; `Stopped` if it is dead, `Unanswered` if it broke off.
    pub(super) async fn ask(&self, command: Command) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        if self.calls.send(Call { command, answer }).await.is_err() {
            return Err(Refusal::Stopped);
        }
        answered.await.unwrap_or(Err(Refusal::Unanswered))
    }

    /// What is known now.
    pub(super) fn processes(&self) -> Processes {
        self.processes.borrow().clone()
    }

    /// Waits until what is known fulfils a condition, or nothing more will be known.
    pub(super) async fn wait_for(&self, condition: impl FnMut(&Processes) -> bool) {
        let mut processes = self.processes.clone();
        // An error means that the task ended: there is nothing more to wait for.
        drop(processes.wait_for(condition).await);
    }
}

/// The task: serves over one connection after another until the shim is dead.
async fn keep(
    depot: Depot,
    mut calls: mpsc::Receiver<Call>,
    processes: watch::Sender<Processes>,
    ready: oneshot::Sender<()>,
) {
    let mut ready = Some(ready);
    let mut reconnects = 0;
    while reconnects < RECONNECTS_MAX {
        let served = match connect(&depot).await {
            Ok(stream) => serve(stream, &mut calls, &processes, &mut ready).await,
            // Nobody listens, or the folder is gone.
            Err(error) if is_dead(&error) => break,
            Err(error) => Err(error),
        };
        match served {
            Ok(()) => return,
            Err(error) => {
                reconnects += 1;
                tracing::debug!(%error, reconnects, "The connection to a shim broke.");
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }
    let exits = read_exits(&depot);
    processes.send_modify(|known| {
        known.is_stopped = true;
        known.running.clear();
        known.exits = exits;
    });
    // Dropping the receiver refuses what waits and what comes.
}

fn is_dead(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

async fn connect(depot: &Depot) -> io::Result<UnixStream> {
    // By the folder's descriptor: a socket's path may have 107 bytes only.
    let folder = File::open(depot.folder())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SHIM_SOCKET}", folder.as_raw_fd())).await
}

/// One connection's conversation.
struct Conversation<'a> {
    writer: OwnedWriteHalf,
    next_number: u64,
    pending: HashMap<u64, oneshot::Sender<Result<Answer, Refusal>>>,
    processes: &'a watch::Sender<Processes>,
}

/// Serves until the garden lets go of the container (`Ok`) or the connection breaks.
async fn serve(
    stream: UnixStream,
    calls: &mut mpsc::Receiver<Call>,
    processes: &watch::Sender<Processes>,
    ready: &mut Option<oneshot::Sender<()>>,
) -> io::Result<()> {
    let (mut reader, writer) = stream.into_split();
    let mut conversation =
        Conversation { writer, next_number: 0, pending: HashMap::new(), processes };
    let (answer, _nobody) = oneshot::channel();
    conversation.ask(Call { command: Command::Status, answer }).await?;
    let mut received = Vec::with_capacity(READ_BYTES);
    loop {
        tokio::select! {
            count = reader.read_buf(&mut received) => {
                if count? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                while let Some(message) = protocol::decode(&mut received)? {
                    conversation.hear(message);
                    // The first message is the answer to the status.
                    if let Some(ready) = ready.take() {
                        // Whoever connects may have given up.
                        ready.send(()).unwrap_or_default();
                    }
                }
                received.reserve(READ_BYTES);
            }
            // Only once the status is known, so that no answer is older than it.
            call = calls.recv(), if ready.is_none() => match call {
                Some(call) => conversation.ask(call).await?,
                None => return Ok(()),
            }
        }
    }
}

impl Conversation<'_> {
    async fn ask(&mut self, call: Call) -> io::Result<()> {
        let number = self.next_number;
        self.next_number += 1;
        let mut bytes = Vec::new();
        protocol::encode(&Request { number, command: call.command }, &mut bytes)?;
        self.pending.insert(number, call.answer);
        self.writer.write_all(&bytes).await
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Answer { number, result } => self.answered(number, result),
            Message::Output { end } => {
                self.processes.send_modify(|known| known.output_end = end);
            }
            Message::Exited(record) => self.processes.send_modify(|known| {
                known.output_end = known.output_end.max(record.output_end);
                known.running.remove(&record.process);
                known.exits.insert(record.process.clone(), *record);
                // The shim forgets the same one.
                if let Some(oldest) = garden::surplus(&known.exits) {
                    known.exits.remove(&oldest);
                }
            }),
            Message::Stopped => self.processes.send_modify(|known| known.is_stopped = true),
        }
    }

    fn answered(&mut self, number: u64, result: Result<Answer, Refusal>) {
        match &result {
            Ok(Answer::Status(status)) => {
                self.processes.send_replace(status.clone());
            }
            // Before its asker goes on, and before its end is told.
            Ok(Answer::Started { process, running, .. }) => self.processes.send_modify(|known| {
                known.running.insert(process.clone(), *running);
            }),
            Ok(Answer::Done) | Err(_) => {}
        }
        if let Some(answer) = self.pending.remove(&number) {
            // The asker may have given up.
            drop(answer.send(result));
        }
    }
}

/// The records that a dead shim left.
fn read_exits(depot: &Depot) -> BTreeMap<ProcessId, ExitRecord> {
    let entries = fs::read_dir(depot.exits()).into_iter().flatten().flatten();
    let records = entries
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"));
    records
        .filter_map(|entry| {
            let text = fs::read(entry.path()).ok()?;
            serde_json::from_slice::<ExitRecord>(&text).ok()
        })
        .map(|record| (record.process.clone(), record))
        .collect()
}
