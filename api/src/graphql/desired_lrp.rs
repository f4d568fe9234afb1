//! A desired LRP as clients see it.

use async_graphql::Object;
use domain::bbs::desired_lrp;

use super::{
    definition::{Definition, HttpRoute},
    labels::{self, MetricTag},
    restart_policy::RestartPolicy,
    scalars::{PositionText, Time},
};

/// The wish that N instances of a process run.
pub(super) struct DesiredLrp(pub(super) desired_lrp::DesiredLrp);

/// The wish that N instances of a process run.
#[Object]
impl DesiredLrp {
    /// Its guid.
    async fn process_guid(&self) -> &str {
        self.0.process_guid.as_str()
    }

    /// Who vouches for it.
    async fn domain(&self) -> &str {
        self.0.domain.as_str()
    }

    /// How many instances.
    async fn instances(&self) -> u32 {
        self.0.instances
    }

    /// What runs.
    async fn definition(&self) -> Definition {
        Definition::from(self.0.definition.shared().as_ref())
    }

    /// The digest of the definition.
    async fn definition_digest(&self) -> String {
        self.0.definition.digest().to_string()
    }

    /// Which routes lead to it.
    async fn routes(&self) -> Vec<HttpRoute> {
        self.0.routes.iter().map(HttpRoute::from).collect()
    }

    /// Any text of the client's.
    async fn annotation(&self) -> &str {
        &self.0.annotation
    }

    /// What follows an instance's end; absent: as its freshness domain says, or Diego's rule.
    async fn restart(&self) -> Option<RestartPolicy> {
        self.0.restart.map(RestartPolicy::from)
    }

    /// Names inside of the platform's network that stand for its running instances.
    async fn internal_routes(&self) -> Vec<String> {
        self.0.labels.internal_routes.iter().map(ToString::to_string).collect()
    }

    /// What its lines and samples are tagged with, by name.
    async fn metric_tags(&self) -> Vec<MetricTag> {
        labels::shown(&self.0.labels.metric_tags)
    }

    /// When it was desired.
    async fn desired_at(&self) -> Time {
        Time(self.0.desired_at)
    }

    /// Its last event.
    async fn position(&self) -> PositionText {
        PositionText(self.0.last_position)
    }
}
