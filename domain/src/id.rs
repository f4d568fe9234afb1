//! The ids of everything Diario names, one type each, so that no two can be mixed up.
//!
//! An id is checked once, where it enters; inside it is always well formed. This file never makes
//! an id out of chance: new ids come in with the command that needs them.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// The longest id in bytes, as Diego's database columns allow.
pub const ID_BYTES_MAX: usize = 255;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing was given.
    #[error("must not be empty")]
    Empty,
    /// More than [`ID_BYTES_MAX`] bytes.
    #[error("must not be longer than {ID_BYTES_MAX} bytes, but has {0}")]
    TooLong(usize),
    /// A character outside the id's alphabet.
    #[error("may hold only {allowed}, but holds {found:?}")]
    Character {
        /// What the id may be made of, in words.
        allowed: &'static str,
        /// The first character that is not allowed.
        found: char,
    },
}

fn check(
    text: &str,
    allowed: &'static str,
    is_allowed: impl Fn(u8) -> bool,
) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(InvalidId::TooLong(text.len()));
    }
    // All alphabets are of ASCII. A replay checks some ids of every event, nearly all well formed:
    // without an early end many bytes are looked at in one step.
    if text.bytes().fold(true, |all, byte| all & is_allowed(byte)) {
        return Ok(());
    }
    let is_other = |character: &char| !u8::try_from(*character).is_ok_and(&is_allowed);
    let found = text.chars().find(is_other).unwrap_or_default();
    Err(InvalidId::Character { allowed, found })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $allowed:literal, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        serde_as_text!($name);

        impl $name {
            /// Checks a text from outside.
            ///
            /// # Errors
            /// [`InvalidId`] when it is empty, too long or holds a character that is not allowed.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                check(text, $allowed, $is_allowed)?;
                Ok(Self(Arc::from(text)))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        /// It is compared and hashed as its text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }
    };
}

fn is_guid(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn is_name(byte: u8) -> bool {
    is_guid(byte) || byte == b'.'
}

id!(
    /// One desired LRP: an app's process in one version.
    ProcessGuid, "letters, digits, '-' and '_'", is_guid
);
id!(
    /// One task.
    TaskGuid, "letters, digits, '-' and '_'", is_guid
);
id!(
    /// One container's life: a new one for every placement of an LRP slot or a task.
    InstanceGuid, "letters, digits, '-' and '_'", is_guid
);
id!(
    /// One cell.
    CellId, "letters, digits, '-', '_' and '.'", is_name
);
id!(
    /// A consumer's name under which it vouches for its desired state (Diego's *domain*).
    FreshnessDomainName, "letters, digits, '-', '_' and '.'", is_name
);
id!(
    /// An availability zone.
    Zone, "letters, digits, '-', '_' and '.'", is_name
);

/// One command, given by whoever sends it; a second command with the same id changes nothing.
///
/// Reports of cells use ids of the form `report/<cell>/<cell epoch>/<sequence>`, so that the
/// highest sequence of each cell can be read back from the log.
#[derive(Clone)]
pub struct CommandId(CommandText);

/// Uuids and nearly all reports are short. A replay reads two for every event: they are kept in
/// place.
#[derive(Clone)]
enum CommandText {
    Short { length: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Arc<str>),
}

/// As much as fits beside the tag and the length without making the id larger.
const SHORT_BYTES_MAX: usize = 38;

serde_as_text!(CommandId);

impl CommandId {
    /// Checks a text from outside.
    ///
    /// # Errors
    /// [`InvalidId`] when it is empty, too long or holds a character that is not allowed.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        check(text, "letters, digits, '-', '_', '.', ':' and '/'", |byte| {
            is_name(byte) || matches!(byte, b':' | b'/')
        })?;
        Ok(Self::of_checked(text))
    }

    /// A command with an id that its sender drew at random.
    #[must_use]
    pub fn from_uuid(id: uuid::Uuid) -> Self {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        Self::of_checked(id.hyphenated().encode_lower(&mut text))
    }

    fn of_checked(text: &str) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(length), Some(start)) => {
                start.copy_from_slice(text.as_bytes());
                Self(CommandText::Short { length, bytes })
            }
            (Ok(_) | Err(_), _) => Self(CommandText::Long(Arc::from(text))),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            CommandText::Short { length, bytes } => {
                let text = bytes.get(..usize::from(*length)).unwrap_or_default();
                // It was a text when it was put there.
                str::from_utf8(text).unwrap_or_default()
            }
            CommandText::Long(text) => text,
        }
    }
}

impl PartialEq for CommandId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for CommandId {}

impl PartialOrd for CommandId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CommandId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for CommandId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CommandId").field(&self.as_str()).finish()
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The machine behind a cell id, drawn once when a cell's folder is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineId(pub uuid::Uuid);

/// One slot of a desired LRP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActualLrpKey {
    /// Whose slot.
    pub process_guid: ProcessGuid,
    /// Which slot, from 0.
    pub index: u32,
}

impl fmt::Display for ActualLrpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.process_guid, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_outside_their_alphabet_are_refused_with_a_reason() {
        assert_eq!(ProcessGuid::new(""), Err(InvalidId::Empty));
        assert_eq!(ProcessGuid::new(&"a".repeat(256)), Err(InvalidId::TooLong(256)));
        assert!(matches!(ProcessGuid::new("a.b"), Err(InvalidId::Character { found: '.', .. })));
        assert!(CellId::new("cell.z1-0").is_ok());
        assert!(CommandId::new("report/cell-1/2/3").is_ok());
        assert!(CommandId::new("a b").is_err());
        for (text, found) in [("aé", 'é'), ("aÿb", 'ÿ'), ("a€", '€'), ("a\u{0}", '\u{0}')] {
            assert!(
                matches!(CellId::new(text), Err(InvalidId::Character { found: it, .. }) if it == found),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_command_id_is_its_text_however_long() {
        let texts = ["a".repeat(37), "a".repeat(38), "a".repeat(39), "a".repeat(255), "b".into()];
        let ids: Vec<CommandId> = texts.iter().map(|text| CommandId::new(text).unwrap()).collect();
        for (text, id) in texts.iter().zip(&ids) {
            assert_eq!(id.as_str(), text);
            assert_eq!(format!("{id:?}"), format!("CommandId({text:?})"));
        }
        assert!(ids.is_sorted(), "as their texts");
        let uuid = uuid::Uuid::from_u128(7);
        assert_eq!(CommandId::from_uuid(uuid), CommandId::new(&uuid.to_string()).unwrap());
        assert_eq!(size_of::<CommandId>(), 40);
    }

    #[test]
    fn an_id_in_json_is_checked_and_may_be_written_with_escapes() {
        let id: ProcessGuid = serde_json::from_str(r#""\u0061-1""#).unwrap();
        assert_eq!(id.as_str(), "a-1");
        assert_eq!(serde_json::to_string(&id).unwrap(), r#""a-1""#);
        let refused = serde_json::from_str::<ProcessGuid>(r#""a b""#).unwrap_err().to_string();
        assert!(refused.starts_with("may hold only letters"), "{refused}");
        let refused = serde_json::from_str::<ProcessGuid>("7").unwrap_err().to_string();
        assert!(refused.contains("expected a text"), "{refused}");
    }
}
