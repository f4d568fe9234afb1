//! How events are written: id, type and data on a line each, the message in base64.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use domain::log::Position;

/// How many events of a stream one event of the log can be, at most.
const OF_ONE_MAX: u64 = 8;

/// A message with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bbs) struct Named {
    pub(super) name: &'static str,
    pub(super) message: Vec<u8>,
}

impl Named {
    pub(super) fn new(name: &'static str, message: Vec<u8>) -> Self {
        Self { name, message }
    }
}

/// Where an event stands in its stream: the position in the log, and which of that one's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) position: Position,
    /// From 0.
    pub(super) ordinal: u64,
}

impl Id {
    /// As a reader gave it back.
    pub(super) fn read(text: &str) -> Option<Self> {
        let number: u64 = text.trim().parse().ok()?;
        Some(Self { position: Position(number / OF_ONE_MAX), ordinal: number % OF_ONE_MAX })
    }

    fn number(self) -> u64 {
        self.position.0.saturating_mul(OF_ONE_MAX).saturating_add(self.ordinal)
    }
}

/// One event as it is on the wire.
pub(super) fn frame(id: Id, named: &Named) -> Bytes {
    let data = STANDARD.encode(&named.message);
    format!("id: {}\nevent: {}\ndata: {data}\n\n", id.number(), named.name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_three_lines_and_a_blank_one() {
        let named = Named::new("task_created", vec![0xfb, 0xff, 0x00]);
        let id = Id { position: Position(42), ordinal: 1 };

        assert_eq!(frame(id, &named), "id: 337\nevent: task_created\ndata: +/8A\n\n");
        assert_eq!(Id::read("337"), Some(id));
        assert_eq!(Id::read(" 337 "), Some(id));
        for rubbish in ["", "x", "-1", "1.5", "18446744073709551616"] {
            assert_eq!(Id::read(rubbish), None, "{rubbish}");
        }
    }
}
