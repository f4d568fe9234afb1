//! Checks: how the health of an instance is seen.

use domain::{
    check::{Check, CheckDefinition, HttpCheck, TcpCheck},
    units::Milliseconds,
};

use super::action::{or_empty, some};
use crate::bbs::{invalid::Faults, proto};

/// Reads what makes an instance healthy, and ready.
pub(super) fn read(check: &proto::CheckDefinition, faults: &mut Faults) -> CheckDefinition {
    let mut all = |checks: &[proto::Check]| -> Vec<Check> {
        checks.iter().filter_map(|check| read_one(check, faults)).collect()
    };
    let (checks, readiness_checks) = (all(&check.checks), all(&check.readiness_checks));
    CheckDefinition { checks, readiness_checks, log_source: some(&check.log_source) }
}

fn read_one(check: &proto::Check, faults: &mut Faults) -> Option<Check> {
    let port = |port: u32| u16::try_from(port).ok().filter(|port| *port > 0);
    match (&check.tcp_check, &check.http_check) {
        (Some(_), Some(_)) => {
            faults.field("check");
            None
        }
        (Some(tcp), None) if port(tcp.port).is_some() => Some(Check::Tcp(TcpCheck {
            port: port(tcp.port)?,
            timeout_ms: Milliseconds(tcp.connect_timeout_ms),
            interval_ms: Milliseconds(tcp.interval_ms),
            unhealthy_interval_ms: Milliseconds(0),
            failure_threshold: 0,
        })),
        (None, Some(http)) if port(http.port).is_some() => Some(Check::Http(HttpCheck {
            port: port(http.port)?,
            path: if http.path.is_empty() { "/".to_owned() } else { http.path.clone() },
            timeout_ms: Milliseconds(http.request_timeout_ms),
            interval_ms: Milliseconds(http.interval_ms),
            unhealthy_interval_ms: Milliseconds(0),
            failure_threshold: 0,
        })),
        (Some(_) | None, Some(_) | None) => {
            faults.field("port");
            None
        }
    }
}

/// The same in Diego's message. What only we know to say of a check has no place in it.
pub(super) fn write(check: &CheckDefinition) -> proto::CheckDefinition {
    proto::CheckDefinition {
        checks: check.checks.iter().map(write_one).collect(),
        log_source: or_empty(check.log_source.as_ref()),
        readiness_checks: check.readiness_checks.iter().map(write_one).collect(),
    }
}

fn write_one(check: &Check) -> proto::Check {
    match check {
        Check::Tcp(tcp) => proto::Check {
            tcp_check: Some(proto::TcpCheck {
                port: tcp.port.into(),
                connect_timeout_ms: tcp.timeout_ms.0,
                interval_ms: tcp.interval_ms.0,
            }),
            http_check: None,
        },
        Check::Http(http) => proto::Check {
            tcp_check: None,
            http_check: Some(proto::HttpCheck {
                port: http.port.into(),
                request_timeout_ms: http.timeout_ms.0,
                path: http.path.clone(),
                interval_ms: http.interval_ms.0,
            }),
        },
    }
}
