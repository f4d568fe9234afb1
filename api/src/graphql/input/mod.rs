//! What clients write, turned into the domain's own specifications.
//!
//! Only the shape is looked at here, each fault with the path that the client knows; whether the
//! values make sense is for the domain to say. Nothing here can be printed: it may hold secrets.

mod action;
mod check;
mod definition;
mod faults;
mod parts;

use async_graphql::InputObject;
use domain::{
    bbs::{desired_lrp, restart_policy::RestartPolicy, task},
    routes,
    sealed::PlainText,
};

use super::{
    labels::{MetricTagInput, internal_routes_of, tags_of},
    restart_policy::RestartPolicyInput,
};
use definition::DefinitionInput;
pub(super) use faults::{Faults, of_spec, of_update};

/// A desired LRP as a client writes it.
#[derive(InputObject)]
pub(super) struct DesiredLrpInput {
    /// Its guid: letters, digits, `-` and `_`, at most 255 bytes.
    process_guid: String,
    /// Who vouches for it.
    #[graphql(default = "default")]
    domain: String,
    /// How many instances.
    #[graphql(default = 1)]
    instances: i64,
    /// Which routes lead to it.
    #[graphql(default)]
    routes: Vec<HttpRouteInput>,
    /// Any text of the client's, at most 10 KiB.
    #[graphql(default)]
    annotation: String,
    /// What follows an instance's end; absent: as its freshness domain says, or Diego's rule.
    restart: Option<RestartPolicyInput>,
    /// Names inside of the platform's network that stand for its running instances.
    #[graphql(default)]
    internal_routes: Vec<String>,
    /// What its lines and samples are tagged with.
    #[graphql(default)]
    metric_tags: Vec<MetricTagInput>,
    /// What runs.
    definition: DefinitionInput,
}

/// A task as a client writes it.
#[derive(InputObject)]
pub(super) struct TaskInput {
    /// Its guid: letters, digits, `-` and `_`, at most 255 bytes.
    task_guid: String,
    /// Who asks.
    #[graphql(default = "default")]
    domain: String,
    /// Any text of the client's, at most 10 KiB.
    #[graphql(default)]
    annotation: String,
    /// Who is told of its end, by a POST of JSON: an http or https URL. It is sealed, and never shown
    /// again.
    #[graphql(secret)]
    completion_callback_url: Option<String>,
    /// What runs; a task has no checks.
    definition: DefinitionInput,
}

/// Host names that lead to one port of every running instance.
#[derive(InputObject)]
pub(super) struct HttpRouteInput {
    /// The names.
    hostnames: Vec<String>,
    /// The port inside the container.
    port: i64,
}

impl DesiredLrpInput {
    /// The same as the domain's specification; `None` when a fault was noted.
    pub(super) fn read(self, faults: &mut Faults) -> Option<desired_lrp::Spec> {
        let process_guid = faults.id("spec.processGuid", &self.process_guid);
        let domain = faults.id("spec.domain", &self.domain);
        let instances = faults.number("spec.instances", self.instances);
        let routes = routes_of(self.routes, "spec.routes", faults);
        let restart = restart_of(self.restart, "spec.restart", faults);
        let internal_routes =
            internal_routes_of(self.internal_routes, "spec.internalRoutes", faults);
        let metric_tags = tags_of(self.metric_tags, "spec.metricTags", faults);
        let definition = self.definition.read("spec.definition", faults);
        Some(desired_lrp::Spec {
            process_guid: process_guid?,
            domain: domain?,
            instances: instances?,
            routes: routes?,
            client_routes: None,
            annotation: self.annotation,
            restart: restart?,
            internal_routes: internal_routes?,
            metric_tags: metric_tags?,
            definition: definition?,
        })
    }
}

/// A policy, where there is one, as the domain has it; `None` when a fault was noted.
pub(super) fn restart_of(
    restart: Option<RestartPolicyInput>,
    path: &str,
    faults: &mut Faults,
) -> Option<Option<RestartPolicy>> {
    match restart {
        Some(restart) => restart.read(path, faults).map(Some),
        None => Some(None),
    }
}

impl TaskInput {
    /// The same as the domain's specification; `None` when a fault was noted.
    pub(super) fn read(self, faults: &mut Faults) -> Option<task::Spec> {
        let task_guid = faults.id("spec.taskGuid", &self.task_guid);
        let domain = faults.id("spec.domain", &self.domain);
        let definition = self.definition.read("spec.definition", faults);
        Some(task::Spec {
            task_guid: task_guid?,
            domain: domain?,
            annotation: self.annotation,
            completion_callback_url: self.completion_callback_url.map(PlainText),
            definition: definition?,
        })
    }
}

/// Routes as the domain has them; `None` when a fault was noted.
pub(super) fn routes_of(
    routes: Vec<HttpRouteInput>,
    path: &str,
    faults: &mut Faults,
) -> Option<Vec<routes::HttpRoute>> {
    faults.each(path, routes, |route, path, faults| {
        let hostnames =
            faults.each(&format!("{path}.hostnames"), route.hostnames, |name, path, faults| {
                faults.parsed(path, routes::Hostname::new(&name))
            });
        let port = faults.number(&format!("{path}.port"), route.port);
        Some(routes::HttpRoute { hostnames: hostnames?, port: port? })
    })
}
