//! A task as a client writes it, with secrets in clear, and the one place that checks it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Command;
use crate::{
    bbs::{
        definition::Definition,
        desired_lrp::{ANNOTATION_BYTES_MAX, default_domain},
    },
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
    /// What runs; a task has no checks.
    pub definition: Definition<PlainText>,
}

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
        if !self.definition.check.checks.is_empty() {
            let problem = "must hold no checks: a task is healthy while its process lives";
            invalid.push(InvalidField::new("check", problem));
        }
        invalid.without_nul("annotation", &self.annotation, ANNOTATION_BYTES_MAX);
        invalid.or(())?;
        Ok(Command::Desire {
            task_guid: self.task_guid,
            domain: self.domain,
            definition: Arc::new(self.definition.try_map(&mut seal)?),
            annotation: self.annotation,
        })
    }
}
