//! The names that Garden accepts: container handles, process ids, rootfs names.
//!
//! They become file names, cgroup names and path components, so they are parsed once, here, and
//! never checked again. Never widen the alphabets without reading where they end up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest handle, process id or rootfs name, in bytes.
const ID_BYTES_MAX: usize = 64;

/// A name that Garden does not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not valid: {rule}")]
pub struct InvalidId {
    what: &'static str,
    given: String,
    rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $is_valid:ident, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Accepts a name of the documented alphabet and length.
            ///
            /// # Errors
            /// The name is empty, too long or holds another character.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if $is_valid(text) {
                    return Ok(Self(text.to_owned()));
                }
                let given = text.chars().take(ID_BYTES_MAX + 1).collect();
                Err(InvalidId { what: $what, given, rule: $rule })
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A container's name, unique on its cell: `[a-z0-9][a-z0-9-]{0,63}`.
    Handle,
    "handle",
    is_handle,
    "1 to 64 of a-z, 0-9 and -, not starting with -"
);
id!(
    /// A process's name, unique in its container for ever: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    ProcessId,
    "process id",
    is_process_id,
    "1 to 64 of letters, digits, '.', '_' and '-', starting with a letter or digit"
);
id!(
    /// What a container's root is made of: `preloaded:<name>`.
    RootfsName,
    "rootfs",
    is_rootfs_name,
    "preloaded:<name>, the name being 1 to 64 of letters, digits, '.', '_' and '-'"
);

impl RootfsName {
    /// The part after `preloaded:`.
    #[must_use]
    pub fn preloaded_name(&self) -> &str {
        self.0.strip_prefix("preloaded:").unwrap_or(&self.0)
    }
}

fn is_handle(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    fits(text) && !text.starts_with('-') && text.bytes().all(allowed)
}

fn is_process_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let first = |text: &str| text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    fits(text) && first(text) && text.bytes().all(allowed)
}

fn is_rootfs_name(text: &str) -> bool {
    text.strip_prefix("preloaded:").is_some_and(is_process_id)
}

fn fits(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for text in ["", "-a", "A", "a/b", "..", "a.b", "a\0", &"a".repeat(65)] {
            assert!(Handle::parse(text).is_err(), "{text:?}");
        }
        for text in ["", ".", "..", "-a", "a/b", "a b"] {
            assert!(ProcessId::parse(text).is_err(), "{text:?}");
        }
        for text in ["diario", "preloaded:", "preloaded:../x", "docker://x"] {
            assert!(RootfsName::parse(text).is_err(), "{text:?}");
        }

        assert!(Handle::parse("0a-1").is_ok());
        assert!(ProcessId::parse("App.1_x-2").is_ok());
        assert_eq!(RootfsName::parse("preloaded:diario").unwrap().preloaded_name(), "diario");
        assert!(serde_json::from_str::<Handle>("\"../x\"").is_err());
    }
}
