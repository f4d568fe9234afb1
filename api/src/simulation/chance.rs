//! Everything random in a simulation: one seeded sequence. Never asks the machine for chance.

use domain::units::Milliseconds;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A seed's sequence of throws.
#[derive(Debug)]
pub(super) struct Chance(ChaCha8Rng);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The sequence of one step of a seed.
    pub(super) fn of_step(seed: u64, step: u32) -> Self {
        let mut sequence = ChaCha8Rng::seed_from_u64(seed);
        sequence.set_stream(u64::from(step) + 1);
        Self(sequence)
    }

    /// A number below `bound`; 0 when that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }

    /// As [`Self::below`], for small numbers.
    pub(super) fn small(&mut self, bound: u32) -> u32 {
        u32::try_from(self.below(u64::from(bound))).unwrap_or(0)
    }

    /// Whether something that happens so many times in 1,000 happens now.
    pub(super) fn per_mille(&mut self, times: u32) -> bool {
        self.small(1000) < times
    }

    /// A span from `from` to `to`, in milliseconds.
    pub(super) fn span(&mut self, from: u64, to: u64) -> Milliseconds {
        Milliseconds(from + self.below(to.saturating_sub(from) + 1))
    }

    /// One of several; `None` when there is none.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let index = self.below(u64::try_from(from.len()).unwrap_or(u64::MAX));
        from.get(usize::try_from(index).unwrap_or(0))
    }

    /// One of several by weight; the last one when all weigh nothing.
    pub(super) fn weighed<T: Copy>(&mut self, from: &[(u32, T)], otherwise: T) -> T {
        let mut throw = self.small(from.iter().map(|(weight, _)| *weight).sum());
        for (weight, choice) in from {
            if throw < *weight {
                return *choice;
            }
            throw -= weight;
        }
        otherwise
    }

    pub(super) fn uuid(&mut self) -> uuid::Uuid {
        let (high, low) = (self.0.next_u64(), self.0.next_u64());
        uuid::Uuid::from_u128((u128::from(high) << 64) | u128::from(low))
    }
}
