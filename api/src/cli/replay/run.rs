//! A replay over a span: what changed event by event, where a predicate held first, or a view at
//! the end.

use domain::log::Position;
use projections::history::{predicate::Predicate, views};
use serde_json::json;

use super::{CommandError, Error, Replay, note_progress, progress, show};

/// Shows every event of the span and what it changed.
pub(super) async fn changes(replay: &Replay<'_>) -> Result<(), CommandError> {
    let mut stepper = replay.stepper(replay.from, false).await?;
    let mut shown = 0_u64;
    while stepper.world().position() < replay.to {
        let Some(step) = stepper.next().await.map_err(Error::from)? else { break };
        if replay.shows(&step.recorded) {
            shown += 1;
            replay
                .session
                .show_item(&show::step_json(&step), || show::step_lines(&step).join("\n"))?;
        }
    }
    if shown == 0 {
        crate::output::progress(format!("no events from @{} to @{}", replay.from, replay.to));
    }
    Ok(())
}

/// Where a predicate holds first, and where it did not hold last; `None`, which is told, when it
/// never holds.
pub(super) async fn until(
    replay: &Replay<'_>,
    predicate: &Predicate,
) -> Result<Option<Position>, CommandError> {
    let Replay { session, from, to, .. } = replay;
    let mut stepper = replay.stepper(*from, false).await?;
    if predicate.holds(stepper.world(), None) {
        let answer = json!({ "heldFirst": null, "holdsAtStart": from.to_string() });
        session.show_item(&answer, || {
            format!("it holds already where the replay begins, @{from}; begin earlier with --from")
        })?;
        return Ok(Some(*from));
    }
    let bar = progress(to.0 - from.0);
    while stepper.world().position() < *to {
        let Some(recorded) = stepper.fold().await.map_err(Error::from)? else { break };
        note_progress(&bar, *from, recorded.position);
        if predicate.holds(stepper.world(), Some(&recorded)) {
            bar.finish_and_clear();
            found(replay, recorded.position).await?;
            return Ok(Some(recorded.position));
        }
    }
    bar.finish_and_clear();
    session.show_item(&json!({ "heldFirst": null }), || {
        format!("it never holds from @{from} to @{to}")
    })?;
    Ok(None)
}

/// Shows the event after which it holds first.
async fn found(replay: &Replay<'_>, position: Position) -> Result<(), CommandError> {
    let before = Position(position.0.saturating_sub(1));
    let mut stepper = replay.stepper(before, false).await?;
    let step = stepper.next().await.map_err(Error::from)?;
    let Some(step) = step else { return Ok(()) };
    let answer = json!({
        "heldFirst": position.to_string(),
        "heldNotLast": before.to_string(),
        "event": show::step_json(&step),
    });
    replay.session.show_item(&answer, || {
        let mut lines =
            vec![format!("it holds first at @{position}; it was last false at @{before}")];
        lines.extend(show::step_lines(&step));
        lines.join("\n")
    })
}

/// Shows a view at a position.
pub(super) async fn view(
    replay: &Replay<'_>,
    at: Position,
    name: &str,
) -> Result<(), CommandError> {
    let stepper = replay.stepper(at, false).await?;
    let content = views::dump(stepper.world(), name);
    let answer = json!({ "view": name, "position": at.to_string(), "content": content });
    replay.session.show(&answer, || {
        let mut lines = vec![format!("{name} at @{at}")];
        lines.extend(content.iter().flat_map(show::value_lines));
        lines
    })
}
