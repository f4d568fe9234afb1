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
        if !self.definition.check.checks.is_empty() {
            let problem = "must hold no checks: a task is healthy while its process lives";
            invalid.push(InvalidField::new("check", problem));
        }
        invalid.without_nul("annotation", &self.annotation, ANNOTATION_BYTES_MAX);
        if let Some(PlainText(url)) = &self.completion_callback_url {
            check_callback_url(url, &mut invalid);
        }
        invalid.or(())?;
        Ok(Command::Desire {
            task_guid: self.task_guid,
            domain: self.domain,
            definition: Arc::new(self.definition.try_map(&mut seal)?),
            annotation: self.annotation,
            completion_callback_url: self
                .completion_callback_url
                .as_ref()
                .map(&mut seal)
                .transpose()?,
        })
    }
}

/// The scheme, a host, and no byte that does not belong into a URL. The value is never repeated.
fn check_callback_url(url: &str, invalid: &mut Invalid) {
    let field = "completion_callback_url";
    invalid.without_nul(field, url, CALLBACK_URL_BYTES_MAX);
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let has_host = !host.is_empty() && !host.starts_with(':');
    if !is_http || !has_host || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = "must be a URL that begins with http:// or https:// and names a host, in \
            ASCII and without white space; encode other characters with %";
        invalid.push(InvalidField::new(field, problem));
    }
}
