//! What a client says of its wishes, one call each.
//!
//! Diego answers when the slots of a wish are made too. Ours are the converger's: the answer waits for
//! them, up to a bound; the wish is taken either way.

use domain::{
    bbs::desired_lrp::{ANNOTATION_BYTES_MAX, Command, INSTANCES_MAX, Update},
    id::ProcessGuid,
    invalid::Invalid,
    log::Owner,
};
use tokio::time::timeout;

use crate::{
    bbs::{
        call::Call,
        convert::{self, parts, routes},
        error::Failure,
        invalid::Faults,
        proto,
    },
    control_plane::ControlPlane,
};

type Answered = Result<proto::DesiredLrpLifecycleResponse, Failure>;

const DONE: Answered = Ok(proto::DesiredLrpLifecycleResponse { error: None });

pub(in crate::bbs) async fn desire(call: Call, request: proto::DesireLrpRequest) -> Answered {
    let mut faults = Faults::default();
    faults.present("desired_lrp", request.desired_lrp.as_ref(), |_, _| {});
    faults.check()?;
    let spec = convert::desired_lrp::read(&request.desired_lrp.unwrap_or_default())?;
    let process_guid = spec.process_guid.clone();
    let command = call.control_plane().desire_command(spec).await?;
    call.submit(command).await?;
    wait_for_slots(&call, &process_guid).await;
    DONE
}

pub(in crate::bbs) async fn update(
    call: Call,
    request: proto::UpdateDesiredLrpRequest,
) -> Answered {
    let mut faults = Faults::default();
    faults.not_empty("process_guid", &request.process_guid);
    faults.present("update", request.update.as_ref(), |_, _| {});
    faults.check()?;
    let process_guid = ProcessGuid::new(&request.process_guid).map_err(|_| Failure::not_found())?;
    let is_known = call
        .control_plane()
        .now
        .read(|world| world.aggregates().desired_lrp(&process_guid).is_some());
    let update = read_update(&call, &process_guid, &request.update.unwrap_or_default()).await?;
    if !is_known {
        return Err(Failure::not_found());
    }
    let is_scaled = update.instances.is_some();
    // Diego takes an update that says nothing, and changes nothing.
    if update != Update::default() {
        let command = update.into_command(process_guid.clone());
        let command = command.map_err(|invalid: Invalid| Failure::invalid(invalid.to_string()))?;
        call.submit(command).await?;
    }
    if is_scaled {
        wait_for_slots(&call, &process_guid).await;
    }
    DONE
}

async fn read_update(
    call: &Call,
    process_guid: &ProcessGuid,
    update: &proto::DesiredLrpUpdate,
) -> Result<Update, Failure> {
    let mut faults = Faults::default();
    let instances = update.instances.map(|instances| {
        faults.not_negative("instances", instances);
        u32::try_from(instances).unwrap_or_default()
    });
    if instances.is_some_and(|instances| instances > INSTANCES_MAX) {
        faults.field("instances");
    }
    if update.annotation.as_ref().is_some_and(|text| text.len() > ANNOTATION_BYTES_MAX) {
        faults.field("annotation");
    }
    let routes = update.routes.as_ref().map(|it| routes::read(it, &mut faults));
    let tags = &update.metric_tags;
    // A map that is not there and one that is empty are the same on the wire.
    let metric_tags = (!tags.is_empty()).then(|| parts::read_tags(tags, "", &mut faults));
    if update.image_username.is_some() || update.image_password.is_some() {
        // Our definitions do not change: whoever may load the image is a part of them.
        faults.field("image_username");
    }
    faults.check()?;
    let mut read = Update {
        instances,
        annotation: update.annotation.clone(),
        metric_tags,
        ..Update::default()
    };
    if let Some(routes) = routes {
        let owner = Owner::Process(process_guid.clone());
        let written = routes.written.unwrap_or_else(routes::nothing_written);
        read.client_routes = Some(Box::new(call.control_plane().seal(&owner, &written).await?));
        read.routes = Some(routes.http);
        read.internal_routes = Some(routes.internal);
    }
    Ok(read)
}

pub(in crate::bbs) async fn remove(
    call: Call,
    request: proto::RemoveDesiredLrpRequest,
) -> Answered {
    let mut faults = Faults::default();
    faults.not_empty("process_guid", &request.process_guid);
    faults.check()?;
    let process_guid = ProcessGuid::new(&request.process_guid).map_err(|_| Failure::not_found())?;
    call.submit(Command::Remove { process_guid }).await?;
    DONE
}

/// Waits until every slot of a wish is there, or the time is over.
async fn wait_for_slots(call: &Call, process_guid: &ProcessGuid) {
    let now = &call.control_plane().now;
    let mut moved = now.moved();
    let are_there = async {
        while !has_slots(call.control_plane(), process_guid) && moved.changed().await.is_ok() {}
    };
    if timeout(call.bbs.slots_wait, are_there).await.is_err() {
        tracing::debug!(%process_guid, "A wish was answered before its slots were there.");
    }
}

fn has_slots(control_plane: &ControlPlane, process_guid: &ProcessGuid) -> bool {
    control_plane.now.read(|world| {
        let aggregates = world.aggregates();
        let Some(lrp) = aggregates.desired_lrp(process_guid) else { return true };
        let there = aggregates
            .slots_of(process_guid)
            .filter(|slot| !slot.is_removed() && slot.key.index < lrp.instances);
        u32::try_from(there.count()).is_ok_and(|there| there >= lrp.instances)
    })
}
