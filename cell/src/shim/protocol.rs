//! What the agent and a shim say to each other over the shim's socket.
//!
//! A message is its length (u32, little-endian) and JSON. Requests carry a number that their
//! answer repeats; notices come unasked. Both sides are the same binary or close relatives, but
//! an upgraded agent meets older shims: only add fields, with defaults, and new variants.

use std::collections::BTreeMap;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::garden::{ExitRecord, OutputCursor, ProcessId, ProcessSpec, Signal};

/// The largest message either side takes: an environment and arguments at their bounds, in JSON.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
const LENGTH_BYTES: usize = 4;
/// What a shim says on its stdout once its container stands.
pub(crate) const READY: &str = "ready";

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) command: Command,
}

/// What the agent may ask.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Status,
    Run(Box<ProcessSpec>),
    Signal {
        process: ProcessId,
        signal: Signal,
    },
    /// Ends everything; the answer comes when nothing runs any more, and the shim ends.
    Destroy,
}

/// From the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Answer {
        number: u64,
        result: Result<Answer, Refusal>,
    },
    /// The spool grew to here.
    Output {
        end: OutputCursor,
    },
    Exited(Box<ExitRecord>),
    /// The container's init is gone, and everything in it.
    Stopped,
}

/// What was done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Status(Status),
    Started { process: ProcessId, running: RunningProcess, warnings: Vec<String> },
    Done,
}

/// Why something was not done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Refusal {
    UnknownProcess,
    ProcessInUse,
    Stopped,
    /// Made up by the agent's end: the connection broke before the answer.
    Unanswered,
    /// In words.
    Failed(String),
}

/// Everything an agent needs that is not in the container's configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) is_stopped: bool,
    pub(crate) running: BTreeMap<ProcessId, RunningProcess>,
    pub(crate) exits: BTreeMap<ProcessId, ExitRecord>,
    pub(crate) output_end: OutputCursor,
}

/// A process that runs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct RunningProcess {
    pub(crate) pid: i32,
    pub(crate) started_at_ns: u64,
}

/// Appends a message to bytes to be sent.
pub(crate) fn encode<T: Serialize>(message: &T, bytes: &mut Vec<u8>) -> io::Result<()> {
    let text = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&text);
    Ok(())
}

/// Takes one whole message from the front of received bytes; `None` if it is not whole.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(length) = bytes.get(..LENGTH_BYTES).and_then(|length| length.try_into().ok()) else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("a message of {length} bytes is too long")));
    }
    let Some(text) = bytes.get(LENGTH_BYTES..LENGTH_BYTES + length) else { return Ok(None) };
    let message = serde_json::from_slice(text).map_err(io::Error::other)?;
    bytes.drain(..LENGTH_BYTES + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_or_not_at_all() {
        let mut bytes = Vec::new();
        encode(&Message::Stopped, &mut bytes).unwrap();
        encode(&Message::Output { end: OutputCursor(7) }, &mut bytes).unwrap();
        let last = bytes.pop().unwrap();

        let first = decode::<Message>(&mut bytes).unwrap();
        assert!(matches!(first, Some(Message::Stopped)));
        assert!(decode::<Message>(&mut bytes).unwrap().is_none());
        bytes.push(last);
        let second = decode::<Message>(&mut bytes).unwrap();
        assert!(matches!(second, Some(Message::Output { end: OutputCursor(7) })));

        let mut absurd = u32::MAX.to_le_bytes().to_vec();
        assert!(decode::<Message>(&mut absurd).is_err());
    }
}
