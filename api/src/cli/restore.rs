//! `diario restore`: a backup into a new database, checked before and after.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use domain::log::Incarnation;
use projections::{
    archive::{Keeper, Place},
    backup::{self, Endpoint, Manifest, Restored, key_file::read_forgotten, restore::Keys},
    checkpoint::{CheckpointKey, KEY_FILE, last::LastFile},
    data_dir::DataDirLock,
    event_store::keys::{Forgotten, OsEntropy},
    storage::{Location, SQLITE_FILE, Storage},
};
use serde_json::json;

use super::{
    Error,
    progress_bar::EventsBar,
    storage::{self, StorageOptions},
    target::Answer,
};
use crate::{
    clock::{self, Clock},
    output,
};

pub(super) const EXAMPLES: &str = "Examples:\n  \
    diario restore --from /backups/monday --data-dir /var/lib/diario-new\n  \
    diario restore --from /backups/monday --keys /safe/keys.ndjson --forgotten /safe/forgotten.json \\\n    \
    --database-url postgres://db/diario_new\n\n\
    The database must be new; only a data folder's log is replaced, with --replace. The log keeps \
    its id and gets a new incarnation: cursors of the old one are refused by name. The data \
    folder's checkpoint key signs what was restored. Keys on the list of forgotten ones are left out, so that what was \
    forgotten since the backup stays forgotten.";

/// Where the keys of a data folder are.
const KEYS_FOLDER: &str = "keys";

/// Where a data folder keeps the list of forgotten keys.
const FORGOTTEN_FILE: &str = "forgotten.json";

/// Where a data folder keeps the archive of a pruned log by default.
const ARCHIVE_FOLDER: &str = "archive";

/// What a log that was replaced is called.
const REPLACED_FILE: &str = "diario.db.replaced";

/// Where a SQLite log is restored before it gets its name.
const RESTORING_FILE: &str = "diario.db.restoring";

/// Options of `diario restore`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    storage: StorageOptions,
    /// The backup's folder.
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// The file of wrapped data keys, where it is not in the backup's folder.
    #[arg(long, value_name = "FILE", conflicts_with = "without_keys")]
    keys: Option<PathBuf>,
    /// Restore without the wrapped data keys: no secret of the log can ever be read again.
    #[arg(long)]
    without_keys: bool,
    /// The list of keys that were forgotten since, as `diario keys forgotten` prints it; keys/forgotten.json of the new data folder
    /// where that is there.
    #[arg(long, value_name = "FILE")]
    forgotten: Option<PathBuf>,
    /// Put the backup in place of the log that is in the data folder, which is kept beside it as
    /// diario.db.replaced.
    #[arg(long)]
    replace: bool,
    /// Of a pruned log: where the state goes that it begins with, a new folder or
    /// s3://BUCKET/PREFIX; by default the folder `archive` in the data folder.
    #[arg(long, value_name = "DIR|URL")]
    archive: Option<String>,
    /// An S3 store other than Amazon's, such as http://127.0.0.1:9000.
    #[arg(long)]
    s3_endpoint: Option<String>,
}

impl Options {
    /// The new archive of a pruned log. Without a name there is one for a data folder only: nodes
    /// on a shared database must all reach it.
    fn archive(&self, location: &Location) -> Result<Option<Place>, Error> {
        let beside = self.storage.data_dir.join(ARCHIVE_FOLDER);
        let name = match (&self.archive, location) {
            (Some(name), _) => name.clone(),
            (None, Location::Sqlite { .. }) => beside.display().to_string(),
            (None, Location::Postgres { .. }) => return Ok(None),
        };
        Ok(Some(Place::create(&name, self.s3_endpoint.as_deref())?))
    }
}

pub(super) async fn run(options: Options, answer: &Answer) -> Result<(), Error> {
    let manifest = Manifest::read(&options.from)?;
    let keys = match (&options.keys, options.without_keys) {
        (_, true) => Keys::GivenUp,
        (Some(path), false) => Keys::File(path.clone()),
        (None, false) => Keys::Beside,
    };
    let list = forgotten_list(&options);
    let forgotten = list.as_deref().map(read_forgotten).transpose()?;
    let data_dir = options.storage.data_dir.as_path();
    let restored = match options.storage.location()? {
        Location::Sqlite { .. } => {
            let _lock =
                if options.replace { to_replace(data_dir)? } else { empty_folder(data_dir)? };
            into_folder(&options, &keys, forgotten.as_deref(), &manifest, data_dir).await?
        }
        Location::Postgres { .. } if options.replace => {
            let told = "--replace is for a data folder: nodes may be connected to a database; \
                        restore into a new one and start them on that";
            return Err(Error::Usage(told.to_owned()));
        }
        location @ Location::Postgres { .. } => {
            into_database(&options, &keys, forgotten.as_deref(), &manifest, &location).await?
        }
    };
    if forgotten.is_none() && manifest.data_keys > 0 && keys != Keys::GivenUp {
        output::progress(
            "warning: no list of forgotten keys was given (--forgotten): what was forgotten since \
             the backup can be read again; forget it again with `diario keys forget`",
        );
    }
    show(answer, &restored, &options)
}

fn forgotten_list(options: &Options) -> Option<PathBuf> {
    let beside = options.storage.data_dir.join(KEYS_FOLDER).join(FORGOTTEN_FILE);
    options.forgotten.clone().or_else(|| beside.exists().then_some(beside))
}

/// Locks a data folder in which nothing but keys may be.
fn empty_folder(data_dir: &Path) -> Result<DataDirLock, Error> {
    let failed = |source| backup::Error::Read { path: data_dir.to_owned(), source };
    match fs::read_dir(data_dir) {
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => {}
        Err(failure) => return Err(failed(failure).into()),
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(failed)?.file_name();
                let name = name.to_string_lossy();
                // The archive may be left of a restore that was broken off.
                let is_ours = [KEYS_FOLDER, ARCHIVE_FOLDER, "lock"].contains(&&*name);
                if !is_ours && !name.starts_with(RESTORING_FILE) {
                    let (folder, name) = (data_dir.to_owned(), name.into_owned());
                    return Err(Error::FolderNotEmpty { folder, name });
                }
            }
        }
    }
    lock(data_dir)
}

/// Locks a data folder whose log is to be replaced.
fn to_replace(data_dir: &Path) -> Result<DataDirLock, Error> {
    let earlier = data_dir.join(REPLACED_FILE);
    if earlier.exists() {
        let earlier = earlier.display();
        return Err(Error::Usage(format!(
            "{earlier} is there of an earlier --replace: move it away"
        )));
    }
    lock(data_dir)
}

fn lock(data_dir: &Path) -> Result<DataDirLock, Error> {
    storage::make_private_folder(data_dir)?;
    DataDirLock::acquire(data_dir).map_err(|source| storage::Error::InUse { source }.into())
}

/// Restores under another name, so that a restore that is broken off leaves no log that a node
/// would start on.
async fn into_folder(
    options: &Options,
    keys: &Keys,
    forgotten: Option<&[Forgotten]>,
    manifest: &Manifest,
    data_dir: &Path,
) -> Result<Restored, Error> {
    let restoring = data_dir.join(RESTORING_FILE);
    let failed = |source| backup::Error::Write { path: restoring.clone(), source };
    for suffix in ["", "-wal", "-shm"] {
        match fs::remove_file(data_dir.join(format!("{RESTORING_FILE}{suffix}"))) {
            Err(failure) if failure.kind() != io::ErrorKind::NotFound => {
                return Err(failed(failure).into());
            }
            Ok(()) | Err(_) => {}
        }
    }
    let location = Location::Sqlite { file: restoring.clone() };
    let restored = into_database(options, keys, forgotten, manifest, &location).await?;
    // The last connection folds the write-ahead log into the file; what is left there would be lost.
    let log = data_dir.join(format!("{RESTORING_FILE}-wal"));
    if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        let left = io::Error::other("its write-ahead log was not folded in; restore again");
        return Err(failed(left).into());
    }
    if options.replace {
        set_aside(data_dir).await?;
    }
    fs::rename(&restoring, data_dir.join(SQLITE_FILE)).map_err(failed)?;
    fs::File::open(data_dir).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(restored)
}

/// Gives the log that is to be replaced another name, whole: with its write-ahead log folded in
/// where it can still be opened, and that moved along, and first, where it cannot. One that stayed
/// would be taken for the new log's.
async fn set_aside(data_dir: &Path) -> Result<(), Error> {
    let replaced = data_dir.join(REPLACED_FILE);
    let failed = |source| backup::Error::Write { path: replaced.clone(), source };
    let file = data_dir.join(SQLITE_FILE);
    if !file.exists() {
        return Ok(());
    }
    let location = Location::Sqlite { file };
    if let Ok(storage) = storage::open_at(&location, Incarnation(clock::new_uuid())).await {
        storage.close().await;
    }
    for suffix in ["-shm", "-wal", ""] {
        let from = data_dir.join(format!("{SQLITE_FILE}{suffix}"));
        if from.exists() {
            let to = data_dir.join(format!("{REPLACED_FILE}{suffix}"));
            fs::rename(from, to).map_err(failed)?;
        }
    }
    Ok(())
}

async fn into_database(
    options: &Options,
    keys: &Keys,
    forgotten: Option<&[Forgotten]>,
    manifest: &Manifest,
    location: &Location,
) -> Result<Restored, Error> {
    let archive = match manifest.floor {
        Some(_) => options.archive(location)?,
        None => None,
    };
    let incarnation = Incarnation(clock::new_uuid());
    let storage = storage::open_at(location, incarnation).await?;
    let bar = EventsBar::new("restore", manifest.events);
    let progress = |events| bar.at(events);
    let endpoint = Endpoint::of(&storage);
    let (target, forgotten) = (endpoint.as_target(archive.as_ref()), forgotten.unwrap_or_default());
    let restored = backup::restore(&options.from, keys, forgotten, target, &progress).await;
    let signed = match &restored {
        Ok(_) => sign(&storage, &options.storage.data_dir).await,
        Err(_) => Ok(()),
    };
    storage.close().await;
    let restored = restored?;
    signed?;
    Ok(restored)
}

/// States by the data folder's key what the restored log is: its older checkpoints are of the life
/// before, and by the key of whoever signed then.
async fn sign(storage: &Storage, data_dir: &Path) -> Result<(), Error> {
    let keys = data_dir.join(KEYS_FOLDER);
    storage::make_private_folder(&keys)?;
    let key = CheckpointKey::create_or_open(&keys.join(KEY_FILE), &OsEntropy)?;
    let (store, tables) = (Arc::clone(&storage.store), Arc::clone(&storage.tables));
    let keeper = Keeper::new(store, tables, key, None);
    let mut keeper = keeper.remembering(LastFile::in_folder(&keys));
    Ok(keeper.sign(Clock::default().now()).await?)
}

fn show(answer: &Answer, restored: &Restored, options: &Options) -> Result<(), Error> {
    let Restored { manifest, head, data_keys, keys_forgotten, owners_forgotten } = restored;
    let told = json!({
        "position": head.position,
        "link": hex::encode(head.link),
        "logId": manifest.log_id.to_string(),
        "incarnation": head.incarnation.0.to_string(),
        "incarnationBefore": manifest.incarnation.0.to_string(),
        "events": manifest.events,
        "blobs": manifest.blobs,
        "dataKeys": data_keys,
        "keysForgotten": keys_forgotten,
        "ownersForgotten": owners_forgotten,
    });
    let master = options.storage.data_dir.join(KEYS_FOLDER).join("master.key");
    answer.show(&told, || {
        vec![
            format!("restored {} events up to @{}; every hash holds", manifest.events, head.position),
            format!("link         {}", hex::encode(head.link)),
            format!("log          {}", manifest.log_id),
            format!("incarnation  {} (before: {})", head.incarnation.0, manifest.incarnation.0),
            format!(
                "keys         {data_keys} put back, {keys_forgotten} of {owners_forgotten} owners left out as forgotten"
            ),
            String::new(),
            "What to do next:".to_owned(),
            format!("  1. put the master key that the keys were wrapped by at {}, mode 600", master.display()),
            "  2. see that nothing runs on the log that this is a copy of".to_owned(),
            "  3. start it: diario serve with the same --data-dir or --database-url".to_owned(),
            "Clients begin anew: a cursor of the old incarnation is refused.".to_owned(),
        ]
    })
}
