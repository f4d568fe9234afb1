//! A desired LRP as its events tell it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Event;
use crate::{
    bbs::{held_definition::HeldDefinition, placement::Resources, restart_policy::RestartPolicy},
    id::{FreshnessDomainName, ProcessGuid},
    labels::Labels,
    log::{Position, Stamp},
    routes::HttpRoute,
    sealed::Sealed,
    units::Timestamp,
};

/// A wish that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredLrp {
    /// Its guid.
    pub process_guid: ProcessGuid,
    /// Who vouches for it.
    pub domain: FreshnessDomainName,
    /// How many instances.
    pub instances: u32,
    /// What runs.
    #[serde(flatten)]
    pub definition: HeldDefinition,
    /// Which routes lead to it.
    pub routes: Vec<HttpRoute>,
    /// Any text of the client's.
    #[serde(with = "crate::shared_text")]
    pub annotation: Arc<str>,
    /// What follows an instance's end; its domain's policy when absent.
    pub restart: Option<RestartPolicy>,
    /// What may change while instances run.
    pub labels: Arc<Labels>,
    /// Routes as a client of Diego's wrote them last; what holds is `routes` and `labels`.
    pub client_routes: Option<Box<Sealed>>,
    /// When it was desired.
    pub desired_at: Timestamp,
    /// Its last event.
    pub last_position: Position,
}

impl DesiredLrp {
    /// What one instance reserves.
    #[must_use]
    pub fn resources(&self) -> Resources {
        let (memory_mb, disk_mb) = (self.definition.memory_mb, self.definition.disk_mb);
        Resources { memory_mb, disk_mb, containers: 1 }
    }
}

/// Folds one event. Total: history is never refused.
pub(crate) fn evolve(
    state: &mut Option<Arc<DesiredLrp>>,
    process_guid: &ProcessGuid,
    event: &Event,
    stamp: Stamp,
) {
    if let Event::Desired(desired) = event {
        *state = Some(Arc::new(DesiredLrp {
            process_guid: process_guid.clone(),
            domain: desired.domain.clone(),
            instances: desired.instances,
            definition: Arc::clone(&desired.definition).into(),
            routes: desired.routes.clone(),
            annotation: Arc::clone(&desired.annotation),
            restart: desired.restart,
            labels: Arc::clone(&desired.labels),
            client_routes: desired.client_routes.clone(),
            desired_at: stamp.recorded_at,
            last_position: stamp.position,
        }));
        return;
    }
    let Some(lrp) = state.as_mut().map(Arc::make_mut) else { return };
    lrp.last_position = stamp.position;
    match event {
        Event::Desired(_) => {}
        Event::Scaled(scaled) => lrp.instances = scaled.to,
        Event::RoutesChanged(changed) => {
            lrp.routes.clone_from(&changed.routes);
            if changed.client_routes.is_some() {
                lrp.client_routes.clone_from(&changed.client_routes);
            }
        }
        Event::AnnotationChanged(changed) => lrp.annotation = Arc::clone(&changed.annotation),
        Event::RestartChanged(changed) => lrp.restart = changed.restart,
        Event::InternalRoutesChanged(changed) => {
            let labels = Arc::make_mut(&mut lrp.labels);
            labels.internal_routes.clone_from(&changed.internal_routes);
        }
        Event::MetricTagsChanged(changed) => {
            Arc::make_mut(&mut lrp.labels).metric_tags.clone_from(&changed.metric_tags);
        }
        Event::Removed(_) => *state = None,
    }
}
