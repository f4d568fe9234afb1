//! Checks as clients see them.

use async_graphql::{SimpleObject, Union};
use domain::check::Check as DomainCheck;

use crate::graphql::scalars::BigInt;

/// One look at an instance's health.
#[derive(Union)]
pub(super) enum Check {
    /// A TCP connection to a port succeeds.
    Tcp(TcpCheck),
    /// A GET of a path answers with status 200.
    Http(HttpCheck),
}

/// A TCP connection must succeed.
#[derive(SimpleObject)]
pub(super) struct TcpCheck {
    /// The port inside the container.
    port: u16,
    /// The most that one connection may take, in milliseconds.
    timeout_ms: BigInt,
    /// The pause between two probes once healthy, in milliseconds.
    interval_ms: BigInt,
    /// The pause between two probes while it is not healthy, in milliseconds.
    unhealthy_interval_ms: BigInt,
    /// How many probes in a row must fail before a healthy instance is ended.
    failure_threshold: u32,
}

/// A GET must answer 200.
#[derive(SimpleObject)]
pub(super) struct HttpCheck {
    /// The port inside the container.
    port: u16,
    /// The path.
    path: String,
    /// The most that one request may take, in milliseconds.
    timeout_ms: BigInt,
    /// The pause between two probes once healthy, in milliseconds.
    interval_ms: BigInt,
    /// The pause between two probes while it is not healthy, in milliseconds.
    unhealthy_interval_ms: BigInt,
    /// How many probes in a row must fail before a healthy instance is ended.
    failure_threshold: u32,
}

impl From<&DomainCheck> for Check {
    fn from(check: &DomainCheck) -> Self {
        let port = check.port();
        let timeout_ms = BigInt(check.timeout().0);
        let interval_ms = BigInt(check.interval().0);
        let unhealthy_interval_ms = BigInt(check.unhealthy_interval().0);
        let failure_threshold = check.failure_threshold();
        match check {
            DomainCheck::Tcp(_) => Self::Tcp(TcpCheck {
                port,
                timeout_ms,
                interval_ms,
                unhealthy_interval_ms,
                failure_threshold,
            }),
            DomainCheck::Http(http) => Self::Http(HttpCheck {
                port,
                path: http.path.clone(),
                timeout_ms,
                interval_ms,
                unhealthy_interval_ms,
                failure_threshold,
            }),
        }
    }
}
