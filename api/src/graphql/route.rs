//! Routes as clients see them: which running instances a host name leads to.

use async_graphql::SimpleObject;
use projections::{route_table, world::World};

/// A host name that desired LRPs ask for.
#[derive(SimpleObject)]
pub(super) struct Route {
    /// The name.
    hostname: String,
    /// Where its requests may go; empty while nothing is running behind it.
    endpoints: Vec<Endpoint>,
}

/// Where requests of a route may go.
#[derive(SimpleObject)]
pub(super) struct Endpoint {
    /// The container's address and port.
    address: String,
    /// Whose instance.
    process_guid: String,
    /// Which slot.
    index: u32,
    /// Which container.
    instance_guid: String,
    /// On which cell.
    cell_id: String,
}

impl From<&route_table::Endpoint> for Endpoint {
    fn from(endpoint: &route_table::Endpoint) -> Self {
        Self {
            address: endpoint.address.to_string(),
            process_guid: endpoint.key.process_guid.to_string(),
            index: endpoint.key.index,
            instance_guid: endpoint.instance_guid.to_string(),
            cell_id: endpoint.cell_id.to_string(),
        }
    }
}

/// All routes, by host name.
pub(super) fn routes(world: &World) -> Vec<Route> {
    world
        .route_table()
        .routes()
        .map(|(hostname, endpoints)| Route {
            hostname: hostname.to_string(),
            endpoints: endpoints.into_iter().map(Endpoint::from).collect(),
        })
        .collect()
}
