//! From an end to an answer again: of a process that is killed, and of a cell that is lost.

use super::{
    super::{
        Error,
        measure::{self, Goal, Report, Round, Row},
        place::Place,
    },
    Effort,
    apps::Visitor,
    platform::{Platform, cell_id},
};
use crate::clock::Stopwatch;

/// p50 from `kill -9` to the first 200 of the next instance, in milliseconds.
const KILLED_MS: f64 = 300.0;
/// An instance is started again at once so often; after that it pauses.
const KILLS_WITHOUT_PAUSE: u32 = 2;
/// The presence's time to live and 4 s.
const LOST_S: f64 = 19.0;

pub(super) async fn killed(
    report: &mut Report,
    place: &Place,
    effort: Effort,
) -> Result<(), Error> {
    if !report.wants("killed") {
        return Ok(());
    }
    report.progress("processes killed one at a time");
    let platform = Platform::start(place, 1).await?;
    let visitor = Visitor::new(&platform)?;
    let mut latencies_ms = Vec::new();
    for number in 0..effort.kills.div_ceil(KILLS_WITHOUT_PAUSE) {
        let process_guid = format!("killed-{number}");
        platform.desire(&process_guid, 1).await?;
        visitor.until_routable(&process_guid, None).await?;
        for _ in 0..KILLS_WITHOUT_PAUSE {
            let running = platform.until_running(&process_guid, 1, |_| true).await?;
            let Some(victim) = running.first() else { continue };
            let started = Stopwatch::start();
            visitor.kill(victim).await;
            visitor.until_routable(&process_guid, Some(&victim.instance_guid)).await?;
            latencies_ms.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        platform.remove(&process_guid).await?;
    }
    let size = format!("kills={}", latencies_ms.len());
    let goals = [Goal::AtMost(KILLED_MS), Goal::None];
    measure::add_latencies(report, ["killed/p50", "killed/p99"], &size, latencies_ms, goals);
    Ok(())
}

/// The agent of a cell with all instances is killed: until as many run, and answer, on another.
pub(super) async fn cell_lost(
    report: &mut Report,
    place: &Place,
    effort: Effort,
) -> Result<(), Error> {
    if !report.wants("lost") {
        return Ok(());
    }
    report.progress("a cell that is lost");
    let process_guid = "lost";
    let (lost, other) = (0, 1);
    let mut platform = Platform::start(place, 1).await?;
    platform.desire(process_guid, effort.lost).await?;
    platform.until_running(process_guid, effort.lost, |_| true).await?;
    platform.start_cell(other).await?;
    let visitor = Visitor::new(&platform)?;
    let started = Stopwatch::start();
    platform.kill_cell(lost);
    let is_elsewhere = |instance: &super::apps::Instance| instance.cell_id == cell_id(other);
    platform.until_running(process_guid, effort.lost, is_elsewhere).await?;
    visitor.until_routable(process_guid, None).await?;
    let ours = started.elapsed().as_secs_f64();
    let row = Row {
        name: "lost",
        size: format!("instances={}", effort.lost),
        unit: "s",
        goal: Goal::AtMost(LOST_S),
    };
    report.add(row, &[Round { ours, peer: None }]);
    // What its containers are is removed by the next agent.
    platform.start_cell(lost).await
}
