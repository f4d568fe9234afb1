//! A slot as Diego's clients see it: one record for each of its instances that Diego has a name for,
//! and one for the slot itself while it has no ordinary one.

use std::collections::BTreeMap;

use domain::{
    aggregates::Aggregates,
    bbs::{
        actual_lrp::{ActualLrp, NetInfo, Running, State, Twin, TwinState},
        placement::Placement,
    },
    log::{Incarnation, Position},
    units::Timestamp,
};

use crate::bbs::{
    cells::at_most,
    proto::{self, actual_lrp::Presence, actual_lrp_net_info::PreferredAddress},
};

/// Which sight of a thing is the newer one. The index has 32 bits and a log more positions: the rest
/// is in the epoch, and another epoch is newer.
pub(in crate::bbs) fn modification_tag(
    incarnation: Incarnation,
    position: Position,
) -> proto::ModificationTag {
    let low = u32::try_from(position.0 & u64::from(u32::MAX)).unwrap_or_default();
    let epoch = incarnation.0.as_u128() ^ u128::from(position.0 >> 32);
    proto::ModificationTag { epoch: uuid::Uuid::from_u128(epoch).to_string(), index: low }
}

/// What an instance does.
enum Doing<'a> {
    Unclaimed,
    Claimed(&'a Placement),
    Running(&'a Running),
    Crashed,
}

/// The records of a slot, the ordinary one first.
pub(in crate::bbs) fn rows(
    aggregates: &Aggregates,
    incarnation: Incarnation,
    slot: &ActualLrp,
) -> Vec<proto::ActualLrp> {
    let mut rows = Vec::with_capacity(1);
    let ordinary = match &slot.state {
        // A cell that was chosen and has not answered yet is nobody's business but ours.
        State::Unclaimed | State::Placed(_) => Some(Doing::Unclaimed),
        State::Claimed(placement) => Some(Doing::Claimed(placement)),
        State::Running(running) => Some(Doing::Running(running)),
        State::Crashed(_) => Some(Doing::Crashed),
        State::Removed => None,
    };
    let tag = modification_tag(incarnation, slot.last_position);
    if let Some(doing) = ordinary {
        let mut row = row(aggregates, slot, Presence::Ordinary, &doing, slot.since);
        row.crash_count = at_most(slot.crash_count);
        row.crash_reason =
            slot.last_crash.as_ref().map(|crash| crash.reason.to_string()).unwrap_or_default();
        row.placement_error = slot.placement_error.clone().unwrap_or_default();
        row.modification_tag = tag.clone();
        rows.push(row);
    }
    let twins = [(Presence::Evacuating, &slot.evacuating), (Presence::Suspect, &slot.suspect)];
    for (presence, twin) in twins {
        let Some(twin) = twin else { continue };
        let Twin { state, since } = twin.as_ref();
        let doing = match state {
            TwinState::Claimed(placement) => Doing::Claimed(placement),
            TwinState::Running(running) => Doing::Running(running),
        };
        let mut row = row(aggregates, slot, presence, &doing, *since);
        row.modification_tag = tag.clone();
        rows.push(row);
    }
    rows
}

fn row(
    aggregates: &Aggregates,
    slot: &ActualLrp,
    presence: Presence,
    doing: &Doing<'_>,
    since: Timestamp,
) -> proto::ActualLrp {
    let mut row = proto::ActualLrp {
        actual_lrp_key: proto::ActualLrpKey {
            process_guid: slot.key.process_guid.to_string(),
            index: at_most(slot.key.index),
            domain: slot.domain.to_string(),
        },
        since: since.0,
        presence: presence.into(),
        routable: Some(false),
        ..proto::ActualLrp::default()
    };
    let (state, placement) = match doing {
        Doing::Unclaimed => ("UNCLAIMED", None),
        Doing::Claimed(placement) => ("CLAIMED", Some(*placement)),
        Doing::Running(running) => ("RUNNING", Some(&running.placement)),
        Doing::Crashed => ("CRASHED", None),
    };
    row.state = state.to_owned();
    if let Some(placement) = placement {
        row.actual_lrp_instance_key = proto::ActualLrpInstanceKey {
            instance_guid: placement.instance_guid.to_string(),
            cell_id: placement.cell_id.to_string(),
        };
    }
    if let Doing::Running(running) = doing {
        row.actual_lrp_net_info = net_info(&running.net_info);
        row.routable = Some(running.is_ready);
        let cell = aggregates.cell(&running.placement.cell_id);
        row.availability_zone =
            cell.map(|cell| cell.registration.zone.to_string()).unwrap_or_default();
        (row.actual_lrp_internal_routes, row.metric_tags) =
            labels(aggregates, slot, &running.placement);
    }
    row
}

type Labels = (Vec<proto::ActualLrpInternalRoute>, BTreeMap<String, String>);

fn labels(aggregates: &Aggregates, slot: &ActualLrp, placement: &Placement) -> Labels {
    let Some(lrp) = aggregates.desired_lrp(&slot.key.process_guid) else {
        return Labels::default();
    };
    let routes = lrp.labels.internal_routes.iter();
    let routes = routes.map(|name| proto::ActualLrpInternalRoute { hostname: name.to_string() });
    (routes.collect(), lrp.labels.tags_of(slot.key.index, &placement.instance_guid))
}

/// A container is dialed at its own address, so that is given in both places, with its own ports.
fn net_info(net_info: &NetInfo) -> proto::ActualLrpNetInfo {
    let address = net_info.instance_address.to_string();
    let mapping = |port: &u16| {
        let port = u32::from(*port);
        proto::PortMapping { container_port: port, host_port: port, ..Default::default() }
    };
    proto::ActualLrpNetInfo {
        address: address.clone(),
        ports: net_info.ports.iter().map(mapping).collect(),
        instance_address: address,
        preferred_address: PreferredAddress::Instance.into(),
        instance_ipv6_address: String::new(),
    }
}
