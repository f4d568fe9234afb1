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
    data_dir::{DataDirLock, KEYS_FOLDER, keys_folder},
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
    forgetting::{self, offline::Noted},
    master_keys, output,
};

pub(super) const EXAMPLES: &str = "Examples:\n  \
    diario restore --from /backups/monday --data-dir /var/lib/diario-new\n  \
    diario restore --from /backups/monday --keys /safe/keys.ndjson --forgotten /safe/forgotten.list \\\n    \
    --database-url postgres://db/diario_new\n\n\
    The database must be new; only a data folder's log is replaced, with --replace. The log keeps \
    its id and gets a new incarnation: cursors of the old one are refused by name. The data \
    folder's checkpoint key signs what was restored. Keys on the list of forgotten ones are left \
    out, and the restored log says so, so that what was forgotten since the backup stays forgotten: \
    name the list with --forgotten, unless it is in the folder that is restored into. It is \
    keys/forgotten.list in the data folder that the backup was taken from, or what \
    --forgotten-list of its node said.";

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
    /// A list of keys that were forgotten since: the one that a node keeps, or what `diario keys
    /// forgotten` printed. May be given several times; keys/forgotten.list of the data folder is
    /// read in any case where it is there.
    #[arg(long, value_name = "FILE")]
    forgotten: Vec<PathBuf>,
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

/// What was forgotten since a backup, and what the restored log was told of it.
struct Since {
    lists: Vec<PathBuf>,
    forgotten: Vec<Forgotten>,
}

impl Since {
    fn read(options: &Options, manifest: &Manifest) -> Result<Self, Error> {
        let mut lists = options.forgotten.clone();
        let beside = forgetting::lists::in_folder(&options.storage.data_dir);
        if beside.exists() {
            lists.push(beside);
        }
        let mut forgotten = Vec::new();
        for list in &lists {
            forgotten.extend(read_forgotten(list, manifest.log_id)?);
        }
        Ok(Self { lists, forgotten })
    }
}

/// What was restored, and what of it was forgotten again.
struct Done {
    restored: Restored,
    noted: Noted,
}

pub(super) async fn run(options: Options, answer: &Answer) -> Result<(), Error> {
    let manifest = Manifest::read(&options.from)?;
    let keys = match (&options.keys, options.without_keys) {
        (_, true) => Keys::GivenUp,
        (Some(path), false) => Keys::File(path.clone()),
        (None, false) => Keys::Beside,
    };
    let since = Since::read(&options, &manifest)?;
    let data_dir = options.storage.data_dir.as_path();
    let done = match options.storage.location()? {
        Location::Sqlite { .. } => {
            let _lock =
                if options.replace { to_replace(data_dir)? } else { empty_folder(data_dir)? };
            into_folder(&options, &keys, &since, &manifest, data_dir).await?
        }
        Location::Postgres { .. } if options.replace => {
            let told = "--replace is for a data folder: nodes may be connected to a database; \
                        restore into a new one and start them on that";
            return Err(Error::Usage(told.to_owned()));
        }
        location @ Location::Postgres { .. } => {
            into_database(&options, &keys, &since, &manifest, &location).await?
        }
    };
    if since.lists.is_empty() && manifest.data_keys > 0 && keys != Keys::GivenUp {
        output::progress(
            "warning: no list of forgotten keys was given (--forgotten): what was forgotten since \
             the backup can be read again; forget it again with `diario keys forget`",
        );
    }
    show(answer, &done, &since, &options)
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
    since: &Since,
    manifest: &Manifest,
    data_dir: &Path,
) -> Result<Done, Error> {
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
    let done = into_database(options, keys, since, manifest, &location).await?;
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
    Ok(done)
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
    since: &Since,
    manifest: &Manifest,
    location: &Location,
) -> Result<Done, Error> {
    let archive = match manifest.floor {
        Some(_) => options.archive(location)?,
        None => None,
    };
    let incarnation = Incarnation(clock::new_uuid());
    let storage = storage::open_at(location, incarnation).await?;
    let bar = EventsBar::new("restore", manifest.events);
    let progress = |events| bar.at(events);
    let done = restore_into(&storage, options, keys, since, archive.as_ref(), &progress).await;
    storage.close().await;
    done
}

async fn restore_into(
    storage: &Storage,
    options: &Options,
    keys: &Keys,
    since: &Since,
    archive: Option<&Place>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Done, Error> {
    let endpoint = Endpoint::of(storage);
    let (into, forgotten) = (endpoint.as_target(archive), since.forgotten.as_slice());
    let restored = backup::restore(&options.from, keys, forgotten, into, progress).await?;
    // All of them: the keys may have been copied later than the log, and tell of more.
    let forgotten = storage.keys.forgotten().await?;
    let s3_endpoint = options.s3_endpoint.as_deref();
    let noted = forgetting::offline::note(storage, s3_endpoint, &forgotten).await?;
    sign(storage, &options.storage.data_dir).await?;
    Ok(Done { restored, noted })
}

/// States by the data folder's key what the restored log is: its older checkpoints are of the life
/// before, and by the key of whoever signed then.
async fn sign(storage: &Storage, data_dir: &Path) -> Result<(), Error> {
    let keys = keys_folder(data_dir);
    storage::make_private_folder(&keys)?;
    let key = CheckpointKey::create_or_open(&keys.join(KEY_FILE), &OsEntropy)?;
    let (store, tables) = (Arc::clone(&storage.store), Arc::clone(&storage.tables));
    let keeper = Keeper::new(store, tables, key, None);
    let mut keeper = keeper.remembering(LastFile::in_folder(&keys));
    Ok(keeper.sign(Clock::default().now()).await?)
}

fn show(answer: &Answer, done: &Done, since: &Since, options: &Options) -> Result<(), Error> {
    let Restored { manifest, head, data_keys, keys_forgotten, owners_forgotten } = &done.restored;
    let noted = done.noted;
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
        "forgottenLists": since.lists,
        "ownersForgottenAgain": noted.owners,
        "head": noted.position,
    });
    let master = master_keys::file(&options.storage.data_dir);
    answer.show(&told, || {
        vec![
            format!("restored {} events up to @{}; every hash holds", manifest.events, head.position),
            format!("link         {}", hex::encode(head.link)),
            format!("log          {}", manifest.log_id),
            format!("incarnation  {} (before: {})", head.incarnation.0, manifest.incarnation.0),
            format!(
                "keys         {data_keys} put back, {keys_forgotten} of {owners_forgotten} owners left out as forgotten"
            ),
            format!(
                "forgotten    {} owners' secrets again, as {} lists tell; the log ends at @{}",
                noted.owners,
                since.lists.len(),
                noted.position
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
