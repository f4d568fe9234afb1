//! What agents say of instances, one call each: claimed, started, crashed, not placed, removed, to be
//! retired. An instance that was not placed here is refused: only our auctioneer gives work.

use std::net::Ipv4Addr;

use domain::{
    bbs::actual_lrp::{Command, CrashReport, InstancePresence, NetInfo},
    id::{ActualLrpKey, ProcessGuid},
};

use super::reference::{self, Meant};
use crate::bbs::{call::Call, error::Failure, invalid::Faults, proto};

type Answered = Result<proto::ActualLrpLifecycleResponse, Failure>;

const DONE: Answered = Ok(proto::ActualLrpLifecycleResponse { error: None });

pub(in crate::bbs) async fn claim(call: Call, request: proto::ClaimActualLrpRequest) -> Answered {
    let mut faults = Faults::default();
    faults.not_empty("process_guid", &request.process_guid);
    faults.not_negative("index", request.index);
    faults.instance_key(request.actual_lrp_instance_key.as_ref());
    faults.check()?;
    let instance = request.actual_lrp_instance_key.as_ref();
    let found = reference::find(&call, &request.process_guid, request.index, instance);
    let found = found.ok_or_else(Failure::not_found)?;
    let Some(Meant { reference: instance, .. }) = found.instance else {
        return Err(match found.is_there {
            true => Failure::cannot_be_claimed(),
            false => Failure::not_found(),
        });
    };
    call.submit(Command::Claim { instance }).await?;
    DONE
}

/// The newer path.
pub(in crate::bbs) async fn start_r1(
    call: Call,
    request: proto::StartActualLrpRequest,
) -> Answered {
    let mut faults = Faults::default();
    faults.key(request.actual_lrp_key.as_ref());
    faults.instance_key(request.actual_lrp_instance_key.as_ref());
    faults.net_info(request.actual_lrp_net_info.as_ref());
    let net_info = request.actual_lrp_net_info.as_ref().and_then(read_net_info);
    if faults.is_empty() && net_info.is_none() {
        faults.field("address");
    }
    faults.check()?;
    let (key, instance) =
        (request.actual_lrp_key.unwrap_or_default(), request.actual_lrp_instance_key);
    let found = reference::find(&call, &key.process_guid, key.index, instance.as_ref());
    let meant = found.and_then(|found| found.instance);
    let Meant { reference: instance, .. } = meant.ok_or_else(Failure::cannot_be_started)?;
    let net_info = net_info.ok_or_else(Failure::cannot_be_started)?;
    let is_ready = request.routable.unwrap_or(true);
    call.submit(Command::Start { instance, net_info, is_ready }).await?;
    DONE
}

/// The older path, which knows nothing of internal routes and metric tags: neither do we read them,
/// ours are the wish's.
pub(in crate::bbs) async fn start(call: Call, request: proto::StartActualLrpRequest) -> Answered {
    start_r1(call, request).await
}

/// The container's own address, and the ports it listens on.
pub(super) fn read_net_info(net_info: &proto::ActualLrpNetInfo) -> Option<NetInfo> {
    let own = Some(net_info.instance_address.as_str()).filter(|text| !text.is_empty());
    let instance_address: Ipv4Addr = own.unwrap_or(&net_info.address).parse().ok()?;
    let port = |mapping: &proto::PortMapping| u16::try_from(mapping.container_port).ok();
    let ports = net_info.ports.iter().map(port).collect::<Option<_>>()?;
    Some(NetInfo { instance_address, ports })
}

pub(in crate::bbs) async fn crash(call: Call, request: proto::CrashActualLrpRequest) -> Answered {
    let mut faults = Faults::default();
    faults.key(request.actual_lrp_key.as_ref());
    faults.instance_key(request.actual_lrp_instance_key.as_ref());
    faults.check()?;
    let (key, instance) =
        (request.actual_lrp_key.unwrap_or_default(), request.actual_lrp_instance_key);
    let found = reference::find(&call, &key.process_guid, key.index, instance.as_ref());
    let found = found.ok_or_else(Failure::not_found)?;
    let Some(Meant { reference: instance, .. }) = found.instance else {
        return Err(match found.is_there {
            true => Failure::cannot_be_crashed(),
            false => Failure::not_found(),
        });
    };
    let report = CrashReport { reason: request.error_message, exit: None, evidence: None };
    call.submit(Command::Crash { instance, report }).await?;
    DONE
}

/// A slot that is not there is answered as one that is: there is nothing left to place.
pub(in crate::bbs) async fn fail(call: Call, request: proto::FailActualLrpRequest) -> Answered {
    let mut faults = Faults::default();
    faults.key(request.actual_lrp_key.as_ref());
    faults.not_empty("error_message", &request.error_message);
    faults.check()?;
    let Some(key) = slot_key(request.actual_lrp_key) else { return DONE };
    let error = request.error_message;
    let failed = call.submit(Command::FailPlacement { key, error, candidates: None }).await;
    match failed.map_err(Failure::from) {
        Ok(_) => DONE,
        Err(failure) if failure.is_not_found() => DONE,
        Err(failure) => Err(failure),
    }
}

/// Without an instance whatever is the ordinary one is removed, also a slot that has none.
pub(in crate::bbs) async fn remove(call: Call, request: proto::RemoveActualLrpRequest) -> Answered {
    let mut faults = Faults::default();
    faults.not_empty("process_guid", &request.process_guid);
    faults.not_negative("index", request.index);
    if let Some(instance) = &request.actual_lrp_instance_key {
        faults.instance_key(Some(instance));
    }
    faults.check()?;
    let instance = request.actual_lrp_instance_key.as_ref();
    let found = reference::find(&call, &request.process_guid, request.index, instance);
    let found = found.filter(|found| found.is_there).ok_or_else(Failure::not_found)?;
    let meant = match instance {
        Some(_) => Some(found.instance.ok_or_else(Failure::not_found)?),
        None => reference::ordinary(&call, &found.key),
    };
    match meant {
        Some(meant) if meant.presence == InstancePresence::Ordinary => {
            call.submit(Command::Remove { instance: meant.reference }).await?;
        }
        // Of the ordinary record it is asked, and it is not that one.
        Some(_) => return Err(Failure::not_found()),
        None => {
            call.submit(Command::Retire { key: found.key }).await?;
        }
    }
    DONE
}

pub(in crate::bbs) async fn retire(call: Call, request: proto::RetireActualLrpRequest) -> Answered {
    let mut faults = Faults::default();
    faults.key(request.actual_lrp_key.as_ref());
    faults.check()?;
    let key = slot_key(request.actual_lrp_key).ok_or_else(Failure::not_found)?;
    call.submit(Command::Retire { key }).await?;
    DONE
}

fn slot_key(key: Option<proto::ActualLrpKey>) -> Option<ActualLrpKey> {
    let key = key?;
    let process_guid = ProcessGuid::new(&key.process_guid).ok()?;
    Some(ActualLrpKey { process_guid, index: u32::try_from(key.index).ok()? })
}
