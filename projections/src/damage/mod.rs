//! Damage of every kind to files that were written well: cut off, torn, flipped. What is opened
//! then is refused, or found by `verify`, or says what was written: never anything else.
//!
//! Every part names its seed (`DIARIO_SEED`) and its size (`DIARIO_DAMAGE`, in hundredths of the
//! long run: 100 tries all of it, CI tries [`SHARE`]).

mod archived;
mod files;
mod pages;
mod torn;

use domain::testing::Dice;

/// What of the long run is tried where the environment names no other share, in hundredths.
const SHARE: u32 = 2;

/// A setting of the long run.
fn setting(name: &str, default: u32) -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the long run names its size")]
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

/// The dice of a part, and their seed.
fn dice(part: u64) -> (Dice, u32) {
    let seed = setting("DIARIO_SEED", 1);
    (Dice::new(u64::from(seed) ^ (part << 32)), seed)
}

/// The share of so many tries.
fn share(whole: usize) -> usize {
    let hundredths = usize::try_from(setting("DIARIO_DAMAGE", SHARE)).unwrap_or(usize::MAX);
    (whole * hundredths / 100).clamp(1, whole)
}

/// Evenly spread numbers below a bound, the last one among them: all of them in the long run.
fn spread(bound: usize) -> impl Iterator<Item = usize> {
    let count = share(bound);
    (0..count).map(move |number| bound - 1 - number * bound / count)
}

/// A number below a bound.
fn below(dice: &mut Dice, bound: usize) -> usize {
    let bound = u32::try_from(bound).expect("a small file");
    usize::try_from(dice.below(bound)).expect("a number below it")
}

/// A bit of a file.
#[derive(Debug, Clone, Copy)]
struct Bit {
    byte: usize,
    bit: u32,
}

impl Bit {
    fn any(dice: &mut Dice, length: usize) -> Self {
        Self { byte: below(dice, length), bit: dice.below(8) }
    }

    fn flip(self, bytes: &mut [u8]) {
        bytes[self.byte] ^= 1 << self.bit;
    }
}

/// Says what was tried, for whoever reads the long run.
#[expect(clippy::print_stderr, reason = "figures of a test run are for people")]
fn tell(figures: &str) {
    eprintln!("{figures}");
}
