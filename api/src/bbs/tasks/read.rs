//! How tasks stand: by freshness domain and cell, or one of them.

use std::sync::Arc;

use domain::{bbs::task::Task, id::TaskGuid};

use super::rows;
use crate::{
    bbs::{
        call::Call,
        convert::{self, Generation},
        error::Failure,
        invalid::Faults,
        proto,
    },
    control_plane::ControlPlane,
};

pub(in crate::bbs) async fn list_r3(
    call: Call,
    request: proto::TasksRequest,
) -> Result<proto::TasksResponse, Failure> {
    list(call, request, Generation::Newest).await
}

pub(in crate::bbs) async fn list_r2(
    call: Call,
    request: proto::TasksRequest,
) -> Result<proto::TasksResponse, Failure> {
    list(call, request, Generation::WithoutLayers).await
}

async fn list(
    call: Call,
    request: proto::TasksRequest,
    generation: Generation,
) -> Result<proto::TasksResponse, Failure> {
    let aggregates = call.aggregates();
    let mut tasks = Vec::new();
    for task in aggregates.tasks() {
        let is_asked = request.domain.is_empty() || task.domain.as_str() == request.domain;
        let Some(row) = rows::row(task).filter(|_| is_asked) else { continue };
        if request.cell_id.is_empty() || row.cell_id == request.cell_id {
            tasks.push(with_definition(call.control_plane(), task, row, generation).await);
        }
    }
    Ok(proto::TasksResponse { error: None, tasks })
}

pub(in crate::bbs) async fn by_guid_r3(
    call: Call,
    request: proto::TaskByGuidRequest,
) -> Result<proto::TaskResponse, Failure> {
    by_guid(call, request, Generation::Newest).await
}

pub(in crate::bbs) async fn by_guid_r2(
    call: Call,
    request: proto::TaskByGuidRequest,
) -> Result<proto::TaskResponse, Failure> {
    by_guid(call, request, Generation::WithoutLayers).await
}

async fn by_guid(
    call: Call,
    request: proto::TaskByGuidRequest,
    generation: Generation,
) -> Result<proto::TaskResponse, Failure> {
    let mut faults = Faults::default();
    faults.guid("task_guid", &request.task_guid);
    faults.check()?;
    let task_guid = TaskGuid::new(&request.task_guid).map_err(|_| Failure::not_found())?;
    let task = call
        .control_plane()
        .now
        .read(|world| world.aggregates().task(&task_guid).map(|task| Arc::new(task.clone())));
    let task = task.ok_or_else(Failure::not_found)?;
    let row = rows::row(&task).ok_or_else(Failure::not_found)?;
    let task = with_definition(call.control_plane(), &task, row, generation).await;
    Ok(proto::TaskResponse { error: None, task: Some(task) })
}

/// The same with what it runs.
pub(in crate::bbs) async fn with_definition(
    control_plane: &ControlPlane,
    task: &Task,
    mut row: proto::Task,
    generation: Generation,
) -> proto::Task {
    let definition = convert::task::write(control_plane, task).await;
    row.task_definition = Some(convert::layers::of_task(definition, generation));
    row
}
