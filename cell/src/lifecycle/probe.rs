//! The smallest HTTP/1.1 client: one GET, redirects followed, the status told.
//!
//! Blocking, within one deadline, on answers whose heads are bounded. Never reads a body.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::clock;

/// The most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Go's client follows as many.
const REDIRECTS_MAX: u32 = 10;

/// What came back after all redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
}

/// Gets a path; fails with `TimedOut` or `WouldBlock` past the deadline.
pub(super) fn get(address: SocketAddr, path: &str, deadline: Instant) -> io::Result<Answer> {
    let mut target = (address, path.to_owned());
    for _ in 0..=REDIRECTS_MAX {
        let head = request(target.0, &target.1, deadline)?;
        let status = status_of(&head).ok_or(io::ErrorKind::InvalidData)?;
        match location_of(&head) {
            Some(location) if matches!(status, 301 | 302 | 303 | 307 | 308) => {
                target = follow(target.0, location).ok_or(io::ErrorKind::InvalidData)?;
            }
            Some(_) | None => return Ok(Answer { status }),
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn request(address: SocketAddr, path: &str, deadline: Instant) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, remaining(deadline)?)?;
    stream.set_write_timeout(Some(remaining(deadline)?))?;
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: diego-healthcheck\r\n\
         X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(text.as_bytes())?;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(buffer.get(..count).unwrap_or(&[])),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(clock::monotonic()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        remaining => Ok(remaining),
    }
}

fn status_of(head: &str) -> Option<u16> {
    let line = head.lines().next()?;
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    rest.get(..3)?.parse().ok()
}

fn location_of(head: &str) -> Option<&str> {
    head.lines().skip(1).take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim())
    })
}

/// Where a redirect leads, as far as it can be reached without a name service or TLS.
fn follow(from: SocketAddr, location: &str) -> Option<(SocketAddr, String)> {
    if location.starts_with('/') {
        return Some((from, location.to_owned()));
    }
    let rest = location.strip_prefix("http://")?;
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) => (host, format!("/{path}")),
        None => (rest, "/".to_owned()),
    };
    let address = host.parse().ok().or_else(|| Some(SocketAddr::new(host.parse().ok()?, 80)))?;
    Some((address, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_paths_and_addresses_only() {
        let from: SocketAddr = "10.0.0.2:8080".parse().unwrap();
        let check = |location: &str, address: &str, path: &str| {
            assert_eq!(follow(from, location), Some((address.parse().unwrap(), path.to_owned())));
        };

        check("/x", "10.0.0.2:8080", "/x");
        check("http://10.0.0.3:81/y/z", "10.0.0.3:81", "/y/z");
        check("http://10.0.0.3", "10.0.0.3:80", "/");
        assert_eq!(follow(from, "https://10.0.0.3/"), None);
        assert_eq!(follow(from, "http://name/"), None);
    }
}
