//! What must hold after every step, whatever broke.

use std::collections::BTreeMap;

use domain::{
    aggregates::Aggregates,
    bbs::{placement::Resources, task},
    id::CellId,
    rep::{WorkKind, WorkReference},
};
use projections::route_table::Endpoint;

use super::{
    cluster::{Cluster, MachineIndex},
    witness::{Violation, ensure},
};

/// Everything that must hold after every step.
pub(super) fn check(cluster: &Cluster) -> Result<(), Violation> {
    check_routes(cluster)?;
    cluster.nodes.iter().try_for_each(|node| node.check(&cluster.store))
}

/// A cell stops only what the log has ended, or wants stopped.
pub(super) fn check_unlisted(
    cluster: &Cluster,
    machine: MachineIndex,
    work: &WorkReference,
) -> Result<(), Violation> {
    let aggregates = cluster.store.world.aggregates();
    let guid = &work.instance_guid;
    let placement = match &work.kind {
        WorkKind::Lrp(key) => aggregates.slot(key).and_then(|slot| {
            let wanted = slot.instances().filter(|instance| !instance.is_stopping);
            wanted.map(|instance| instance.placement).find(|it| it.instance_guid == *guid)
        }),
        WorkKind::Task(task_guid) => aggregates
            .task(task_guid)
            .filter(|task| match task.state {
                task::State::Placed(_) | task::State::Running(_) => true,
                task::State::Pending
                | task::State::Completed(_)
                | task::State::Resolving { .. }
                | task::State::Deleting(_) => false,
            })
            .and_then(|task| task.placement().filter(|it| it.instance_guid == *guid)),
    };
    let epoch = cluster.machines.get(machine).and_then(|machine| machine.disk.epoch);
    let is_wanted = placement.is_some_and(|placement| Some(placement.cell_epoch) == epoch);
    ensure(!is_wanted, "a cell stops only what the log has ended", || {
        format!("machine {machine} stops {work:?}")
    })
}

/// What is reserved is the sum over the placements, and no cell holds more than it can.
pub(super) fn check_reservations(aggregates: &Aggregates) -> Result<(), Violation> {
    let instances = aggregates.slots().flat_map(|slot| slot.instances());
    let slots = instances.map(|instance| instance.placement);
    let tasks = aggregates.tasks().filter_map(|task| task.placement());
    let mut sums: BTreeMap<&CellId, (Resources, Resources)> = BTreeMap::new();
    for placement in slots.chain(tasks) {
        let cell = aggregates.cell(&placement.cell_id);
        let (all, present) = sums.entry(&placement.cell_id).or_default();
        *all = all.plus(placement.resources);
        // What a machine held that another one has replaced is not on the new one.
        if cell.is_some_and(|cell| cell.cell_epoch == placement.cell_epoch) {
            *present = present.plus(placement.resources);
        }
    }
    for cell in aggregates.cells() {
        let (all, present) = sums.get(&cell.cell_id).copied().unwrap_or_default();
        let reserved = aggregates.reserved_on(&cell.cell_id);
        ensure(all == reserved, "reservations are the sum of the placements", || {
            format!("{}: {all:?} placed, {reserved:?} reserved", cell.cell_id)
        })?;
        let capacity = cell.registration.capacity;
        ensure(capacity.lacking(present).is_empty(), "no cell is over-committed", || {
            format!("{}: {present:?} of {capacity:?}", cell.cell_id)
        })?;
    }
    Ok(())
}

/// Every route leads to a running instance of an app that asks for it, and to no other container.
fn check_routes(cluster: &Cluster) -> Result<(), Violation> {
    let world = &cluster.store.world;
    for (hostname, endpoints) in world.route_table().routes() {
        for endpoint in endpoints {
            let name = "a route leads to a live instance of its app";
            let lrp = world.aggregates().desired_lrp(&endpoint.key.process_guid);
            let is_asked = lrp.is_some_and(|lrp| {
                lrp.routes.iter().any(|route| {
                    route.hostnames.contains(hostname) && route.port == endpoint.address.port()
                })
            });
            let is_live = leads_to_present(world.aggregates(), endpoint)
                && !cluster.store.witness.has_ended(&endpoint.instance_guid);
            ensure(is_asked && is_live, name, || {
                format!("{hostname} leads to {endpoint:?}: asked {is_asked}, live {is_live}")
            })?;
            check_address(cluster, endpoint)?;
        }
    }
    Ok(())
}

fn leads_to_present(aggregates: &Aggregates, endpoint: &Endpoint) -> bool {
    aggregates.slot(&endpoint.key).is_some_and(|slot| {
        let mut running = slot.instances().filter(|instance| instance.running.is_some());
        running.any(|it| it.placement.instance_guid == endpoint.instance_guid) && !slot.is_stopping
    })
}

/// Behind an address that a route leads to is that instance, or nobody.
fn check_address(cluster: &Cluster, endpoint: &Endpoint) -> Result<(), Violation> {
    let aggregates = cluster.store.world.aggregates();
    let epoch = aggregates.cell(&endpoint.cell_id).map(|cell| cell.cell_epoch);
    let machines = cluster.machines.iter().filter(|machine| {
        machine.cell_id == endpoint.cell_id && machine.is_powered && machine.disk.epoch == epoch
    });
    for machine in machines {
        for (guid, entry) in &machine.disk.book {
            let is_other = *guid != endpoint.instance_guid
                && entry.address == *endpoint.address.ip()
                && machine.containers.contains_key(guid);
            ensure(!is_other, "no two containers share a routed address", || {
                format!("{endpoint:?} is the address of {guid}")
            })?;
        }
    }
    Ok(())
}
