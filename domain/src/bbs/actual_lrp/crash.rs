//! What follows a crash of a slot, by the policy that is in force for it.

use serde::{Deserialize, Serialize};

use super::{ActualLrp, CrashReport};
use crate::{
    aggregates::Aggregates,
    bbs::restart_policy::RestartPolicy,
    exit::cut_reason,
    units::{Milliseconds, Timestamp},
};

/// An instance that ran longer than this crashes for the first time again.
pub const CRASH_COUNT_RESET_AFTER: Milliseconds = Milliseconds::from_seconds(5 * 60);

/// What follows a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// The slot is unclaimed again and may be placed at once.
    Immediately,
    /// The slot stays crashed until this instant.
    NotBefore(Timestamp),
    /// The slot stays crashed until a user acts.
    Never,
}

/// The policy in force for a slot: its wish's own, or its freshness domain's, or the default.
#[must_use]
pub fn policy_of(aggregates: &Aggregates, slot: &ActualLrp) -> RestartPolicy {
    let lrp = aggregates.desired_lrp(&slot.key.process_guid);
    let domain = lrp.map_or(&slot.domain, |lrp| &lrp.domain);
    let of_domain = || aggregates.freshness_domain(domain).and_then(|domain| domain.restart);
    lrp.and_then(|lrp| lrp.restart).or_else(of_domain).unwrap_or_default()
}

/// The reason as the event keeps it: when the policy forbids a restart it says so.
pub(super) fn reason_of(policy: &RestartPolicy, report: &CrashReport) -> String {
    match policy.refuses(report) {
        None => cut_reason(&report.reason),
        Some(name) => {
            let told = format!("; not restarted: the restart policy is {name}");
            let mut reason = report.reason.clone();
            // The end of it must be seen, however long the rest is.
            let room = crate::exit::REASON_BYTES_MAX.saturating_sub(told.len() + 1);
            while reason.len() > room {
                reason.pop();
            }
            reason + &told
        }
    }
}
