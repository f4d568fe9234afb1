//! From a wish to an answer through the router: one at a time, and several clients at once.

use futures_util::future::try_join_all;

use super::{
    super::{
        Error,
        measure::{self, Goal, Report, Round, Row},
        place::Place,
    },
    Effort,
    apps::Visitor,
    platform::Platform,
};
use crate::clock::Stopwatch;

/// p50 and p99 from a wish to the first 200, in milliseconds.
const GOALS_MS: (f64, f64) = (150.0, 400.0);
/// How many starts a second the platform does, at least.
const STARTS_A_SECOND: f64 = 20.0;

pub(super) async fn one_at_a_time(
    report: &mut Report,
    place: &Place,
    effort: Effort,
) -> Result<(), Error> {
    if !report.wants("start/one") {
        return Ok(());
    }
    report.progress("instances started one at a time");
    let platform = Platform::start(place, 1).await?;
    let visitor = Visitor::new(&platform)?;
    let mut latencies_ms = Vec::new();
    for number in 0..effort.starts {
        let process_guid = format!("one-{number}");
        let started = Stopwatch::start();
        platform.desire(&process_guid, 1).await?;
        visitor.until_routable(&process_guid, None).await?;
        latencies_ms.push(started.elapsed().as_secs_f64() * 1000.0);
        platform.remove(&process_guid).await?;
    }
    let (p50, p99) = GOALS_MS;
    let size = format!("starts={}", effort.starts);
    measure::add_latencies(
        report,
        ["start/one/p50", "start/one/p99"],
        &size,
        latencies_ms,
        [Goal::AtMost(p50), Goal::AtMost(p99)],
    );
    Ok(())
}

pub(super) async fn together(
    report: &mut Report,
    place: &Place,
    effort: Effort,
) -> Result<(), Error> {
    if !report.wants("start/together") {
        return Ok(());
    }
    report.progress("instances started by several clients at once");
    let platform = Platform::start(place, 1).await?;
    let (clients, duration) = effort.together;
    let started = Stopwatch::start();
    let client = async |client: u32| {
        let visitor = Visitor::new(&platform)?;
        let mut starts = 0;
        while started.elapsed() < duration {
            let process_guid = format!("together-{client}-{starts}");
            platform.desire(&process_guid, 1).await?;
            visitor.until_routable(&process_guid, None).await?;
            platform.remove(&process_guid).await?;
            starts += 1;
        }
        Ok::<u64, Error>(starts)
    };
    let starts = try_join_all((0..clients).map(client)).await?;
    let row = Row {
        name: "start/together",
        size: format!("clients={clients}"),
        unit: "starts/s",
        goal: Goal::AtLeast(STARTS_A_SECOND),
    };
    let ours = measure::per_second(starts.into_iter().sum(), started.elapsed());
    report.add(row, &[Round { ours, peer: None }]);
    Ok(())
}
