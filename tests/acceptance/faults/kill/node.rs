//! One life of a node: a real `diario serve`, to its end.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
};

use crate::harness::{PATIENCE, http, signal, until};

const SIGKILL: i32 = 9;

/// A running node.
pub(super) struct Node {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Node {
    /// Starts a command of `diario`.
    pub(super) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        // Read to its end, so that the node never waits for a reader.
        thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| drop(send.send(line)));
        });
        Self { child, lines }
    }

    /// Waits until it listens, and says where; `None` when it has ended before.
    pub(super) fn listens(&mut self) -> Option<String> {
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("a node does not listen"),
            };
            if let Some(api) = line.strip_prefix("API ") {
                return Some(api.trim().to_owned());
            }
        }
    }

    pub(super) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it from outside.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Asks it to stop.
    pub(super) fn terminate(&self) {
        signal(self.child.id(), "TERM");
    }

    fn end(mut self, how: &str) -> ExitStatus {
        until(&format!("a node to end: {how}"), || self.child.try_wait().unwrap())
    }

    /// Waits for its end, which must be by SIGKILL.
    pub(super) fn was_killed(self, how: &str) {
        let status = self.end(how);
        assert_eq!(status.signal(), Some(SIGKILL), "{how}: {status}");
    }

    /// Stops it, which must succeed.
    pub(super) fn stop(self) {
        self.terminate();
        let status = self.end("asked to stop");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Node {
    /// A failed test leaves no process.
    fn drop(&mut self) {
        if self.is_alive() {
            self.kill();
            self.child.wait().unwrap();
        }
    }
}

/// Whether the loops of the node at an API act.
pub(super) fn leads(api: &str) -> bool {
    let answer = http(&format!("{api}/readyz"), "127.0.0.1");
    answer.is_some_and(|(_, text)| text.contains("\"leads\":true"))
}
