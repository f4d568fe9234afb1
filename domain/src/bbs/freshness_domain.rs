//! Freshness domain (Diego's *domain*): who vouches that the desired state is complete, until when.
//!
//! Freshness permits destruction only: starting what is missing never waits for it.

use serde::{Deserialize, Serialize};

use crate::{
    decide::Decision,
    event::events,
    id::FreshnessDomainName,
    log::{Position, Stamp, StreamId},
    units::{Milliseconds, Timestamp},
};

/// What may be asked of a freshness domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Vouch for a span from now on.
    Upsert {
        /// Who vouches.
        name: FreshnessDomainName,
        /// For how long; `None` is for ever.
        time_to_live: Option<Milliseconds>,
    },
}

events! {
    "What happened to a freshness domain.";
    /// It is fresh, for a span.
    Upserted = "freshness_domain.upserted", 1;
}

/// It is fresh, for a span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upserted {
    /// Until when; absent is for ever.
    pub fresh_until: Option<Timestamp>,
}

/// A freshness domain as its events tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshnessDomain {
    /// Who vouches.
    pub name: FreshnessDomainName,
    /// Until when; `None` is for ever.
    pub fresh_until: Option<Timestamp>,
    /// Its last event.
    pub last_position: Position,
}

impl FreshnessDomain {
    /// Whether the desired state counts as complete.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.fresh_until.is_none_or(|until| now < until)
    }
}

pub(crate) fn decide(command: &Command, now: Timestamp) -> Decision {
    let Command::Upsert { name, time_to_live } = command;
    let fresh_until = time_to_live.map(|span| now.plus(span));
    let mut decision = Decision::default();
    decision.push(StreamId::FreshnessDomain(name.clone()), Event::from(Upserted { fresh_until }));
    decision
}

pub(crate) fn evolve(
    state: &mut Option<FreshnessDomain>,
    name: &FreshnessDomainName,
    event: &Event,
    stamp: Stamp,
) {
    let Event::Upserted(upserted) = event;
    *state = Some(FreshnessDomain {
        name: name.clone(),
        fresh_until: upserted.fresh_until,
        last_position: stamp.position,
    });
}
