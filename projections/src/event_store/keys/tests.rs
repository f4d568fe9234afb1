//! Keys: what is refused first, then what is kept, moved and forgotten.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path};

use domain::{id::ProcessGuid, log::Incarnation, units::Timestamp};

use super::*;
use crate::{event_store::sqlite::Database, testing::postgres};

fn owner(guid: &str) -> Owner {
    Owner::Process(ProcessGuid::new(guid).unwrap())
}

fn secret(text: &str) -> PlainText {
    PlainText(text.to_owned())
}

fn label(text: &str) -> KeyLabel {
    KeyLabel::new(text).unwrap()
}

fn key(byte: u8) -> MasterKey {
    MasterKey::from_bytes([byte; 32])
}

async fn behaves(keyring: &Keyring) {
    let (ours, theirs) = (owner("ours"), owner("theirs"));
    let sealed = keyring.seal(&ours, &secret("hunter2")).await.unwrap();
    let again = keyring.seal(&ours, &secret("hunter2")).await.unwrap();
    let other = keyring.seal(&ours, &secret("hunter3")).await.unwrap();
    let foreign = keyring.seal(&theirs, &secret("hunter2")).await.unwrap();

    assert_ne!(sealed.ciphertext, again.ciphertext);
    assert_eq!(sealed.fingerprint, again.fingerprint);
    assert_ne!(sealed.fingerprint, other.fingerprint);
    assert_ne!(sealed.fingerprint, foreign.fingerprint);
    assert_eq!(keyring.open_sealed(&ours, &sealed).await.unwrap(), secret("hunter2"));

    let mut altered = sealed.clone();
    altered.ciphertext[0] ^= 1;
    assert!(matches!(keyring.open_sealed(&ours, &altered).await, Err(Error::CannotOpen)));
    assert!(matches!(keyring.open_sealed(&theirs, &sealed).await, Err(Error::CannotOpen)));
    let mut unknown = sealed;
    unknown.key_id = Uuid::from_u128(1);
    assert!(matches!(keyring.open_sealed(&ours, &unknown).await, Err(Error::UnknownKey(_))));

    let evidence = b"panic: \xff last line".to_vec();
    let digest = keyring.put_sealed_blob(&ours, &evidence).await.unwrap();
    assert_eq!(keyring.get_blob(digest).await.unwrap(), Some(evidence));
    assert_eq!(keyring.get_blob(Digest::of(b"nothing")).await.unwrap(), None);
    let too_large = vec![0; BLOB_BYTES_MAX + 1];
    let refused = keyring.put_sealed_blob(&ours, &too_large).await;
    assert!(matches!(refused, Err(Error::BlobTooLarge(_))));
}

/// Forgets `ours` of [`behaves`]; all else stays.
async fn forgets(keyring: &Keyring) {
    let (ours, theirs) = (owner("ours"), owner("theirs"));
    let sealed = keyring.seal(&ours, &secret("hunter2")).await.unwrap();
    let kept = keyring.seal(&theirs, &secret("kept")).await.unwrap();
    let digest = keyring.put_sealed_blob(&ours, b"evidence").await.unwrap();
    let key_ids = keyring.key_ids(&ours).await.unwrap();
    assert_eq!(key_ids, [sealed.key_id]);
    let forgotten_at = Timestamp(1_700_000_000_000_000_000);
    let forgotten = Forgotten { owner: ours.clone(), key_ids, forgotten_at };

    for _ in 0..2 {
        assert!(keyring.forget(vec![forgotten.clone()]).await.unwrap(), "traces are erased");
    }

    let refused = keyring.open_sealed(&ours, &sealed).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the secrets of process/ours were forgotten at 2023-11-14T22:13:20.000Z"
    );
    assert!(matches!(keyring.get_blob(digest).await, Err(Error::Forgotten { .. })));
    assert_eq!(keyring.open_sealed(&theirs, &kept).await.unwrap(), secret("kept"));
    let later = keyring.seal(&ours, &secret("hunter2")).await.unwrap();
    assert_ne!(later.key_id, sealed.key_id);
    assert_ne!(later.fingerprint, sealed.fingerprint);
    assert_eq!(keyring.open_sealed(&ours, &later).await.unwrap(), secret("hunter2"));
    assert_eq!(keyring.store().forgotten().await.unwrap(), std::slice::from_ref(&forgotten));
    // As after a restore: the later key stays.
    keyring.store().reapply_forgotten(vec![forgotten]).await.unwrap();
    assert_eq!(keyring.key_ids(&ours).await.unwrap(), [later.key_id]);
}

/// Moves all to another master key in small steps, with one data key forgotten in between.
async fn rotates(keyring: &Keyring, from: &str, to: &str) {
    let mut sealed = Vec::new();
    for index in 0..1200 {
        let owner = owner(&format!("rotated-{index}"));
        let secret = keyring.seal(&owner, &secret("turning")).await.unwrap();
        sealed.push((owner, secret));
    }
    let before: u64 = counts(keyring).await.iter().map(|(_, keys)| keys).sum();
    assert_eq!(counts(keyring).await, [(label(from), before)]);
    assert!(matches!(keyring.activate(&label("nowhere")), Err(Error::NoSuchLabel { .. })));

    keyring.activate(&label(to)).unwrap();
    let first = keyring.rotate(1).await.unwrap();
    assert_eq!((first.rewrapped, first.remaining), (500, before - 500));
    let (gone, secret_gone) = sealed.pop().unwrap();
    let key_ids = vec![secret_gone.key_id];
    let forgotten = Forgotten { owner: gone, key_ids, forgotten_at: Timestamp(1) };
    keyring.forget(vec![forgotten]).await.unwrap();
    let last = keyring.rotate(100).await.unwrap();
    assert_eq!((last.label, last.remaining), (label(to), 0));
    assert_eq!(counts(keyring).await, [(label(to), before - 1)]);
    for (owner, secret) in &sealed {
        assert_eq!(keyring.open_sealed(owner, secret).await.unwrap().0, "turning");
    }
    assert_eq!(keyring.rotate(1).await.unwrap().rewrapped, 0);
}

async fn counts(keyring: &Keyring) -> Vec<(KeyLabel, u64)> {
    let labels = keyring.store().labels().await.unwrap();
    labels.into_iter().map(|it| (it.label, it.data_keys)).collect()
}

#[tokio::test]
async fn keys_in_memory_seal_open_and_forget() {
    let keyring = Keyring::in_memory(1);
    behaves(&keyring).await;
    forgets(&keyring).await;
    let refused = keyring.activate(&label("other"));
    assert!(matches!(refused, Err(Error::NoSuchLabel { .. })), "{refused:?}");
}

struct Stored {
    folder: tempfile::TempDir,
    database: Database,
}

impl Stored {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).await;
        Self { folder, database }
    }

    fn file(&self) -> MasterKeySource {
        MasterKeySource::File(self.folder.path().join("master.key"))
    }

    async fn open(&self, source: MasterKeySource) -> Result<Keyring, Error> {
        let store = Arc::new(SqliteKeyStore::new(self.database.clone()));
        Keyring::open(source, store, Box::new(OsEntropy)).await
    }

    async fn reopen(&mut self) {
        self.database.close().await;
        self.database = open_database(self.folder.path()).await;
    }

    /// Whether the bytes are in any file of the database.
    fn holds(&self, bytes: &[u8]) -> bool {
        std::fs::read_dir(self.folder.path()).unwrap().any(|entry| {
            let content = std::fs::read(entry.unwrap().path()).unwrap();
            content.windows(bytes.len()).any(|window| window == bytes)
        })
    }
}

async fn open_database(folder: &Path) -> Database {
    let incarnation = Incarnation(Uuid::from_u128(1));
    Database::open(&folder.join("diario.db"), incarnation).await.unwrap()
}

#[tokio::test]
async fn stored_keys_outlive_the_process_and_refuse_another_master_key() {
    let mut stored = Stored::new().await;
    let keyring = stored.open(stored.file()).await.unwrap();
    behaves(&keyring).await;
    forgets(&keyring).await;
    let sealed = keyring.seal(&owner("a"), &secret("s")).await.unwrap();
    let digest = keyring.put_sealed_blob(&owner("a"), b"evidence").await.unwrap();
    stored.reopen().await;

    let wrong = MasterKeySource::Given(MasterKeys::only(KeyLabel::default(), key(7)));
    assert!(matches!(stored.open(wrong).await, Err(Error::WrongMasterKey { .. })));
    let other = MasterKeySource::Given(MasterKeys::only(label("other"), key(7)));
    let refused = stored.open(other).await.unwrap_err();
    assert!(refused.to_string().contains("master key default, which is not there"), "{refused}");
    let lost = MasterKeySource::File(stored.folder.path().join("lost.key"));
    let refused = stored.open(lost).await.unwrap_err();
    assert!(matches!(refused, Error::LostMasterKeys { .. }), "{refused}");
    assert!(!stored.folder.path().join("lost.key").exists());

    let keyring = stored.open(stored.file()).await.unwrap();
    assert_eq!(keyring.open_sealed(&owner("a"), &sealed).await.unwrap(), secret("s"));
    assert_eq!(keyring.get_blob(digest).await.unwrap(), Some(b"evidence".to_vec()));
    sqlx::query("UPDATE blobs SET bytes = x'00' WHERE digest = ?")
        .bind(digest.0.to_vec())
        .execute(&mut tampering(&stored.folder.path().join("diario.db")).await)
        .await
        .unwrap();
    assert!(matches!(keyring.get_blob(digest).await, Err(Error::BlobAltered(_))));
}

async fn tampering(path: &Path) -> sqlx::SqliteConnection {
    use sqlx::ConnectOptions as _;
    sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

#[tokio::test]
async fn a_forgotten_or_rewrapped_key_leaves_no_bytes_in_the_database() {
    let mut stored = Stored::new().await;
    let keyring = stored.open(stored.file()).await.unwrap();
    let owners: Vec<Owner> = (0..400).map(|index| owner(&format!("o-{index}"))).collect();
    for owner in &owners {
        keyring.seal(owner, &secret("s")).await.unwrap();
    }
    let store = Arc::clone(keyring.store());
    let mut wrapped = Vec::new();
    let mut forgotten = Vec::new();
    for owner in &owners {
        let key = store.newest_key(owner).await.unwrap().unwrap();
        let key_ids = vec![key.key_id];
        forgotten.push(Forgotten { owner: owner.clone(), key_ids, forgotten_at: Timestamp(1) });
        wrapped.push(key.wrapped);
    }
    assert!(wrapped.iter().all(|bytes| stored.holds(bytes)));
    // One half is put under another key first: what it was under must be gone as well.
    let mut keys = stored.file().read().unwrap();
    keys.add(label("next"), key(9)).unwrap();
    stored.file().write(&keys).unwrap();
    keyring.activate(&label("next")).unwrap();
    keyring.rotate(10).await.unwrap();
    assert!(store.erase_traces().await.unwrap());
    let left = wrapped.iter().filter(|bytes| stored.holds(bytes)).count();
    assert_eq!(left, 0, "of rewrapped keys");
    let mut rewrapped = Vec::new();
    for owner in &owners {
        rewrapped.push(store.newest_key(owner).await.unwrap().unwrap().wrapped);
    }

    assert!(keyring.forget(forgotten).await.unwrap());
    let left = rewrapped.iter().filter(|bytes| stored.holds(bytes)).count();
    assert_eq!(left, 0, "of forgotten keys, while the database is open");
    stored.reopen().await;
    assert!(rewrapped.iter().all(|bytes| !stored.holds(bytes)));
}

#[tokio::test]
async fn traces_are_erased_later_when_a_reader_is_in_the_way() {
    let stored = Stored::new().await;
    let keyring = stored.open(stored.file()).await.unwrap();
    let mut reader = tampering(&stored.folder.path().join("diario.db")).await;
    for statement in ["BEGIN", "SELECT count(*) FROM data_keys"] {
        sqlx::query(statement).execute(&mut reader).await.unwrap();
    }
    keyring.seal(&owner("a"), &secret("s")).await.unwrap();
    assert!(!keyring.store().erase_traces().await.unwrap());

    sqlx::query("COMMIT").execute(&mut reader).await.unwrap();
    assert!(keyring.store().erase_traces().await.unwrap());
    keyring.seal(&owner("b"), &secret("s")).await.unwrap();
}

#[tokio::test]
async fn data_keys_move_to_another_master_key_in_batches() {
    let stored = Stored::new().await;
    let keyring = stored.open(stored.file()).await.unwrap();
    let mut keys = stored.file().read().unwrap();
    keys.add(label("next"), key(9)).unwrap();
    stored.file().write(&keys).unwrap();

    rotates(&keyring, "default", "next").await;

    // An operator changes the file; a node that runs on takes it up before it makes a data key.
    let mut keys = stored.file().read().unwrap();
    assert!(matches!(keys.remove(&label("next")), Err(Error::ActiveLabel { .. })));
    keys.remove(&label("default")).unwrap();
    keys.add(label("third"), key(10)).unwrap();
    keys.activate(&label("third")).unwrap();
    stored.file().write(&keys).unwrap();
    keyring.seal(&owner("new"), &secret("s")).await.unwrap();
    assert!(counts(&keyring).await.contains(&(label("third"), 1)));
}

#[tokio::test]
async fn keys_in_postgres_are_kept_moved_and_forgotten_and_of_two_nodes_one_makes_the_first() {
    let url = postgres::shared().fresh_database();
    let folder = tempfile::tempdir().unwrap();
    let source = MasterKeySource::File(folder.path().join("master.key"));
    let open = async |source: &MasterKeySource| {
        let store = Arc::new(PostgresKeyStore::new(postgres::open(&url).await));
        Keyring::open(source.clone(), store, Box::new(OsEntropy)).await
    };
    let one = open(&source).await.unwrap();
    let other = open(&source).await.unwrap();
    behaves(&one).await;
    forgets(&one).await;
    for number in 0..8 {
        let owner = owner(&format!("both-{number}"));
        let secret = secret("s");
        let (ours, theirs) = tokio::join!(one.seal(&owner, &secret), other.seal(&owner, &secret));
        assert_eq!(ours.unwrap().key_id, theirs.unwrap().key_id);
    }
    source.change(|keys| keys.add(label("next"), key(9))).unwrap();
    rotates(&one, "default", "next").await;
    let opened = other.seal(&owner("rotated-0"), &secret("s")).await.unwrap();
    assert_eq!(one.open_sealed(&owner("rotated-0"), &opened).await.unwrap(), secret("s"));
    let wrong = MasterKeySource::Given(MasterKeys::only(label("next"), key(7)));
    assert!(matches!(open(&wrong).await, Err(Error::WrongMasterKey { .. })));
}

#[test]
fn a_file_of_master_keys_is_refused_when_exposed_or_malformed_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    let source = MasterKeySource::File(path.clone());
    assert!(source.read().unwrap_err().is_missing_file());

    source.create_or_read(&OsEntropy).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(source.create_or_read(&OsEntropy), Err(Error::MasterKeyFile(_))));
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();

    let (one, two) = ("ab".repeat(32), "cd".repeat(32));
    let refused = [
        "00ff".to_owned(),
        String::new(),
        "# nothing".to_owned(),
        format!("{one}{one}"),
        format!("a = {one}\nb = {two}"),
        format!("* a = {one}\n* b = {two}"),
        format!("* a = {one}\na = {two}"),
        format!("* a b = {one}"),
        format!("* a : {one}"),
        format!("* {one} = {two}"),
        format!("* a = {one}zz"),
    ];
    for text in refused {
        std::fs::write(&path, &text).unwrap();
        let failure = source.read().map(|_| ()).unwrap_err();
        let told = format!("{failure} {failure:?}");
        assert!(!told.contains(&one[..8]) && !told.contains(&two[..8]), "{text}: {told}");
    }

    std::fs::write(&path, format!("{one}\n")).unwrap();
    assert_eq!(source.read().unwrap().active(), &KeyLabel::default());
    std::fs::write(&path, format!("# ours\n\n b={two}\n*a =  {one} \n")).unwrap();
    let keys = source.read().unwrap();
    assert_eq!(keys.labels().map(KeyLabel::as_str).collect::<Vec<_>>(), ["a", "b"]);
    source.write(&keys).unwrap();
    let again = source.read().unwrap();
    assert_eq!(again.labels().collect::<Vec<_>>(), keys.labels().collect::<Vec<_>>());
    assert!(!format!("{keys:?}").contains("171"));
}

#[test]
fn given_master_keys_are_named_by_number_when_malformed() {
    let (one, two) = ("ab".repeat(32), "cd".repeat(32));
    let keys = MasterKeys::parse_given(&format!("a:{one}, b:{two}")).unwrap();
    assert_eq!(keys.labels().map(KeyLabel::as_str).collect::<Vec<_>>(), ["a", "b"]);
    let changed = MasterKeySource::Given(keys).change(|_| Ok(()));
    assert!(matches!(changed, Err(Error::MasterKeysGiven)));

    for (text, entry) in [("", 1), ("hunter2", 1), (&format!("a:{one},b:cd"), 2)] {
        let failure = MasterKeys::parse_given(text).unwrap_err().to_string();
        assert!(failure.starts_with(&format!("entry {entry} ")), "{failure}");
        assert!(!failure.contains("hunter2") && !failure.contains("abab"), "{failure}");
    }
    let twice = MasterKeys::parse_given(&format!("a:{one},a:{two}"));
    assert!(matches!(twice, Err(Error::LabelTaken { .. })));
}
