//! Definitions with their secrets, fetched by digest and held in memory only.
//!
//! One that is asked for by many is fetched once. Never written anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::bbs::definition::Definition;
use domain::sealed::{Digest, PlainText};
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::control_plane::ControlPlane;
use crate::executor::DefinitionSource;
use crate::retry::BackOff;

type Fetched = Arc<OnceCell<Arc<Definition<PlainText>>>>;

/// The definitions of what is held.
#[derive(Debug)]
pub(super) struct Definitions {
    control_plane: Arc<dyn ControlPlane>,
    known: Mutex<BTreeMap<Digest, Fetched>>,
}

impl Definitions {
    pub(super) fn new(control_plane: Arc<dyn ControlPlane>) -> Self {
        Self { control_plane, known: Mutex::default() }
    }

    /// A definition; waits until the control plane gives it.
    ///
    /// # Errors
    /// In words, when the control plane says that it has none.
    pub(super) async fn get(&self, digest: Digest) -> Result<Arc<Definition<PlainText>>, String> {
        let cell = Arc::clone(self.lock().entry(digest).or_default());
        cell.get_or_try_init(|| self.fetch(digest)).await.cloned()
    }

    /// Forgets all but these.
    pub(super) fn keep_only(&self, wanted: &BTreeSet<Digest>) {
        self.lock().retain(|digest, _| wanted.contains(digest));
    }

    async fn fetch(&self, digest: Digest) -> Result<Arc<Definition<PlainText>>, String> {
        let mut back_off = BackOff::for_requests();
        loop {
            match self.control_plane.definition(digest).await {
                Ok(definition) => return Ok(Arc::new(definition)),
                Err(error) if error.has_code("NOT_FOUND") => {
                    return Err("its definition is not known any more".to_owned());
                }
                Err(error) if error.has_code("FORGOTTEN") => {
                    return Err(
                        "its secrets were forgotten; desire it anew with new ones".to_owned()
                    );
                }
                Err(error) => {
                    tracing::debug!(%digest, %error, "Cannot fetch a definition; trying again.");
                    sleep(back_off.pause()).await;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Fetched>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One definition, for the executor to ask for.
#[derive(Debug)]
pub(super) struct DefinitionByDigest {
    pub(super) definitions: Arc<Definitions>,
    pub(super) digest: Digest,
}

#[async_trait]
impl DefinitionSource for DefinitionByDigest {
    async fn definition(&self) -> Result<Arc<Definition<PlainText>>, String> {
        self.definitions.get(self.digest).await
    }
}
