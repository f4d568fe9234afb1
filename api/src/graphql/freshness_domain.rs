//! Freshness domains as clients see them.

use async_graphql::SimpleObject;
use domain::{bbs::freshness_domain, units::Timestamp};

use super::{
    restart_policy::RestartPolicy,
    scalars::{PositionText, Time},
};

/// Somebody who vouches that the desired state is complete.
#[derive(SimpleObject)]
pub(super) struct FreshnessDomain {
    /// Who vouches.
    name: String,
    /// Until when; absent is for ever.
    fresh_until: Option<Time>,
    /// Whether it vouches at the instant of the world.
    is_fresh: bool,
    /// What follows the ends of its instances whose wishes do not say; absent: Diego's rule.
    restart: Option<RestartPolicy>,
    /// Its last event.
    position: PositionText,
}

impl FreshnessDomain {
    /// A domain at an instant.
    pub(super) fn at(domain: &freshness_domain::FreshnessDomain, instant: Timestamp) -> Self {
        Self {
            name: domain.name.to_string(),
            fresh_until: domain.fresh_until.map(Time),
            is_fresh: domain.is_fresh(instant),
            restart: domain.restart.map(RestartPolicy::from),
            position: PositionText(domain.last_position),
        }
    }
}
