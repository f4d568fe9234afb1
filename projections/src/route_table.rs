//! Which running instances a host name leads to.
//!
//! A suspect and an evacuating instance keep their routes until they are no more; one that is not
//! ready, or leaves, has none.
//! A slot that is stopping, or whose desired LRP is gone, has no route any more: routes go, and
//! every living router follows, before SIGTERM comes. Nor has one whose machine was replaced under its cell's id: the new one may give
//! the same address to another app's container.

use std::{hash::Hash, net::SocketAddrV4, sync::Arc};

use domain::{
    aggregates::Aggregates,
    bbs::{
        actual_lrp::{ActualLrp, Running},
        desired_lrp::DesiredLrp,
    },
    hash_index::HashIndex,
    id::{ActualLrpKey, CellId, InstanceGuid, ProcessGuid},
    log::StreamId,
    routes::Hostname,
};

use crate::view::View;

/// Where requests of one route may go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The container's address and port.
    pub address: SocketAddrV4,
    /// Whose instance.
    pub key: ActualLrpKey,
    /// Which container.
    pub instance_guid: InstanceGuid,
    /// On which cell.
    pub cell_id: CellId,
}

/// All routes, by host name.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    endpoints: HashIndex<Hostname, Vec<Arc<Endpoint>>>,
    by_slot: HashIndex<ActualLrpKey, Vec<(Hostname, Arc<Endpoint>)>>,
    by_cell: HashIndex<CellId, HashIndex<ActualLrpKey, ()>>,
    desired: HashIndex<Hostname, Vec<ProcessGuid>>,
    by_process: HashIndex<ProcessGuid, Vec<Hostname>>,
    generation: u64,
}

impl RouteTable {
    /// How often this table has changed since it was made: equal answers of one table mean that
    /// it still says the same. Not comparable between tables, and no part of the content.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The endpoints of a host name; `None` when no desired LRP asks for it.
    #[must_use]
    pub fn endpoints(&self, hostname: &Hostname) -> Option<Vec<&Endpoint>> {
        let is_desired = self.desired.contains_key(hostname);
        let endpoints = self.endpoints.get(hostname);
        (is_desired || endpoints.is_some())
            .then(|| endpoints.map(|set| set.iter().map(Arc::as_ref).collect()).unwrap_or_default())
    }

    /// Every host name that is asked for, in order, with its endpoints.
    pub fn routes(&self) -> impl Iterator<Item = (&Hostname, Vec<&Endpoint>)> {
        self.desired.keys_where(|_| true).into_iter().map(|hostname| {
            let endpoints = self.endpoints.get(hostname);
            let endpoints = endpoints.map(|set| set.iter().map(Arc::as_ref).collect());
            (hostname, endpoints.unwrap_or_default())
        })
    }

    fn touch_slot(&mut self, aggregates: &Aggregates, key: &ActualLrpKey) {
        let routes = match (aggregates.slot(key), aggregates.desired_lrp(&key.process_guid)) {
            (Some(slot), Some(lrp)) => endpoints_of(aggregates, lrp, slot),
            (None, _) | (_, None) => Vec::new(),
        };
        if self.by_slot.get(key).map_or(&[][..], Vec::as_slice) == routes {
            return;
        }
        self.generation += 1;
        let before = self.by_slot.remove(key).unwrap_or_default();
        for cell_id in cells_of(&before) {
            self.leave_cell(cell_id, key);
        }
        for (hostname, endpoint) in &before {
            remove_member(&mut self.endpoints, hostname, endpoint);
        }
        self.insert_slot(key, routes);
    }

    fn insert_slot(&mut self, key: &ActualLrpKey, routes: Vec<(Hostname, Arc<Endpoint>)>) {
        if routes.is_empty() {
            return;
        }
        for cell_id in cells_of(&routes) {
            let there = self.by_cell.get_or_insert_with(cell_id.clone(), HashIndex::default);
            there.insert(key.clone(), ());
        }
        for (hostname, endpoint) in &routes {
            insert_member(&mut self.endpoints, hostname, endpoint);
        }
        self.by_slot.insert(key.clone(), routes);
    }

    fn leave_cell(&mut self, cell_id: &CellId, key: &ActualLrpKey) {
        if let Some(there) = self.by_cell.get_mut(cell_id) {
            there.remove(key);
            if there.is_empty() {
                self.by_cell.remove(cell_id);
            }
        }
    }

    fn touch_cell(&mut self, aggregates: &Aggregates, cell_id: &CellId) {
        let there = self.by_cell.get(cell_id).map(|there| there.keys_where(|()| true));
        let keys: Vec<ActualLrpKey> = there.into_iter().flatten().cloned().collect();
        for key in &keys {
            self.touch_slot(aggregates, key);
        }
    }

    fn touch_desired(&mut self, aggregates: &Aggregates, process_guid: &ProcessGuid) {
        let hostnames = aggregates.desired_lrp(process_guid).map(hostnames_of);
        self.replace_desired(process_guid, hostnames.unwrap_or_default());
        let keys: Vec<ActualLrpKey> =
            aggregates.slots_of(process_guid).map(|slot| slot.key.clone()).collect();
        for key in keys {
            self.touch_slot(aggregates, &key);
        }
    }

    fn replace_desired(&mut self, process_guid: &ProcessGuid, hostnames: Vec<Hostname>) {
        if self.by_process.get(process_guid).map_or(&[][..], Vec::as_slice) == hostnames {
            return;
        }
        self.generation += 1;
        let before = self.by_process.remove(process_guid).unwrap_or_default();
        for hostname in before {
            remove_member(&mut self.desired, &hostname, process_guid);
        }
        self.insert_desired(process_guid, hostnames);
    }

    fn insert_desired(&mut self, process_guid: &ProcessGuid, hostnames: Vec<Hostname>) {
        for hostname in &hostnames {
            insert_member(&mut self.desired, hostname, process_guid);
        }
        if !hostnames.is_empty() {
            self.by_process.insert(process_guid.clone(), hostnames);
        }
    }
}

/// In order, each once.
fn hostnames_of(lrp: &DesiredLrp) -> Vec<Hostname> {
    let mut hostnames: Vec<Hostname> =
        lrp.routes.iter().flat_map(|route| route.hostnames.iter().cloned()).collect();
    hostnames.sort_unstable();
    hostnames.dedup();
    hostnames
}

/// The cells of a slot's endpoints. All endpoints of one instance follow each other.
fn cells_of(routes: &[(Hostname, Arc<Endpoint>)]) -> impl Iterator<Item = &CellId> {
    let instances = routes.chunk_by(|(_, one), (_, next)| one.cell_id == next.cell_id);
    instances.filter_map(|instance| instance.first().map(|(_, endpoint)| &endpoint.cell_id))
}

fn endpoints_of(
    aggregates: &Aggregates,
    lrp: &DesiredLrp,
    slot: &ActualLrp,
) -> Vec<(Hostname, Arc<Endpoint>)> {
    if slot.is_stopping {
        return Vec::new();
    }
    let serving =
        |running: &&Running| running.is_ready && !aggregates.is_replaced(&running.placement);
    let serving = slot
        .instances()
        .filter(|instance| !instance.is_withdrawing)
        .filter_map(|instance| instance.running)
        .filter(serving);
    let mut endpoints = Vec::new();
    for running in serving {
        add_endpoints(lrp, &slot.key, running, &mut endpoints);
    }
    endpoints
}

fn add_endpoints(
    lrp: &DesiredLrp,
    key: &ActualLrpKey,
    running: &Running,
    endpoints: &mut Vec<(Hostname, Arc<Endpoint>)>,
) {
    endpoints.reserve_exact(lrp.routes.iter().map(|it| it.hostnames.len()).sum());
    for route in &lrp.routes {
        let endpoint = Arc::new(Endpoint {
            address: SocketAddrV4::new(running.net_info.instance_address, route.port),
            key: key.clone(),
            instance_guid: running.placement.instance_guid.clone(),
            cell_id: running.placement.cell_id.clone(),
        });
        let hostnames = route.hostnames.iter().cloned();
        endpoints.extend(hostnames.map(|hostname| (hostname, Arc::clone(&endpoint))));
    }
}

/// Members are in order and few: a list takes a tenth of what a tree would.
fn insert_member<K: Hash + Eq + Clone, V: Ord + Clone>(
    map: &mut HashIndex<K, Vec<V>>,
    key: &K,
    member: &V,
) {
    let members = map.get_or_insert_with(key.clone(), || Vec::with_capacity(1));
    if let Err(place) = members.binary_search(member) {
        members.insert(place, member.clone());
    }
}

fn remove_member<K: Hash + Eq, V: Ord>(map: &mut HashIndex<K, Vec<V>>, key: &K, member: &V) {
    if let Some(members) = map.get_mut(key) {
        if let Ok(place) = members.binary_search(member) {
            members.remove(place);
        }
        if members.is_empty() {
            map.remove(key);
        }
    }
}

impl View for RouteTable {
    const NAME: &'static str = "route_table";

    fn fill(aggregates: &Aggregates) -> Self {
        let owners = aggregates.owners();
        let mut table = Self {
            // Most apps have more names than one.
            endpoints: HashIndex::with_capacity(owners.saturating_mul(2)),
            by_slot: HashIndex::with_capacity(owners),
            by_cell: HashIndex::default(),
            desired: HashIndex::with_capacity(owners.saturating_mul(2)),
            by_process: HashIndex::with_capacity(owners),
            generation: 0,
        };
        for (process_guid, process) in aggregates.processes_by_chance() {
            let Some(lrp) = process.desired() else { continue };
            table.insert_desired(process_guid, hostnames_of(lrp));
            for slot in process.slots() {
                table.insert_slot(&slot.key, endpoints_of(aggregates, lrp, slot));
            }
        }
        table
    }

    fn touch(&mut self, aggregates: &Aggregates, stream: &StreamId) {
        match stream {
            StreamId::ActualLrp(key) => self.touch_slot(aggregates, key),
            StreamId::DesiredLrp(process_guid) => self.touch_desired(aggregates, process_guid),
            StreamId::Cell(cell_id) => self.touch_cell(aggregates, cell_id),
            StreamId::Task(_) | StreamId::FreshnessDomain(_) | StreamId::Secrets(_) => {}
        }
    }

    fn content(&self) -> String {
        // Without the generation: a folded table and a loaded one came to the same by other ways.
        let Self { endpoints, by_slot, by_cell, desired, by_process, generation: _ } = self;
        format!("{endpoints:?} {by_slot:?} {by_cell:?} {desired:?} {by_process:?}")
    }
}
