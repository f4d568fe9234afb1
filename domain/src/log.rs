//! The words of the log: streams, owners, positions, epochs, actors, and the recorded event.
//!
//! Vocabulary only. How rows are stored and hashed is the event store's business.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    id::{ActualLrpKey, CellId, CommandId, FreshnessDomainName, ProcessGuid, TaskGuid},
    units::Timestamp,
};

/// A place in the log: dense, from 1, visible in order. 0 is before the first event.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// The place behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The how-manyth event of its stream, from 1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct StreamVersion(pub u64);

/// Which life of the log: new after a restore, so that a cursor of the life before is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub uuid::Uuid);

/// Whose loops are active; higher after every change of hands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LeaseEpoch(pub u64);

/// Which registration of a cell id: a new machine under the id gets a higher one, an agent's
/// restart keeps it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CellEpoch(pub u64);

/// Which placement: the position of the event that placed it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PlacementEpoch(pub Position);

/// Where a reader of the log is: opaque to it, `<incarnation>.<position>` inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The life of the log that the position belongs to.
    pub incarnation: Incarnation,
    /// The last event that was read.
    pub position: Position,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation.0.simple(), self.position)
    }
}

/// A text that is not a cursor, a stream or an owner of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}")]
pub struct Unparsable {
    /// What it should have been.
    pub what: &'static str,
    /// What was given, cut to 100 characters.
    pub text: String,
}

fn unparsable(what: &'static str, text: &str) -> Unparsable {
    Unparsable { what, text: text.chars().take(100).collect() }
}

impl FromStr for Cursor {
    type Err = Unparsable;
    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let parse = || {
            let (incarnation, position) = text.split_once('.')?;
            let incarnation = Incarnation(uuid::Uuid::try_parse(incarnation).ok()?);
            Some(Self { incarnation, position: Position(position.parse().ok()?) })
        };
        parse().ok_or_else(|| unparsable("cursor", text))
    }
}

/// One thing that must be consistent by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// A wish for N instances.
    DesiredLrp(ProcessGuid),
    /// One slot of a desired LRP.
    ActualLrp(ActualLrpKey),
    /// A task.
    Task(TaskGuid),
    /// A cell.
    Cell(CellId),
    /// A freshness domain.
    FreshnessDomain(FreshnessDomainName),
    /// An owner's secrets: that they were forgotten.
    Secrets(Owner),
}

impl StreamId {
    /// Whose history the stream belongs to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        match self {
            Self::DesiredLrp(process_guid) => Owner::Process(process_guid.clone()),
            Self::ActualLrp(key) => Owner::Process(key.process_guid.clone()),
            Self::Task(task_guid) => Owner::Task(task_guid.clone()),
            Self::Cell(cell_id) => Owner::Cell(cell_id.clone()),
            Self::FreshnessDomain(name) => Owner::FreshnessDomain(name.clone()),
            Self::Secrets(owner) => owner.clone(),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DesiredLrp(process_guid) => write!(f, "desired/{process_guid}"),
            Self::ActualLrp(key) => write!(f, "actual/{key}"),
            Self::Task(task_guid) => write!(f, "task/{task_guid}"),
            Self::Cell(cell_id) => write!(f, "cell/{cell_id}"),
            Self::FreshnessDomain(name) => write!(f, "freshness/{name}"),
            Self::Secrets(owner) => write!(f, "secrets/{owner}"),
        }
    }
}

impl FromStr for StreamId {
    type Err = Unparsable;
    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let parse = || {
            let (kind, rest) = text.split_once('/')?;
            match kind {
                "desired" => Some(Self::DesiredLrp(rest.parse().ok()?)),
                "actual" => {
                    let (process_guid, index) = rest.split_once('/')?;
                    let process_guid = process_guid.parse().ok()?;
                    Some(Self::ActualLrp(ActualLrpKey { process_guid, index: index.parse().ok()? }))
                }
                "task" => Some(Self::Task(rest.parse().ok()?)),
                "cell" => Some(Self::Cell(rest.parse().ok()?)),
                "freshness" => Some(Self::FreshnessDomain(rest.parse().ok()?)),
                "secrets" => Some(Self::Secrets(rest.parse().ok()?)),
                _ => None,
            }
        };
        parse().ok_or_else(|| unparsable("stream", text))
    }
}

/// Whose history an event belongs to: a process guid, a task, a cell or a freshness domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Owner {
    /// A desired LRP with all its slots.
    Process(ProcessGuid),
    /// A task.
    Task(TaskGuid),
    /// A cell.
    Cell(CellId),
    /// A freshness domain.
    FreshnessDomain(FreshnessDomainName),
}

impl Owner {
    /// What its text is made of: these two with a `/` between them.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Process(process_guid) => ("process", process_guid.as_str()),
            Self::Task(task_guid) => ("task", task_guid.as_str()),
            Self::Cell(cell_id) => ("cell", cell_id.as_str()),
            Self::FreshnessDomain(name) => ("freshness", name.as_str()),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.parts();
        write!(f, "{kind}/{name}")
    }
}

impl FromStr for Owner {
    type Err = Unparsable;
    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let parse = || {
            let (kind, rest) = text.split_once('/')?;
            match kind {
                "process" => Some(Self::Process(rest.parse().ok()?)),
                "task" => Some(Self::Task(rest.parse().ok()?)),
                "cell" => Some(Self::Cell(rest.parse().ok()?)),
                "freshness" => Some(Self::FreshnessDomain(rest.parse().ok()?)),
                _ => None,
            }
        };
        parse().ok_or_else(|| unparsable("owner", text))
    }
}

impl TryFrom<String> for Owner {
    type Error = Unparsable;
    fn try_from(text: String) -> Result<Self, Unparsable> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.to_string()
    }
}

/// What sort of party sent a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person or a program with a token.
    User,
    /// One of our loops.
    Loop,
    /// A cell's report.
    Cell,
}

/// Who sent a command, and by which edge. A clone shares the texts: all events of a loop or a cell
/// name the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor {
    /// What sort of party.
    pub kind: ActorKind,
    /// Its name: of the token, the loop or the cell.
    pub name: Arc<str>,
    /// The edge it came in by (`graphql`, `gateway`, a node's name for a loop).
    pub via: Arc<str>,
}

/// When and where an event was recorded; with the event, all that a fold needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The event's place in the log.
    pub position: Position,
    /// The store's time at the commit; never decreases along the log.
    pub recorded_at: Timestamp,
}

/// One event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded<E> {
    /// Its place in the log.
    pub position: Position,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its number in that stream.
    pub version: StreamVersion,
    /// When it was recorded; never decreases along the log.
    pub recorded_at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// The command that it answers.
    pub command_id: CommandId,
    /// The event that made the command's sender act, where there is one.
    pub causation: Option<Position>,
    /// The first command of the chain that led here.
    pub correlation: CommandId,
    /// What happened.
    pub event: E,
}

impl<E> Recorded<E> {
    /// When and where it was recorded.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { position: self.position, recorded_at: self.recorded_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_owners_and_cursors_read_back_what_they_print() {
        for text in
            ["desired/a", "actual/a/3", "task/t", "cell/c.1", "freshness/cf-apps", "secrets/task/t"]
        {
            let stream: StreamId = text.parse().unwrap();
            assert_eq!(stream.to_string(), text);
            let owner = stream.owner();
            assert_eq!(owner.to_string().parse::<Owner>(), Ok(owner));
        }
        assert!("actual/a".parse::<StreamId>().is_err());
        assert!("secrets/secrets/task/t".parse::<StreamId>().is_err());
        let cursor =
            Cursor { incarnation: Incarnation(uuid::Uuid::from_u128(7)), position: Position(42) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert!("42".parse::<Cursor>().is_err());
    }
}
