//! A thing's fields, flattened to paths, so that two of a kind can be compared field by field.
//!
//! A sealed value becomes its fingerprint before anything is compared or shown.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::route_table::Endpoint;

/// How many fields are told of one changed thing.
const FIELDS_MAX: usize = 50;
/// How many characters are told of one value.
const VALUE_CHARACTERS_MAX: usize = 500;

/// Fields by path. A path says *which*, as in `definition.env[0].value`.
pub type Flat = BTreeMap<String, String>;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// Which, as a path.
    pub name: String,
    /// What it was; absent when it was not there.
    pub from: Option<String>,
    /// What it is; absent when it is no longer there.
    pub to: Option<String>,
}

/// The fields of an aggregate. What only says when it last changed is left out.
#[must_use]
pub fn flat(aggregate: &impl Serialize) -> Flat {
    let mut fields = Flat::new();
    // An aggregate is always an object of JSON: it is stored as such.
    if let Ok(Value::Object(members)) = serde_json::to_value(aggregate) {
        let told = members.iter().filter(|(name, _)| *name != "last_position");
        for (name, value) in told {
            add(&mut fields, camel_case(name), value);
        }
    }
    fields
}

/// The endpoints of a route, as fields.
#[must_use]
pub fn endpoints(endpoints: &[&Endpoint]) -> Flat {
    endpoints
        .iter()
        .map(|endpoint| {
            let name = format!("endpoints.{}", endpoint.key);
            let Endpoint { address, instance_guid, cell_id, .. } = endpoint;
            (name, format!("{address} (instance {instance_guid} on {cell_id})"))
        })
        .collect()
}

/// The fields that differ, in the order of their paths.
#[must_use]
pub fn changes(from: &Flat, to: &Flat) -> Vec<FieldChange> {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    names
        .into_iter()
        .filter(|name| from.get(*name) != to.get(*name))
        .take(FIELDS_MAX)
        .map(|name| FieldChange {
            name: name.clone(),
            from: from.get(name).map(|value| cut(value)),
            to: to.get(name).map(|value| cut(value)),
        })
        .collect()
}

fn cut(value: &str) -> String {
    value.chars().take(VALUE_CHARACTERS_MAX).collect()
}

fn add(fields: &mut Flat, path: String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => drop(fields.insert(path, value.to_string())),
        Value::String(text) => drop(fields.insert(path, text.clone())),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                add(fields, format!("{path}[{index}]"), item);
            }
        }
        Value::Object(members) => match fingerprint(members) {
            Some(fingerprint) => drop(fields.insert(path, format!("sealed {fingerprint}"))),
            None => {
                for (name, member) in members {
                    add(fields, format!("{path}.{}", camel_case(name)), member);
                }
            }
        },
    }
}

/// The beginning of a sealed value's fingerprint; `None` when it is not one.
fn fingerprint(members: &serde_json::Map<String, Value>) -> Option<String> {
    let is_sealed = members.contains_key("ciphertext") && members.contains_key("key_id");
    let text = members.get("fingerprint").filter(|_| is_sealed)?.as_str()?;
    Some(text.chars().take(16).collect())
}

/// A domain's field name as GraphQL and the command line name it.
#[must_use]
pub fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut camel, word| {
        let mut characters = word.chars();
        camel.extend(characters.next().map(|initial| initial.to_ascii_uppercase()));
        camel.push_str(characters.as_str());
        camel
    })
}
