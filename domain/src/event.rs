//! Every event there is: the sum of the aggregates' events, with its stable name in the log.
//!
//! A stored event is never renamed, removed or given another meaning: a change is a new variant,
//! or a higher `schema_version` with an upcaster.

use serde::de::DeserializeOwned;

use crate::bbs::{actual_lrp, cell, desired_lrp, freshness_domain, task};

/// Declares an aggregate's events: one struct each, its stable name and schema version.
macro_rules! events {
    ($doc:literal; $( $(#[$variant_doc:meta])* $name:ident = $type_name:literal, $schema_version:literal; )+) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum Event {
            $( $(#[$variant_doc])* $name($name), )+
        }

        impl Event {
            /// The names of all events of this aggregate, in the order they were added.
            pub const TYPE_NAMES: &'static [&'static str] = &[$($type_name),+];

            /// The name under which the log stores the event.
            #[must_use]
            pub fn type_name(&self) -> &'static str {
                match self { $( Self::$name(_) => $type_name, )+ }
            }

            /// The version of the stored payload's shape.
            #[must_use]
            pub fn schema_version(&self) -> u16 {
                match self { $( Self::$name(_) => $schema_version, )+ }
            }

            pub(crate) fn payload(&self) -> serde_json::Result<Vec<u8>> {
                match self { $( Self::$name(payload) => serde_json::to_vec(payload), )+ }
            }

            pub(crate) fn from_payload(
                type_name: &str,
                schema_version: u16,
                payload: &[u8],
            ) -> Result<Option<Self>, crate::event::UnreadableEvent> {
                match type_name {
                    $( $type_name => {
                        crate::event::read(type_name, schema_version, $schema_version, payload)
                            .map(|event| Some(Self::$name(event)))
                    } )+
                    _ => Ok(None),
                }
            }
        }

        $( impl From<$name> for Event {
            fn from(event: $name) -> Self { Self::$name(event) }
        } )+
    };
}
pub(crate) use events;

/// Anything that can have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// To a desired LRP.
    DesiredLrp(desired_lrp::Event),
    /// To one slot of a desired LRP.
    ActualLrp(actual_lrp::Event),
    /// To a task.
    Task(task::Event),
    /// To a cell.
    Cell(cell::Event),
    /// To a freshness domain.
    FreshnessDomain(freshness_domain::Event),
}

/// Why a stored event cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    /// Its name is not known here: the log was written by a newer Diario.
    #[error("event type {type_name:?} is unknown here: it was written by a newer version; upgrade")]
    UnknownType {
        /// The stored name.
        type_name: String,
    },
    /// Its payload has a newer shape than this program knows.
    #[error("event {type_name} has schema version {found}, newer than {known} known here: upgrade")]
    NewerSchema {
        /// The stored name.
        type_name: String,
        /// The stored schema version.
        found: u16,
        /// The newest known one.
        known: u16,
    },
    /// Its payload is not what its name says.
    #[error("the payload of event {type_name} cannot be read")]
    Payload {
        /// The stored name.
        type_name: String,
        /// What the decoder said.
        source: serde_json::Error,
    },
}

pub(crate) fn read<T: DeserializeOwned>(
    type_name: &str,
    found: u16,
    known: u16,
    payload: &[u8],
) -> Result<T, UnreadableEvent> {
    let type_name = type_name.to_owned();
    if found > known {
        return Err(UnreadableEvent::NewerSchema { type_name, found, known });
    }
    serde_json::from_slice(payload).map_err(|source| UnreadableEvent::Payload { type_name, source })
}

impl Event {
    /// The names of all events, aggregate by aggregate.
    #[must_use]
    pub fn type_names() -> Vec<&'static str> {
        [
            desired_lrp::Event::TYPE_NAMES,
            actual_lrp::Event::TYPE_NAMES,
            task::Event::TYPE_NAMES,
            cell::Event::TYPE_NAMES,
            freshness_domain::Event::TYPE_NAMES,
        ]
        .concat()
    }

    /// The name under which the log stores the event.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::DesiredLrp(event) => event.type_name(),
            Self::ActualLrp(event) => event.type_name(),
            Self::Task(event) => event.type_name(),
            Self::Cell(event) => event.type_name(),
            Self::FreshnessDomain(event) => event.type_name(),
        }
    }

    /// The version of the stored payload's shape.
    #[must_use]
    pub fn schema_version(&self) -> u16 {
        match self {
            Self::DesiredLrp(event) => event.schema_version(),
            Self::ActualLrp(event) => event.schema_version(),
            Self::Task(event) => event.schema_version(),
            Self::Cell(event) => event.schema_version(),
            Self::FreshnessDomain(event) => event.schema_version(),
        }
    }

    /// The payload's JSON bytes: what is stored, and what is hashed.
    ///
    /// # Errors
    /// Only when an event's own types cannot be written as JSON, which is a defect.
    pub fn payload(&self) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::DesiredLrp(event) => event.payload(),
            Self::ActualLrp(event) => event.payload(),
            Self::Task(event) => event.payload(),
            Self::Cell(event) => event.payload(),
            Self::FreshnessDomain(event) => event.payload(),
        }
    }

    /// Reads a stored event.
    ///
    /// # Errors
    /// [`UnreadableEvent`] when its type or schema is newer than this program, or the payload is
    /// not what its type says.
    pub fn from_payload(
        type_name: &str,
        schema_version: u16,
        payload: &[u8],
    ) -> Result<Self, UnreadableEvent> {
        if let Some(event) = desired_lrp::Event::from_payload(type_name, schema_version, payload)? {
            return Ok(Self::DesiredLrp(event));
        }
        if let Some(event) = actual_lrp::Event::from_payload(type_name, schema_version, payload)? {
            return Ok(Self::ActualLrp(event));
        }
        if let Some(event) = task::Event::from_payload(type_name, schema_version, payload)? {
            return Ok(Self::Task(event));
        }
        if let Some(event) = cell::Event::from_payload(type_name, schema_version, payload)? {
            return Ok(Self::Cell(event));
        }
        freshness_domain::Event::from_payload(type_name, schema_version, payload)?
            .map(Self::FreshnessDomain)
            .ok_or_else(|| UnreadableEvent::UnknownType { type_name: type_name.to_owned() })
    }
}

macro_rules! from_aggregate {
    ($($variant:ident($aggregate:ident)),+) => {
        $( impl From<$aggregate::Event> for Event {
            fn from(event: $aggregate::Event) -> Self { Self::$variant(event) }
        } )+
    };
}
from_aggregate!(
    DesiredLrp(desired_lrp),
    ActualLrp(actual_lrp),
    Task(task),
    Cell(cell),
    FreshnessDomain(freshness_domain)
);
