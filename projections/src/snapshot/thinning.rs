//! Which snapshots are kept: the last 16 all, then of every older span, each twice as long as
//! the one before, only eight. Pure.

/// How many of the newest are all kept.
const RECENT: u64 = 16;

/// Whether the snapshot with an ordinal is kept when `newest` is the newest ordinal. Ordinals
/// count snapshots from 1. Once dropped by this rule, never wanted again: the multiples of a
/// higher power of two are among those of every lower one.
pub(super) fn is_kept(ordinal: u64, newest: u64) -> bool {
    let age = newest.saturating_sub(ordinal);
    if age < RECENT {
        return true;
    }
    // Ages 16 to 31 keep every second, 32 to 63 every fourth, and so on.
    let span = (age / RECENT).ilog2() + 1;
    ordinal.trailing_zeros() >= span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_thins_out_with_age_and_never_comes_back() {
        let mut kept: Vec<u64> = Vec::new();
        for newest in 1..=1000 {
            kept.push(newest);
            kept.retain(|ordinal| is_kept(*ordinal, newest));
            let expected: Vec<u64> = (1..=newest).filter(|it| is_kept(*it, newest)).collect();
            assert_eq!(kept, expected);
        }
        assert!((985..=1000).all(|ordinal| kept.contains(&ordinal)));
        assert!(kept.len() <= 16 + 8 * 7, "{} are kept", kept.len());
        let gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.is_sorted_by(|older, newer| older >= newer), "{gaps:?}");
    }
}
