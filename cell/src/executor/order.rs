//! An order: a container to make and what to run in it.
//!
//! Orders hold no secret: an order can be kept on disk and taken up by the next agent. Secrets are
//! asked for when a process is about to be exec'd.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use domain::bbs::definition::Definition;
use domain::observation::{LogLine, MetricsSample};
use domain::sealed::PlainText;
use serde::{Deserialize, Serialize};

use super::layers::without_layers;
use crate::garden::Handle;

/// In the place of a secret value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Redacted;

/// A container to make and what to run in it.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// The container's name on this cell.
    pub(crate) handle: Handle,
    /// The container's name as log lines tell it.
    pub(crate) instance: String,
    /// What it is made of and runs.
    pub(crate) recipe: Arc<Definition<Redacted>>,
    /// Gives the same recipe with its secrets.
    pub(crate) definition: Arc<dyn DefinitionSource>,
    /// Variables of every process, before those of the recipe.
    pub(crate) environment: Vec<(String, String)>,
    /// Notes that the container carries.
    pub(crate) properties: BTreeMap<String, String>,
    /// Where its lines and samples go.
    pub(crate) sink: Arc<dyn Sink>,
}

impl Order {
    /// The recipe with its secrets, its layers as dependencies and downloads; waits until it is there
    /// to be had.
    ///
    /// # Errors
    /// In words, when it will never be had again.
    pub(super) async fn secret_definition(&self) -> Result<Arc<Definition<PlainText>>, String> {
        let definition = self.definition.definition().await?;
        Ok(without_layers(definition, |PlainText(url)| url.clone()))
    }
}

/// Gives a definition with its secrets in clear.
#[async_trait]
pub(crate) trait DefinitionSource: Send + Sync + Debug {
    /// The definition; waits until it is there to be had.
    ///
    /// # Errors
    /// In words, when it will never be had again.
    async fn definition(&self) -> Result<Arc<Definition<PlainText>>, String>;
}

/// Takes what was observed of one container.
pub(crate) trait Sink: Send + Sync + Debug {
    /// Takes one line; once this returns, the line survives the agent.
    fn line(&self, line: &LogLine);
    /// Takes some samples, oldest first.
    fn metrics(&self, samples: &[MetricsSample]);
}

/// The definition without its secrets, its layers as dependencies and downloads.
pub(crate) fn redact(definition: &Definition<PlainText>) -> Definition<Redacted> {
    let redacted = match definition.try_map(&mut |_| Ok::<_, Infallible>(Redacted)) {
        Ok(redacted) => redacted,
        Err(never) => match never {},
    };
    // The key of a layer without a digest is its URL: it is asked for where secrets are.
    Arc::unwrap_or_clone(without_layers(Arc::new(redacted), |Redacted| String::new()))
}
