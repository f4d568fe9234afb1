//! Why a cell was chosen, or none: every candidate's score or the reason for which it was refused.
//!
//! Compact, since it is stored with every placement: up to [`LISTED_MAX`] cells one by one; of
//! more, the best [`BEST`], the rest counted by reason, and the position of the log from which the
//! rest can be computed again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{bbs::placement::Resources, id::CellId, log::Position};

/// Of so many cells each is told one by one.
pub const LISTED_MAX: usize = 20;
/// Of more cells, so many are told by name and score.
pub const BEST: usize = 5;

/// Every candidate's score or reason for refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// Up to which event of the log all was known.
    pub seen: Position,
    /// Those that would do, the best first: the first one was chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub best: Vec<(CellId, Score)>,
    /// Those that would not do, by id, where each is told one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<(CellId, Refusal)>,
    /// How many cells there are that are not told one by one, by reason, each reason once.
    ///
    /// A cell that would come after the last one told counts as [`Refusal::HigherScore`], whether
    /// or not it has room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<(Refusal, u32)>,
}

impl Candidates {
    /// Counts so many cells more that are refused for a reason.
    pub(super) fn count(&mut self, refusal: Refusal, cells: u32) {
        if cells == 0 {
            return;
        }
        match self.counts.iter_mut().find(|(counted, _)| *counted == refusal) {
            Some((_, count)) => *count += cells,
            None => self.counts.push((refusal, cells)),
        }
    }
}

/// How good a cell is, in millionths: the lower, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Score(pub u64);

impl Score {
    /// To the nearest millionth.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from a float saturates; scores are not negative"
    )]
    pub fn of(score: f64) -> Self {
        Self((score * 1_000_000.0).round() as u64)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Why a cell was not chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Refusal {
    /// It does not have the root file system.
    Rootfs,
    /// Its tags do not fit.
    PlacementTags,
    /// It has not enough left of some amounts.
    Lacks(Lacking),
    /// Its zone holds more instances of the process than another that has room.
    FullerZone,
    /// Others are better.
    HigherScore,
}

/// Which amounts a cell has not enough left of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lacking {
    /// No container is left.
    pub containers: bool,
    /// Too little disk.
    pub disk: bool,
    /// Too little memory.
    pub memory: bool,
}

impl Lacking {
    /// What is lacking where so much is left.
    #[must_use]
    pub fn of(free: Resources, wanted: Resources) -> Self {
        Self {
            containers: wanted.containers > free.containers,
            disk: wanted.disk_mb > free.disk_mb,
            memory: wanted.memory_mb > free.memory_mb,
        }
    }

    /// Everything.
    pub(super) const ALL: Self = Self { containers: true, disk: true, memory: true };

    /// Whether nothing is lacking.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// What is lacking here and there.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            containers: self.containers && other.containers,
            disk: self.disk && other.disk,
            memory: self.memory && other.memory,
        }
    }

    /// The amounts' names, in Diego's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let Self { containers, disk, memory } = self;
        let named = [(containers, CONTAINERS), (disk, DISK), (memory, MEMORY)];
        named.into_iter().filter_map(|(is_lacking, name)| is_lacking.then_some(name))
    }
}

const CONTAINERS: &str = "containers";
const DISK: &str = "disk";
const MEMORY: &str = "memory";
const LACKS: &str = "lacks ";

/// Names with commas between.
impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.names().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rootfs => f.write_str("rootfs"),
            Self::PlacementTags => f.write_str("placement tags"),
            Self::Lacks(lacking) => write!(f, "{LACKS}{lacking}"),
            Self::FullerZone => f.write_str("fuller zone"),
            Self::HigherScore => f.write_str("higher score"),
        }
    }
}

/// Why a text is not a reason for refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a reason for which a cell is refused")]
pub struct InvalidRefusal;

impl FromStr for Refusal {
    type Err = InvalidRefusal;

    fn from_str(text: &str) -> Result<Self, InvalidRefusal> {
        let plain = [Self::Rootfs, Self::PlacementTags, Self::FullerZone, Self::HigherScore];
        if let Some(refusal) = plain.into_iter().find(|refusal| refusal.to_string() == text) {
            return Ok(refusal);
        }
        let names = text.strip_prefix(LACKS).ok_or(InvalidRefusal)?;
        let mut lacking = Lacking::default();
        for name in names.split(", ") {
            match name {
                CONTAINERS => lacking.containers = true,
                DISK => lacking.disk = true,
                MEMORY => lacking.memory = true,
                _ => return Err(InvalidRefusal),
            }
        }
        Ok(Self::Lacks(lacking))
    }
}

impl TryFrom<String> for Refusal {
    type Error = InvalidRefusal;

    fn try_from(text: String) -> Result<Self, InvalidRefusal> {
        text.parse()
    }
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> Self {
        refusal.to_string()
    }
}

impl Lacking {
    /// One number for each set of amounts, below 8.
    pub(super) fn number(self) -> usize {
        let Self { containers, disk, memory } = self;
        usize::from(containers) * 4 + usize::from(disk) * 2 + usize::from(memory)
    }

    /// The set of a [`Lacking::number`].
    pub(super) fn of_number(number: usize) -> Self {
        Self { containers: number & 4 != 0, disk: number & 2 != 0, memory: number & 1 != 0 }
    }
}
