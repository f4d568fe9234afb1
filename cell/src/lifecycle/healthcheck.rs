//! Diego's health check: probes a port or an HTTP path, then an exit code and a text.
//!
//! Runs inside the container it checks. `-port=N -timeout=Nms [-uri=/x]` probes once; with
//! `-startup-interval=2s [-startup-timeout=1m0s]` or `-until-ready-interval=2s` until it passes, with
//! `-liveness-interval=30s` or `-readiness-interval=30s` until it fails; with `-failure-threshold=3
//! -unhealthy-interval=2s` (not Diego's) until it fails so often in a row, looking again after that
//! pause. Exit codes and texts are Diego's, because executors and people know them. Only the first
//! non-loopback IPv4 address is tried.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::probe::{self, Answer};
use crate::{clock, go_duration};

const DEFAULT_PORT: u16 = 8080;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after the first probe of a start; it doubles from there to the interval.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// What to check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    port: u16,
    timeout: Duration,
    uri: Option<String>,
    mode: Mode,
    /// Without it, a start is waited for for ever.
    startup_timeout: Option<Duration>,
    /// The pause after a probe that failed but did not end the check.
    unhealthy_interval: Option<Duration>,
    /// How many probes in a row must fail to end the check.
    failure_threshold: u32,
}

/// How often is probed, and until when. Intervals are the pauses between two probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Once,
    /// Until the start has passed.
    Startup(Duration),
    /// Until it is ready, however long that takes.
    UntilReady(Duration),
    /// Until it is healthy no more.
    Liveness(Duration),
    /// Until it is ready no more.
    Readiness(Duration),
}

/// Why it failed: Diego's exit codes.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("failure to find suitable interface: {0}")]
    NoInterface(nix::Error),
    #[error("failed to make TCP connection to {address}: dial tcp {address}: connect: {reason}")]
    TcpRefused { address: SocketAddr, reason: String },
    #[error("failed to make TCP connection to {address}: timed out after {:.2} seconds",
        .after.as_secs_f64())]
    TcpTimeout { address: SocketAddr, after: Duration },
    #[error("failed to make HTTP request to '{uri}' on port {port}: connection refused")]
    HttpRefused { uri: String, port: u16 },
    #[error("failed to make HTTP request to '{uri}' on port {port}: \
        received status code {status} in {}ms", .after.as_millis())]
    HttpStatus { uri: String, port: u16, status: u16, after: Duration },
    #[error("failed to make HTTP request to '{uri}' on port {port}: \
        timed out after {:.2} seconds", .after.as_secs_f64())]
    HttpTimeout { uri: String, port: u16, after: Duration },
    #[error("Timed out after {} ({attempts} attempts) waiting for startup check to succeed: {last}",
        go_duration::text(*.after))]
    Startup { after: Duration, attempts: u32, last: Box<Failure> },
    #[error("{what} check unsuccessful: {last}{}", in_a_row(*.failures))]
    InTheLongRun { what: &'static str, failures: u32, last: Box<Failure> },
    #[error("Unknown error encountered in healthcheck: {0}")]
    Unknown(String),
}

/// Of one probe Diego's text says nothing.
fn in_a_row(failures: u32) -> String {
    if failures > 1 { format!(" ({failures} in a row)") } else { String::new() }
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoInterface(_) => 3,
            Self::TcpRefused { .. } => 4,
            Self::HttpRefused { .. } => 5,
            Self::HttpStatus { .. } => 6,
            Self::TcpTimeout { .. } => 64,
            Self::HttpTimeout { .. } => 65,
            Self::Startup { last, .. } | Self::InTheLongRun { last, .. } => last.exit_code(),
            Self::Unknown(_) => 127,
        }
    }
}

/// Runs the check that the arguments (without the program's name) describe.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let result = parse(arguments).map_err(Failure::Unknown).and_then(|check| perform(&check));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // The exit code tells the same to whoever cannot read.
            writeln!(io::stdout(), "{failure}").unwrap_or_default();
            ExitCode::from(failure.exit_code())
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Check, String> {
    let mut check = Check {
        port: DEFAULT_PORT,
        timeout: DEFAULT_TIMEOUT,
        uri: None,
        mode: Mode::Once,
        startup_timeout: None,
        unhealthy_interval: None,
        failure_threshold: 1,
    };
    for argument in arguments {
        let text = argument.to_str().ok_or("an argument is not text")?;
        let flag = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).unwrap_or(text);
        let invalid = || format!("invalid argument {text:?}");
        match flag.split_once('=').ok_or_else(invalid)? {
            ("port", value) => check.port = value.parse().map_err(|_| invalid())?,
            ("timeout", value) => check.timeout = duration(value).ok_or_else(invalid)?,
            ("startup-interval", value) => {
                check.mode = Mode::Startup(duration(value).ok_or_else(invalid)?);
            }
            ("until-ready-interval", value) => {
                check.mode = Mode::UntilReady(duration(value).ok_or_else(invalid)?);
            }
            ("readiness-interval", value) => {
                check.mode = Mode::Readiness(duration(value).ok_or_else(invalid)?);
            }
            ("startup-timeout", "0s") => check.startup_timeout = None,
            ("startup-timeout", value) => {
                check.startup_timeout = Some(duration(value).ok_or_else(invalid)?);
            }
            ("liveness-interval", value) => {
                check.mode = Mode::Liveness(duration(value).ok_or_else(invalid)?);
            }
            ("unhealthy-interval", value) => {
                check.unhealthy_interval = Some(duration(value).ok_or_else(invalid)?);
            }
            ("failure-threshold", value) => {
                let threshold = value.parse().ok().filter(|threshold| *threshold > 0);
                check.failure_threshold = threshold.ok_or_else(invalid)?;
            }
            ("uri", "") => check.uri = None,
            ("uri", value) if is_path(value) => check.uri = Some(value.to_owned()),
            _ => return Err(invalid()),
        }
    }
    Ok(check)
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads a Go duration such as `1000ms`, `1.5s` or `1m30s`; at least one millisecond.
fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let number_end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at_checked(number_end)?;
        let unit_end =
            after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, following) = after.split_at_checked(unit_end)?;
        let unit_seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let seconds = number.parse::<f64>().ok()? * unit_seconds;
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = following;
    }
    (total >= Duration::from_millis(1)).then_some(total)
}

fn perform(check: &Check) -> Result<(), Failure> {
    match check.mode {
        Mode::Once => run(check),
        Mode::Startup(interval) => until_passed(check, interval, check.startup_timeout),
        Mode::UntilReady(interval) => until_passed(check, interval, None),
        Mode::Liveness(interval) => Err(until_failed(check, interval, "Liveness")),
        Mode::Readiness(interval) => Err(until_failed(check, interval, "Readiness")),
    }
}

/// The first probe comes at once, the next ones soon: an app is routable when it answers.
fn until_passed(check: &Check, interval: Duration, limit: Option<Duration>) -> Result<(), Failure> {
    let begun = clock::monotonic();
    let mut next_pause = FIRST_PAUSE.min(interval);
    for attempts in 1.. {
        let Err(last) = run(check) else { return Ok(()) };
        let passed = clock::monotonic().saturating_duration_since(begun);
        let left = limit.map(|limit| limit.saturating_sub(passed));
        if let Some(after) = limit
            && left == Some(Duration::ZERO)
        {
            return Err(Failure::Startup { after, attempts, last: Box::new(last) });
        }
        pause(left.map_or(next_pause, |left| left.min(next_pause)));
        next_pause = interval.min(next_pause.saturating_mul(2));
    }
    Ok(())
}

/// Looks until so many probes in a row have failed as must.
fn until_failed(check: &Check, interval: Duration, what: &'static str) -> Failure {
    let (mut failures, mut next_pause) = (0, interval);
    loop {
        pause(next_pause);
        let Err(last) = run(check) else {
            (failures, next_pause) = (0, interval);
            continue;
        };
        failures += 1;
        next_pause = check.unhealthy_interval.unwrap_or(interval);
        if failures >= check.failure_threshold {
            return Failure::InTheLongRun { what, failures, last: Box::new(last) };
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "one thread, no runtime, nothing else to do")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

fn run(check: &Check) -> Result<(), Failure> {
    let address = SocketAddr::from((own_address()?, check.port));
    match &check.uri {
        None => check_tcp(address, check.timeout),
        Some(uri) => check_http(address, uri, check.timeout),
    }
}

/// The first IPv4 address that is not the loopback's; the loopback's where there is no other.
fn own_address() -> Result<Ipv4Addr, Failure> {
    let others = getifaddrs()
        .map_err(Failure::NoInterface)?
        .filter(|interface| !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    let mut addresses =
        others.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    Ok(addresses.next().unwrap_or(Ipv4Addr::LOCALHOST))
}

fn check_tcp(address: SocketAddr, timeout: Duration) -> Result<(), Failure> {
    match TcpStream::connect_timeout(&address, timeout) {
        Ok(_) => Ok(()),
        Err(error) if is_timeout(&error) => Err(Failure::TcpTimeout { address, after: timeout }),
        Err(error) => {
            let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
            let reason =
                if is_refused { "connection refused".to_owned() } else { error.to_string() };
            Err(Failure::TcpRefused { address, reason })
        }
    }
}

fn check_http(address: SocketAddr, uri: &str, timeout: Duration) -> Result<(), Failure> {
    let started = clock::monotonic();
    let (uri, port) = (uri.to_owned(), address.port());
    match probe::get(address, &uri, started + timeout) {
        Ok(Answer { status: 200 }) => Ok(()),
        Ok(Answer { status }) => {
            let after = clock::monotonic().saturating_duration_since(started);
            Err(Failure::HttpStatus { uri, port, status, after })
        }
        Err(error) if is_timeout(&error) => Err(Failure::HttpTimeout { uri, port, after: timeout }),
        // Diego's word for any other error of the transport.
        Err(_) => Err(Failure::HttpRefused { uri, port }),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Check, String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn bad_arguments_are_refused() {
        for argument in [
            "port",
            "-port=x",
            "-port=65536",
            "-timeout=0s",
            "-timeout=5",
            "-uri=x",
            "-uri=/a b",
            "-failure-threshold=0",
            "-unhealthy-interval=0s",
            "-until-ready-interval=0s",
            "-readiness-interval=x",
        ] {
            assert!(parsed(&[argument]).is_err(), "{argument}");
        }
    }

    #[test]
    fn a_start_that_never_passes_is_told_with_its_attempts() {
        let arguments = ["-port=1", "-startup-interval=40ms", "-startup-timeout=100ms"];
        let failure = perform(&parsed(&arguments).unwrap()).unwrap_err();

        assert_eq!(failure.exit_code(), 4);
        let text = failure.to_string();
        assert!(text.starts_with("Timed out after 100ms ("), "{text}");
        assert!(
            text.contains("waiting for startup check to succeed: failed to make TCP"),
            "{text}"
        );
    }

    #[test]
    fn a_readiness_that_ends_is_told_as_such() {
        let failure =
            perform(&parsed(&["-port=1", "-readiness-interval=1ms"]).unwrap()).unwrap_err();

        assert_eq!(failure.exit_code(), 4);
        let text = failure.to_string();
        assert!(text.starts_with("Readiness check unsuccessful: failed to make TCP"), "{text}");
    }

    #[test]
    fn arguments_are_read_as_diego_writes_them() {
        let check = parsed(&["-port=81", "-timeout=1m1.5s", "-uri=/x"]).unwrap();

        let timeout = Duration::from_millis(61_500);
        assert_eq!((check.port, check.timeout), (81, timeout));
        assert_eq!(check.uri.as_deref(), Some("/x"));
        let startup = parsed(&["-startup-interval=2s", "-startup-timeout=1m0s"]).unwrap();
        assert_eq!(startup.startup_timeout, Some(Duration::from_secs(60)));
        assert_eq!(parsed(&["--timeout=1000ms"]).unwrap().timeout, Duration::from_secs(1));
    }
}
