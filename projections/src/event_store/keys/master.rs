//! The master keys: each 32 bytes under a label; one is active and wraps new data keys, the others
//! only open what they have wrapped.
//!
//! They are never in the database, never printed, and overwritten in memory when dropped. Making
//! a new one is an act of its own: a start that lost them must not go on under another key unseen.

use std::{fmt, str::FromStr};

use domain::log::Owner;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Entropy, Error, StoredKey,
    cipher::{self, DataKey},
};

/// The most bytes of a label.
const LABEL_BYTES_MAX: usize = 64;
/// How many master keys there may be.
const KEYS_MAX: usize = 100;

/// The name of a master key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyLabel(String);

/// A text that is no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a label must have 1 to {LABEL_BYTES_MAX} letters, digits, '-', '_' and '.'")]
pub struct InvalidLabel;

impl KeyLabel {
    /// Checks a text from outside.
    ///
    /// # Errors
    /// [`InvalidLabel`].
    pub fn new(text: &str) -> Result<Self, InvalidLabel> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        // 64 hex digits could be a key in the label's place, and labels are shown.
        let is_key = text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
        let fits = (1..=LABEL_BYTES_MAX).contains(&text.len());
        if fits && !is_key && text.chars().all(is_allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidLabel)
        }
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for KeyLabel {
    /// `default`: of the first key, and of a file that holds nothing but a key.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for KeyLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyLabel {
    type Err = InvalidLabel;
    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        Self::new(text)
    }
}

impl TryFrom<String> for KeyLabel {
    type Error = InvalidLabel;
    fn try_from(text: String) -> Result<Self, InvalidLabel> {
        Self::new(&text)
    }
}

impl From<KeyLabel> for String {
    fn from(label: KeyLabel) -> Self {
        label.0
    }
}

/// A key that wraps data keys.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(<hidden>)")
    }
}

impl MasterKey {
    /// A key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Draws a new key.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn draw(entropy: &dyn Entropy) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// Reads 64 hex digits; `None` when it is something else.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), bytes.as_mut_slice()).ok()?;
        Some(Self(bytes))
    }

    /// Its 64 hex digits, for the key file alone.
    pub(super) fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }

    fn wrap(
        &self,
        owner: &Owner,
        key_id: Uuid,
        data_key: &[u8; 32],
        nonce: [u8; 12],
    ) -> Result<Vec<u8>, Error> {
        let bound_to = cipher::bound_to(owner, key_id);
        let mut wrapped = nonce.to_vec();
        wrapped.extend(cipher::encrypt(&self.0, nonce, data_key, &bound_to)?);
        Ok(wrapped)
    }

    fn unwrap(&self, stored: &StoredKey) -> Option<Zeroizing<[u8; 32]>> {
        let (nonce, wrapped) = stored.wrapped.split_first_chunk::<12>()?;
        let bound_to = cipher::bound_to(&stored.owner, stored.key_id);
        let clear = cipher::decrypt(&self.0, *nonce, wrapped, &bound_to)?;
        clear.as_slice().try_into().ok().map(Zeroizing::new)
    }
}

/// All master keys of a control plane, one of them active.
#[derive(Debug, Clone)]
pub struct MasterKeys {
    /// The first is active; labels are distinct.
    keys: Vec<(KeyLabel, MasterKey)>,
}

impl MasterKeys {
    /// One key, which is active.
    #[must_use]
    pub fn only(label: KeyLabel, key: MasterKey) -> Self {
        Self { keys: vec![(label, key)] }
    }

    /// Adds a key that is not active.
    ///
    /// # Errors
    /// [`Error::LabelTaken`], or [`Error::TooManyMasterKeys`].
    pub fn add(&mut self, label: KeyLabel, key: MasterKey) -> Result<(), Error> {
        if self.key(&label).is_some() {
            return Err(Error::LabelTaken { label });
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(Error::TooManyMasterKeys { max: KEYS_MAX });
        }
        self.keys.push((label, key));
        Ok(())
    }

    /// Makes another key the active one.
    ///
    /// # Errors
    /// [`Error::NoSuchLabel`].
    pub fn activate(&mut self, label: &KeyLabel) -> Result<(), Error> {
        let found = self.keys.iter().position(|(known, _)| known == label);
        let index = found.ok_or_else(|| Error::NoSuchLabel { label: label.clone() })?;
        self.keys[..=index].rotate_right(1);
        Ok(())
    }

    /// Takes a key out. Whether a data key still needs it is for the caller to know.
    ///
    /// # Errors
    /// [`Error::NoSuchLabel`], or [`Error::ActiveLabel`].
    pub fn remove(&mut self, label: &KeyLabel) -> Result<(), Error> {
        if self.key(label).is_none() {
            return Err(Error::NoSuchLabel { label: label.clone() });
        }
        if self.active() == label {
            return Err(Error::ActiveLabel { label: label.clone() });
        }
        self.keys.retain(|(known, _)| known != label);
        Ok(())
    }

    /// The label of the key that wraps new data keys.
    #[must_use]
    pub fn active(&self) -> &KeyLabel {
        &self.first().0
    }

    /// All labels, the active one first.
    pub fn labels(&self) -> impl Iterator<Item = &KeyLabel> {
        self.keys.iter().map(|(label, _)| label)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(KeyLabel, MasterKey)> {
        self.keys.iter()
    }

    fn first(&self) -> &(KeyLabel, MasterKey) {
        self.keys.first().unwrap_or_else(|| unreachable!("there is always an active key"))
    }

    fn key(&self, label: &KeyLabel) -> Option<&MasterKey> {
        self.keys.iter().find(|(known, _)| known == label).map(|(_, key)| key)
    }

    /// Makes a data key of random material, 16 bytes of id and 32 of key, under the active key.
    pub(super) fn new_data_key(
        &self,
        owner: &Owner,
        material: &[u8; 48],
        nonce: [u8; 12],
    ) -> Result<StoredKey, Error> {
        let (id, key) = material.split_first_chunk::<16>().ok_or(Error::CannotSeal)?;
        let key: &[u8; 32] = key.try_into().map_err(|_| Error::CannotSeal)?;
        let key_id = uuid::Builder::from_random_bytes(*id).into_uuid();
        let (label, master) = self.first();
        let wrapped = master.wrap(owner, key_id, key, nonce)?;
        Ok(StoredKey { owner: owner.clone(), key_id, label: label.clone(), wrapped })
    }

    /// The same data key under the active master key.
    pub(super) fn rewrap(&self, stored: &StoredKey, nonce: [u8; 12]) -> Result<StoredKey, Error> {
        let key = self.unwrap_bytes(stored)?;
        let (label, master) = self.first();
        let wrapped = master.wrap(&stored.owner, stored.key_id, &key, nonce)?;
        Ok(StoredKey { label: label.clone(), wrapped, ..stored.clone() })
    }

    pub(super) fn unwrap(&self, stored: &StoredKey) -> Result<DataKey, Error> {
        Ok(DataKey::new(stored.key_id, &*self.unwrap_bytes(stored)?))
    }

    fn unwrap_bytes(&self, stored: &StoredKey) -> Result<Zeroizing<[u8; 32]>, Error> {
        let label = &stored.label;
        let master = self.key(label).ok_or_else(|| Error::MissingLabel { label: label.clone() })?;
        master.unwrap(stored).ok_or_else(|| Error::WrongMasterKey { label: label.clone() })
    }
}
