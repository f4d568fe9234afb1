//! A task as a client writes it, with secrets in clear, and the one place that checks it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Command;
use crate::{
    action,
    bbs::{
        definition::Definition,
        desired_lrp::{ANNOTATION_BYTES_MAX, default_domain},
    },
    check::CheckDefinition,
    id::{FreshnessDomainName, TaskGuid},
    invalid::{Invalid, InvalidField},
    sealed::{PlainText, Sealed},
};

/// A task as a client writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Its guid: letters, digits, `-` and `_`, at most 255 bytes.
    pub task_guid: TaskGuid,
    /// Who asks.
    #[serde(default = "default_domain")]
    pub domain: FreshnessDomainName,
    /// Any text of the client's, at most 10 KiB.
    #[serde(default)]
    pub annotation: String,
    /// Who is told of its end, by a POST: an http or https URL, at most 2 KiB. A secret: it may hold
    /// credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_callback_url: Option<PlainText>,
    /// What runs; a task has no checks.
    pub definition: Definition<PlainText>,
}

/// The longest callback URL in bytes.
const CALLBACK_URL_BYTES_MAX: usize = 2048;

impl Spec {
    /// Checks the whole task, then seals its secrets.
    ///
    /// # Errors
    /// Everything that is wrong with it, by field; or what `seal` says.
    pub fn into_command<E: From<Invalid>>(
        self,
        mut seal: impl FnMut(&PlainText) -> Result<Sealed, E>,
    ) -> Result<Command, E> {
        let mut invalid = Invalid::default();
        self.definition.check(&mut invalid);
        self.check_parts(&mut invalid);
        invalid.without_nul("annotation", &self.annotation, ANNOTATION_BYTES_MAX);
        if let Some(url) = &self.completion_callback_url {
            let field = "completion_callback_url";
            invalid.without_nul(field, &url.0, CALLBACK_URL_BYTES_MAX);
            action::check_url(url, field, &mut invalid);
        }
        invalid.or(())?;
        Ok(Command::Desire {
            task_guid: self.task_guid,
            domain: self.domain,
            definition: Arc::new(self.definition.with_drivers().try_map(&mut seal)?),
            annotation: self.annotation,
            completion_callback_url: self
                .completion_callback_url
                .as_ref()
                .map(&mut seal)
                .transpose()?,
        })
    }

    /// What only an LRP has.
    fn check_parts(&self, invalid: &mut Invalid) {
        let definition = &self.definition;
        if definition.check.as_ref().is_some_and(|check| *check != CheckDefinition::default()) {
            let problem = "must hold no checks: a task is healthy while its process lives";
            invalid.push(InvalidField::new("check", problem));
        }
        if definition.monitor.is_some() {
            let problem = "must be absent: a task is healthy while its process lives";
            invalid.push(InvalidField::new("monitor", problem));
        }
        if !definition.sidecars.is_empty() {
            let problem = "must be empty: a task has one action, which may be codependent";
            invalid.push(InvalidField::new("sidecars", problem));
        }
    }
}
