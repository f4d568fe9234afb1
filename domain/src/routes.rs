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
        let is_label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        };
        if text.len() > 253 || !text.split('.').all(is_label) {
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
