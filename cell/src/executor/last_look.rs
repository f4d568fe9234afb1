//! The last look at a container whose work ended: what was kept of it, what its cgroups count, and
//! what is still in it.
//!
//! Taken before anything is destroyed. What cannot be had is left out: an end is never held up for
//! long by a look at it.

use std::time::Duration;

use domain::exit::{ExitStatus, ProcessExit};
use domain::rep::{Evidence, Peaks, SeenProcess};
use tokio::time::timeout;

use super::context::Context;
use super::sampler::sample;
use crate::garden::{ContainerState, Inspection};

/// What is said of a container that somebody else removed or stopped, in Diego's words.
pub(crate) const MISSING: &str = "missing garden container";
/// How long a container's own end may take to be seen behind that of its processes.
const STOP_WAIT: Duration = Duration::from_millis(30);
const SIGKILL: i32 = 9;

/// Everything that is known of a container now.
pub(super) async fn evidence(context: &Context<'_>) -> Evidence {
    let Context { garden, order, feed, .. } = *context;
    let (sample, inspection) = tokio::join!(
        sample(garden, order, feed, context.settings.share, context.container),
        garden.inspect(&order.handle),
    );
    if let Some(sample) = sample {
        feed.note_sample(sample);
    }
    let kept = feed.evidence();
    match inspection {
        Ok(inspection) => with_inspection(kept, inspection),
        Err(error) => {
            tracing::debug!(handle = %order.handle, %error, "No last look into a container.");
            kept
        }
    }
}

/// Whether the container itself is gone, and not only what ran in it. When its init is killed, all
/// its processes are, and their ends are seen first.
pub(super) async fn is_missing(context: &Context<'_>, exit: Option<&ProcessExit>) -> bool {
    let Context { garden, order, .. } = *context;
    let was_killed = exit.is_some_and(|exit| exit.status == ExitStatus::Signalled(SIGKILL));
    // The kernel's word says more, should it have killed the init too.
    if exit.is_some_and(|exit| exit.out_of_memory.is_some()) {
        return false;
    }
    if was_killed && timeout(STOP_WAIT, garden.until_stopped(&order.handle)).await.is_err() {
        return false;
    }
    garden.state(&order.handle).await != Some(ContainerState::Running)
}

fn with_inspection(kept: Evidence, inspection: Inspection) -> Evidence {
    let peaks = Peaks {
        memory_bytes: inspection.memory_peak_bytes,
        memory_refused: inspection.memory_refused,
        memory_kills: inspection.memory_kills,
        pids_refused: inspection.pids_refused,
        cpu_throttled_nanoseconds: inspection.cpu_throttled_ns,
    };
    let processes = inspection.processes.into_iter().map(|process| SeenProcess {
        pid: process.pid,
        parent_pid: process.parent_pid,
        state: process.state,
        memory_bytes: process.memory_bytes,
        command: process.command,
    });
    Evidence { peaks: Some(peaks), processes: processes.collect(), ..kept }
}
