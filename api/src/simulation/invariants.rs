//! What must hold after every step, whatever broke.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    aggregates::Aggregates,
    bbs::{
        actual_lrp::{ActualLrp, Instance},
        placement::{Placement, Resources},
        task,
    },
    id::CellId,
    rep::{WorkKind, WorkReference},
};
use projections::{route_table::Endpoint, world::World};

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
            let is_wanted = |it: &Instance<'_>| {
                !it.is_stopping || slot.is_withdrawing(&it.placement.instance_guid)
            };
            let wanted = slot.instances().filter(is_wanted);
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
    })?;
    check_withdrawn(cluster, work)
}

/// No router that lives leads to what is stopped as the log says, unless time ran out.
fn check_withdrawn(cluster: &Cluster, work: &WorkReference) -> Result<(), Violation> {
    let WorkKind::Lrp(key) = &work.kind else { return Ok(()) };
    let guid = &work.instance_guid;
    let slot = cluster.store.world.aggregates().slot(key);
    let is_listed =
        slot.is_some_and(|slot| slot.instances().any(|it| it.placement.instance_guid == *guid));
    if !is_listed || cluster.store.witness.was_not_followed(guid) {
        return Ok(());
    }
    let living = cluster.nodes.iter().filter(|node| node.is_up);
    let living = living.filter(|node| !cluster.store.may_be_passed_over(&node.name, cluster.now));
    for node in living {
        let mut endpoints = node.world.route_table().routes().flat_map(|(_, endpoints)| endpoints);
        let is_led_to = endpoints.any(|endpoint| endpoint.instance_guid == *guid);
        ensure(!is_led_to, "no router leads to what is being stopped", || {
            format!("{} at {} leads to {guid}", node.name, node.world.position())
        })?;
    }
    Ok(())
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
    check_table(world)?;
    // Who is behind serves by what it knows.
    let behind = cluster.nodes.iter().filter(|node| node.world.position() != world.position());
    behind.filter(|node| node.is_up).try_for_each(|node| check_table(&node.world))?;
    for (hostname, endpoints) in world.route_table().routes() {
        for endpoint in endpoints {
            let has_ended = cluster.store.witness.has_ended(&endpoint.instance_guid);
            ensure(!has_ended, LIVE, || format!("{hostname} leads to {endpoint:?}, which ended"))?;
            check_address(cluster, endpoint)?;
        }
    }
    Ok(())
}

const LIVE: &str = "a route leads to a live instance of its app";

/// A world's routes lead to just those instances that its own slots say are healthy and ready.
fn check_table(world: &World) -> Result<(), Violation> {
    let aggregates = world.aggregates();
    let mut served = BTreeSet::new();
    for (hostname, endpoints) in world.route_table().routes() {
        for endpoint in endpoints {
            let lrp = aggregates.desired_lrp(&endpoint.key.process_guid);
            let is_asked = lrp.is_some_and(|lrp| {
                lrp.routes.iter().any(|route| {
                    route.hostnames.contains(hostname) && route.port == endpoint.address.port()
                })
            });
            served.insert((hostname, &endpoint.instance_guid));
            let instance = aggregates.slot(&endpoint.key).and_then(|slot| {
                let mut instances = slot.instances().filter(|_| !slot.is_stopping);
                instances.find(|it| it.placement.instance_guid == endpoint.instance_guid)
            });
            let running = instance.and_then(|instance| instance.running);
            ensure(is_asked && running.is_some(), LIVE, || {
                format!("{hostname} leads to {endpoint:?}: asked {is_asked}, {instance:?}")
            })?;
            let is_ready = running.is_some_and(|running| running.is_ready);
            ensure(is_ready, "no route leads to an instance that is not ready", || {
                format!("{hostname} leads to {endpoint:?}")
            })?;
        }
    }
    for slot in aggregates.slots().filter(|slot| !slot.is_stopping) {
        let Some(lrp) = aggregates.desired_lrp(&slot.key.process_guid) else { continue };
        for placement in serving(aggregates, slot) {
            let hostnames = lrp.routes.iter().flat_map(|route| &route.hostnames);
            let mut missing =
                hostnames.filter(|it| !served.contains(&(*it, &placement.instance_guid)));
            let first = missing.next();
            ensure(first.is_none(), "what is healthy and ready has its routes", || {
                format!("{first:?} does not lead to {}, {placement:?}", slot.key)
            })?;
        }
    }
    Ok(())
}

/// Where the instances of a slot are that may take requests.
fn serving<'a>(
    aggregates: &'a Aggregates,
    slot: &'a ActualLrp,
) -> impl Iterator<Item = &'a Placement> {
    let running = slot.instances().filter_map(|it| it.running).filter(|running| running.is_ready);
    running.map(|running| &running.placement).filter(|placement| {
        let cell = aggregates.cell(&placement.cell_id);
        cell.is_some_and(|cell| cell.cell_epoch == placement.cell_epoch)
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
