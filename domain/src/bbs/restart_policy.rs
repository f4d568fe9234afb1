//! Restart policy: whether and when a slot whose instance ended is started again.
//!
//! The default is Diego's rule for every app: always, twice at once, then after 30 s doubled up to
//! 16 minutes, given up after 200 crashes in a row. A wish's own policy wins over the one of its
//! freshness domain, and that over the default. A change applies from the next end on: a slot that
//! was not to be started again stays so until a user retires it.
//!
//! As with systemd and Nomad, `on_failure` takes an exit status of 0 for done. The slot then stays
//! CRASHED, the field's only word for a slot whose instance ended, and its reason says that it is
//! not restarted and why.

use serde::{Deserialize, Serialize};

use super::actual_lrp::{CrashReport, Restart};
use crate::{
    exit::{CLEAN_EXIT, ExitStatus},
    invalid::{Invalid, InvalidField, field},
    units::{Milliseconds, Timestamp},
};

/// The most restarts at once: beyond it a cell would do nothing else.
const IMMEDIATE_MAX: u32 = 100;
/// The shortest pause.
const BACK_OFF_MIN_MS: u64 = 1000;
/// The longest pause that may be asked for: a day.
const BACK_OFF_MAX_MS: u64 = 86_400_000;
/// The most crashes in a row that may be asked for.
const CRASHES_MAX: u32 = 1_000_000;

/// Which ends are followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartWhen {
    /// All.
    #[default]
    Always,
    /// All but an exit with status 0.
    OnFailure,
    /// None.
    Never,
}

/// Whether and when a slot whose instance ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartPolicy {
    /// Which ends are followed by a restart.
    pub when: RestartWhen,
    /// How many crashes in a row are followed by a restart at once, from 0 to 100.
    pub immediate_restarts: u32,
    /// The pause after the next one, from a second to a day; it doubles with each crash.
    pub back_off_first_ms: Milliseconds,
    /// The longest pause, at least the first one.
    pub back_off_max_ms: Milliseconds,
    /// The crash in a row at which the slot is given up, from 1 to 1,000,000.
    pub crashes_max: u32,
}

impl Default for RestartPolicy {
    /// Diego's (bbs, `restart_calculator.go`).
    fn default() -> Self {
        Self {
            when: RestartWhen::Always,
            immediate_restarts: 2,
            back_off_first_ms: Milliseconds::from_seconds(30),
            back_off_max_ms: Milliseconds::from_seconds(16 * 60),
            crashes_max: 200,
        }
    }
}

impl RestartPolicy {
    /// What follows the crash that makes `crash_count`, at `now`.
    #[must_use]
    pub fn after(&self, report: &CrashReport, crash_count: u32, now: Timestamp) -> Restart {
        match self.refuses(report) {
            Some(_) => Restart::Never,
            None => self.after_count(crash_count, now),
        }
    }

    /// What follows the crash that makes `crash_count`, at `now`, when the end itself forbids
    /// nothing.
    #[must_use]
    pub fn after_count(&self, crash_count: u32, now: Timestamp) -> Restart {
        if crash_count >= self.crashes_max {
            return Restart::Never;
        }
        if crash_count <= self.immediate_restarts {
            return Restart::Immediately;
        }
        let doublings = (crash_count - self.immediate_restarts - 1).min(32);
        let pause = Milliseconds(self.back_off_first_ms.0.saturating_mul(1 << doublings));
        Restart::NotBefore(now.plus(pause.min(self.back_off_max_ms)))
    }

    /// The policy's name, when it is what forbids a restart after this end, at whatever count.
    #[must_use]
    pub fn refuses(&self, report: &CrashReport) -> Option<&'static str> {
        match self.when {
            RestartWhen::Always => None,
            RestartWhen::OnFailure => is_clean(report).then_some("on_failure"),
            RestartWhen::Never => Some("never"),
        }
    }

    /// Says what is wrong with a policy from outside.
    pub(crate) fn check(&self, path: &str, invalid: &mut Invalid) {
        let at = |name: &str| field(path, name);
        let immediate = u64::from(self.immediate_restarts);
        invalid.between(&at("immediate_restarts"), immediate, 0, u64::from(IMMEDIATE_MAX));
        let (first, longest) = (self.back_off_first_ms.0, self.back_off_max_ms.0);
        invalid.between(&at("back_off_first_ms"), first, BACK_OFF_MIN_MS, BACK_OFF_MAX_MS);
        invalid.between(&at("back_off_max_ms"), longest, BACK_OFF_MIN_MS, BACK_OFF_MAX_MS);
        if longest < first {
            let problem = "must not be less than back_off_first_ms";
            invalid.push(InvalidField::new(&at("back_off_max_ms"), problem));
        }
        let crashes_max = u64::from(self.crashes_max);
        invalid.between(&at("crashes_max"), crashes_max, 1, u64::from(CRASHES_MAX));
    }
}

/// A process that left with status 0 by itself: one that was ended for its health, for want of
/// memory or of time says so in the reason.
fn is_clean(report: &CrashReport) -> bool {
    let is_by_itself = report.reason == CLEAN_EXIT;
    let exit = report.exit.filter(|exit| exit.out_of_memory.is_none());
    is_by_itself && exit.is_some_and(|exit| exit.status == ExitStatus::Exited(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{exit::ProcessExit, testing::crash_report};

    fn clean_exit() -> CrashReport {
        let exit = ProcessExit { status: ExitStatus::Exited(0), out_of_memory: None };
        CrashReport { reason: CLEAN_EXIT.to_owned(), exit: Some(exit), ..crash_report() }
    }

    fn after(seconds: u64) -> Restart {
        Restart::NotBefore(Timestamp(0).plus(Milliseconds::from_seconds(seconds)))
    }

    #[test]
    fn the_default_schedule_is_diegos() {
        let at = |count| RestartPolicy::default().after(&clean_exit(), count, Timestamp(0));

        assert_eq!([at(1), at(2)], [Restart::Immediately; 2]);
        assert_eq!(
            [at(3), at(4), at(5), at(6), at(7), at(8), at(199)],
            [30, 60, 120, 240, 480, 960, 960].map(after)
        );
        assert_eq!([at(200), at(u32::MAX)], [Restart::Never; 2]);
    }

    #[test]
    fn an_exit_with_status_0_is_done_only_where_failures_alone_are_restarted() {
        let of = |when, report: &CrashReport| {
            RestartPolicy { when, ..RestartPolicy::default() }.after(report, 1, Timestamp(0))
        };
        let killed_over_health = CrashReport { exit: None, ..crash_report() };

        assert_eq!(of(RestartWhen::OnFailure, &clean_exit()), Restart::Never);
        assert_eq!(of(RestartWhen::OnFailure, &crash_report()), Restart::Immediately);
        assert_eq!(of(RestartWhen::OnFailure, &killed_over_health), Restart::Immediately);
        assert_eq!(of(RestartWhen::Always, &clean_exit()), Restart::Immediately);
        for report in [clean_exit(), crash_report(), killed_over_health] {
            assert_eq!(of(RestartWhen::Never, &report), Restart::Never);
        }
    }

    #[test]
    fn pauses_and_limits_are_the_policys_own_and_never_overflow() {
        let policy = RestartPolicy {
            when: RestartWhen::Always,
            immediate_restarts: 0,
            back_off_first_ms: Milliseconds::from_seconds(1),
            back_off_max_ms: Milliseconds::from_seconds(5),
            crashes_max: 1000,
        };
        let at = |count| policy.after(&crash_report(), count, Timestamp(0));
        assert_eq!([at(1), at(2), at(3), at(4), at(999)], [1, 2, 4, 5, 5].map(after));
        assert_eq!(at(1000), Restart::Never);
    }
}
