//! What may be asked of a desired LRP.

use std::sync::Arc;

use crate::{
    bbs::{definition::Definition, restart_policy::RestartPolicy},
    id::{FreshnessDomainName, ProcessGuid},
    labels::{Labels, MetricTags},
    routes::{Hostname, HttpRoute},
    sealed::Sealed,
};

/// What may be asked of a desired LRP. Values come checked from [`super::Spec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Wish for a process that is not yet desired.
    Desire {
        /// Under which guid.
        process_guid: ProcessGuid,
        /// Who vouches for it.
        domain: FreshnessDomainName,
        /// How many instances.
        instances: u32,
        /// What runs.
        definition: Arc<Definition>,
        /// Which routes lead to it.
        routes: Vec<HttpRoute>,
        /// Any text of the client's.
        annotation: String,
        /// What follows an instance's end; its domain's policy when absent.
        restart: Option<RestartPolicy>,
        /// What may change while instances run.
        labels: Labels,
        /// Routes as a client of Diego's wrote them. Sealed: some hold keys.
        client_routes: Option<Box<Sealed>>,
    },
    /// Change what may change of it.
    Update {
        /// Which.
        process_guid: ProcessGuid,
        /// What to change.
        update: Update,
    },
    /// Wish for it no longer: every slot is stopped.
    Remove {
        /// Which.
        process_guid: ProcessGuid,
    },
}

/// What may change of a desired LRP; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// How many instances.
    pub instances: Option<u32>,
    /// All its routes, in place of those before.
    pub routes: Option<Vec<HttpRoute>>,
    /// Its routes as a client of Diego's wrote them; what is to hold is said beside them.
    pub client_routes: Option<Box<Sealed>>,
    /// The client's text.
    pub annotation: Option<String>,
    /// What follows an instance's end, from the next one on.
    pub restart: Option<RestartSource>,
    /// All its internal routes, in place of those before; running instances stay.
    pub internal_routes: Option<Vec<Hostname>>,
    /// All its metric tags, in place of those before; running instances stay.
    pub metric_tags: Option<MetricTags>,
}

/// Whose restart policy holds for a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartSource {
    /// Its own.
    Own(RestartPolicy),
    /// Its freshness domain's: the wish has none of its own any more.
    Domain,
}

impl RestartSource {
    /// The wish's own policy.
    #[must_use]
    pub fn own(self) -> Option<RestartPolicy> {
        match self {
            Self::Own(policy) => Some(policy),
            Self::Domain => None,
        }
    }
}

impl Command {
    /// Whom it concerns.
    #[must_use]
    pub fn process_guid(&self) -> &ProcessGuid {
        match self {
            Self::Desire { process_guid, .. }
            | Self::Update { process_guid, .. }
            | Self::Remove { process_guid } => process_guid,
        }
    }
}
