//! Where an archive is: a local folder, or a bucket of any store that speaks S3.
//!
//! Credentials come from the environment alone and are never shown. What was put is durable when
//! this answers.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::Path as FilePath, sync::Arc};

use object_store::{
    ObjectStore, ObjectStoreExt as _, PutPayload, aws::AmazonS3Builder, local::LocalFileSystem,
    path::Path, prefix::PrefixStore,
};

use super::Error;

/// A place that holds one archive.
#[derive(Debug, Clone)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    location: String,
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
        Ok(Self { store: Arc::new(store), location: folder.display().to_string() })
    }

    fn bucket(location: &str, rest: &str, endpoint: Option<&str>) -> Result<Self, Error> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        if bucket.is_empty() || bucket.contains('@') {
            return Err(invalid(location, "the name of the bucket is missing"));
        }
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
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
        Ok(Self { store, location: location.to_owned() })
    }

    /// An archive in memory, for tests.
    #[cfg(test)]
    pub(super) fn in_memory() -> Self {
        let store = Arc::new(object_store::memory::InMemory::new());
        Self { store, location: "memory".to_owned() }
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
