//! How wishes stand: whole, or as much as who places or routes needs.

use std::{collections::HashSet, sync::Arc};

use domain::{bbs::desired_lrp::DesiredLrp, id::ProcessGuid};

use crate::bbs::{
    call::Call,
    convert::{self, Generation, layers},
    error::Failure,
    invalid::Faults,
    proto,
};

/// Which wishes are asked for; what is empty asks for all.
#[derive(Debug, Default)]
struct Asked<'r> {
    domain: &'r str,
    process_guids: HashSet<&'r str>,
    app_guids: &'r [String],
}

impl<'r> Asked<'r> {
    fn guids(guids: &'r [String]) -> HashSet<&'r str> {
        guids.iter().map(String::as_str).collect()
    }

    fn takes(&self, lrp: &DesiredLrp) -> bool {
        let guid = lrp.process_guid.as_str();
        (self.domain.is_empty() || lrp.domain.as_str() == self.domain)
            && (self.process_guids.is_empty() || self.process_guids.contains(guid))
            && (self.app_guids.is_empty()
                || self.app_guids.iter().any(|app_guid| guid.starts_with(app_guid.as_str())))
    }
}

async fn look(call: &Call, asked: &Asked<'_>) -> Vec<proto::DesiredLrp> {
    let aggregates = call.aggregates();
    let mut lrps = Vec::new();
    for lrp in aggregates.desired_lrps().filter(|lrp| asked.takes(lrp)) {
        lrps.push(convert::desired_lrp::write(call.control_plane(), lrp).await);
    }
    lrps
}

pub(in crate::bbs) async fn list_r3(
    call: Call,
    request: proto::DesiredLrpsRequest,
) -> Result<proto::DesiredLrpsResponse, Failure> {
    list(call, request, Generation::Newest).await
}

pub(in crate::bbs) async fn list_r2(
    call: Call,
    request: proto::DesiredLrpsRequest,
) -> Result<proto::DesiredLrpsResponse, Failure> {
    list(call, request, Generation::WithoutLayers).await
}

async fn list(
    call: Call,
    request: proto::DesiredLrpsRequest,
    generation: Generation,
) -> Result<proto::DesiredLrpsResponse, Failure> {
    let asked = Asked {
        domain: &request.domain,
        process_guids: Asked::guids(&request.process_guids),
        app_guids: &request.app_guids,
    };
    let lrps = look(&call, &asked).await.into_iter();
    let desired_lrps = lrps.map(|lrp| layers::of_lrp(lrp, generation)).collect();
    Ok(proto::DesiredLrpsResponse { error: None, desired_lrps })
}

pub(in crate::bbs) async fn by_process_guid_r3(
    call: Call,
    request: proto::DesiredLrpByProcessGuidRequest,
) -> Result<proto::DesiredLrpResponse, Failure> {
    let desired_lrp = Some(one(&call, &request).await?);
    Ok(proto::DesiredLrpResponse { error: None, desired_lrp })
}

pub(in crate::bbs) async fn by_process_guid_r2(
    call: Call,
    request: proto::DesiredLrpByProcessGuidRequest,
) -> Result<proto::DesiredLrpResponse, Failure> {
    let lrp = one(&call, &request).await?;
    let desired_lrp = Some(layers::of_lrp(lrp, Generation::WithoutLayers));
    Ok(proto::DesiredLrpResponse { error: None, desired_lrp })
}

async fn one(
    call: &Call,
    request: &proto::DesiredLrpByProcessGuidRequest,
) -> Result<proto::DesiredLrp, Failure> {
    let mut faults = Faults::default();
    faults.not_empty("process_guid", &request.process_guid);
    faults.check()?;
    let process_guid = ProcessGuid::new(&request.process_guid).map_err(|_| Failure::not_found())?;
    let lrp = call
        .control_plane()
        .now
        .read(|world| world.aggregates().desired_lrp(&process_guid).cloned().map(Arc::new));
    let lrp = lrp.ok_or_else(Failure::not_found)?;
    Ok(convert::desired_lrp::write(call.control_plane(), &lrp).await)
}

pub(in crate::bbs) async fn scheduling_infos(
    call: Call,
    request: proto::DesiredLrpsRequest,
) -> Result<proto::DesiredLrpSchedulingInfosResponse, Failure> {
    let asked = Asked {
        domain: &request.domain,
        process_guids: Asked::guids(&request.process_guids),
        app_guids: &[],
    };
    let lrps = look(&call, &asked).await;
    let desired_lrp_scheduling_infos = lrps.into_iter().map(scheduling_part).collect();
    Ok(proto::DesiredLrpSchedulingInfosResponse { error: None, desired_lrp_scheduling_infos })
}

pub(in crate::bbs) async fn scheduling_info(
    call: Call,
    request: proto::DesiredLrpByProcessGuidRequest,
) -> Result<proto::DesiredLrpSchedulingInfoByProcessGuidResponse, Failure> {
    let desired_lrp_scheduling_info = Some(scheduling_part(one(&call, &request).await?));
    Ok(proto::DesiredLrpSchedulingInfoByProcessGuidResponse {
        error: None,
        desired_lrp_scheduling_info,
    })
}

/// What who places it needs.
fn scheduling_part(lrp: proto::DesiredLrp) -> proto::DesiredLrpSchedulingInfo {
    let driver_names = lrp.volume_mounts.iter().map(|mount| mount.driver.clone()).collect();
    proto::DesiredLrpSchedulingInfo {
        desired_lrp_key: proto::DesiredLrpKey {
            process_guid: lrp.process_guid,
            domain: lrp.domain,
            log_guid: lrp.log_guid,
        },
        annotation: lrp.annotation,
        instances: lrp.instances,
        desired_lrp_resource: proto::DesiredLrpResource {
            memory_mb: lrp.memory_mb,
            disk_mb: lrp.disk_mb,
            root_fs: lrp.root_fs,
            max_pids: lrp.max_pids,
        },
        routes: lrp.routes.unwrap_or_default(),
        modification_tag: lrp.modification_tag.unwrap_or_default(),
        volume_placement: Some(proto::VolumePlacement { driver_names }),
        placement_tags: lrp.placement_tags,
    }
}

/// What who routes to it needs.
pub(in crate::bbs) async fn routing_infos(
    call: Call,
    request: proto::DesiredLrpsRequest,
) -> Result<proto::DesiredLrpsResponse, Failure> {
    let process_guids = Asked::guids(&request.process_guids);
    let lrps = look(&call, &Asked { process_guids, ..Asked::default() }).await;
    let part = |lrp: proto::DesiredLrp| proto::DesiredLrp {
        process_guid: lrp.process_guid,
        domain: lrp.domain,
        log_guid: lrp.log_guid,
        instances: lrp.instances,
        routes: lrp.routes,
        modification_tag: lrp.modification_tag,
        metric_tags: lrp.metric_tags,
        ..proto::DesiredLrp::default()
    };
    let desired_lrps = lrps.into_iter().map(part).collect();
    Ok(proto::DesiredLrpsResponse { error: None, desired_lrps })
}
