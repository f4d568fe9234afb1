//! Backups of a sample log: taken while it grows, damaged in every way, restored.

use std::{
    fs,
    path::{Path, PathBuf},
};

use domain::{
    log::{Incarnation, Owner, Position},
    sealed::{Digest, PlainText, Sealed},
    units::Timestamp,
};
use uuid::Uuid;

use super::{
    BLOBS_FILE, Endpoint, Error, KEYS_FILE, LOG_FILE, MANIFEST_FILE, Manifest, Restored,
    restore::{self, Keys},
};
use crate::{
    checkpoint::CheckpointKey,
    event_store::{
        self, LogIdentity, chain,
        conformance::samples::{INCARNATION, fill},
        keys::{
            Forgotten, KeyLabel, Keyring, MasterKey, MasterKeySource, MasterKeys, SeededEntropy,
        },
    },
    storage::{Location, Storage},
    transfer::write::Origin,
    verify::{self, LogOptions},
};

const LATER: Incarnation = Incarnation(Uuid::from_u128(0xbac));

/// A database in a folder, and what it holds in secret.
struct Source {
    folder: tempfile::TempDir,
    storage: Storage,
    owners: Vec<(Owner, Sealed)>,
    evidence: Digest,
}

async fn opened(file: &Path, incarnation: Incarnation) -> Storage {
    Storage::open(
        &Location::Sqlite { file: file.to_owned() },
        incarnation,
        crate::testing::postgres::wall_clock(),
    )
    .await
    .unwrap()
}

async fn keyring(storage: &Storage, master: u8) -> Result<Keyring, event_store::keys::Error> {
    let entropy = Box::new(SeededEntropy::new(5));
    let keys = MasterKeys::only(KeyLabel::default(), MasterKey::from_bytes([master; 32]));
    Keyring::open(MasterKeySource::Given(keys), storage.keys.clone(), entropy).await
}

/// Eleven events, two owners with a secret each, a piece of evidence and a checkpoint.
async fn source() -> Source {
    let folder = tempfile::tempdir().unwrap();
    let storage = opened(&folder.path().join("diario.db"), INCARNATION).await;
    fill(storage.store.as_ref(), &[3, 1, 2, 5]).await;
    let keyring = keyring(&storage, 1).await.unwrap();
    let mut owners = Vec::new();
    for name in ["process/one", "process/two"] {
        let owner: Owner = name.parse().unwrap();
        let sealed = keyring.seal(&owner, &PlainText(format!("secret of {name}"))).await.unwrap();
        owners.push((owner, sealed));
    }
    let evidence = keyring.put_sealed_blob(&owners[0].0, b"what it wrote last").await.unwrap();
    let head = storage.store.head().await.unwrap();
    let log_id = storage.store.log_id().await.unwrap();
    let log = LogIdentity { log_id, incarnation: INCARNATION };
    let signed = CheckpointKey::from_bytes([7; 32]).checkpoint(log, &head, Timestamp(9));
    Endpoint::of(&storage).hot.save_checkpoint(&signed).await.unwrap();
    Source { folder, storage, owners, evidence }
}

impl Source {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn backed_up(&self, name: &str) -> Result<Manifest, Error> {
        let endpoint = Endpoint::of(&self.storage);
        let log_id = self.storage.store.log_id().await.unwrap();
        let origin = Origin {
            log_id,
            program_version: "0.0.0".to_owned(),
            created_at: Timestamp(5),
            floor: (Position(0), chain::GENESIS),
        };
        super::take(endpoint.as_source(), origin, &self.path(name), &|_| {}).await
    }

    async fn restored(
        &self,
        name: &str,
        keys: &Keys,
        forgotten: &[Forgotten],
    ) -> Result<(Storage, Restored), Error> {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let storage = opened(&folder.join("diario.db"), LATER).await;
        let endpoint = Endpoint::of(&storage);
        let into = endpoint.as_target(None);
        let restored = restore::restore(&self.path(name), keys, forgotten, into, &|_| {}).await;
        if restored.is_err() {
            assert_eq!(storage.store.head().await.unwrap().position, Position(0), "nothing came");
        }
        restored.map(|restored| (storage, restored))
    }
}

fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn a_backup_of_a_growing_log_is_restored_as_it_was() {
    let source = source().await;
    let writes = async { fill(source.storage.store.as_ref(), &[4; 20]).await };
    let (manifest, _) = tokio::join!(source.backed_up("backup"), writes);
    let manifest = manifest.unwrap();

    let (storage, restored) = source.restored("backup", &Keys::Beside, &[]).await.unwrap();

    assert!(manifest.position.0 >= 11, "{manifest:?}");
    let count = usize::try_from(manifest.position.0).unwrap();
    let start = Position(0);
    let rows = storage.store.read_rows(start, 999).await.unwrap();
    assert_eq!(rows, source.storage.store.read_rows(start, count).await.unwrap());
    assert_eq!(restored.head.incarnation, LATER);
    assert_eq!(restored.manifest.incarnation, INCARNATION);
    assert_eq!(storage.store.log_id().await.unwrap().0, INCARNATION.0, "the same log");
    let keyring = keyring(&storage, 1).await.unwrap();
    for (owner, sealed) in &source.owners {
        let clear = keyring.open_sealed(owner, sealed).await.unwrap();
        assert_eq!(clear.0, format!("secret of {owner}"));
    }
    assert!(keyring.get_blob(source.evidence).await.unwrap().is_some());
    let checkpoints = Endpoint::of(&storage).hot.checkpoints(start, 9).await.unwrap();
    let log_id = storage.store.log_id().await.unwrap();
    assert!(checkpoints.iter().all(|it| it.holds(LogIdentity { log_id, incarnation: LATER })));
    assert_eq!(checkpoints.len(), 1);
    // It goes on by itself.
    fill(storage.store.as_ref(), &[2]).await;
    assert_eq!(chain::verify(storage.store.as_ref()).await.unwrap(), None);
    assert!(self::keyring(&storage, 2).await.is_err(), "another master key is refused");
}

#[tokio::test]
async fn no_clear_secret_and_no_master_key_is_in_a_backup_and_its_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let source = source().await;
    source.backed_up("backup").await.unwrap();
    let master = [hex::encode([1; 32]).into_bytes(), vec![1; 32]];
    for entry in fs::read_dir(source.path("backup")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = fs::read(&path).unwrap();
        for canary in [b"secret of".to_vec(), b"what it wrote".to_vec()].iter().chain(&master) {
            assert!(!bytes.windows(canary.len()).any(|window| window == canary), "{path:?}");
        }
    }
    let mode = fs::metadata(source.path("backup")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn what_was_forgotten_since_stays_forgotten() {
    let source = source().await;
    source.backed_up("backup").await.unwrap();
    let (gone, sealed) = &source.owners[1];
    let key_ids = vec![sealed.key_id];
    let list = [Forgotten { owner: gone.clone(), key_ids, forgotten_at: Timestamp(1) }];

    let (storage, restored) = source.restored("backup", &Keys::Beside, &list).await.unwrap();

    let counts = (restored.data_keys, restored.keys_forgotten, restored.owners_forgotten);
    assert_eq!(counts, (1, 1, 1));
    let keyring = keyring(&storage, 1).await.unwrap();
    assert!(keyring.open_sealed(gone, sealed).await.is_err());
    let (kept, sealed) = &source.owners[0];
    assert!(keyring.open_sealed(kept, sealed).await.is_ok());
    assert_eq!(chain::verify(storage.store.as_ref()).await.unwrap(), None);
}

#[tokio::test]
async fn keys_can_be_kept_apart_and_given_up() {
    let source = source().await;
    source.backed_up("backup").await.unwrap();
    let apart = source.path("apart.ndjson");
    fs::rename(source.path("backup").join(KEYS_FILE), &apart).unwrap();

    let missing = source.restored("backup", &Keys::Beside, &[]).await.unwrap_err();
    assert!(text(&missing).contains("2 wrapped data keys are not beside it"), "{missing}");

    let keys = Keys::File(apart);
    let (_, restored) = source.restored("backup", &keys, &[]).await.unwrap();
    assert_eq!(restored.data_keys, 2);
    let (_, restored) = source.restored("backup", &Keys::GivenUp, &[]).await.unwrap();
    assert_eq!(restored.data_keys, 0);
}

/// Changes one file of a backup.
fn change(folder: &Path, file: &str, how: impl FnOnce(&mut Vec<u8>)) {
    let path = folder.join(file);
    let mut bytes = fs::read(&path).unwrap();
    how(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from), "{text}");
    *bytes = text.replace(from, to).into_bytes();
}

#[tokio::test]
async fn what_is_wrong_with_a_backup_is_named_and_nothing_is_restored() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &str); 12] = [
        ("no manifest", |it| fs::remove_file(it.join(MANIFEST_FILE)).unwrap(), "holds no backup"),
        ("no log", |it| fs::remove_file(it.join(LOG_FILE)).unwrap(), "log.diario is missing"),
        (
            "no evidence",
            |it| fs::remove_file(it.join(BLOBS_FILE)).unwrap(),
            "blobs.diario is missing",
        ),
        (
            "cut off",
            |it| change(it, LOG_FILE, |bytes| bytes.truncate(bytes.len() - 1)),
            "bytes instead of",
        ),
        (
            "a flipped bit",
            |it| change(it, LOG_FILE, |bytes| bytes[99] ^= 4),
            "log.diario was altered",
        ),
        (
            "evidence altered",
            |it| change(it, BLOBS_FILE, |bytes| bytes[50] ^= 1),
            "blobs.diario was altered",
        ),
        (
            "manifest cut off",
            |it| change(it, MANIFEST_FILE, |bytes| bytes.truncate(99)),
            "is malformed",
        ),
        (
            "newer form",
            |it| {
                change(it, MANIFEST_FILE, |bytes| {
                    replace(bytes, "\"formatVersion\": 1", "\"formatVersion\": 9")
                })
            },
            "newer than 1 known here: upgrade",
        ),
        (
            "another position",
            |it| {
                change(it, MANIFEST_FILE, |bytes| {
                    replace(bytes, "\"position\": 11", "\"position\": 12")
                })
            },
            "are of two backups",
        ),
        (
            "keys of another log",
            |it| change(it, KEYS_FILE, |bytes| replace(bytes, "0d1a", "0d1b")),
            "holds the keys of log",
        ),
        (
            "keys altered",
            |it| change(it, KEYS_FILE, |bytes| replace(bytes, "process/one", "process/two")),
            "line 4 of ",
        ),
        (
            "keys cut off",
            |it| change(it, KEYS_FILE, |bytes| bytes.truncate(bytes.len() / 2)),
            "copy the file again",
        ),
    ];
    let source = source().await;
    for (number, (what, damage, expected)) in cases.into_iter().enumerate() {
        let name = format!("backup-{number}");
        source.backed_up(&name).await.unwrap();
        let whole = verify::backup(&source.path(&name), &LogOptions::default(), &|_| {});
        let (_, report) = whole.unwrap();
        assert_eq!((report.fault, report.signed), (None, Position(11)), "{what}");
        damage(&source.path(&name));

        let found = verify::backup(&source.path(&name), &LogOptions::default(), &|_| {});
        assert!(found.is_err() || found.is_ok_and(|(_, it)| it.fault.is_some()), "{what}");
        let refused = source.restored(&name, &Keys::Beside, &[]).await.expect_err(what);

        let refused = text(&refused);
        assert!(refused.contains(expected), "{what}: {refused}");
    }
}

#[tokio::test]
async fn a_target_that_is_in_use_is_refused_and_so_is_a_taken_folder() {
    let source = source().await;
    source.backed_up("backup").await.unwrap();
    let taken = source.backed_up("backup").await.unwrap_err();
    assert!(matches!(taken, Error::FolderTaken { .. }), "{taken}");
    assert!(!source.path("backup.partial").exists());

    let endpoint = Endpoint::of(&source.storage);
    let (folder, keys) = (source.path("backup"), Keys::Beside);
    let refused = restore::restore(&folder, &keys, &[], endpoint.as_target(None), &|_| {}).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, Error::TargetNotEmpty { head: Position(11) }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_half_restored_is_refused_until_it_is_whole() {
    use crate::testing::postgres;
    let url = postgres::shared().fresh_database();
    let location = Location::Postgres { url: url.parse().unwrap() };
    let open = || Storage::open(&location, LATER, postgres::wall_clock());
    let storage = open().await.unwrap();
    let endpoint = Endpoint::of(&storage);
    let source = source().await;
    source.backed_up("backup").await.unwrap();

    // As a restore that was killed leaves it.
    endpoint.hot.begin_restore().await.unwrap();
    assert!(matches!(open().await, Err(event_store::Error::HalfRestored { .. })));
    let reading = Storage::open_to_read(&location, postgres::wall_clock()).await;
    assert!(matches!(reading, Err(event_store::Error::HalfRestored { .. })));
    let (folder, keys) = (source.path("backup"), Keys::Beside);
    let again = restore::restore(&folder, &keys, &[], endpoint.as_target(None), &|_| {}).await;
    assert!(again.is_err(), "nobody else restores into it");
    endpoint.hot.end_restore().await.unwrap();

    restore::restore(&folder, &keys, &[], endpoint.as_target(None), &|_| {}).await.unwrap();

    storage.close().await;
    let storage = open().await.unwrap();
    assert_eq!(storage.store.head().await.unwrap().position, Position(11));
    assert_eq!(chain::verify(storage.store.as_ref()).await.unwrap(), None);
}
