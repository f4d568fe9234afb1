//! The positions of hashes, in memory: quick to add to, sorted when they become a run.

use domain::log::Position;
use foldhash::{HashMap, HashMapExt as _};

/// Positions by hash. They are added in order.
#[derive(Debug)]
pub(super) struct Postings {
    /// The last entry of each hash.
    last: HashMap<i64, usize>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    hash: i64,
    position: u64,
    /// The entry of the same hash before it.
    before: Option<usize>,
}

impl Default for Postings {
    fn default() -> Self {
        Self { last: HashMap::new(), entries: Vec::new() }
    }
}

impl Postings {
    pub(super) fn add(&mut self, hash: i64, position: Position) {
        let before = self.last.insert(hash, self.entries.len());
        self.entries.push(Entry { hash, position: position.0, before });
    }

    /// The positions of a hash behind a position, in order.
    pub(super) fn of(&self, hash: i64, after: Position) -> Vec<u64> {
        let entry_of = |index: usize| self.entries.get(index);
        let newest = self.last.get(&hash).copied().and_then(entry_of);
        let newest_first = std::iter::successors(newest, |entry| entry.before.and_then(entry_of));
        let mut positions: Vec<u64> = newest_first
            .map(|entry| entry.position)
            .take_while(|position| *position > after.0)
            .collect();
        positions.reverse();
        positions
    }

    /// All of them, by hash and in order.
    pub(super) fn sorted(&self) -> Vec<(i64, u64)> {
        let mut sorted: Vec<_> =
            self.entries.iter().map(|entry| (entry.hash, entry.position)).collect();
        sorted.sort_unstable();
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_positions_of_a_hash_come_in_order_and_all_of_them_by_hash() {
        let mut postings = Postings::default();
        for position in 1..=9 {
            postings.add(-(i64::try_from(position % 3).unwrap()), Position(position));
        }

        assert_eq!(postings.of(-1, Position(0)), [1, 4, 7]);
        assert_eq!(postings.of(-1, Position(1)), [4, 7]);
        assert!(postings.of(-1, Position(7)).is_empty() && postings.of(5, Position(0)).is_empty());
        let sorted = postings.sorted();
        assert_eq!(sorted.first_chunk(), Some(&[(-2, 2), (-2, 5), (-2, 8), (-1, 1)]));
        assert_eq!(sorted.len(), 9);
    }
}
