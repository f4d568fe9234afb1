//! Monitor: an action that looks at its container again and again, where no checks are declared.
//!
//! As in Diego, but for the first looks: there the first comes after 2 s, so that nothing is
//! healthy sooner; here at once, then after 20, 40, 80 ms and so on up to 2 s. A healthy container is
//! looked at every 30 s, and one failure ends it. Looks have numbers: the next agent goes on with
//! the one that was under way.

use std::time::Duration;

use domain::action::Action;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Redacted;
use super::checks;
use super::context::Context;
use super::place::{Place, parts};
use super::process_name::{Look, ProcessName};
use super::steps::{self, Failure};

/// The pause after the first look, and the longest before a container is healthy.
const STARTUP_PAUSE_FIRST: Duration = Duration::from_millis(20);
const STARTUP_PAUSE_MAX: Duration = Duration::from_secs(2);
/// The pause between two looks at a healthy container.
const LIVENESS_PAUSE: Duration = Duration::from_secs(30);

/// The monitor of a recipe that declares no checks.
pub(super) fn of<'a>(context: &'a Context<'_>) -> Option<(&'a Action<Redacted>, Place)> {
    let recipe = context.recipe();
    if recipe.check.is_some() {
        return None;
    }
    parts(recipe).monitor
}

/// Looks until a look succeeds.
///
/// # Errors
/// In Diego's words, when none did in time.
pub(super) async fn startup(
    context: &Context<'_>,
    monitor: (&Action<Redacted>, Place),
) -> Result<(), String> {
    let last = context.last_look();
    if last.is_some_and(|look| look.was_healthy) {
        return Ok(());
    }
    if last.is_none() {
        checks::say_started(context);
    }
    let begun = Instant::now();
    let known_for = context.known_for(names(monitor, false, 0..=last.map_or(0, |look| look.round)));
    let limit = context.recipe().start_timeout_ms.duration();
    for round in last.map_or(0, |look| look.round).. {
        let Err(output) = look(context, monitor, Look { was_healthy: false, round }).await else {
            checks::say_healthy(context);
            return Ok(());
        };
        let took = begun.elapsed() + known_for;
        if !limit.is_zero() && took >= limit {
            return Err(checks::never_healthy(context, took, &output));
        }
        sleep(startup_pause(round)).await;
    }
    Err("the monitor has looked too often".to_owned())
}

/// Looks until a look fails, and says so in Diego's words.
pub(super) async fn liveness(context: &Context<'_>, monitor: (&Action<Redacted>, Place)) -> String {
    let under_way = context.last_look().filter(|look| look.was_healthy).map(|look| look.round);
    for round in under_way.unwrap_or(0).. {
        if under_way != Some(round) {
            sleep(LIVENESS_PAUSE).await;
        }
        if let Err(output) = look(context, monitor, Look { was_healthy: true, round }).await {
            return checks::became_unhealthy(context, &output);
        }
    }
    "the monitor has looked too often".to_owned()
}

fn startup_pause(round: u32) -> Duration {
    let factor = 2_u32.saturating_pow(round);
    STARTUP_PAUSE_FIRST.saturating_mul(factor).min(STARTUP_PAUSE_MAX)
}

/// One look; what went wrong in words.
async fn look(
    context: &Context<'_>,
    (action, place): (&Action<Redacted>, Place),
    look: Look,
) -> Result<(), String> {
    let _turn = context.traffic.looks.acquire().await;
    let never = CancellationToken::new();
    let place = Place { look: Some(look), ..place };
    match steps::perform(context, action, place, &never).await {
        Ok(_) => Ok(()),
        Err(Failure::Failed { reason, .. }) => Err(reason),
        Err(Failure::Cancelled { .. }) => Err(steps::CANCELLED.to_owned()),
    }
}

fn names(
    (action, place): (&Action<Redacted>, Place),
    was_healthy: bool,
    rounds: std::ops::RangeInclusive<u32>,
) -> impl Iterator<Item = ProcessName> {
    rounds.flat_map(move |round| {
        let look = Some(Look { was_healthy, round });
        Place { look, ..place }.process_names(action)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_further_apart_up_to_diegos_two_seconds() {
        let pauses: Vec<u128> = (0..9).map(|round| startup_pause(round).as_millis()).collect();

        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
        assert_eq!(startup_pause(u32::MAX), STARTUP_PAUSE_MAX);
    }
}
