//! The shim's socket: one agent at a time, a new one replacing the old.
//!
//! Never blocks. An agent that does not read is cut off when what waits for it grows past a
//! bound; it reconnects and asks for the whole status.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use super::protocol::{self, MESSAGE_BYTES_MAX, Message, Request};

/// What may wait to be sent to an agent.
const UNSENT_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// The listening socket and the agent, if there is one.
#[derive(Debug)]
pub(super) struct Connection {
    listener: UnixListener,
    agent: Option<Agent>,
}

#[derive(Debug)]
struct Agent {
    stream: UnixStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
}

impl Connection {
    pub(super) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener, agent: None })
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The agent's descriptor, and whether there is something to send.
    pub(super) fn agent(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.agent.as_ref().map(|agent| (agent.stream.as_fd(), !agent.unsent.is_empty()))
    }

    /// Whether an agent is there that has read all that was sent.
    pub(super) fn is_idle(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.unsent.is_empty())
    }

    /// Takes a new agent in place of the old one, which has died or been upgraded.
    pub(super) fn accept(&mut self) {
        if let Ok((stream, _)) = self.listener.accept()
            && stream.set_nonblocking(true).is_ok()
        {
            self.agent = Some(Agent { stream, received: Vec::new(), unsent: Vec::new() });
        }
    }

    /// Reads what the agent sent; gives the whole requests.
    pub(super) fn receive(&mut self) -> Vec<Request> {
        let Some(agent) = &mut self.agent else { return Vec::new() };
        match agent.receive() {
            Ok(requests) => requests,
            Err(error) => {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    super::log(&format!("the agent is cut off: {error}"));
                }
                self.agent = None;
                Vec::new()
            }
        }
    }

    /// Queues a message for the agent, if there is one, and sends what can be sent.
    pub(super) fn send(&mut self, message: &Message) {
        if let Some(agent) = &mut self.agent
            && protocol::encode(message, &mut agent.unsent).is_err()
        {
            super::log("a message could not be encoded");
        }
        self.flush();
    }

    /// Sends what waits, as far as the agent reads.
    pub(super) fn flush(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        if agent.flush().is_err() || agent.unsent.len() > UNSENT_BYTES_MAX {
            self.agent = None;
        }
    }
}

impl Agent {
    fn receive(&mut self) -> io::Result<Vec<Request>> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.received.extend_from_slice(buffer.get(..count).unwrap_or(&[])),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        let mut requests = Vec::new();
        while let Some(request) = protocol::decode(&mut self.received)? {
            requests.push(request);
        }
        Ok(requests)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
