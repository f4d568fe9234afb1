//! A desired LRP as a client writes it, with secrets in clear, and the one place that checks it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Command, RestartSource, Update};
use crate::{
    bbs::{definition::Definition, restart_policy::RestartPolicy},
    id::{FreshnessDomainName, ProcessGuid},
    invalid::{Invalid, InvalidField},
    labels::{self, Labels, MetricTags},
    routes::{self, Hostname, HttpRoute},
    sealed::{PlainText, Sealed},
};

/// The longest annotation in bytes (Diego's limit).
pub const ANNOTATION_BYTES_MAX: usize = 10 * 1024;
/// The most instances that one LRP may ask for.
pub const INSTANCES_MAX: u32 = 4_000;

/// A wish as a client writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Its guid: letters, digits, `-` and `_`, at most 255 bytes.
    pub process_guid: ProcessGuid,
    /// Who vouches for it.
    #[serde(default = "default_domain")]
    pub domain: FreshnessDomainName,
    /// How many instances, at most [`INSTANCES_MAX`].
    #[serde(default = "one")]
    pub instances: u32,
    /// Which routes lead to it.
    #[serde(default)]
    pub routes: Vec<HttpRoute>,
    /// All its routes as a client of Diego's wrote them. In no file: there, routes are `routes`.
    #[serde(skip)]
    pub client_routes: Option<PlainText>,
    /// Any text of the client's, at most [`ANNOTATION_BYTES_MAX`].
    #[serde(default)]
    pub annotation: String,
    /// What follows an instance's end; its domain's policy when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartPolicy>,
    /// Names inside of the platform's network.
    #[serde(default)]
    pub internal_routes: Vec<Hostname>,
    /// What its lines and samples are tagged with.
    #[serde(default)]
    pub metric_tags: MetricTags,
    /// What runs.
    pub definition: Definition<PlainText>,
}

fn one() -> u32 {
    1
}

pub(crate) fn default_domain() -> FreshnessDomainName {
    FreshnessDomainName::new("default").unwrap_or_else(|_| unreachable!("a constant, well formed"))
}

impl Spec {
    /// Checks the whole wish, then seals its secrets.
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
        check_restart(self.restart, &mut invalid);
        labels::check_internal_routes(&self.internal_routes, &mut invalid);
        labels::check_metric_tags(&self.metric_tags, &mut invalid);
        check_shared(
            Some(self.instances),
            Some(&self.routes),
            Some(&self.annotation),
            &mut invalid,
        );
        invalid.or(())?;
        Ok(Command::Desire {
            process_guid: self.process_guid,
            domain: self.domain,
            instances: self.instances,
            definition: Arc::new(self.definition.with_drivers().try_map(&mut seal)?),
            routes: self.routes,
            annotation: self.annotation,
            restart: self.restart,
            labels: Labels { internal_routes: self.internal_routes, metric_tags: self.metric_tags },
            client_routes: self.client_routes.as_ref().map(&mut seal).transpose()?.map(Box::new),
        })
    }

    /// What only a task has.
    fn check_parts(&self, invalid: &mut Invalid) {
        if self.definition.result_file.is_some() {
            let problem = "must be absent: only a task has a result";
            invalid.push(InvalidField::new("result_file", problem));
        }
        if !self.definition.metric_tags.is_empty() {
            let problem = "must stand beside the definition: those of an LRP may change";
            invalid.push(InvalidField::new("definition.metric_tags", problem));
        }
    }
}

impl Update {
    /// Checks a change from outside.
    ///
    /// # Errors
    /// Everything that is wrong with it, by field; an update that changes nothing is refused too.
    pub fn into_command(self, process_guid: ProcessGuid) -> Result<Command, Invalid> {
        let mut invalid = Invalid::default();
        if self == Self::default() {
            return Err(Invalid::one(
                "update",
                "must change instances, routes, annotation, restart, internal routes or metric tags",
            ));
        }
        check_restart(self.restart.and_then(RestartSource::own), &mut invalid);
        if let Some(internal_routes) = &self.internal_routes {
            labels::check_internal_routes(internal_routes, &mut invalid);
        }
        if let Some(metric_tags) = &self.metric_tags {
            labels::check_metric_tags(metric_tags, &mut invalid);
        }
        check_shared(
            self.instances,
            self.routes.as_deref(),
            self.annotation.as_deref(),
            &mut invalid,
        );
        invalid.or(Command::Update { process_guid, update: self })
    }
}

fn check_restart(restart: Option<RestartPolicy>, invalid: &mut Invalid) {
    if let Some(restart) = restart {
        restart.check("restart", invalid);
    }
}

fn check_shared(
    instances: Option<u32>,
    routes: Option<&[HttpRoute]>,
    annotation: Option<&str>,
    invalid: &mut Invalid,
) {
    if let Some(instances) = instances {
        invalid.between("instances", u64::from(instances), 0, u64::from(INSTANCES_MAX));
    }
    if let Some(routes) = routes {
        routes::check(routes, "routes", invalid);
    }
    if let Some(annotation) = annotation {
        invalid.without_nul("annotation", annotation, ANNOTATION_BYTES_MAX);
    }
}
