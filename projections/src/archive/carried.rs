//! The base state of a pruned log on its way from one archive to another, as it was signed: it
//! stands for events that are nowhere any more.

use domain::{
    log::{Position, Stamp},
    sealed::Digest,
};

use super::{
    Archive, BaseEntry, BaseState, Error, Manifest, Place,
    base::{self, object_of},
};
use crate::{
    checkpoint::PublicKey,
    event_store::{Floor, LogIdentity},
};

/// A base state with the bytes that were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedBase {
    state: BaseState,
    packed: Vec<u8>,
}

impl CarriedBase {
    /// Reads a base state of a log, and checks its signature. `name` is told in errors.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(name: &str, log: LogIdentity, packed: Vec<u8>) -> Result<Self, Error> {
        Ok(Self { state: base::decode(name, log.log_id, &packed)?, packed })
    }

    /// The bytes as they were signed.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Where the log begins behind it.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.state.stamp
    }

    /// The last position that it stands for, and the link there.
    #[must_use]
    pub fn end(&self) -> (Position, [u8; 32]) {
        (self.state.stamp.position, self.state.link)
    }

    /// Who signed it.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.state.key
    }

    /// The floor of a database whose log begins behind it.
    #[must_use]
    pub fn floor(&self, archive: &Place) -> Floor {
        let Stamp { position, recorded_at } = self.state.stamp;
        Floor { position, recorded_at, link: self.state.link, archive: archive.to_string() }
    }
}

impl Archive {
    /// The base state that it begins with, where older segments were pruned.
    ///
    /// # Errors
    /// What is wrong with it, or with the place.
    pub async fn carried_base(&self, log: LogIdentity) -> Result<Option<CarriedBase>, Error> {
        let manifest = self.manifest();
        let Some(entry) = &manifest.base else { return Ok(None) };
        let packed = self.place().get_whole(&entry.object).await?;
        if Digest::of(&packed) != entry.sha256 {
            return Err(Error::damaged(&entry.object, "its digest does not fit"));
        }
        CarriedBase::read(&entry.object, log, packed).map(Some)
    }
}

/// Begins an archive that holds a base state and no event. One that was begun with the same is
/// left as it is.
///
/// # Errors
/// [`Error::Taken`] when another archive is there, or what the place said.
pub async fn begin_with(place: &Place, log: LogIdentity, base: &CarriedBase) -> Result<(), Error> {
    let Stamp { position, recorded_at } = base.stamp();
    let (link, sha256) = (Digest(base.state.link), Digest::of(&base.packed));
    let object = object_of(position, &sha256);
    let entry = BaseEntry { object: object.clone(), position, recorded_at, link, sha256 };
    let mut manifest = Manifest::new(log);
    manifest.base = Some(entry);
    match Manifest::read(place).await? {
        Some(found) if found == manifest => return Ok(()),
        Some(_) => return Err(Error::Taken { location: place.to_string() }),
        None => {}
    }
    place.put(&object, base.packed.clone()).await?;
    if place.get_whole(&object).await? != base.packed {
        return Err(Error::ReadBack { object });
    }
    manifest.replace(place, &Manifest::new(log)).await
}
