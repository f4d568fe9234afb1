//! A restart policy by flags.

use clap::{Args, ValueEnum};
use domain::{
    bbs::restart_policy::{RestartPolicy, RestartWhen},
    units::Milliseconds,
};

/// Which ends of an instance are followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// All.
    Always,
    /// All but an exit with status 0.
    OnFailure,
    /// None.
    Never,
}

/// Whether and when an ended instance is started again; what is absent is Diego's rule.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Restart policy")]
pub struct RestartOptions {
    /// Which ends are followed by a restart; always, unless the domain has a policy of its own.
    #[arg(long, value_enum)]
    restart: Option<When>,
    /// How many crashes in a row are followed by a restart at once.
    #[arg(long, value_name = "COUNT", requires = "restart")]
    immediate_restarts: Option<u32>,
    /// The pause after the next one, in milliseconds; it doubles with each crash.
    #[arg(long, value_name = "MS", requires = "restart")]
    back_off_first_ms: Option<u64>,
    /// The longest pause, in milliseconds.
    #[arg(long, value_name = "MS", requires = "restart")]
    back_off_max_ms: Option<u64>,
    /// The crash in a row at which it is given up.
    #[arg(long, value_name = "COUNT", requires = "restart")]
    crashes_max: Option<u32>,
}

impl RestartOptions {
    /// The policy that the flags describe, if they describe one.
    pub(super) fn policy(&self) -> Option<RestartPolicy> {
        let rule = RestartPolicy::default();
        Some(RestartPolicy {
            when: match self.restart? {
                When::Always => RestartWhen::Always,
                When::OnFailure => RestartWhen::OnFailure,
                When::Never => RestartWhen::Never,
            },
            immediate_restarts: self.immediate_restarts.unwrap_or(rule.immediate_restarts),
            back_off_first_ms: self.back_off_first_ms.map_or(rule.back_off_first_ms, Milliseconds),
            back_off_max_ms: self.back_off_max_ms.map_or(rule.back_off_max_ms, Milliseconds),
            crashes_max: self.crashes_max.unwrap_or(rule.crashes_max),
        })
    }
}
