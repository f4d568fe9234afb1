//! Freshness domain (Diego's *domain*): who vouches that the desired state is complete, until when.
//!
//! Freshness permits destruction only: starting what is missing never waits for it. A domain may
//! also say what follows the ends of instances whose wishes do not say so themselves.

use serde::{Deserialize, Serialize};

use super::restart_policy::RestartPolicy;
use crate::{
    aggregates::Aggregates,
    decide::Decision,
    event::events,
    id::FreshnessDomainName,
    invalid::Invalid,
    log::{Position, Stamp, StreamId},
    rejection::Rejection,
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
    /// Set what follows the ends of instances of the domain, from the next one on. Made by
    /// [`set_restart`].
    SetRestart {
        /// Of which domain; it must have vouched once.
        name: FreshnessDomainName,
        /// The policy; the general default when absent.
        restart: Option<RestartPolicy>,
    },
}

impl Command {
    /// Of which domain.
    #[must_use]
    pub fn name(&self) -> &FreshnessDomainName {
        match self {
            Self::Upsert { name, .. } | Self::SetRestart { name, .. } => name,
        }
    }
}

/// Checks a policy from outside that a domain is to have.
///
/// # Errors
/// Everything that is wrong with it, by field.
pub fn set_restart(
    name: FreshnessDomainName,
    restart: Option<RestartPolicy>,
) -> Result<Command, Invalid> {
    let mut invalid = Invalid::default();
    if let Some(restart) = restart {
        restart.check("restart", &mut invalid);
    }
    invalid.or(Command::SetRestart { name, restart })
}

events! {
    "What happened to a freshness domain.";
    /// It is fresh, for a span.
    Upserted = "freshness_domain.upserted", 1;
    /// What follows the ends of its instances was set.
    RestartSet = "freshness_domain.restart_set", 1;
}

/// It is fresh, for a span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upserted {
    /// Until when; absent is for ever.
    pub fresh_until: Option<Timestamp>,
}

/// What follows the ends of its instances was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartSet {
    /// The policy from now on; absent is the general default.
    pub restart: Option<RestartPolicy>,
}

/// A freshness domain as its events tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshnessDomain {
    /// Who vouches.
    pub name: FreshnessDomainName,
    /// Until when; `None` is for ever.
    pub fresh_until: Option<Timestamp>,
    /// What follows the ends of its instances where their wishes do not say; absent is the default.
    pub restart: Option<RestartPolicy>,
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

pub(crate) fn decide(
    aggregates: &Aggregates,
    command: &Command,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let mut decision = Decision::default();
    let stream = StreamId::FreshnessDomain(command.name().clone());
    match command {
        Command::Upsert { name: _, time_to_live } => {
            let fresh_until = time_to_live.map(|span| now.plus(span));
            decision.push(stream, Event::from(Upserted { fresh_until }));
        }
        Command::SetRestart { name, restart } => {
            let known = aggregates.freshness_domain(name);
            let known = known.ok_or_else(|| Rejection::NotFound {
                what: "freshness domain",
                id: name.to_string(),
            })?;
            if known.restart != *restart {
                decision.push(stream, Event::from(RestartSet { restart: *restart }));
            }
        }
    }
    Ok(decision)
}

pub(crate) fn evolve(
    state: &mut Option<FreshnessDomain>,
    name: &FreshnessDomainName,
    event: &Event,
    stamp: Stamp,
) {
    match event {
        Event::Upserted(upserted) => {
            *state = Some(FreshnessDomain {
                name: name.clone(),
                fresh_until: upserted.fresh_until,
                restart: state.as_ref().and_then(|known| known.restart),
                last_position: stamp.position,
            });
        }
        Event::RestartSet(set) => {
            if let Some(domain) = state {
                domain.restart = set.restart;
                domain.last_position = stamp.position;
            }
        }
    }
}
