//! Failpoints: the steps of a write at which a debug build can be told to die, as by `kill -9`, so
//! that tests see what a crash leaves behind, step by step.
//!
//! Never in a release build: there a step is nothing, and nothing can arm it. One process dies at
//! one step, once.

use std::{
    fmt,
    future::{Future, poll_fn},
    num::NonZeroU32,
    pin::pin,
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A step of a write, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The bus has decided a batch, and asked nobody yet to write it.
    BusDecided,
    /// The writer's transaction is open, and no turn is had yet. Only where several nodes write.
    TurnBegins,
    /// The head is locked, for this node to decide on. Only where several nodes write.
    TurnTaken,
    /// A batch is about to be written.
    AppendBegins,
    /// The database was sent the batch and has not answered.
    AppendSent,
    /// The head is locked and read.
    HeadLocked,
    /// The events' rows are written.
    EventsWritten,
    /// The rows of streams and batch are written.
    BatchWritten,
    /// The head is moved: all is written, and nothing committed.
    HeadMoved,
    /// The database was sent the commit and has not answered.
    CommitSent,
    /// It is committed, and nobody was told.
    Committed,
    /// The views are folded, and nobody was woken.
    ViewsPublishing,
    /// Callers are answered, one after another.
    BusAnswering,
    /// A snapshot's shards are written, and nobody can find it yet.
    SnapshotWritten,
    /// A segment is in the archive, and not listed.
    SegmentWritten,
    /// A segment is listed, and its events are in the database too.
    SegmentListed,
    /// A first part of what is archived is deleted from the database.
    DatabaseTrimmed,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::BusDecided,
        Self::TurnBegins,
        Self::TurnTaken,
        Self::AppendBegins,
        Self::AppendSent,
        Self::HeadLocked,
        Self::EventsWritten,
        Self::BatchWritten,
        Self::HeadMoved,
        Self::CommitSent,
        Self::Committed,
        Self::ViewsPublishing,
        Self::BusAnswering,
        Self::SnapshotWritten,
        Self::SegmentWritten,
        Self::SegmentListed,
        Self::DatabaseTrimmed,
    ];

    /// Its name, as [`Failpoint`] reads it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BusDecided => "bus-decided",
            Self::TurnBegins => "turn-begins",
            Self::TurnTaken => "turn-taken",
            Self::AppendBegins => "append-begins",
            Self::AppendSent => "append-sent",
            Self::HeadLocked => "head-locked",
            Self::EventsWritten => "events-written",
            Self::BatchWritten => "batch-written",
            Self::HeadMoved => "head-moved",
            Self::CommitSent => "commit-sent",
            Self::Committed => "committed",
            Self::ViewsPublishing => "views-publishing",
            Self::BusAnswering => "bus-answering",
            Self::SnapshotWritten => "snapshot-written",
            Self::SegmentWritten => "segment-written",
            Self::SegmentListed => "segment-listed",
            Self::DatabaseTrimmed => "database-trimmed",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where to die: `STEP:N`, the N-th time that the process comes to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failpoint {
    /// The step.
    pub step: Step,
    /// Which time; 1 is the first.
    pub time: NonZeroU32,
}

impl fmt::Display for Failpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.step, self.time)
    }
}

/// The text names no failpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be STEP:N, with N from 1 on and STEP one of {}", names())]
pub struct UnknownFailpoint;

fn names() -> String {
    Step::ALL.map(Step::name).join(", ")
}

impl FromStr for Failpoint {
    type Err = UnknownFailpoint;

    fn from_str(text: &str) -> Result<Self, UnknownFailpoint> {
        let (name, time) = text.split_once(':').ok_or(UnknownFailpoint)?;
        let step = Step::ALL.into_iter().find(|step| step.name() == name);
        let step = step.ok_or(UnknownFailpoint)?;
        Ok(Self { step, time: time.parse().map_err(|_| UnknownFailpoint)? })
    }
}

#[derive(Debug)]
struct Armed {
    step: Step,
    left: AtomicU32,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Says where this process dies. Only the first call counts; a release build takes no notice.
pub fn arm(failpoint: Failpoint) {
    let Failpoint { step, time } = failpoint;
    ARMED.get_or_init(|| Armed { step, left: AtomicU32::new(time.get()) });
}

/// A step is reached: the process goes on, or is no more.
#[inline]
pub fn reached(step: Step) {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(armed) = ARMED.get().filter(|armed| armed.step == step) else { return };
    if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        die();
    }
}

/// Waits for what was asked of somebody else; the step is reached once the question is sent.
pub async fn once_sent<F: Future>(step: Step, asked: F) -> F::Output {
    let mut asked = pin!(asked);
    if cfg!(debug_assertions) {
        // What is small is sent by the first poll; of the rest a part is.
        let first = poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await;
        reached(step);
        if let Poll::Ready(answer) = first {
            return answer;
        }
    }
    asked.await
}

/// No destructor runs, no buffer is flushed, and no other thread is waited for.
fn die() -> ! {
    loop {
        // Nothing can refuse it; what another thread does until it lands a real kill allows too.
        kill(Pid::this(), Signal::SIGKILL).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_named_once_and_read_back() {
        for (number, step) in Step::ALL.into_iter().enumerate() {
            let time = NonZeroU32::new(7).unwrap();
            let failpoint = Failpoint { step, time };
            assert_eq!(failpoint.to_string().parse(), Ok(failpoint));
            let first = Step::ALL.iter().position(|other| other.name() == step.name());
            assert_eq!(first, Some(number), "{step}");
        }
    }

    #[test]
    fn a_failpoint_that_is_none_is_refused_with_the_names_of_all() {
        for text in ["", "committed", "committed:0", "committed:-1", "committed:x", "comitted:1"] {
            let refused = text.parse::<Failpoint>().unwrap_err().to_string();
            assert!(refused.contains("STEP:N") && refused.contains("bus-answering"), "{refused}");
        }
    }
}
