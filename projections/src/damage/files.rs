//! A flipped bit anywhere in an export, a backup or a file of keys: it is refused, or what comes of
//! it is what was written.

use std::{
    fs,
    path::{Path, PathBuf},
};

use domain::{
    log::{Incarnation, Owner, Position},
    sealed::PlainText,
    units::Timestamp,
};
use uuid::Uuid;

use super::{Bit, dice, share, tell};
use crate::{
    backup::{self, Endpoint, restore::Keys},
    checkpoint::{CheckpointKey, KEY_FILE},
    event_store::{
        EventStore, LogId, LogIdentity,
        chain::GENESIS,
        conformance::samples::{INCARNATION, START, fill},
        keys::{Keyring, MasterKeySource, SeededEntropy},
        memory::{MemoryLog, MemoryStore},
    },
    storage::{Location, Storage},
    testing::postgres::wall_clock,
    transfer::{self, Format, Range, write::Origin},
};

const FLIPS: usize = 4_000;
const RESTORES: usize = 1_000;
const LATER: Incarnation = Incarnation(Uuid::from_u128(0xbac));

fn origin() -> Origin {
    Origin {
        log_id: LogId(INCARNATION.0),
        program_version: "0.0.0".to_owned(),
        created_at: Timestamp(5),
        floor: (Position(0), GENESIS),
    }
}

fn empty() -> MemoryStore {
    MemoryStore::new(MemoryLog::new(INCARNATION))
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_an_export_is_refused_or_harmless() {
    let (mut dice, seed) = dice(4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export");
    let store = empty();
    fill(&store, &[3, 1, 2, 1, 9, 4]).await;
    let rows = store.read_rows(START, 99).await.unwrap();
    for format in [Format::Ndjson, Format::Compact] {
        let mut whole = Vec::new();
        let (all, into) = (Range { from: None, to: None }, (path.as_path(), &mut whole));
        transfer::export(&store, origin(), all, format, into, &|_| {}).await.unwrap();
        let mut harmless = 0;
        for _ in 0..share(FLIPS) {
            let flip = Bit::any(&mut dice, whole.len());
            let mut bytes = whole.clone();
            flip.flip(&mut bytes);
            fs::write(&path, &bytes).unwrap();
            let target = empty();

            let taken = transfer::import(&path, &target, &target, &|_| {}).await;

            let found = target.read_rows(START, 99).await.unwrap();
            match taken {
                Ok(_) => harmless += 1,
                Err(_) if found.is_empty() => continue,
                Err(failure) => panic!("seed {seed}, {flip:?}: refused half way: {failure}"),
            }
            assert!(found == rows, "seed {seed}, {flip:?}: another log came of it");
        }
        let flips = share(FLIPS);
        tell(&format!("An export ({format:?}): {flips} flips, {harmless} harmless, seed {seed}"));
    }
}

async fn opened(file: PathBuf, incarnation: Incarnation) -> Storage {
    Storage::open(&Location::Sqlite { file }, incarnation, wall_clock()).await.unwrap()
}

async fn keyring(folder: &Path, storage: &Storage) -> Result<Keyring, String> {
    let source = MasterKeySource::File(folder.join("master.key"));
    let entropy = Box::new(SeededEntropy::new(5));
    Keyring::open(source, storage.keys.clone(), entropy).await.map_err(|it| it.to_string())
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_backup_is_refused_or_harmless() {
    let (mut dice, seed) = dice(5);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let storage = opened(path("diario.db"), INCARNATION).await;
    fill(storage.store.as_ref(), &[3, 1, 2, 5]).await;
    let owner: Owner = "process/one".parse().unwrap();
    let keys = keyring(folder.path(), &storage).await.unwrap();
    let sealed = keys.seal(&owner, &PlainText("a secret".to_owned())).await.unwrap();
    let evidence = keys.put_sealed_blob(&owner, b"what it wrote last").await.unwrap();
    let identity = storage.tables.identity().await.unwrap();
    let head = storage.store.head().await.unwrap();
    let signed = CheckpointKey::from_bytes([7; 32]).checkpoint(identity, &head, Timestamp(9));
    storage.tables.save_checkpoint(&signed).await.unwrap();
    let rows = storage.store.read_rows(START, 99).await.unwrap();
    let from = Endpoint::of(&storage);
    backup::take(from.as_source(), origin(), &path("backup"), &|_| {}).await.unwrap();
    let files: Vec<PathBuf> =
        fs::read_dir(path("backup")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 5);
    let mut harmless = 0;

    for number in 0..share(RESTORES) {
        let file = &files[number % files.len()];
        let whole = fs::read(file).unwrap();
        let flip = Bit::any(&mut dice, whole.len());
        let mut bytes = whole.clone();
        flip.flip(&mut bytes);
        fs::write(file, &bytes).unwrap();
        let target = tempfile::tempdir_in(folder.path()).unwrap();
        let restored = opened(target.path().join("diario.db"), LATER).await;

        let into = Endpoint::of(&restored);
        let done =
            backup::restore(&path("backup"), &Keys::Beside, &[], into.as_target(None), &|_| {})
                .await;

        let said = format!("seed {seed}, {flip:?} of {}", file.display());
        let found = restored.store.read_rows(START, 99).await.unwrap();
        if done.is_ok() {
            harmless += 1;
            assert!(found == rows, "{said}: another log came of it");
            let kept = restored.tables.checkpoints(START, 9).await.unwrap();
            assert!(kept == [signed.clone()], "{said}: other checkpoints came of it");
            let keys = keyring(folder.path(), &restored).await.unwrap();
            let opened = keys.open_sealed(&owner, &sealed).await.expect(&said);
            assert_eq!(opened.0, "a secret", "{said}");
            assert!(keys.get_blob(evidence).await.expect(&said).is_some(), "{said}");
        } else {
            assert!(found.is_empty(), "{said}: a log was left of it");
        }
        restored.close().await;
        fs::write(file, &whole).unwrap();
    }
    let flips = share(RESTORES);
    tell(&format!("A backup: {flips} flipped bits, {harmless} harmless, seed {seed}"));
}

/// Every bit of both files of keys, in every run: they are short.
#[tokio::test]
async fn a_flipped_bit_in_a_file_of_keys_is_refused_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let storage = opened(folder.path().join("diario.db"), INCARNATION).await;
    let owner: Owner = "process/one".parse().unwrap();
    let keys = keyring(folder.path(), &storage).await.unwrap();
    let sealed = keys.seal(&owner, &PlainText("a secret".to_owned())).await.unwrap();
    let (master, signing) = (folder.path().join("master.key"), folder.path().join(KEY_FILE));
    let key = CheckpointKey::create_or_open(&signing, &SeededEntropy::new(6)).unwrap();
    let log = LogIdentity { log_id: LogId(INCARNATION.0), incarnation: INCARNATION };
    let head = storage.store.head().await.unwrap();
    let last = crate::checkpoint::last::LastFile::in_folder(folder.path());
    last.write(log.log_id, &key.checkpoint(log, &head, Timestamp(9))).unwrap();

    let whole = fs::read(&master).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&master, &bytes).unwrap();
        if let Ok(keys) = keyring(folder.path(), &storage).await {
            let opened = keys.open_sealed(&owner, &sealed).await;
            assert_eq!(opened.expect("a secret").0, "a secret", "bit {bit}");
        }
    }
    let whole = fs::read(&signing).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&signing, &bytes).unwrap();
        if let Ok(flipped) = CheckpointKey::open(&signing) {
            let is_same = flipped.public_key() == key.public_key();
            let is_taken = last.check_key(flipped.public_key(), &signing).is_ok();
            assert_eq!(is_same, is_taken, "bit {bit}: another key must be noticed");
        }
    }
}
