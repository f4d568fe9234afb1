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

    /// No winner is further off the mean of all winners than this.
    pub(super) fn assert_even(&self, tolerance: f64) {
        let winners = f64::from(u32::try_from(self.0.len()).unwrap());
        let mean = f64::from(self.all()) / winners;
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

    /// In each zone, no cell won more than the one before it.
    pub(super) fn assert_filled_from_the_first(&self, cells: u32) {
        for zone in self.by_zone(cells) {
            assert!(zone.is_sorted_by(|one, next| one >= next), "{zone:?}");
        }
    }
}
