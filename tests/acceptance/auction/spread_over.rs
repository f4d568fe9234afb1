//! How many instances each cell won, and how evenly: Diego's measures of its suite.

use std::collections::BTreeMap;

use super::fleet::{ZONES, name};

/// How many each cell won.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Won(BTreeMap<String, u32>);

impl<T: Into<String>> FromIterator<T> for Won {
    fn from_iter<I: IntoIterator<Item = T>>(cells: I) -> Self {
        let mut won = Self::default();
        for cell in cells {
            *won.0.entry(cell.into()).or_default() += 1;
        }
        won
    }
}

impl Won {
    /// All together.
    pub(super) fn all(&self) -> u32 {
        self.0.values().sum()
    }

    /// So many cells won something, and none of them is further off their mean than this.
    pub(super) fn assert_even(&self, winners: u32, tolerance: f64) {
        assert_eq!(self.0.len(), usize::try_from(winners).unwrap(), "{:?}", self.0);
        let mean = f64::from(self.all()) / f64::from(winners);
        let off = self.0.values().map(|count| (f64::from(*count) - mean).abs());
        let off = off.fold(0.0, f64::max);
        assert!(off <= tolerance, "{off} off the mean {mean}: {:?}", self.0);
    }

    /// Of each zone, how many each of its cells won, by the order of the cells.
    pub(super) fn by_zone(&self, cells: u32) -> Vec<Vec<u32>> {
        let of_cell = |number: u32| self.0.get(&name(number)).copied().unwrap_or(0);
        let of_zone = |zone| (0..cells).filter(move |number| number % ZONES == zone);
        (0..ZONES).map(|zone| of_zone(zone).map(of_cell).collect()).collect()
    }

    /// How many each zone won.
    pub(super) fn zones(&self, cells: u32) -> Vec<u32> {
        self.by_zone(cells).iter().map(|zone| zone.iter().sum()).collect()
    }

    /// In each zone, no cell won more than the one before it, and the first one more than the last:
    /// plain spreading would not do that. Two cells are too few to show it.
    pub(super) fn assert_filled_from_the_first(&self, cells: u32) {
        for zone in self.by_zone(cells) {
            assert!(zone.is_sorted_by(|one, next| one >= next), "{zone:?}");
            assert!(cells < 10 || zone.first() > zone.last(), "{zone:?}");
        }
    }

    /// Each of these cells won its share of what all of them did, or one more.
    pub(super) fn assert_not_overloaded(&self, cells: std::ops::Range<u32>, share: u32) {
        for cell in cells.map(name) {
            let count = self.0.get(&cell).copied().unwrap_or(0);
            assert!((share..=share + 1).contains(&count), "{cell} won {count}: {:?}", self.0);
        }
    }
}
