//! The one entrance to the rules: a command and the live aggregates in, events or a rejection out.
//!
//! Dispatch only. Nothing here reads a clock or draws a number: `now` is an argument, and new ids
//! are fields of the command.

use crate::{
    aggregates::Aggregates,
    bbs::{actual_lrp, cell, desired_lrp, freshness_domain, task},
    command::{Command, Envelope},
    event::Event,
    log::StreamId,
    rejection::Rejection,
    secrets,
    units::Timestamp,
};

/// The events that answer a command, each with its stream, to be committed together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// In the order they happened.
    pub events: Vec<(StreamId, Event)>,
}

impl Decision {
    pub(crate) fn push(&mut self, stream: StreamId, event: impl Into<Event>) {
        self.events.push((stream, event.into()));
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.events.extend(other.events);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// Judges a command. A repeated one is answered with no event.
///
/// # Errors
/// Why it is refused; nothing changes then.
pub fn decide(
    aggregates: &Aggregates,
    envelope: &Envelope,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    check_seen(aggregates, envelope)?;
    match &envelope.command {
        Command::DesiredLrp(command) => desired_lrp::decide(aggregates, command),
        Command::ActualLrp(command) => actual_lrp::decide(aggregates, command, now),
        Command::Task(command) => task::decide(aggregates, command, now),
        Command::Cell(command) => cell::decide(aggregates, command, now),
        Command::FreshnessDomain(command) => freshness_domain::decide(aggregates, command, now),
        Command::Secrets(command) => secrets::decide(aggregates, command),
    }
}

/// A loop's command rests on its stream as it saw it.
fn check_seen(aggregates: &Aggregates, envelope: &Envelope) -> Result<(), Rejection> {
    let Some(seen) = envelope.seen else { return Ok(()) };
    let stream = envelope.command.stream();
    match aggregates.last_position(&stream) {
        Some(position) if position > seen.position => Err(Rejection::Moved { stream }),
        Some(_) | None => Ok(()),
    }
}
