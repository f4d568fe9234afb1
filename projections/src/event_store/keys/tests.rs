//! Keys: what is refused first, then what is kept.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use domain::{id::ProcessGuid, log::Incarnation};

use super::*;
use crate::{event_store::sqlite::Database, testing::postgres};

fn owner(guid: &str) -> Owner {
    Owner::Process(ProcessGuid::new(guid).unwrap())
}

fn secret(text: &str) -> PlainText {
    PlainText(text.to_owned())
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

#[tokio::test]
async fn keys_in_memory_seal_and_open() {
    behaves(&Keyring::in_memory(1)).await;
}

#[tokio::test]
async fn stored_keys_outlive_the_process_and_refuse_another_master_key() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("master.key");
    let incarnation = Incarnation(Uuid::from_u128(1));
    let path = folder.path().join("diario.db");
    let database = Database::open(&path, incarnation).await.unwrap();
    let open = async |database: &Database, master: MasterKey| {
        let store = Arc::new(SqliteKeyStore::new(database.clone()));
        Keyring::open(master, store, Box::new(OsEntropy)).await
    };
    let master = MasterKey::create_or_open(&key_file, &OsEntropy).unwrap();
    let keyring = open(&database, master).await.unwrap();
    behaves(&keyring).await;
    let sealed = keyring.seal(&owner("a"), &secret("s")).await.unwrap();
    let digest = keyring.put_sealed_blob(&owner("a"), b"evidence").await.unwrap();
    database.close().await;

    let database = Database::open(&path, incarnation).await.unwrap();
    let wrong = open(&database, MasterKey::from_bytes([7; 32])).await;
    let master = MasterKey::create_or_open(&key_file, &OsEntropy).unwrap();
    let keyring = open(&database, master).await.unwrap();

    assert!(matches!(wrong, Err(Error::WrongMasterKey)));
    assert_eq!(keyring.open_sealed(&owner("a"), &sealed).await.unwrap(), secret("s"));
    assert_eq!(keyring.get_blob(digest).await.unwrap(), Some(b"evidence".to_vec()));
    sqlx::query("UPDATE blobs SET bytes = x'00' WHERE digest = ?")
        .bind(digest.0.to_vec())
        .execute(&mut tampering(&path).await)
        .await
        .unwrap();
    assert!(matches!(keyring.get_blob(digest).await, Err(Error::BlobAltered(_))));
}

#[tokio::test]
async fn keys_in_postgres_seal_and_open_and_of_two_nodes_one_makes_the_first() {
    let url = postgres::shared().fresh_database();
    let master = || MasterKey::from_bytes([3; 32]);
    let open = async |master| {
        let store = Arc::new(PostgresKeyStore::new(postgres::open(&url).await));
        Keyring::open(master, store, Box::new(OsEntropy)).await
    };
    let (one, other) = (open(master()).await.unwrap(), open(master()).await.unwrap());
    behaves(&one).await;
    for number in 0..8 {
        let owner = owner(&format!("both-{number}"));
        let secret = secret("s");
        let (ours, theirs) = tokio::join!(one.seal(&owner, &secret), other.seal(&owner, &secret));
        assert_eq!(ours.unwrap().key_id, theirs.unwrap().key_id);
    }
    assert!(matches!(open(MasterKey::from_bytes([7; 32])).await, Err(Error::WrongMasterKey)));
}

async fn tampering(path: &std::path::Path) -> sqlx::SqliteConnection {
    use sqlx::ConnectOptions as _;
    sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

#[test]
fn an_exposed_or_malformed_master_key_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    assert!(matches!(MasterKey::open(&path), Err(Error::MasterKeyFile { .. })));

    MasterKey::create_or_open(&path, &OsEntropy).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let exposed = MasterKey::create_or_open(&path, &OsEntropy);
    assert!(matches!(exposed, Err(Error::ExposedMasterKey { mode: 0o640, .. })));

    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "00ff").unwrap();
    assert!(matches!(MasterKey::open(&path), Err(Error::MalformedMasterKey { .. })));
}
