//! `diario routes`: where the router sends requests, by host name.

use serde::Deserialize;
use serde_json::json;

use super::{
    Error,
    instant::Instant,
    table::{NOTHING, Table},
    target::Session,
};

#[derive(Deserialize)]
struct Route {
    hostname: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    address: String,
    process_guid: String,
    index: u32,
    cell_id: String,
}

const SELECTION: &str =
    "routes { hostname endpoints { address processGuid index instanceGuid cellId } }";

/// Lists the routes at an instant.
pub(super) async fn list(session: &Session, instant: Instant) -> Result<(), Error> {
    let answer = instant.world(session, "", SELECTION, json!({})).await?;
    let routes: Vec<Route> = session.client.part(&answer, "/world/routes")?;
    session.show(&answer["world"], || {
        let mut table = Table::new(&["HOST", "INSTANCE", "ADDRESS", "CELL"]);
        for route in &routes {
            if route.endpoints.is_empty() {
                let hostname = route.hostname.clone();
                table.row([hostname, "none running".to_owned(), NOTHING.into(), NOTHING.into()]);
            }
            for endpoint in &route.endpoints {
                table.row([
                    route.hostname.clone(),
                    format!("{}/{}", endpoint.process_guid, endpoint.index),
                    endpoint.address.clone(),
                    endpoint.cell_id.clone(),
                ]);
            }
        }
        table.lines("no routes; give an LRP some with `diario lrp desire --route`")
    })
}
