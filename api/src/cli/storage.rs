//! Which log an operator's command is about that works on the database itself, not over GraphQL.
//!
//! The password of an address is never shown.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use domain::{log::Incarnation, sealed::PlainText};
use projections::{
    data_dir::{self, DataDirLock},
    event_store,
    storage::{InvalidDatabaseUrl, Location, Storage},
};

use crate::clock;

/// Where the log is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Log")]
pub struct StorageOptions {
    /// The folder of a control plane: its keys, its observations, and the log unless
    /// --database-url is given.
    #[arg(long, default_value = ".diario")]
    pub data_dir: PathBuf,
    /// The log in Postgres: postgres://user:password@host:port/database.
    // Checked when it is opened: an error of the parser would show the password.
    #[arg(long, env = "DIARIO_DATABASE_URL", hide_env_values = true, value_parser = plain_text)]
    database_url: Option<PlainText>,
}

fn plain_text(text: &str) -> Result<PlainText, Infallible> {
    Ok(PlainText(text.to_owned()))
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--database-url` is malformed.
    #[error("cannot use --database-url")]
    DatabaseUrl(#[source] InvalidDatabaseUrl),
    /// Another process has the data folder.
    #[error("{source}; stop it first")]
    InUse {
        /// Who.
        source: data_dir::Error,
    },
    /// The data folder holds no log.
    #[error("{} holds no log; name the folder of a control plane with --data-dir", .0.display())]
    NoLog(PathBuf),
    /// The file of the log holds nothing.
    #[error(
        "{} is empty, so it holds no log: bring the file back, or restore a backup with `diario \
         restore`",
        file.display()
    )]
    EmptyLog {
        /// The file.
        file: PathBuf,
    },
    /// The data folder cannot be made.
    #[error("cannot make the data folder {folder}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Store(#[from] event_store::Error),
}

/// An open log. The data folder of a SQLite log is locked until this is dropped, unless it was
/// opened only to read.
#[derive(Debug)]
pub struct OpenStorage {
    /// The log and what is beside it.
    pub storage: Storage,
    _lock: Option<DataDirLock>,
}

impl StorageOptions {
    /// Which database it is.
    ///
    /// # Errors
    /// [`Error::DatabaseUrl`].
    pub fn location(&self) -> Result<Location, Error> {
        match &self.database_url {
            None => Ok(Location::in_folder(&self.data_dir)),
            Some(url) => {
                url.0.parse().map(|url| Location::Postgres { url }).map_err(Error::DatabaseUrl)
            }
        }
    }

    /// Opens an existing log to read and write. A SQLite log must not be in use by a node.
    ///
    /// # Errors
    /// What is wrong with the options, who uses the log, or why it cannot be opened.
    pub async fn open(&self) -> Result<OpenStorage, Error> {
        let location = self.existing()?;
        let lock = match &location {
            Location::Sqlite { .. } => Some(
                DataDirLock::acquire(&self.data_dir).map_err(|source| Error::InUse { source })?,
            ),
            Location::Postgres { .. } => None,
        };
        let storage =
            Storage::open(&location, Incarnation(clock::new_uuid()), clock::wall_clock()).await?;
        Ok(OpenStorage { storage, _lock: lock })
    }

    /// Opens an existing log only to read, also while a node runs on it.
    ///
    /// # Errors
    /// What is wrong with the options, or why it cannot be opened.
    pub async fn open_to_read(&self) -> Result<OpenStorage, Error> {
        let storage = Storage::open_to_read(&self.existing()?, clock::wall_clock()).await?;
        Ok(OpenStorage { storage, _lock: None })
    }

    /// Opens a log to read and write, and makes it where there is none: for what fills a new one.
    ///
    /// # Errors
    /// What is wrong with the options, who uses the log, or why it cannot be opened.
    pub async fn open_or_make(&self) -> Result<OpenStorage, Error> {
        let location = self.location()?;
        let lock = match &location {
            Location::Sqlite { .. } => {
                make_private_folder(&self.data_dir)?;
                let lock = DataDirLock::acquire(&self.data_dir);
                Some(lock.map_err(|source| Error::InUse { source })?)
            }
            Location::Postgres { .. } => None,
        };
        let storage = open_at(&location, Incarnation(clock::new_uuid())).await?;
        Ok(OpenStorage { storage, _lock: lock })
    }

    /// Where the log is; one that is missing or empty is never made by a command of operators.
    fn existing(&self) -> Result<Location, Error> {
        let location = self.location()?;
        if let Location::Sqlite { file } = &location
            && fs::metadata(file).is_ok_and(|found| found.len() == 0)
        {
            return Err(Error::EmptyLog { file: file.clone() });
        }
        match &location {
            Location::Sqlite { file } if !file.exists() => Err(Error::NoLog(self.data_dir.clone())),
            Location::Sqlite { .. } | Location::Postgres { .. } => Ok(location),
        }
    }
}

/// Opens a database to read and write, or makes it.
pub(super) async fn open_at(
    location: &Location,
    new_incarnation: Incarnation,
) -> Result<Storage, Error> {
    Ok(Storage::open(location, new_incarnation, clock::wall_clock()).await?)
}

/// Makes a data folder that is nobody else's business; one that is there is left as it is.
pub(super) fn make_private_folder(folder: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| Error::Folder { folder: folder.to_owned(), source })
}
