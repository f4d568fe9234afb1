//! The sample web app of the demo and the tests: answers, logs, eats, and dies on demand.
//!
//! HTTP/1.1 on `$PORT`, one thread per connection up to a bound. Ends with 0 on SIGTERM. Only
//! ever run inside a container.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::gethostname;

const DEFAULT_PORT: u16 = 8080;
const CONNECTIONS_MAX: usize = 256;
const HEAD_BYTES_MAX: usize = 64 * 1024;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MEBIBYTE: usize = 1024 * 1024;

/// What all connections share.
#[derive(Debug)]
struct App {
    greeting: String,
    connections: AtomicUsize,
    eaten: Mutex<Vec<Vec<u8>>>,
    is_ready: AtomicBool,
    exit: Sender<u8>,
    /// It does not end on SIGTERM.
    is_stubborn: AtomicBool,
}

/// Serves until SIGTERM or `/exit/<code>`; 1 if the port cannot be had.
#[must_use]
pub fn main() -> ExitCode {
    let port = variable("PORT").and_then(|port| port.parse().ok()).unwrap_or(DEFAULT_PORT);
    let listener = match TcpListener::bind(("0.0.0.0", port)) {
        Ok(listener) => listener,
        Err(error) => {
            log(&format!("cannot listen on port {port}: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut terminating = SigSet::empty();
    terminating.add(Signal::SIGTERM);
    // Before any thread is started, so that all inherit it and one waits for it.
    if terminating.thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    let (exit, exits) = channel();
    let app = Arc::new(App {
        greeting: greeting(),
        connections: AtomicUsize::new(0),
        eaten: Mutex::new(Vec::new()),
        is_ready: AtomicBool::new(true),
        exit: exit.clone(),
        is_stubborn: AtomicBool::new(false),
    });
    let asked = Arc::clone(&app);
    log(&format!("listening on port {port}: {}", app.greeting));
    thread::spawn(move || accept(&listener, &app));
    thread::spawn(move || {
        while terminating.wait().is_ok() {
            if asked.is_stubborn.load(Ordering::Relaxed) {
                log("SIGTERM: staying");
                continue;
            }
            log("SIGTERM: ending");
            exit.send(0).unwrap_or_default();
            return;
        }
    });
    // The channel cannot close: the listener's thread holds an end for ever.
    ExitCode::from(exits.recv().unwrap_or(1))
}

fn greeting() -> String {
    let index = variable("CF_INSTANCE_INDEX").unwrap_or_else(|| "?".to_owned());
    let guid = variable("INSTANCE_GUID")
        .or_else(|| variable("CF_INSTANCE_GUID"))
        .unwrap_or_else(|| "?".to_owned());
    let host = gethostname().unwrap_or_default();
    format!("index={index} instance={guid} host={}", host.to_string_lossy())
}

fn accept(listener: &TcpListener, app: &Arc<App>) {
    for stream in listener.incoming().flatten() {
        if app.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            app.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let app = Arc::clone(app);
        thread::spawn(move || {
            // A connection that breaks is its client's business.
            serve(stream, &app).unwrap_or_default();
            app.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn serve(mut stream: TcpStream, app: &App) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut received)? {
        let (status, body) = app.answer(&request);
        log(&format!("{} {} {status}", request.method, request.path));
        let connection = if request.closes { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: {connection}\r\n\r\n",
            match status {
                200 => "OK",
                503 => "Service Unavailable",
                _ => "Not Found",
            },
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        if let Some(code) = request.path.strip_prefix("/exit/").and_then(|code| code.parse().ok()) {
            app.exit.send(code).unwrap_or_default();
        }
        if request.closes {
            break;
        }
    }
    Ok(())
}

/// One request, its body already read and thrown away.
struct Request {
    method: String,
    path: String,
    closes: bool,
    body_bytes: usize,
}

fn read_request(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let head_end = loop {
        if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if received.len() > HEAD_BYTES_MAX || read_more(stream, received)? == 0 {
            return Ok(None);
        }
    };
    let head: Vec<u8> = received.drain(..head_end).collect();
    let head = String::from_utf8_lossy(&head);
    let mut words = head.lines().next().unwrap_or_default().split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let body_bytes =
        header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let is_chunked = header(&head, "transfer-encoding").is_some();
    let says_close = header(&head, "connection").is_some_and(|value| value.contains("close"));
    let mut left: usize = body_bytes;
    while left > 0 {
        let count = left.min(received.len());
        received.drain(..count);
        left -= count;
        if left > 0 && read_more(stream, received)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Request { method, path, closes: says_close || is_chunked, body_bytes }))
}

fn read_more(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; 16 * 1024];
    let count = stream.read(&mut buffer)?;
    received.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
    Ok(count)
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim())
    })
}

impl App {
    fn answer(&self, request: &Request) -> (u16, String) {
        let path = request.path.split('?').next().unwrap_or_default();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        match (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) {
            ("", _) => (200, format!("{} received={}\n", self.greeting, request.body_bytes)),
            ("health", _) => (200, "ok\n".to_owned()),
            ("ready", "") if self.is_ready.load(Ordering::Relaxed) => (200, "ready\n".to_owned()),
            ("ready", "") => (503, "not ready\n".to_owned()),
            ("ready", word @ ("yes" | "no")) => {
                self.is_ready.store(word == "yes", Ordering::Relaxed);
                (200, "noted\n".to_owned())
            }
            ("exit", code) if code.parse::<u8>().is_ok() => (200, "ending\n".to_owned()),
            ("log", text) => {
                log(text);
                (200, "logged\n".to_owned())
            }
            ("flood", lines) => match lines.parse::<u64>() {
                Ok(lines) => {
                    flood(lines);
                    (200, format!("wrote {lines} lines\n"))
                }
                Err(_) => (404, "how many lines?\n".to_owned()),
            },
            ("binary", _) => {
                io::stdout().lock().write_all(b"binary \xff\x00\xfe\n").unwrap_or_default();
                (200, "written\n".to_owned())
            }
            ("stubborn", _) => {
                self.is_stubborn.store(true, Ordering::Relaxed);
                (200, "SIGTERM will not end this\n".to_owned())
            }
            ("eat", mebibytes) => match mebibytes.parse() {
                Ok(mebibytes) => self.eat(mebibytes),
                Err(_) => (404, "eat how many mebibytes?\n".to_owned()),
            },
            ("kill", number) => {
                match number.parse().ok().and_then(|number: i32| Signal::try_from(number).ok()) {
                    Some(signal) => match raise(signal) {
                        Ok(()) => (200, format!("survived {signal}\n")),
                        Err(errno) => (404, format!("{errno}\n")),
                    },
                    None => (404, "no such signal\n".to_owned()),
                }
            }
            _ => (404, "not found\n".to_owned()),
        }
    }

    /// Uses memory and keeps it.
    fn eat(&self, mebibytes: usize) -> (u16, String) {
        for _ in 0..mebibytes {
            // Not zeros: those would not be given any memory.
            let eaten = vec![1; MEBIBYTE];
            self.eaten.lock().unwrap_or_else(PoisonError::into_inner).push(eaten);
        }
        let total = self.eaten.lock().unwrap_or_else(PoisonError::into_inner).len();
        (200, format!("ate {total} MiB\n"))
    }
}

/// Numbered lines of a hundred bytes, as fast as they are taken.
fn flood(lines: u64) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for number in 0..lines {
        writeln!(out, "flood {number:0>93}").unwrap_or_default();
    }
}

fn variable(name: &str) -> Option<String> {
    let wanted = OsStr::new(name);
    std::env::vars_os()
        .find(|(known, _)| known == wanted)
        .and_then(|(_, value)| value.into_string().ok())
}

/// One line to stdout; a log that nobody takes must not end the app.
fn log(line: &str) {
    writeln!(io::stdout().lock(), "{line}").unwrap_or_default();
}
