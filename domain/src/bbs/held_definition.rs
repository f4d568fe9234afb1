//! A definition as the state holds it: perhaps still packed, as a snapshot gave it.
//!
//! Definitions are most of a snapshot's bytes and never change, and of a whole cluster's few are
//! looked at. One that is packed is unpacked when somebody looks, each time the same.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::definition::Definition;
use crate::sealed::Digest;

/// Where packed definitions lie.
pub trait Pack: fmt::Debug + Send + Sync {
    /// The definition at a place. Total: what is packed was unpacked once for a trial before it was
    /// stored, and its bytes were compared with their digest when they were read.
    fn definition(&self, place: u32) -> Definition;
}

/// A definition that is here, or that is unpacked when it is first looked at; with its digest, which
/// is computed when it is first asked for: of most definitions that a replay passes it never is.
#[derive(Clone)]
pub struct HeldDefinition {
    digest: OnceLock<Digest>,
    held: Held,
}

/// As it is written: the two stand beside each other among the fields of what holds it.
#[derive(Serialize, Deserialize)]
struct Written {
    definition: Arc<Definition>,
    definition_digest: Digest,
}

#[derive(Clone)]
enum Held {
    Here(Arc<Definition>),
    Packed { pack: Arc<dyn Pack>, place: u32, unpacked: OnceLock<Arc<Definition>> },
}

impl HeldDefinition {
    /// One in a pack, of a digest.
    #[must_use]
    pub fn packed(digest: Digest, pack: Arc<dyn Pack>, place: u32) -> Self {
        let held = Held::Packed { pack, place, unpacked: OnceLock::new() };
        Self { digest: digest.into(), held }
    }

    /// The definition's name: its digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| self.for_once().digest())
    }

    /// The definition, unpacked if need be; from then on it stays unpacked.
    #[must_use]
    pub fn shared(&self) -> &Arc<Definition> {
        match &self.held {
            Held::Here(definition) => definition,
            Held::Packed { pack, place, unpacked } => {
                unpacked.get_or_init(|| Arc::new(pack.definition(*place)))
            }
        }
    }

    /// The definition, unpacked only for the one who asks: for a look at all of them.
    #[must_use]
    pub fn for_once(&self) -> Arc<Definition> {
        match &self.held {
            Held::Here(definition) => Arc::clone(definition),
            Held::Packed { pack, place, unpacked } => match unpacked.get() {
                Some(definition) => Arc::clone(definition),
                None => Arc::new(pack.definition(*place)),
            },
        }
    }

    /// Whether it lies in a pack, where it takes nearly no memory of its own.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        match &self.held {
            Held::Here(_) => false,
            Held::Packed { unpacked, .. } => unpacked.get().is_none(),
        }
    }
}

impl From<Arc<Definition>> for HeldDefinition {
    fn from(definition: Arc<Definition>) -> Self {
        Self { digest: OnceLock::new(), held: Held::Here(definition) }
    }
}

impl From<Definition> for HeldDefinition {
    fn from(definition: Definition) -> Self {
        Arc::new(definition).into()
    }
}

impl Deref for HeldDefinition {
    type Target = Definition;

    fn deref(&self) -> &Definition {
        self.shared()
    }
}

impl PartialEq for HeldDefinition {
    /// By digest: nothing is unpacked.
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for HeldDefinition {}

impl fmt::Debug for HeldDefinition {
    /// As the definition itself: whether it is packed is no content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.for_once().fmt(f)
    }
}

impl Serialize for HeldDefinition {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (definition, definition_digest) = (self.for_once(), self.digest());
        Written { definition, definition_digest }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for HeldDefinition {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Written { definition, definition_digest } = Written::deserialize(from)?;
        Ok(Self { digest: definition_digest.into(), held: Held::Here(definition) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::testing::definition;

    /// Counts how often something is unpacked.
    #[derive(Debug, Default)]
    struct Counting(AtomicU32);

    impl Pack for Counting {
        fn definition(&self, place: u32) -> Definition {
            self.0.fetch_add(1, Ordering::Relaxed);
            Definition { max_pids: place, ..definition() }
        }
    }

    #[test]
    fn a_packed_definition_is_unpacked_once_and_is_the_same_as_one_that_is_here() {
        let pack = Arc::new(Counting::default());
        let here = HeldDefinition::from(Definition { max_pids: 3, ..definition() });
        let packed = HeldDefinition::packed(here.digest(), Arc::clone(&pack) as Arc<dyn Pack>, 3);
        assert_eq!(packed, here);
        assert!(packed.is_packed() && !here.is_packed());
        assert_eq!(pack.0.load(Ordering::Relaxed), 0, "nobody has looked at it");

        assert_eq!((packed.max_pids, packed.shared().max_pids), (3, 3));

        assert!(!packed.is_packed());
        assert_eq!(format!("{packed:?}"), format!("{here:?}"));
        let json = |held: &HeldDefinition| serde_json::to_string(held).unwrap();
        assert_eq!(json(&packed), json(&here));
        assert_eq!(pack.0.load(Ordering::Relaxed), 1);
    }
}
