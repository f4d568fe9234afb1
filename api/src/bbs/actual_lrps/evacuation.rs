//! What the agent of a cell under evacuation asks of each of its instances, and whether it is to keep
//! the container.
//!
//! A cell whose agent says so is being evacuated: that is told first, where it is not known yet. The
//! rest follows by our own rules, and an instance that they leave for later is kept until the agent
//! asks again.

use domain::{
    bbs::{
        actual_lrp::{Command, CrashReport, InstancePresence},
        cell::{self, EVACUATION_TIMEOUT, INSTANCES_AWAY_MAX},
    },
    id::CellId,
};

use super::reference::{self, Found, Meant};
use crate::{
    bbs::{
        call::Call,
        error::{Failure, is_not_to_be_moved, is_over_budget},
        invalid::Faults,
        proto,
    },
    command_bus,
};

type Answered = Result<proto::EvacuationResponse, Failure>;

fn answered(keep_container: bool) -> Answered {
    Ok(proto::EvacuationResponse { error: None, keep_container })
}

/// The instance that a call is about.
struct Asked {
    key: proto::ActualLrpKey,
    instance: Option<proto::ActualLrpInstanceKey>,
}

impl Asked {
    fn find(&self, call: &Call) -> Option<Found> {
        let Self { key, instance } = self;
        reference::find(call, &key.process_guid, key.index, instance.as_ref())
    }

    /// The instance, which must be known.
    fn meant(&self, call: &Call) -> Result<Meant, Failure> {
        self.find(call).and_then(|found| found.instance).ok_or_else(Failure::not_found)
    }
}

fn asked(
    faults: &mut Faults,
    key: Option<proto::ActualLrpKey>,
    instance: Option<proto::ActualLrpInstanceKey>,
) -> Asked {
    faults.key(key.as_ref());
    faults.instance_key(instance.as_ref());
    Asked { key: key.unwrap_or_default(), instance }
}

/// What is not healthy yet is placed anew at once, and its container goes whatever is answered.
pub(in crate::bbs) async fn claimed(
    call: Call,
    request: proto::EvacuateClaimedActualLrpRequest,
) -> Answered {
    let mut faults = Faults::default();
    let asked = asked(&mut faults, request.actual_lrp_key, request.actual_lrp_instance_key);
    faults.check()?;
    let meant = asked.meant(&call)?;
    if meant.presence == InstancePresence::Ordinary {
        evacuate(&call, meant).await?;
    } else {
        call.submit(Command::Remove { instance: meant.reference }).await?;
    }
    answered(false)
}

/// A healthy instance runs on until its replacement does, or ends first: that is its wish's.
pub(in crate::bbs) async fn running(
    call: Call,
    request: proto::EvacuateRunningActualLrpRequest,
) -> Answered {
    let mut faults = Faults::default();
    faults.net_info(request.actual_lrp_net_info.as_ref());
    let asked = asked(&mut faults, request.actual_lrp_key, request.actual_lrp_instance_key);
    faults.check()?;
    let Some(meant) = asked.find(&call).and_then(|found| found.instance) else {
        return answered(false);
    };
    match meant.presence {
        InstancePresence::Evacuating => answered(true),
        InstancePresence::Leaving => answered(false),
        InstancePresence::Ordinary | InstancePresence::Suspect => {
            match evacuate(&call, meant).await {
                Ok(()) => {}
                // The agent asks again with its next poll.
                Err(failure) if is_over_budget(&failure) => return answered(true),
                Err(failure) => return Err(failure.into()),
            }
            let is_kept = asked.find(&call).and_then(|found| found.instance).is_some();
            answered(is_kept)
        }
    }
}

pub(in crate::bbs) async fn stopped(
    call: Call,
    request: proto::EvacuateStoppedActualLrpRequest,
) -> Answered {
    let mut faults = Faults::default();
    let asked = asked(&mut faults, request.actual_lrp_key, request.actual_lrp_instance_key);
    faults.check()?;
    let Meant { reference: instance, .. } = asked.meant(&call)?;
    call.submit(Command::Remove { instance }).await?;
    answered(false)
}

pub(in crate::bbs) async fn crashed(
    call: Call,
    request: proto::EvacuateCrashedActualLrpRequest,
) -> Answered {
    let mut faults = Faults::default();
    let asked = asked(&mut faults, request.actual_lrp_key, request.actual_lrp_instance_key);
    faults.not_empty("error_message", &request.error_message);
    faults.check()?;
    let Meant { reference: instance, .. } = asked.meant(&call)?;
    let report = CrashReport { reason: request.error_message, exit: None, evidence: None };
    call.submit(Command::Crash { instance, report }).await?;
    answered(false)
}

pub(in crate::bbs) async fn remove_evacuating(
    call: Call,
    request: proto::RemoveEvacuatingActualLrpRequest,
) -> Result<proto::RemoveEvacuatingActualLrpResponse, Failure> {
    let mut faults = Faults::default();
    let asked = asked(&mut faults, request.actual_lrp_key, request.actual_lrp_instance_key);
    faults.check()?;
    let meant = asked.meant(&call)?;
    if meant.presence != InstancePresence::Evacuating {
        return Err(Failure::not_found());
    }
    call.submit(Command::Remove { instance: meant.reference }).await?;
    Ok(proto::RemoveEvacuatingActualLrpResponse { error: None })
}

/// Moves an instance off its cell; one that another caller moved meanwhile is moved.
async fn evacuate(call: &Call, meant: Meant) -> Result<(), command_bus::Error> {
    note_evacuation(call, &meant.reference.cell_id).await?;
    let key = meant.reference.key;
    match call.submit(Command::Evacuate { key }).await {
        Ok(_) => Ok(()),
        Err(failure) if is_not_to_be_moved(&failure) => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn note_evacuation(call: &Call, cell_id: &CellId) -> Result<(), command_bus::Error> {
    let is_known = call.control_plane().now.read(|world| {
        let cell = world.aggregates().cell(cell_id);
        cell.is_none_or(|cell| cell.evacuation.is_some())
    });
    if is_known {
        return Ok(());
    }
    let command = cell::Command::Evacuate {
        cell_id: cell_id.clone(),
        timeout: EVACUATION_TIMEOUT,
        instances_away_max: INSTANCES_AWAY_MAX,
    };
    call.submit(command).await.map(|_| ())
}
