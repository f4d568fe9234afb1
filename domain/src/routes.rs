//! The routes that an LRP asks for: which host names lead to which of its ports.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::invalid::{Invalid, InvalidField, field};

/// How many routes one LRP may ask for.
const ROUTES_MAX: usize = 100;

/// A host name in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Arc<str>);

serde_as_text!(Hostname);

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a host name: labels of letters, digits and '-', joined by '.', at most 253 characters"
)]
pub struct InvalidHostname;

impl Hostname {
    /// Checks a text from outside and folds its case.
    ///
    /// # Errors
    /// [`InvalidHostname`] when it is not one.
    pub fn new(text: &str) -> Result<Self, InvalidHostname> {
        // A look at the past reads those of every LRP: bytes, which need no decoding.
        let is_label = |label: &[u8]| {
            (1..=63).contains(&label.len())
                && !label.starts_with(b"-")
                && !label.ends_with(b"-")
                && label.iter().fold(true, |all, byte| all & is_in_label(*byte))
        };
        if text.len() > 253 || !text.as_bytes().split(|byte| *byte == b'.').all(is_label) {
            return Err(InvalidHostname);
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Ok(Self(Arc::from(text.to_ascii_lowercase())));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_in_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Host names that lead to one port of every running instance (Diego's `cf-router` route).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRoute {
    /// The names.
    pub hostnames: Vec<Hostname>,
    /// The port inside the container, from 1.
    pub port: u16,
}

/// Says what is wrong with routes from outside.
pub(crate) fn check(routes: &[HttpRoute], path: &str, invalid: &mut Invalid) {
    invalid.at_most(path, routes.len(), ROUTES_MAX);
    for (index, route) in routes.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if route.hostnames.is_empty() {
            let problem = "must hold at least one host name";
            invalid.push(InvalidField::new(&field(&path, "hostnames"), problem));
        }
        invalid.at_most(&field(&path, "hostnames"), route.hostnames.len(), ROUTES_MAX);
        if route.port == 0 {
            invalid.push(InvalidField::new(&field(&path, "port"), "must be from 1 to 65535"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_letters_digits_and_dashes_are_a_host_name_in_lower_case() {
        for name in ["a", "web.example.com", "0-0.a_b", "_srv.x", &"a".repeat(63)] {
            assert_eq!(Hostname::new(name).unwrap().as_str(), name);
        }
        assert_eq!(Hostname::new("Web.EXAMPLE.com").unwrap().as_str(), "web.example.com");
        assert!(Hostname::new(&vec!["a".repeat(63); 4].join(".")[..253]).is_ok());
    }

    #[test]
    fn anything_else_is_no_host_name() {
        let (label, name) = ("a".repeat(64), vec!["a".repeat(60); 5].join("."));
        for text in [
            "", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "a b", "a*", "\u{e4}", "a\0", &label,
            &name,
        ] {
            assert_eq!(Hostname::new(text), Err(InvalidHostname), "{text:?}");
        }
    }
}
