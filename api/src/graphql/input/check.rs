//! Checks as clients write them.

use async_graphql::{InputObject, OneofObject};
use domain::{check, units::Milliseconds};

use super::Faults;

/// One look at an instance's health: exactly one of these.
#[derive(OneofObject)]
pub(super) enum CheckInput {
    /// A TCP connection to a port succeeds.
    Tcp(TcpCheckInput),
    /// A GET of a path answers with status 200.
    Http(HttpCheckInput),
}

/// A TCP connection must succeed.
#[derive(InputObject)]
pub(super) struct TcpCheckInput {
    /// The port inside the container.
    port: i64,
    /// The most that one connection may take, in milliseconds; 0 is a second.
    #[graphql(default)]
    timeout_ms: i64,
    /// The pause between two probes once healthy, in milliseconds; 0 is 30 seconds.
    #[graphql(default)]
    interval_ms: i64,
    /// The longest pause between two probes before it is healthy, and the pause after one that failed
    /// later, in milliseconds; 0 is 2 seconds.
    #[graphql(default)]
    unhealthy_interval_ms: i64,
    /// How many probes in a row must fail before a healthy instance is ended, from 1 to 1,000.
    #[graphql(default = 1)]
    failure_threshold: i64,
}

/// A GET must answer 200.
#[derive(InputObject)]
pub(super) struct HttpCheckInput {
    /// The port inside the container.
    port: i64,
    /// The path, beginning with `/`.
    #[graphql(default = "/")]
    path: String,
    /// The most that one request may take, in milliseconds; 0 is a second.
    #[graphql(default)]
    timeout_ms: i64,
    /// The pause between two probes once healthy, in milliseconds; 0 is 30 seconds.
    #[graphql(default)]
    interval_ms: i64,
    /// The longest pause between two probes before it is healthy, and the pause after one that failed
    /// later, in milliseconds; 0 is 2 seconds.
    #[graphql(default)]
    unhealthy_interval_ms: i64,
    /// How many probes in a row must fail before a healthy instance is ended, from 1 to 1,000.
    #[graphql(default = 1)]
    failure_threshold: i64,
}

impl CheckInput {
    pub(super) fn read(self, path: &str, faults: &mut Faults) -> Option<check::Check> {
        match self {
            Self::Tcp(tcp) => {
                let at = |name: &str| format!("{path}.tcp.{name}");
                let port = faults.number(&at("port"), tcp.port);
                let timeout_ms = faults.number(&at("timeoutMs"), tcp.timeout_ms);
                let interval_ms = faults.number(&at("intervalMs"), tcp.interval_ms);
                let unhealthy =
                    faults.number(&at("unhealthyIntervalMs"), tcp.unhealthy_interval_ms);
                let threshold = faults.number(&at("failureThreshold"), tcp.failure_threshold);
                Some(check::Check::Tcp(check::TcpCheck {
                    port: port?,
                    timeout_ms: Milliseconds(timeout_ms?),
                    interval_ms: Milliseconds(interval_ms?),
                    unhealthy_interval_ms: Milliseconds(unhealthy?),
                    failure_threshold: threshold?,
                }))
            }
            Self::Http(http) => {
                let at = |name: &str| format!("{path}.http.{name}");
                let port = faults.number(&at("port"), http.port);
                let timeout_ms = faults.number(&at("timeoutMs"), http.timeout_ms);
                let interval_ms = faults.number(&at("intervalMs"), http.interval_ms);
                let unhealthy =
                    faults.number(&at("unhealthyIntervalMs"), http.unhealthy_interval_ms);
                let threshold = faults.number(&at("failureThreshold"), http.failure_threshold);
                Some(check::Check::Http(check::HttpCheck {
                    port: port?,
                    path: http.path,
                    timeout_ms: Milliseconds(timeout_ms?),
                    interval_ms: Milliseconds(interval_ms?),
                    unhealthy_interval_ms: Milliseconds(unhealthy?),
                    failure_threshold: threshold?,
                }))
            }
        }
    }
}
