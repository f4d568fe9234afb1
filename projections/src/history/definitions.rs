//! Packs of definitions: what a snapshot holds of one shard's, unpacked one by one when looked at.
//!
//! Definitions never change, so a pack is written once and lasts for many snapshots. Several stand
//! in a frame that is compressed by itself: alone they would compress badly, and all together one
//! could not be had without the others.

use std::fmt;

use domain::{
    bbs::{definition::Definition, held_definition},
    sealed::Digest,
};
use serde::{Deserialize, Serialize};

use super::shards::{ShardError, pack, unpack};

/// How many definitions are compressed together.
const FRAME: usize = 8;

/// Some definitions, by digest.
pub(super) struct DefinitionPack {
    /// In order; a definition's place is that of its digest.
    digests: Vec<Digest>,
    /// [`FRAME`] definitions each, compressed.
    frames: Vec<Box<[u8]>>,
}

impl fmt::Debug for DefinitionPack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefinitionPack")
            .field("definitions", &self.digests.len())
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    digests: Vec<Digest>,
    #[serde(borrow)]
    frames: Vec<&'a [u8]>,
}

impl DefinitionPack {
    /// The bytes of a pack of these definitions, each of them unpacked again for a trial.
    pub(super) fn write(
        definitions: &[held_definition::HeldDefinition],
    ) -> Result<(Vec<u8>, Self), ShardError> {
        let mut sorted: Vec<_> = definitions.iter().map(|it| (it.digest(), it)).collect();
        sorted.sort_unstable_by_key(|(digest, _)| *digest);
        sorted.dedup_by_key(|(digest, _)| *digest);
        let mut frames = Vec::with_capacity(sorted.len().div_ceil(FRAME));
        for together in sorted.chunks(FRAME) {
            let together: Vec<_> = together.iter().map(|(_, it)| it.for_once()).collect();
            let frame = pack(&together)?;
            let unpacked: Vec<Definition> = unpack(&frame)?;
            if unpacked.iter().ne(together.iter().map(AsRef::as_ref)) {
                return Err(ShardError::Definition);
            }
            frames.push(frame.into_boxed_slice());
        }
        let digests = sorted.into_iter().map(|(digest, _)| digest).collect();
        let made = Self { digests, frames };
        let frames = made.frames.iter().map(AsRef::as_ref).collect();
        let stored = Stored { digests: made.digests.clone(), frames };
        let bytes = postcard::to_stdvec(&stored).map_err(ShardError::Aggregates)?;
        Ok((bytes, made))
    }

    /// A pack from its bytes, which are those of its digest.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ShardError> {
        let Stored { digests, frames } =
            postcard::from_bytes(bytes).map_err(ShardError::Aggregates)?;
        if frames.len() != digests.len().div_ceil(FRAME) || !digests.is_sorted() {
            return Err(ShardError::Definition);
        }
        Ok(Self { digests, frames: frames.into_iter().map(Box::from).collect() })
    }

    /// Where a definition is.
    pub(super) fn place(&self, digest: &Digest) -> Option<u32> {
        self.digests.binary_search(digest).ok().and_then(|place| u32::try_from(place).ok())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.digests.len()
    }

    /// About how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let frames = self.frames.iter().map(|frame| frame.len() + size_of::<Box<[u8]>>());
        self.digests.len() * size_of::<Digest>() + frames.sum::<usize>()
    }
}

impl held_definition::Pack for DefinitionPack {
    fn definition(&self, place: u32) -> Definition {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let frame = self.frames.get(place / FRAME).map(AsRef::as_ref).unwrap_or_default();
        let unpacked = unpack(frame)
            .ok()
            .and_then(|definitions: Vec<Definition>| definitions.into_iter().nth(place % FRAME));
        // Its bytes were compared with their digest, and unpacked by this format's code before
        // they were stored: only a defect in memory gets here.
        unpacked.unwrap_or_else(|| unreachable!("it was unpacked for a trial when it was packed"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use domain::{
        bbs::held_definition::{HeldDefinition, Pack},
        testing::definition,
    };

    use super::*;

    fn some(count: u32) -> Vec<HeldDefinition> {
        (0..count).map(|max_pids| Definition { max_pids, ..definition() }.into()).collect()
    }

    #[test]
    fn every_definition_of_a_pack_comes_out_as_it_went_in() {
        for count in [0, 1, 7, 8, 9, 100] {
            let definitions = some(count);
            let (bytes, written) = DefinitionPack::write(&definitions).unwrap();
            let pack = Arc::new(DefinitionPack::read(&bytes).unwrap());
            assert_eq!((pack.len(), written.len()), (definitions.len(), definitions.len()));
            for held in &definitions {
                let place = pack.place(&held.digest()).unwrap();
                assert_eq!(pack.definition(place), **held);
                let packed = HeldDefinition::packed(
                    held.digest(),
                    Arc::clone(&pack) as Arc<dyn Pack>,
                    place,
                );
                assert_eq!(format!("{packed:?}"), format!("{held:?}"));
            }
        }
        let (_, pack) = DefinitionPack::write(&some(3)).unwrap();
        assert_eq!(pack.place(&Digest::of(b"of none")), None);
    }

    #[test]
    fn several_readers_at_once_unpack_the_same() {
        let definitions = some(64);
        let (_, pack) = DefinitionPack::write(&definitions).unwrap();
        let pack: Arc<dyn Pack> = Arc::new(pack);
        let packed = HeldDefinition::packed(definitions[0].digest(), Arc::clone(&pack), 5);

        let seen: Vec<Arc<Definition>> = std::thread::scope(|scope| {
            let readers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Arc::clone(packed.shared()))).collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).collect()
        });

        assert!(seen.iter().all(|it| Arc::ptr_eq(it, &seen[0])), "it is unpacked once for all");
        assert_eq!(*seen[0], pack.definition(5));
    }

    #[test]
    fn bytes_that_are_no_pack_are_refused_when_they_are_read() {
        let (bytes, _) = DefinitionPack::write(&some(20)).unwrap();
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(DefinitionPack::read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
