//! Which snapshots go: none while all of them together take fewer bytes than the log itself.
//!
//! Above that, the one whose neighbours lie closest together goes first, so that what is kept
//! lies evenly over the log and no question about the past becomes much dearer than another. Pure.

use domain::log::Position;

/// The most snapshots that are kept, however small.
pub(super) const SNAPSHOTS_MAX: usize = 2048;
/// How many of the newest are never dropped: a start needs one, and another if that is damaged.
const NEWEST_KEPT: usize = 2;

/// The one of these positions, oldest first, that goes next; `None` when all are to stay.
pub(super) fn first_to_go(positions: &[Position]) -> Option<Position> {
    let candidates = positions.len().saturating_sub(NEWEST_KEPT);
    let start = [Position(0)];
    let before = start.iter().chain(positions);
    let after = positions.iter().skip(1);
    let gaps = before.zip(after).zip(positions).take(candidates);
    gaps.min_by_key(|((before, after), _)| after.0.saturating_sub(before.0))
        .map(|(_, position)| *position)
}

/// Whether one has to go: of `count` snapshots with `bytes` beside a log of `log_bytes`.
pub(super) fn is_too_much(count: usize, bytes: u64, log_bytes: u64) -> bool {
    count > SNAPSHOTS_MAX || bytes > log_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_lies_evenly_and_the_newest_stay() {
        let mut kept: Vec<Position> = Vec::new();
        for newest in 1..=1000 {
            kept.push(Position(newest * 10));
            while kept.len() > 20 {
                let gone = first_to_go(&kept).unwrap();
                kept.retain(|position| *position != gone);
            }
        }
        assert!(kept.ends_with(&[Position(9_990), Position(10_000)]));
        let gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(gaps.iter().all(|gap| *gap <= 1280), "{gaps:?}");
        assert_eq!(first_to_go(&kept[..2]), None);
    }
}
