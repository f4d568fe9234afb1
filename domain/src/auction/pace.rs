//! How fast the work of many lost cells is placed again: all at once it would swamp those that are
//! left, and often enough it was not the cells that were lost but the way to them.
//!
//! Better than Diego on purpose, which starts everything at once.

use crate::{
    aggregates::Aggregates,
    bbs::cell::Presence,
    units::{Milliseconds, Timestamp},
};

/// Of fewer cells than this every loss is an ordinary one.
const CELLS_MIN: usize = 5;
/// More than this share of the cells, in per cent, within one presence time to live is many.
const SHARE_MAX: usize = 20;
/// How many containers may be starting for each cell that is left.
pub const PACED_STARTING_PER_CELL: u32 = 8;
/// How long the pace is kept after a loss. What still waits then is placed at once: it must not
/// wait for longer than it takes to be placed again.
pub const PACE_KEPT_FOR: Milliseconds = Milliseconds::from_seconds(60);

/// The most containers that may be starting on all cells together, when more than a fifth of at
/// least five cells were lost within one presence time to live; none otherwise.
#[must_use]
pub fn paced_starting_maximum(
    aggregates: &Aggregates,
    time_to_live: Milliseconds,
    now: Timestamp,
) -> Option<u32> {
    let mut present = 0_usize;
    let mut lost_at = Vec::new();
    for cell in aggregates.cells() {
        match cell.presence {
            Presence::Present { .. } => present += 1,
            Presence::Lost { since } if now <= since.plus(PACE_KEPT_FOR) => lost_at.push(since),
            // It is no part of the cluster any more.
            Presence::Lost { .. } => {}
        }
    }
    let all = present + lost_at.len();
    lost_at.sort_unstable();
    let mut first = 0;
    let mut lost = 0;
    for (last, at) in lost_at.iter().enumerate() {
        while lost_at.get(first).is_some_and(|it| it.plus(time_to_live) < *at) {
            first += 1;
        }
        lost = lost.max(last + 1 - first);
    }
    if all < CELLS_MIN || lost * 100 <= all * SHARE_MAX {
        return None;
    }
    let cells = u32::try_from(present).unwrap_or(u32::MAX).max(1);
    Some(cells.saturating_mul(PACED_STARTING_PER_CELL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bbs::cell,
        testing::{Story, cell_id, given, register},
    };

    const TIME_TO_LIVE: Milliseconds = Milliseconds::from_seconds(15);

    fn cells(count: u32) -> Story {
        (0..count).fold(given([]), |story, number| {
            story.after(register(&format!("cell-{number}"), number.into()))
        })
    }

    fn lose(story: Story, number: u32) -> Story {
        story.after(cell::Command::Lose {
            cell_id: cell_id(&format!("cell-{number}")),
            last_heard_at: Timestamp(0),
            heard_by: "node-1".to_owned(),
        })
    }

    fn limit(story: &Story) -> Option<u32> {
        paced_starting_maximum(&story.aggregates, TIME_TO_LIVE, story.now)
    }

    #[test]
    fn the_loss_of_more_than_a_fifth_is_placed_again_at_a_pace() {
        let story = lose(lose(cells(10), 0), 1);
        assert_eq!(limit(&story), None, "a fifth is not more than a fifth");

        let story = lose(story, 2);
        assert_eq!(limit(&story), Some(7 * PACED_STARTING_PER_CELL));
    }

    #[test]
    fn of_few_cells_every_loss_is_ordinary() {
        assert_eq!(limit(&lose(lose(cells(4), 0), 1)), None);
        assert_eq!(limit(&lose(lose(cells(5), 0), 1)), Some(3 * PACED_STARTING_PER_CELL));
    }

    #[test]
    fn losses_that_are_far_apart_do_not_add_up() {
        let story = lose(cells(10), 0).later(Milliseconds::from_seconds(16));
        let story = lose(story, 1).later(Milliseconds::from_seconds(16));
        assert_eq!(limit(&lose(story, 2)), None);
    }

    #[test]
    fn the_pace_ends_after_a_minute_and_with_the_cells_return() {
        let lost = lose(lose(cells(5), 0), 1);
        assert_eq!(limit(&lost.clone().later(Milliseconds::from_seconds(61))), None);
        assert_eq!(limit(&lost.after(register("cell-0", 0))), None);
    }

    #[test]
    fn with_no_cell_left_something_may_still_start() {
        let story = (0..5).fold(cells(5), lose);
        assert_eq!(limit(&story), Some(PACED_STARTING_PER_CELL));
    }
}
