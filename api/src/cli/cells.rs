//! `diario cells`: the machines that hold containers.

use serde::Deserialize;
use serde_json::json;

use super::{
    Error,
    instant::Instant,
    table::{self, Table},
    target::Session,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cell {
    cell_id: String,
    zone: String,
    presence: String,
    since: String,
    capacity: Amounts,
    free: Amounts,
    instances: u32,
    tasks: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Amounts {
    memory_mb: u32,
    disk_mb: u32,
    containers: u32,
}

const SELECTION: &str = "cells { cellId epoch zone address presence since \
    capacity { memoryMb diskMb containers } free { memoryMb diskMb containers } \
    rootfses placementTags optionalPlacementTags instances tasks position }";

/// Lists the cells at an instant.
pub(super) async fn list(session: &Session, instant: Instant) -> Result<(), Error> {
    let answer = instant.world(session, "", SELECTION, json!({})).await?;
    let cells: Vec<Cell> = session.client.part(&answer, "/world/cells")?;
    session.show(&answer["world"], || {
        let mut table = Table::new(&[
            "CELL",
            "ZONE",
            "PRESENCE",
            "SINCE",
            "LRPS",
            "TASKS",
            "FREE MEMORY",
            "FREE DISK",
            "FREE CONTAINERS",
        ]);
        for cell in &cells {
            let Cell { capacity, free, .. } = cell;
            table.row([
                cell.cell_id.clone(),
                cell.zone.clone(),
                table::lower(&cell.presence),
                table::time(&cell.since),
                cell.instances.to_string(),
                cell.tasks.to_string(),
                format!("{} of {} MiB", free.memory_mb, capacity.memory_mb),
                format!("{} of {} MiB", free.disk_mb, capacity.disk_mb),
                format!("{} of {}", free.containers, capacity.containers),
            ]);
        }
        table.lines("no cells; `diario cell --help` shows how to start one")
    })
}
