//! How instances stand: by freshness domain, cell, process and index, alone or together.

use std::collections::BTreeSet;

use domain::{
    aggregates::Aggregates,
    bbs::actual_lrp::ActualLrp,
    id::{ActualLrpKey, CellId, ProcessGuid},
    rep::{Work, WorkKind},
};

use super::{groups::group, rows::rows};
use crate::bbs::{call::Call, error::Failure, invalid::Faults, proto};

/// Which instances are asked for; an empty text asks for all.
#[derive(Debug, Default)]
struct Asked<'r> {
    domain: &'r str,
    cell_id: &'r str,
    process_guid: &'r str,
    index: Option<i32>,
}

impl Asked<'_> {
    fn takes_slot(&self, slot: &ActualLrp) -> bool {
        let index = self.index.map(|index| u32::try_from(index).ok());
        (self.domain.is_empty() || slot.domain.as_str() == self.domain)
            && (self.process_guid.is_empty() || slot.key.process_guid.as_str() == self.process_guid)
            && index.is_none_or(|index| index == Some(slot.key.index))
    }

    fn takes_row(&self, row: &proto::ActualLrp) -> bool {
        self.cell_id.is_empty() || row.actual_lrp_instance_key.cell_id == self.cell_id
    }
}

/// The records of every slot that is asked for, slot by slot.
fn look(call: &Call, asked: &Asked<'_>) -> Vec<Vec<proto::ActualLrp>> {
    let incarnation = call.control_plane().incarnation;
    let of = |aggregates: &Aggregates, slot: &ActualLrp| {
        let mut rows = rows(aggregates, incarnation, slot);
        rows.retain(|row| asked.takes_row(row));
        rows
    };
    let aggregates = call.aggregates();
    if let Ok(process_guid) = ProcessGuid::new(asked.process_guid) {
        let slots = aggregates.slots_of(&process_guid).filter(|slot| asked.takes_slot(slot));
        return slots.map(|slot| of(&aggregates, slot)).collect();
    }
    if !asked.process_guid.is_empty() {
        return Vec::new();
    }
    if asked.cell_id.is_empty() {
        let slots = aggregates.slots().filter(|slot| asked.takes_slot(slot));
        return slots.map(|slot| of(&aggregates, slot)).collect();
    }
    let keys = on_cell(call, asked.cell_id);
    let slots = keys.iter().filter_map(|key| aggregates.slot(key));
    slots.filter(|slot| asked.takes_slot(slot)).map(|slot| of(&aggregates, slot)).collect()
}

/// The slots that have something on a cell, without a look at those that have not.
fn on_cell(call: &Call, cell_id: &str) -> BTreeSet<ActualLrpKey> {
    let Ok(cell_id) = CellId::new(cell_id) else { return BTreeSet::new() };
    let key = |work: Work| match work.reference.kind {
        WorkKind::Lrp(key) => Some(key),
        WorkKind::Task(_) => None,
    };
    call.control_plane().now.read(|world| {
        let assignment = world.cell_assignments().of(world.aggregates(), &cell_id);
        assignment.into_iter().flat_map(|assignment| assignment.work).filter_map(key).collect()
    })
}

pub(in crate::bbs) async fn list(
    call: Call,
    request: proto::ActualLrpsRequest,
) -> Result<proto::ActualLrpsResponse, Failure> {
    let asked = Asked {
        domain: &request.domain,
        cell_id: &request.cell_id,
        process_guid: &request.process_guid,
        index: request.index,
    };
    let actual_lrps = look(&call, &asked).into_iter().flatten().collect();
    Ok(proto::ActualLrpsResponse { error: None, actual_lrps })
}

pub(in crate::bbs) async fn list_by_process_guids(
    call: Call,
    request: proto::ActualLrpsByProcessGuidsRequest,
) -> Result<proto::ActualLrpsByProcessGuidsResponse, Failure> {
    let mut faults = Faults::default();
    if request.process_guids.is_empty() {
        faults.text("process_guids must not be empty");
    }
    faults.check()?;
    let guids: BTreeSet<&String> = request.process_guids.iter().collect();
    let of = |process_guid: &&String| {
        look(&call, &Asked { process_guid: process_guid.as_str(), ..Asked::default() })
    };
    let asked = guids.iter().filter(|guid| !guid.is_empty());
    let actual_lrps = asked.flat_map(of).flatten().collect();
    Ok(proto::ActualLrpsByProcessGuidsResponse { error: None, actual_lrps })
}

pub(in crate::bbs) async fn list_groups(
    call: Call,
    request: proto::ActualLrpGroupsRequest,
) -> Result<proto::ActualLrpGroupsResponse, Failure> {
    let asked = Asked { domain: &request.domain, cell_id: &request.cell_id, ..Asked::default() };
    let actual_lrp_groups = look(&call, &asked).iter().filter_map(|rows| group(rows)).collect();
    Ok(proto::ActualLrpGroupsResponse { error: None, actual_lrp_groups })
}

pub(in crate::bbs) async fn list_groups_by_process_guid(
    call: Call,
    request: proto::ActualLrpGroupsByProcessGuidRequest,
) -> Result<proto::ActualLrpGroupsResponse, Failure> {
    let mut faults = Faults::default();
    faults.not_empty("process_guid", &request.process_guid);
    faults.check()?;
    let asked = Asked { process_guid: &request.process_guid, ..Asked::default() };
    let actual_lrp_groups = look(&call, &asked).iter().filter_map(|rows| group(rows)).collect();
    Ok(proto::ActualLrpGroupsResponse { error: None, actual_lrp_groups })
}

pub(in crate::bbs) async fn group_by_process_guid_and_index(
    call: Call,
    request: proto::ActualLrpGroupByProcessGuidAndIndexRequest,
) -> Result<proto::ActualLrpGroupResponse, Failure> {
    let mut faults = Faults::default();
    faults.not_empty("process_guid", &request.process_guid);
    faults.not_negative("index", request.index);
    faults.check()?;
    let index = Some(request.index);
    let asked = Asked { process_guid: &request.process_guid, index, ..Asked::default() };
    let rows: Vec<_> = look(&call, &asked).into_iter().flatten().collect();
    let actual_lrp_group = Some(group(&rows).ok_or_else(Failure::not_found)?);
    Ok(proto::ActualLrpGroupResponse { error: None, actual_lrp_group })
}
