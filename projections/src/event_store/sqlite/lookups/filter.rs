//! A Bloom filter of a run's commands: whether a command can be among them.

/// With seven bits set of ten for each hash, one in a hundred that is not there seems to be.
const BITS_EACH: usize = 10;
const PROBES: u64 = 7;

/// The bits of a filter, eight a byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter(Vec<u8>);

impl Filter {
    /// Of hashes that are spread evenly.
    pub(super) fn of(hashes: &[i64]) -> Self {
        let mut filter = Self(vec![0; (hashes.len() * BITS_EACH).div_ceil(8)]);
        for hash in hashes {
            for bit in filter.bits(*hash) {
                if let Some(byte) = filter.0.get_mut(bit / 8) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        filter
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `false` only for a hash that is not there.
    pub(super) fn may_hold(&self, hash: i64) -> bool {
        self.bits(hash)
            .all(|bit| self.0.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0))
    }

    /// The bits of a hash: each probe goes on by the hash's other half.
    fn bits(&self, hash: i64) -> impl Iterator<Item = usize> + use<> {
        let all = u64::try_from(self.0.len().saturating_mul(8)).unwrap_or(u64::MAX).max(1);
        let hash = u64::from_ne_bytes(hash.to_ne_bytes());
        let (start, step) = (hash >> 32, (hash & u64::from(u32::MAX)) | 1);
        (0..PROBES).map(move |probe| {
            let bit = start.wrapping_add(probe.wrapping_mul(step)) % all;
            usize::try_from(bit).unwrap_or(usize::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::packed::hash;

    #[test]
    fn all_that_is_there_is_held_and_little_else() {
        let hashes: Vec<i64> =
            (0..5_000).map(|number| hash(&format!("command-{number}"))).collect();

        let filter = Filter::of(&hashes);

        assert!(hashes.iter().all(|hash| filter.may_hold(*hash)));
        let others = (0..10_000).map(|number| hash(&format!("other-{number}")));
        let seeming = others.filter(|hash| filter.may_hold(*hash)).count();
        assert!(seeming < 200, "{seeming} of 10,000");
        assert!(!Filter::of(&[]).may_hold(7), "nothing is in an empty one");
        assert_eq!(Filter::from_bytes(filter.as_bytes()), filter);
    }
}
