//! Maps work to an order for the executor: who it is for becomes variables and notes.
//!
//! The only place that says what a container of an LRP or a task is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::bbs::definition::Definition;
use domain::rep::{WorkKind, WorkReference};

use super::definitions::DefinitionByDigest;
use super::handle_of;
use super::observer::InstanceSink;
use crate::executor::{Order, Redacted};

/// The recipe as it is run for this kind of work: nobody asks whether a task is healthy, and nobody
/// asks an LRP for a result.
pub(super) fn recipe(kind: &WorkKind, mut recipe: Definition<Redacted>) -> Definition<Redacted> {
    match kind {
        WorkKind::Lrp(_) => recipe.result_file = None,
        WorkKind::Task(_) => (recipe.check, recipe.monitor) = (None, None),
    }
    recipe
}

pub(super) fn order(
    reference: &WorkReference,
    recipe: Arc<Definition<Redacted>>,
    definition: DefinitionByDigest,
    sink: InstanceSink,
) -> Order {
    Order {
        handle: handle_of(&reference.instance_guid),
        instance: reference.instance_guid.to_string(),
        recipe,
        definition: Arc::new(definition),
        environment: environment(reference),
        properties: properties(reference),
        sink: Arc::new(sink),
    }
}

fn environment(reference: &WorkReference) -> Vec<(String, String)> {
    let (guid, index) = (reference.instance_guid.to_string(), reference.kind.index().to_string());
    let variables = match &reference.kind {
        WorkKind::Lrp(_) => vec![
            ("INSTANCE_GUID", guid.clone()),
            ("INSTANCE_INDEX", index.clone()),
            ("CF_INSTANCE_GUID", guid),
            ("CF_INSTANCE_INDEX", index),
        ],
        WorkKind::Task(_) => vec![("CF_INSTANCE_GUID", guid)],
    };
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn properties(reference: &WorkReference) -> BTreeMap<String, String> {
    let owner = reference.kind.owner().to_string();
    let epoch = reference.placement_epoch.0.to_string();
    [
        ("owner", owner),
        ("index", reference.kind.index().to_string()),
        ("instance-guid", reference.instance_guid.to_string()),
        ("placement-epoch", epoch),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
