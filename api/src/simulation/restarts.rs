//! What follows a crash, computed a second time: no slot is placed again that its policy forbids to,
//! or before its pause is over.

use std::collections::BTreeMap;

use domain::{
    aggregates::Aggregates,
    bbs::{
        actual_lrp::{self, Crashed, Event, Restart},
        restart_policy::{RestartPolicy, RestartWhen},
    },
    exit::ExitStatus,
    log::StreamId,
    units::{Milliseconds, Timestamp},
};

use super::witness::{Violation, ensure};

/// What each crashed slot waits for.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    waiting: BTreeMap<StreamId, Restart>,
}

impl Restarts {
    /// An event of a slot was committed; `aggregates` are as it left them.
    pub(super) fn see(
        &mut self,
        stream: &StreamId,
        event: &Event,
        now: Timestamp,
        aggregates: &Aggregates,
    ) -> Result<(), Violation> {
        match event {
            Event::Crashed(crashed) => {
                check_crash(stream, crashed, now, aggregates)?;
                self.waiting.insert(stream.clone(), crashed.restart);
                Ok(())
            }
            Event::Placed(_) => {
                let is_due = match self.waiting.remove(stream) {
                    None | Some(Restart::Immediately) => true,
                    Some(Restart::NotBefore(instant)) => now >= instant,
                    Some(Restart::Never) => false,
                };
                ensure(is_due, "what crashed starts again as its policy says", || {
                    stream.to_string()
                })
            }
            // A user's wish, or an instance that ran all the while: no start after a crash.
            Event::Created(_) | Event::Removed(_) | Event::SuspectRestored(_) => {
                self.waiting.remove(stream);
                Ok(())
            }
            Event::PlacementFailed(_)
            | Event::Refused(_)
            | Event::Claimed(_)
            | Event::Started(_)
            | Event::Unclaimed(_)
            | Event::Retired(_)
            | Event::Left(_)
            | Event::Suspected(_)
            | Event::SuspectRemoved(_)
            | Event::TwinCrashed(_)
            | Event::EvacuationStarted(_)
            | Event::EvacuationEnded(_)
            | Event::ReadinessChanged(_)
            | Event::Killed(_)
            | Event::WithdrawalStarted(_)
            | Event::WithdrawalEnded(_) => Ok(()),
        }
    }
}

fn check_crash(
    stream: &StreamId,
    crashed: &Crashed,
    now: Timestamp,
    aggregates: &Aggregates,
) -> Result<(), Violation> {
    let StreamId::ActualLrp(key) = stream else { return Ok(()) };
    let Some(slot) = aggregates.slot(key) else { return Ok(()) };
    let policy = actual_lrp::policy_of(aggregates, slot);
    let expected = after(&policy, crashed, now);
    ensure(crashed.restart == expected, "what follows a crash is what the policy says", || {
        format!("{stream}: {crashed:?} under {policy:?} should be {expected:?}")
    })
}

/// By the words of the policy, step by step. A simulated process that leaves with status 0 does so by
/// itself.
fn after(policy: &RestartPolicy, crashed: &Crashed, now: Timestamp) -> Restart {
    let is_clean = crashed.exit.is_some_and(|exit| exit.status == ExitStatus::Exited(0));
    let is_refused = match policy.when {
        RestartWhen::Always => false,
        RestartWhen::OnFailure => is_clean,
        RestartWhen::Never => true,
    };
    if is_refused || crashed.crash_count >= policy.crashes_max {
        return Restart::Never;
    }
    let Some(pauses) = crashed.crash_count.checked_sub(policy.immediate_restarts + 1) else {
        return Restart::Immediately;
    };
    let mut pause = policy.back_off_first_ms;
    for _ in 0..pauses {
        pause = Milliseconds(2 * pause.0).min(policy.back_off_max_ms);
    }
    Restart::NotBefore(now.plus(pause.min(policy.back_off_max_ms)))
}
