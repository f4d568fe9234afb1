//! The secrets of one owner, as far as the log knows them: which of their data keys were forgotten.
//!
//! Keys themselves are the event store's business. A forgotten key is gone for ever, so nothing
//! that is sealed under it is taken any more; what is sealed under a later one is.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    aggregates::Aggregates,
    bbs::definition::Definition,
    decide::Decision,
    event::events,
    log::{Owner, Position, Stamp, StreamId},
    rejection::Rejection,
    sealed::Sealed,
    units::Timestamp,
};

/// What may be asked of an owner's secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Make all that was sealed so far unreadable for ever.
    Forget {
        /// Whose secrets.
        owner: Owner,
        /// The data keys that the owner has now.
        key_ids: Vec<Uuid>,
    },
}

impl Command {
    /// Whose secrets.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        let Self::Forget { owner, key_ids: _ } = self;
        owner
    }
}

events! {
    "What happened to an owner's secrets.";
    /// Data keys are deleted, and what they sealed is unreadable for ever.
    Forgotten = "secrets.forgotten", 1;
}

/// Data keys are deleted, and what they sealed is unreadable for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Which keys.
    pub key_ids: Vec<Uuid>,
}

/// Keys that were forgotten together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgetting {
    /// Which keys.
    pub key_ids: Vec<Uuid>,
    /// When.
    pub at: Timestamp,
    /// By which event.
    pub position: Position,
}

/// The secrets of one owner of whom some were forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Whose.
    pub owner: Owner,
    /// What was forgotten, in order.
    pub forgotten: Vec<Forgetting>,
    /// Their last event.
    pub last_position: Position,
}

impl Secrets {
    /// Whether a data key was forgotten.
    #[must_use]
    pub fn has_forgotten(&self, key_id: Uuid) -> bool {
        self.forgotten.iter().any(|forgetting| forgetting.key_ids.contains(&key_id))
    }
}

/// Judges a command. Forgetting what is forgotten already changes nothing.
pub(crate) fn decide(aggregates: &Aggregates, command: &Command) -> Result<Decision, Rejection> {
    let Command::Forget { owner, key_ids } = command;
    let known = aggregates.secrets(owner);
    let is_new = |key_id: &Uuid| known.is_none_or(|secrets| !secrets.has_forgotten(*key_id));
    let key_ids: Vec<Uuid> = key_ids.iter().copied().filter(is_new).collect();
    let mut decision = Decision::default();
    if !key_ids.is_empty() {
        let event = Event::from(Forgotten { key_ids });
        decision.push(StreamId::Secrets(owner.clone()), event);
    } else if known.is_none() {
        return Err(Rejection::NotFound { what: "secret of", id: owner.to_string() });
    }
    Ok(decision)
}

/// Refuses secrets that nobody could ever open: their key was forgotten while they were sealed.
pub(crate) fn check<'a>(
    aggregates: &Aggregates,
    owner: &Owner,
    mut sealed: impl Iterator<Item = &'a Sealed>,
) -> Result<(), Rejection> {
    let Some(secrets) = aggregates.secrets(owner) else { return Ok(()) };
    if sealed.any(|secret| secrets.has_forgotten(secret.key_id)) {
        return Err(Rejection::SecretsForgotten { owner: owner.clone() });
    }
    Ok(())
}

/// Refuses a definition that no cell could ever open: its key was forgotten while it was sealed.
pub(crate) fn check_definition(
    aggregates: &Aggregates,
    owner: &Owner,
    definition: &Definition,
) -> Result<(), Rejection> {
    let Some(secrets) = aggregates.secrets(owner) else { return Ok(()) };
    let checked = definition.try_map(&mut |secret: &Sealed| {
        if secrets.has_forgotten(secret.key_id) { Err(()) } else { Ok(()) }
    });
    checked.map(drop).map_err(|()| Rejection::SecretsForgotten { owner: owner.clone() })
}

pub(crate) fn evolve(state: &mut Option<Secrets>, owner: &Owner, event: &Event, stamp: Stamp) {
    let Event::Forgotten(Forgotten { key_ids }) = event;
    let secrets = state.get_or_insert_with(|| Secrets {
        owner: owner.clone(),
        forgotten: Vec::new(),
        last_position: stamp.position,
    });
    secrets.forgotten.push(Forgetting {
        key_ids: key_ids.clone(),
        at: stamp.recorded_at,
        position: stamp.position,
    });
    secrets.last_position = stamp.position;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::{Recorded, StreamVersion},
        testing::definition,
    };

    fn owner() -> Owner {
        "process/web".parse().unwrap()
    }

    fn forget(aggregates: &mut Aggregates, key_ids: &[u128]) -> Result<usize, Rejection> {
        let key_ids = key_ids.iter().map(|id| Uuid::from_u128(*id)).collect();
        let decision = decide(aggregates, &Command::Forget { owner: owner(), key_ids })?;
        let events = decision.events.len();
        for (stream, event) in decision.events {
            let command_id = crate::id::CommandId::new("forget").unwrap();
            aggregates.apply(&Recorded {
                position: Position(9),
                stream,
                version: StreamVersion(1),
                recorded_at: Timestamp(5),
                actor: crate::log::Actor {
                    kind: crate::log::ActorKind::User,
                    name: "ann".into(),
                    via: "graphql".into(),
                },
                command_id: command_id.clone(),
                causation: None,
                correlation: command_id,
                event,
            });
        }
        Ok(events)
    }

    #[test]
    fn only_keys_that_are_there_are_forgotten_and_only_once() {
        let mut aggregates = Aggregates::default();
        assert!(matches!(forget(&mut aggregates, &[]), Err(Rejection::NotFound { .. })));
        assert_eq!(forget(&mut aggregates, &[7]), Ok(1));
        assert_eq!(forget(&mut aggregates, &[7]), Ok(0));
        assert_eq!(forget(&mut aggregates, &[]), Ok(0));
        assert_eq!(forget(&mut aggregates, &[7, 8]), Ok(1));

        let secrets = aggregates.secrets(&owner()).unwrap();
        assert_eq!(secrets.forgotten.len(), 2);
        assert_eq!(secrets.forgotten[1].key_ids, [Uuid::from_u128(8)]);
    }

    #[test]
    fn what_a_forgotten_key_sealed_is_not_taken_any_more() {
        let mut aggregates = Aggregates::default();
        // The key of the sample definition.
        forget(&mut aggregates, &[7]).unwrap();

        let refused = check_definition(&aggregates, &owner(), &definition());
        assert_eq!(refused, Err(Rejection::SecretsForgotten { owner: owner() }));
        let other = "process/other".parse().unwrap();
        assert_eq!(check_definition(&aggregates, &other, &definition()), Ok(()));
    }
}
