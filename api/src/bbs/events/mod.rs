//! Streams of events: what changed of desired LRPs, instances and tasks, as server-sent events.
//!
//! Each event has an id, a decimal number that grows. Given back in `Last-Event-ID` the stream goes on
//! behind it; `?after=<position>` begins behind a position of the log. Both read the log, so nothing
//! is missed, however long the reader was away. (Diego counts from 0 and forgets.)
//!
//! - [`change`]: what one event of the log is to Diego; [`kinds`]: which of that goes into a stream
//! - [`sse`]: how it is written; [`stream`]: catching up, then live

pub(super) mod change;
mod kinds;
mod slots;
mod sse;
mod stream;

pub(super) use kinds::Kind;
pub(super) use stream::{Connection, follow};
