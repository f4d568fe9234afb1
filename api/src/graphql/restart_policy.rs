//! Restart policies as clients write and see them.

use async_graphql::{Enum, InputObject, SimpleObject};
use domain::{bbs::restart_policy, units::Milliseconds};

use super::{input::Faults, scalars::BigInt};

/// Which ends of an instance are followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Enum)]
pub(super) enum RestartWhen {
    /// All.
    #[default]
    Always,
    /// All but an exit with status 0.
    OnFailure,
    /// None.
    Never,
}

/// Whether and when a slot whose instance ended is started again.
#[derive(SimpleObject)]
pub(super) struct RestartPolicy {
    /// Which ends are followed by a restart.
    when: RestartWhen,
    /// How many crashes in a row are followed by a restart at once.
    immediate_restarts: u32,
    /// The pause after the next one, in milliseconds; it doubles with each crash.
    back_off_first_ms: BigInt,
    /// The longest pause, in milliseconds.
    back_off_max_ms: BigInt,
    /// The crash in a row at which the slot is given up.
    crashes_max: u32,
}

/// Whether and when a slot whose instance ended is started again. What is absent is Diego's rule.
#[derive(InputObject)]
pub(super) struct RestartPolicyInput {
    /// Which ends are followed by a restart.
    #[graphql(default)]
    when: RestartWhen,
    /// How many crashes in a row are followed by a restart at once, from 0 to 100.
    #[graphql(default = 2)]
    immediate_restarts: i64,
    /// The pause after the next one, in milliseconds, from a second to a day; it doubles with each
    /// crash.
    #[graphql(default = 30_000)]
    back_off_first_ms: i64,
    /// The longest pause, in milliseconds, at least the first one.
    #[graphql(default = 960_000)]
    back_off_max_ms: i64,
    /// The crash in a row at which the slot is given up, from 1 to 1,000,000.
    #[graphql(default = 200)]
    crashes_max: i64,
}

impl RestartPolicyInput {
    /// The same as the domain has it; `None` when a fault was noted.
    pub(super) fn read(
        self,
        path: &str,
        faults: &mut Faults,
    ) -> Option<restart_policy::RestartPolicy> {
        let at = |name: &str| format!("{path}.{name}");
        let immediate = faults.number(&at("immediateRestarts"), self.immediate_restarts);
        let first = faults.number(&at("backOffFirstMs"), self.back_off_first_ms);
        let longest = faults.number(&at("backOffMaxMs"), self.back_off_max_ms);
        let crashes_max = faults.number(&at("crashesMax"), self.crashes_max);
        Some(restart_policy::RestartPolicy {
            when: self.when.into(),
            immediate_restarts: immediate?,
            back_off_first_ms: Milliseconds(first?),
            back_off_max_ms: Milliseconds(longest?),
            crashes_max: crashes_max?,
        })
    }
}

impl From<RestartWhen> for restart_policy::RestartWhen {
    fn from(when: RestartWhen) -> Self {
        match when {
            RestartWhen::Always => Self::Always,
            RestartWhen::OnFailure => Self::OnFailure,
            RestartWhen::Never => Self::Never,
        }
    }
}

impl From<restart_policy::RestartPolicy> for RestartPolicy {
    fn from(policy: restart_policy::RestartPolicy) -> Self {
        Self {
            when: match policy.when {
                restart_policy::RestartWhen::Always => RestartWhen::Always,
                restart_policy::RestartWhen::OnFailure => RestartWhen::OnFailure,
                restart_policy::RestartWhen::Never => RestartWhen::Never,
            },
            immediate_restarts: policy.immediate_restarts,
            back_off_first_ms: BigInt(policy.back_off_first_ms.0),
            back_off_max_ms: BigInt(policy.back_off_max_ms.0),
            crashes_max: policy.crashes_max,
        }
    }
}
