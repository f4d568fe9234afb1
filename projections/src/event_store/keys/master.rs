//! The master key: 32 bytes in a file of mode 0600, which wraps every data key.
//!
//! It is never in the database, and making a new one is an act of its own: a start that lost the
//! file must not go on under another key unseen.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use domain::log::Owner;
use uuid::Uuid;

use super::{
    Entropy, Error, StoredKey,
    cipher::{self, DataKey},
};

/// The key that wraps the data keys.
pub struct MasterKey([u8; 32]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(<hidden>)")
    }
}

impl MasterKey {
    /// A key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads the key file, or makes it when it is missing; its folder must exist.
    ///
    /// # Errors
    /// [`Error::ExposedMasterKey`], [`Error::MalformedMasterKey`], [`Error::MasterKeyFile`],
    /// [`Error::Entropy`].
    pub fn create_or_open(path: &Path, entropy: &dyn Entropy) -> Result<Self, Error> {
        match Self::open(path) {
            Err(Error::MasterKeyFile { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                let mut bytes = [0; 32];
                entropy.fill(&mut bytes)?;
                create(path, &bytes)
                    .map_err(|source| Error::MasterKeyFile { path: path.to_owned(), source })?;
                Ok(Self(bytes))
            }
            result => result,
        }
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// As [`MasterKey::create_or_open`]; a missing file is [`Error::MasterKeyFile`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::MasterKeyFile { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::ExposedMasterKey { path: path.to_owned(), mode });
        }
        let mut text = Vec::new();
        file.take(1024).read_to_end(&mut text).map_err(failed)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim_ascii(), &mut bytes)
            .map_err(|_| Error::MalformedMasterKey { path: path.to_owned() })?;
        Ok(Self(bytes))
    }

    /// Makes a data key of random material: 16 bytes of id, 12 of nonce, 32 of key.
    pub(super) fn wrap(&self, owner: &Owner, material: &[u8; 60]) -> Result<StoredKey, Error> {
        let (id, rest) = material.split_first_chunk::<16>().ok_or(Error::CannotSeal)?;
        let (nonce, key) = rest.split_first_chunk::<12>().ok_or(Error::CannotSeal)?;
        let key_id = uuid::Builder::from_random_bytes(*id).into_uuid();
        let mut wrapped = nonce.to_vec();
        wrapped.extend(cipher::encrypt(&self.0, *nonce, key, &cipher::bound_to(owner, key_id))?);
        Ok(StoredKey { owner: owner.clone(), key_id, wrapped })
    }

    pub(super) fn unwrap(&self, stored: &StoredKey) -> Result<DataKey, Error> {
        let key_id: Uuid = stored.key_id;
        let open = || {
            let (nonce, wrapped) = stored.wrapped.split_first_chunk::<12>()?;
            let bound_to = cipher::bound_to(&stored.owner, key_id);
            let clear = cipher::decrypt(&self.0, *nonce, wrapped, &bound_to)?;
            clear.as_slice().try_into().ok().map(|bytes| DataKey::new(key_id, bytes))
        };
        open().ok_or(Error::WrongMasterKey)
    }
}

/// Written beside and renamed, so that a crash never leaves half a key.
fn create(path: &Path, bytes: &[u8; 32]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    // A file left by an earlier try keeps its own mode.
    file.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(file, "{}", hex::encode(bytes))?;
    file.sync_all()?;
    // A hard link fails when the name is taken: of two starts at once one key wins.
    std::fs::hard_link(&beside, path)?;
    std::fs::remove_file(&beside)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}
