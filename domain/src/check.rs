//! How an instance's health is looked at: a port that answers, a path that answers 200, or only
//! that the process lives.
//!
//! Definitions only: probing is the cell's work, inside the container.

use serde::{Deserialize, Serialize};

use crate::{
    action::LOG_SOURCE_BYTES_MAX,
    invalid::{Invalid, InvalidField, field},
    units::Milliseconds,
};

/// How often a healthy instance is looked at, unless its check says otherwise (Diego: 30 s).
pub const HEALTHY_INTERVAL: Milliseconds = Milliseconds::from_seconds(30);
/// How often an instance is looked at that is not healthy, unless its check says otherwise (Diego:
/// 2 s).
pub const UNHEALTHY_INTERVAL: Milliseconds = Milliseconds::from_seconds(2);
/// How long one probe may take, unless its check says otherwise (Diego: 1 s).
pub const PROBE_TIMEOUT: Milliseconds = Milliseconds::from_seconds(1);
/// How many checks one definition may have.
const CHECKS_MAX: usize = 16;
/// The longest pause between two probes: an hour.
const INTERVAL_MAX_MS: u64 = 3_600_000;
/// The most failed probes that may be asked for.
const FAILURE_THRESHOLD_MAX: u64 = 1_000;

/// What makes an instance healthy. Without any check, a living process is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckDefinition {
    /// All must pass before the instance is running; any that fails later ends it.
    pub checks: Vec<Check>,
    /// While all pass it takes requests; one that fails never ends it.
    #[serde(default)]
    pub readiness_checks: Vec<Check>,
    /// The source that the checks' lines carry; `HEALTH` when absent.
    #[serde(default)]
    pub log_source: Option<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A TCP connection to a port succeeds.
    Tcp(TcpCheck),
    /// A GET of a path answers with status 200.
    Http(HttpCheck),
}

/// A TCP connection must succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpCheck {
    /// The port inside the container, from 1.
    pub port: u16,
    /// The most that one connection may take, in milliseconds; 0 is [`PROBE_TIMEOUT`].
    #[serde(default)]
    pub timeout_ms: Milliseconds,
    /// The pause between two probes once healthy, in milliseconds; 0 is [`HEALTHY_INTERVAL`].
    #[serde(default)]
    pub interval_ms: Milliseconds,
    /// The longest pause between two probes before it is healthy, and the pause after one that failed
    /// later, in milliseconds; 0 is [`UNHEALTHY_INTERVAL`].
    #[serde(default)]
    pub unhealthy_interval_ms: Milliseconds,
    /// How many probes in a row must fail before a healthy instance is ended; 0 is one, as in Diego.
    #[serde(default)]
    pub failure_threshold: u32,
}

/// A GET must answer 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// The port inside the container, from 1.
    pub port: u16,
    /// The path, beginning with `/`.
    #[serde(default = "root_path")]
    pub path: String,
    /// The most that one request may take, in milliseconds; 0 is [`PROBE_TIMEOUT`].
    #[serde(default)]
    pub timeout_ms: Milliseconds,
    /// The pause between two probes once healthy, in milliseconds; 0 is [`HEALTHY_INTERVAL`].
    #[serde(default)]
    pub interval_ms: Milliseconds,
    /// The longest pause between two probes before it is healthy, and the pause after one that failed
    /// later, in milliseconds; 0 is [`UNHEALTHY_INTERVAL`].
    #[serde(default)]
    pub unhealthy_interval_ms: Milliseconds,
    /// How many probes in a row must fail before a healthy instance is ended; 0 is one, as in Diego.
    #[serde(default)]
    pub failure_threshold: u32,
}

fn root_path() -> String {
    "/".to_owned()
}

impl Check {
    /// The port that is probed.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(check) => check.port,
            Self::Http(check) => check.port,
        }
    }

    /// The most that one probe may take.
    #[must_use]
    pub fn timeout(&self) -> Milliseconds {
        let given = match self {
            Self::Tcp(check) => check.timeout_ms,
            Self::Http(check) => check.timeout_ms,
        };
        if given.0 == 0 { PROBE_TIMEOUT } else { given }
    }

    /// The pause between two probes once healthy.
    #[must_use]
    pub fn interval(&self) -> Milliseconds {
        let given = match self {
            Self::Tcp(check) => check.interval_ms,
            Self::Http(check) => check.interval_ms,
        };
        if given.0 == 0 { HEALTHY_INTERVAL } else { given }
    }

    /// The pause between two probes while it is not healthy.
    #[must_use]
    pub fn unhealthy_interval(&self) -> Milliseconds {
        let given = match self {
            Self::Tcp(check) => check.unhealthy_interval_ms,
            Self::Http(check) => check.unhealthy_interval_ms,
        };
        if given.0 == 0 { UNHEALTHY_INTERVAL } else { given }
    }

    /// How many probes in a row must fail before a healthy instance is ended: at least one.
    #[must_use]
    pub fn failure_threshold(&self) -> u32 {
        let given = match self {
            Self::Tcp(check) => check.failure_threshold,
            Self::Http(check) => check.failure_threshold,
        };
        given.max(1)
    }
}

/// Says what is wrong with a check definition from outside.
pub(crate) fn check(definition: &CheckDefinition, path: &str, invalid: &mut Invalid) {
    check_all(&definition.checks, &field(path, "checks"), invalid);
    check_all(&definition.readiness_checks, &field(path, "readiness_checks"), invalid);
    if let Some(log_source) = &definition.log_source {
        invalid.text(&field(path, "log_source"), log_source, LOG_SOURCE_BYTES_MAX);
    }
}

fn check_all(checks: &[Check], path: &str, invalid: &mut Invalid) {
    invalid.at_most(path, checks.len(), CHECKS_MAX);
    for (index, check) in checks.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if check.port() == 0 {
            invalid.push(InvalidField::new(&field(&path, "port"), "must be from 1 to 65535"));
        }
        invalid.between(&field(&path, "timeout_ms"), check.timeout().0, 1, 600_000);
        invalid.between(&field(&path, "interval_ms"), check.interval().0, 1, INTERVAL_MAX_MS);
        let unhealthy = check.unhealthy_interval().0;
        invalid.between(&field(&path, "unhealthy_interval_ms"), unhealthy, 1, INTERVAL_MAX_MS);
        let threshold = u64::from(check.failure_threshold());
        invalid.between(&field(&path, "failure_threshold"), threshold, 1, FAILURE_THRESHOLD_MAX);
        if let Check::Http(http) = check {
            invalid.without_nul(&field(&path, "path"), &http.path, 2048);
            if !http.path.starts_with('/') || http.path.contains([' ', '\r', '\n']) {
                let problem = "must begin with '/' and hold no white space";
                invalid.push(InvalidField::new(&field(&path, "path"), problem));
            }
        }
    }
}
