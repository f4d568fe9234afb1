//! What happened to a desired LRP. An append-only list.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    bbs::{definition::Definition, restart_policy::RestartPolicy},
    event::events,
    id::FreshnessDomainName,
    labels::{Labels, MetricTags},
    routes::{Hostname, HttpRoute},
    sealed::Sealed,
};

events! {
    "What happened to a desired LRP.";
    /// It is desired from now on.
    Desired = "desired_lrp.desired", 1;
    /// Its number of instances changed.
    Scaled = "desired_lrp.scaled", 1;
    /// Its routes changed.
    RoutesChanged = "desired_lrp.routes_changed", 1;
    /// Its annotation changed.
    AnnotationChanged = "desired_lrp.annotation_changed", 1;
    /// It is desired no longer.
    Removed = "desired_lrp.removed", 1;
    /// What follows an instance's end changed.
    RestartChanged = "desired_lrp.restart_changed", 1;
    /// Its internal routes changed.
    InternalRoutesChanged = "desired_lrp.internal_routes_changed", 1;
    /// Its metric tags changed.
    MetricTagsChanged = "desired_lrp.metric_tags_changed", 1;
}

/// It is desired from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Who vouches for it.
    pub domain: FreshnessDomainName,
    /// How many instances.
    pub instances: u32,
    /// What runs.
    pub definition: Arc<Definition>,
    /// Which routes lead to it.
    pub routes: Vec<HttpRoute>,
    /// Any text of the client's.
    #[serde(with = "crate::shared_text")]
    pub annotation: Arc<str>,
    /// What follows an instance's end; its domain's policy when absent.
    pub restart: Option<RestartPolicy>,
    /// What may change while instances run.
    #[serde(default)]
    pub labels: Arc<Labels>,
    /// Routes as a client of Diego's wrote them, all of them: some hold keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_routes: Option<Box<Sealed>>,
}

/// Its number of instances changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaled {
    /// How many there were.
    pub from: u32,
    /// How many there are to be.
    pub to: u32,
}

/// Its routes changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesChanged {
    /// All its routes from now on.
    pub routes: Vec<HttpRoute>,
    /// All of them as a client of Diego's wrote them; absent when it was none: then those that were
    /// written before stay, as far as they say nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_routes: Option<Box<Sealed>>,
}

/// Its annotation changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationChanged {
    /// The client's text from now on.
    #[serde(with = "crate::shared_text")]
    pub annotation: Arc<str>,
}

/// It is desired no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {}

/// What follows an instance's end changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartChanged {
    /// Its own policy from now on; its domain's when absent.
    pub restart: Option<RestartPolicy>,
}

/// Its internal routes changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalRoutesChanged {
    /// All of them from now on.
    pub internal_routes: Vec<Hostname>,
}

/// Its metric tags changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricTagsChanged {
    /// All of them from now on.
    pub metric_tags: MetricTags,
}
