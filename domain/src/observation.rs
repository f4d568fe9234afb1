//! What a cell observes of its containers and pushes: log lines and metrics. Not events.
//!
//! What is decided from an observation is an event, and carries the evidence.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    id::InstanceGuid,
    log::{Owner, Position},
    units::Timestamp,
};

/// The longest line in bytes; longer ones are cut there.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// One thing that was observed of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Whose it is.
    #[serde(with = "owner_text")]
    pub owner: Owner,
    /// Which slot; absent for a task.
    pub index: Option<u32>,
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// The head of the log that the cell knew.
    pub log_position: Position,
    /// The metric tags of the instance then.
    #[serde(default)]
    pub tags: Arc<BTreeMap<String, String>>,
    /// What was observed.
    pub record: ObservationRecord,
}

/// What was observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservationRecord {
    /// A line was written.
    Line(LogLine),
    /// What was used.
    Metrics(MetricsSample),
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// By the cell's clock.
    pub at: Timestamp,
    /// Whose line: `APP`, `HEALTH`, `CELL`...
    pub source: String,
    /// Where it was written.
    pub stream: OutputStream,
    /// Without its line end; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// The bytes as they were written, in hex, where they are not UTF-8.
    #[serde(default, with = "hex_text")]
    pub raw: Option<Vec<u8>>,
}

impl LogLine {
    /// A line of text.
    #[must_use]
    pub fn new(at: Timestamp, source: &str, stream: OutputStream, text: String) -> Self {
        Self { at, source: source.to_owned(), stream, text, raw: None }
    }

    /// A line as it was written, be it UTF-8 or not.
    #[must_use]
    pub fn of_bytes(at: Timestamp, source: &str, stream: OutputStream, bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::new(at, source, stream, text),
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let raw = Some(error.into_bytes());
                Self { raw, ..Self::new(at, source, stream, text) }
            }
        }
    }

    /// How many bytes were written.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.raw.as_ref().map_or(self.text.len(), Vec::len)
    }
}

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What a container used at one instant. What is absent, the machine does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MetricsSample {
    /// By the cell's clock.
    pub at: Timestamp,
    /// How long the container has been there, in nanoseconds.
    #[serde(default)]
    pub age_nanoseconds: u64,
    /// Memory in bytes, page cache left out where the kernel tells it.
    pub memory_bytes: u64,
    /// The most memory that it may use.
    #[serde(default)]
    pub memory_limit_bytes: Option<u64>,
    /// Processor time since the start, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// The processor time that it could count on since the start, in nanoseconds: its memory's part
    /// of the cell's memory is its part of the cell's processors.
    #[serde(default)]
    pub cpu_entitlement_nanoseconds: Option<u64>,
    /// Disk in bytes, without what its root is made of; looked at every 15 s.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// The disk that it asked for.
    #[serde(default)]
    pub disk_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// The most processes and threads that it may have.
    #[serde(default)]
    pub pids_limit: Option<u64>,
    /// Bytes that came in over its network.
    #[serde(default)]
    pub received_bytes: Option<u64>,
    /// Bytes that went out over its network.
    #[serde(default)]
    pub sent_bytes: Option<u64>,
    /// Bytes of lines that its processes wrote, with those over a rate limit.
    #[serde(default)]
    pub log_bytes: u64,
}

mod hex_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        raw: &Option<Vec<u8>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        raw.as_ref().map(hex::encode).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        text.map(hex::decode).transpose().map_err(serde::de::Error::custom)
    }
}

mod owner_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::log::Owner;

    pub(super) fn serialize<S: Serializer>(owner: &Owner, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(owner)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Owner, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_text_keeps_its_bytes() {
        let line = |bytes: &[u8]| {
            LogLine::of_bytes(Timestamp(1), "APP", OutputStream::Out, bytes.to_vec())
        };
        let binary = line(b"a\xffb\x00");
        let text = serde_json::to_string(&binary).unwrap();

        assert_eq!((binary.text.as_str(), binary.bytes()), ("a\u{fffd}b\0", 4));
        assert_eq!(binary.raw.as_deref(), Some(&b"a\xffb\x00"[..]));
        assert_eq!(serde_json::from_str::<LogLine>(&text).unwrap(), binary);
        assert_eq!(line("grün".as_bytes()).raw, None);
    }

    #[test]
    fn what_an_agent_of_before_says_is_still_read() {
        let line = r#"{"at":1,"source":"APP","stream":"out","text":"x"}"#;
        let sample = r#"{"at":1,"memory_bytes":2,"cpu_nanoseconds":3,"pids":4}"#;

        assert_eq!(serde_json::from_str::<LogLine>(line).unwrap().raw, None);
        assert_eq!(serde_json::from_str::<MetricsSample>(sample).unwrap().pids, 4);
    }
}
