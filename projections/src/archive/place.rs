//! Where an archive is: a local folder, or a bucket of any store that speaks S3.
//!
//! Credentials come from the environment alone and are never shown. What was put is durable when
//! this answers. Only plain puts, gets, heads and deletes are asked of a store, and puts that hold
//! only for a known version; nothing rests on a listing, which may lag behind.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use object_store::{
    ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig, UpdateVersion,
    aws::AmazonS3Builder, local::LocalFileSystem, path::Path, prefix::PrefixStore,
};

use super::Error;

/// How often and until when a request to a store is tried again; one request takes at most 30 s.
/// Whoever asked about the past waits for it.
const RETRIES_MAX: usize = 5;
const RETRY_TIME: Duration = Duration::from_secs(30);

/// Locked in a folder by whoever replaces an object there.
const LOCK_FILE: &str = "lock";

/// A place that holds one archive.
#[derive(Debug, Clone)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    location: String,
    /// Where it is a folder, which knows no puts that hold only for a version.
    folder: Option<PathBuf>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.location)
    }
}

impl Place {
    /// As [`Place::open`]; a missing folder is made.
    ///
    /// # Errors
    /// [`Error::Location`] says what is wrong with the name.
    pub fn create(location: &str, s3_endpoint: Option<&str>) -> Result<Self, Error> {
        if !location.contains("://") && !location.is_empty() {
            // The log holds what users told us.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(location);
            made.map_err(|failure| invalid(location, failure.to_string()))?;
        }
        Self::open(location, s3_endpoint)
    }

    /// A place by its name: a folder, or `s3://BUCKET/PREFIX` with the usual `AWS_*` variables, at
    /// `s3_endpoint` where one is given.
    ///
    /// # Errors
    /// [`Error::NoArchive`] where there is no such folder, [`Error::Location`] says what is wrong
    /// with the name.
    pub fn open(location: &str, s3_endpoint: Option<&str>) -> Result<Self, Error> {
        match location.split_once("://") {
            Some(("s3", rest)) => Self::bucket(location, rest, s3_endpoint),
            Some((scheme, _)) => Err(invalid(location, format!("{scheme}:// is not known here"))),
            None => Self::folder(location),
        }
    }

    fn folder(location: &str) -> Result<Self, Error> {
        let failed = |failure: std::io::Error| invalid(location, failure.to_string());
        if location.is_empty() {
            return Err(invalid(location, "it is empty"));
        }
        if !FilePath::new(location).is_dir() {
            return Err(Error::NoArchive { location: location.to_owned() });
        }
        let folder = FilePath::new(location).canonicalize().map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|failure| invalid(location, failure.to_string()))?
            .with_fsync(true);
        let location = folder.display().to_string();
        Ok(Self { store: Arc::new(store), location, folder: Some(folder) })
    }

    fn bucket(location: &str, rest: &str, endpoint: Option<&str>) -> Result<Self, Error> {
        let retry = RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIME,
            ..RetryConfig::default()
        };
        let builder = AmazonS3Builder::from_env().with_retry(retry);
        Self::bucket_of(builder, location, rest, endpoint)
    }

    fn bucket_of(
        builder: AmazonS3Builder,
        location: &str,
        rest: &str,
        endpoint: Option<&str>,
    ) -> Result<Self, Error> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        if bucket.is_empty() || bucket.contains('@') {
            return Err(invalid(location, "the name of the bucket is missing"));
        }
        let mut builder = builder
            // Not every store knows it, and objects are deleted one by one.
            .with_disable_bulk_delete(true)
            .with_bucket_name(bucket);
        if let Some(endpoint) = endpoint {
            let is_plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(is_plain);
        }
        let store = builder.build().map_err(|failure| invalid(location, failure.to_string()))?;
        let store: Arc<dyn ObjectStore> = if prefix.is_empty() {
            Arc::new(store)
        } else {
            let prefix = Path::parse(prefix).map_err(|it| invalid(location, it.to_string()))?;
            Arc::new(PrefixStore::new(store, prefix))
        };
        Ok(Self { store, location: location.to_owned(), folder: None })
    }

    /// An archive in memory, for tests.
    #[cfg(test)]
    pub(super) fn in_memory() -> Self {
        let store = Arc::new(object_store::memory::InMemory::new());
        Self { store, location: "memory".to_owned(), folder: None }
    }

    /// An archive in a test's S3 server, below a prefix.
    #[cfg(test)]
    pub(super) fn in_s3(server: &crate::testing::s3::Server, prefix: &str) -> Self {
        use object_store::{BackoffConfig, ClientOptions};
        // As the program does when it starts.
        drop(rustls::crypto::ring::default_provider().install_default());
        let millis = Duration::from_millis;
        let backoff = BackoffConfig { init_backoff: millis(1), max_backoff: millis(20), base: 2.0 };
        let retry = RetryConfig { backoff, max_retries: 3, retry_timeout: RETRY_TIME };
        let builder = AmazonS3Builder::new()
            .with_retry(retry)
            .with_client_options(ClientOptions::new().with_timeout(Duration::from_secs(2)))
            .with_access_key_id(crate::testing::s3::ACCESS_KEY)
            .with_secret_access_key(crate::testing::s3::SECRET_KEY)
            .with_region(crate::testing::s3::REGION);
        let rest = format!("{}/{prefix}", crate::testing::s3::BUCKET);
        let location = format!("s3://{rest}");
        Self::bucket_of(builder, &location, &rest, Some(server.endpoint())).expect("a place")
    }

    /// Replaces a small object, unless another program does so at the same time: `false` then, and
    /// also when what is there is not `is_expected`.
    pub(super) async fn replace(
        &self,
        object: &str,
        is_expected: impl FnOnce(Option<&[u8]>) -> Result<bool, Error>,
        bytes: Vec<u8>,
    ) -> Result<bool, Error> {
        let _locked = match &self.folder {
            Some(folder) => match lock(folder).map_err(|source| failed("lock", object, source))? {
                Some(held) => Some(held),
                None => return Ok(false),
            },
            None => None,
        };
        let path = Path::from(object);
        let (found, mut mode) = match self.store.get(&path).await {
            Ok(found) => {
                let meta = &found.meta;
                let version =
                    UpdateVersion { e_tag: meta.e_tag.clone(), version: meta.version.clone() };
                let bytes = found.bytes().await;
                let bytes = bytes.map_err(|source| failed("read", object, source))?;
                (Some(bytes), PutMode::Update(version))
            }
            Err(object_store::Error::NotFound { .. }) => (None, PutMode::Create),
            Err(source) => return Err(failed("read", object, source)),
        };
        if !is_expected(found.as_deref())? {
            return Ok(false);
        }
        if self.folder.is_some() {
            mode = PutMode::Overwrite;
        }
        match self.store.put_opts(&path, PutPayload::from(bytes), mode.into()).await {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. }
                | object_store::Error::NotModified { .. },
            ) => Ok(false),
            Err(source) => Err(failed("write", object, source)),
        }
    }

    pub(super) async fn put(&self, object: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let path = Path::from(object);
        let put = self.store.put(&path, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|source| failed("write", object, source))
    }

    /// `None` when there is no such object.
    pub(super) async fn get(&self, object: &str) -> Result<Option<Vec<u8>>, Error> {
        let read = async { self.store.get(&Path::from(object)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed("read", object, source)),
        }
    }

    pub(super) async fn get_whole(&self, object: &str) -> Result<Vec<u8>, Error> {
        let missing = || Error::Missing { object: object.to_owned() };
        self.get(object).await?.ok_or_else(missing)
    }

    pub(super) async fn get_range(
        &self,
        object: &str,
        range: std::ops::Range<u64>,
    ) -> Result<Vec<u8>, Error> {
        match self.store.get_range(&Path::from(object), range.clone()).await {
            Ok(bytes)
                if u64::try_from(bytes.len()) == Ok(range.end.saturating_sub(range.start)) =>
            {
                Ok(bytes.into())
            }
            Ok(_) => Err(Error::damaged(object, "it was cut off")),
            Err(object_store::Error::NotFound { .. }) => {
                Err(Error::Missing { object: object.to_owned() })
            }
            // A range beyond a file's end is told in several ways.
            Err(source) => match self.store.head(&Path::from(object)).await {
                Ok(found) if found.size < range.end => {
                    Err(Error::damaged(object, "it was cut off"))
                }
                Ok(_) | Err(_) => Err(failed("read", object, source)),
            },
        }
    }

    pub(super) async fn delete(&self, object: &str) -> Result<(), Error> {
        match self.store.delete(&Path::from(object)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(failed("delete", object, source)),
        }
    }
}

/// The lock of a folder; nothing while another program has it. Goes with the process that has it.
pub(super) fn lock(folder: &FilePath) -> Result<Option<Flock<File>>, object_store::Error> {
    let failed = |source: std::io::Error| object_store::Error::Generic {
        store: "folder",
        source: source.into(),
    };
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(folder.join(LOCK_FILE)).map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Some(held)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

fn invalid(location: &str, reason: impl Into<String>) -> Error {
    Error::Location { location: location.to_owned(), reason: reason.into() }
}

fn failed(operation: &'static str, object: &str, source: object_store::Error) -> Error {
    Error::Place { operation, object: object.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_place_is_refused_and_nothing_is_made() {
        for location in ["", "ftp://host/x", "s3://", "s3:///prefix"] {
            let refused = Place::create(location, None);
            assert!(matches!(refused, Err(Error::Location { .. })), "{location}: {refused:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let missing = missing.to_str().unwrap();
        assert!(matches!(Place::open(missing, None), Err(Error::NoArchive { .. })));
        assert!(!FilePath::new(missing).exists());
        assert!(Place::create(missing, None).is_ok());
    }
}
