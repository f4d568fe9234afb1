//! The last versions of the streams that were written lately, by any node. Only a guess: the
//! append compares it with the truth, and says the truth when the guess is wrong.

use std::collections::{BTreeMap, HashMap};

use domain::log::{StreamId, StreamVersion};

/// How many streams one generation holds; when it is full, the one before it is dropped.
const GENERATION_MAX: usize = 100_000;

/// Known versions in two generations, so that what is in use stays.
#[derive(Debug, Default)]
pub(super) struct Versions {
    young: HashMap<StreamId, StreamVersion>,
    old: HashMap<StreamId, StreamVersion>,
}

impl Versions {
    pub(super) fn get(&self, stream: &StreamId) -> Option<StreamVersion> {
        self.young.get(stream).or_else(|| self.old.get(stream)).copied()
    }

    /// Notes what an event showed: versions only rise.
    pub(super) fn seen(&mut self, stream: &StreamId, version: StreamVersion) {
        if self.get(stream).is_none_or(|known| known < version) {
            self.set(stream.clone(), version);
        }
    }

    /// Notes what the database said.
    pub(super) fn set(&mut self, stream: StreamId, version: StreamVersion) {
        if self.young.len() >= GENERATION_MAX && !self.young.contains_key(&stream) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream, version);
    }

    /// The known versions of some streams.
    pub(super) fn of<'a>(
        &self,
        streams: impl Iterator<Item = &'a StreamId>,
    ) -> BTreeMap<StreamId, StreamVersion> {
        streams.filter_map(|stream| Some((stream.clone(), self.get(stream)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use domain::id::CellId;

    use super::*;

    #[test]
    fn what_was_seen_lately_is_known_and_the_number_is_bounded() {
        let stream =
            |number: usize| StreamId::Cell(CellId::new(&format!("cell-{number}")).unwrap());
        let mut versions = Versions::default();
        for number in 0..5 * GENERATION_MAX / 2 {
            versions.seen(&stream(number), StreamVersion(2));
        }
        versions.seen(&stream(5 * GENERATION_MAX / 2 - 1), StreamVersion(1));

        assert_eq!(versions.get(&stream(0)), None);
        assert_eq!(versions.get(&stream(5 * GENERATION_MAX / 2 - 1)), Some(StreamVersion(2)));
        assert!(versions.young.len() + versions.old.len() <= 2 * GENERATION_MAX);
    }
}
