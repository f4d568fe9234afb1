//! Every event there is: the sum of the aggregates' events, with its stable name in the log.
//!
//! A stored event is never renamed, removed or given another meaning: a change is a new variant,
//! or a higher `schema_version` with an upcaster, which brings the payloads of the version before
//! into the new shape whenever one is read. What is stored is never touched.

#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    bbs::{actual_lrp, cell, desired_lrp, freshness_domain, task},
    secrets,
};

/// Brings a payload of one schema version into the shape of the next one. Pure and total: what it
/// does not find it leaves to the decoder to tell.
pub(crate) type Upcaster = fn(Value) -> Value;

/// Declares an aggregate's events: one struct each, its stable name and schema version. From
/// version 2 on the upcasters follow in brackets, from the first version's to the one before:
/// `Scaled = "desired_lrp.scaled", 3, [from_v1, from_v2];`
macro_rules! events {
    ($doc:literal; $( $(#[$variant_doc:meta])* $name:ident = $type_name:literal,
        $schema_version:literal $(, [$($upcaster:path),+])?; )+) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum Event {
            $( $(#[$variant_doc])* $name($name), )+
        }

        impl Event {
            /// The names of all events of this aggregate, in the order they were added, each with
            /// the newest version of its payload's shape.
            pub const TYPES: &'static [(&'static str, u16)] =
                &[$(($type_name, $schema_version)),+];

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
                match self { $( Self::$name(payload) => crate::event::json(payload), )+ }
            }

            /// How stored events of a type are read; `None` when it is none of this aggregate's.
            pub(crate) fn read<E: From<Self>>(type_name: &str) -> Option<crate::event::Read<E>> {
                match type_name {
                    $( $type_name => Some(|schema_version, payload| {
                        const UPCASTERS: &[crate::event::Upcaster] = &[$($($upcaster),+)?];
                        // One for every version before the newest.
                        const { assert!(UPCASTERS.len() + 1 == $schema_version) };
                        let shape = crate::event::Shape {
                            type_name: $type_name,
                            newest: $schema_version,
                            upcasters: UPCASTERS,
                        };
                        crate::event::read(shape, schema_version, payload)
                            .map(|event| Self::$name(event).into())
                    }), )+
                    _ => None,
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
    /// To an owner's secrets.
    Secrets(secrets::Event),
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
    /// No program ever wrote such a version: the row was altered.
    #[error("event {type_name} has schema version {found}, which never was: the row was altered")]
    NoSuchSchema {
        /// The stored name.
        type_name: String,
        /// The stored schema version.
        found: u16,
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

/// Reads the payload of an event of one type, which has a schema version.
pub(crate) type Read<E> = fn(u16, &[u8]) -> Result<E, UnreadableEvent>;

/// How stored events of one type and schema version are read: found once by whoever reads many.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    read: Read<Event>,
    schema_version: u16,
}

impl Reader {
    /// The reader of a type, of which any version may be stored.
    ///
    /// # Errors
    /// [`UnreadableEvent::UnknownType`].
    pub fn of(type_name: &str, schema_version: u16) -> Result<Self, UnreadableEvent> {
        let read = desired_lrp::Event::read(type_name)
            .or_else(|| actual_lrp::Event::read(type_name))
            .or_else(|| task::Event::read(type_name))
            .or_else(|| cell::Event::read(type_name))
            .or_else(|| freshness_domain::Event::read(type_name))
            .or_else(|| secrets::Event::read(type_name))
            .ok_or_else(|| UnreadableEvent::UnknownType { type_name: type_name.to_owned() })?;
        Ok(Self { read, schema_version })
    }

    /// Reads the payload of a stored event.
    ///
    /// # Errors
    /// As [`Event::from_payload`].
    pub fn event(self, payload: &[u8]) -> Result<Event, UnreadableEvent> {
        (self.read)(self.schema_version, payload)
    }
}

/// What is known of an event's payload.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) type_name: &'static str,
    pub(crate) newest: u16,
    /// From version 1 to 2, from 2 to 3 and so on.
    pub(crate) upcasters: &'static [Upcaster],
}

pub(crate) fn read<T: DeserializeOwned>(
    shape: Shape,
    found: u16,
    payload: &[u8],
) -> Result<T, UnreadableEvent> {
    let type_name = || shape.type_name.to_owned();
    let unreadable = |source| UnreadableEvent::Payload { type_name: type_name(), source };
    if found == shape.newest {
        // Looking at all bytes at once is quicker than at each text's.
        let read = match str::from_utf8(payload) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(payload),
        };
        return read.map_err(unreadable);
    }
    if found > shape.newest {
        let known = shape.newest;
        return Err(UnreadableEvent::NewerSchema { type_name: type_name(), found, known });
    }
    let old = serde_json::from_slice(payload).map_err(unreadable)?;
    serde_json::from_value(upcast(shape, found, old)?).map_err(unreadable)
}

/// Brings a payload of an older version into the newest shape, version by version.
fn upcast(shape: Shape, found: u16, old: Value) -> Result<Value, UnreadableEvent> {
    let first = match found.checked_sub(1) {
        Some(first) => usize::from(first),
        None => return upcast_made_up(shape, old),
    };
    Ok(shape.upcasters.iter().skip(first).fold(old, |payload, upcaster| upcaster(payload)))
}

#[cfg(any(test, feature = "testing"))]
fn upcast_made_up(shape: Shape, old: Value) -> Result<Value, UnreadableEvent> {
    if shape.type_name == crate::testing::MADE_UP_VERSION_0_OF {
        return upcast(shape, 1, crate::testing::upcast_version_0(old));
    }
    Err(UnreadableEvent::NoSuchSchema { type_name: shape.type_name.to_owned(), found: 0 })
}

#[cfg(not(any(test, feature = "testing")))]
fn upcast_made_up(shape: Shape, _: Value) -> Result<Value, UnreadableEvent> {
    Err(UnreadableEvent::NoSuchSchema { type_name: shape.type_name.to_owned(), found: 0 })
}

/// Whether this program can read events of a type and version.
///
/// # Errors
/// [`UnreadableEvent::UnknownType`] or [`UnreadableEvent::NewerSchema`].
pub fn check_known(type_name: &str, schema_version: u16) -> Result<(), UnreadableEvent> {
    let type_name = type_name.to_owned();
    match Event::types().iter().find(|(known, _)| *known == type_name) {
        None => Err(UnreadableEvent::UnknownType { type_name }),
        Some((_, known)) if schema_version > *known => {
            Err(UnreadableEvent::NewerSchema { type_name, found: schema_version, known: *known })
        }
        Some(_) => Ok(()),
    }
}

impl Event {
    /// All events, aggregate by aggregate: the name of each, and the newest version of its shape.
    #[must_use]
    pub fn types() -> Vec<(&'static str, u16)> {
        [
            desired_lrp::Event::TYPES,
            actual_lrp::Event::TYPES,
            task::Event::TYPES,
            cell::Event::TYPES,
            freshness_domain::Event::TYPES,
            secrets::Event::TYPES,
        ]
        .concat()
    }

    /// The names of all events, aggregate by aggregate.
    #[must_use]
    pub fn type_names() -> Vec<&'static str> {
        Self::types().into_iter().map(|(type_name, _)| type_name).collect()
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
            Self::Secrets(event) => event.type_name(),
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
            Self::Secrets(event) => event.schema_version(),
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
            Self::Secrets(event) => event.payload(),
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
        Reader::of(type_name, schema_version)?.event(payload)
    }
}

/// Most payloads fit: one allocation for each.
const PAYLOAD_ROOM: usize = 512;

/// What the log stores of a payload.
pub(crate) fn json(payload: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PAYLOAD_ROOM);
    serde_json::to_writer(&mut bytes, payload)?;
    Ok(bytes)
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
    FreshnessDomain(freshness_domain),
    Secrets(secrets)
);
