//! Internal routes and metric tags as clients write and see them.

use std::collections::BTreeMap;

use async_graphql::{Enum, InputObject, SimpleObject};
use domain::{
    labels::{self, MetricTags},
    routes::Hostname,
};

use super::input::Faults;

/// What of an instance a tag tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum DynamicValue {
    /// Which slot.
    Index,
    /// Which container.
    InstanceGuid,
}

/// A tag of an LRP's lines and samples: a text, or something of the instance.
#[derive(SimpleObject)]
pub(super) struct MetricTag {
    /// Its name.
    name: String,
    /// The text, where it is one.
    r#static: Option<String>,
    /// What of the instance it tells, where it is no text.
    dynamic: Option<DynamicValue>,
}

/// A tag of an LRP's lines and samples: exactly one of `static` and `dynamic` must be given.
#[derive(InputObject)]
pub(super) struct MetricTagInput {
    /// Its name, from 1 to 255 bytes.
    name: String,
    /// A text, at most 1,024 bytes.
    r#static: Option<String>,
    /// Something of the instance.
    dynamic: Option<DynamicValue>,
}

/// A tag of one line.
#[derive(SimpleObject)]
pub(super) struct LineTag {
    /// Its name.
    name: String,
    /// Its value.
    value: String,
}

/// All tags, by name.
pub(super) fn shown(tags: &MetricTags) -> Vec<MetricTag> {
    let shown = |(name, tag): (&String, &labels::MetricTag)| {
        let (fixed, dynamic) = match tag {
            labels::MetricTag::Static(text) => (Some(text.clone()), None),
            labels::MetricTag::Dynamic(labels::DynamicValue::Index) => {
                (None, Some(DynamicValue::Index))
            }
            labels::MetricTag::Dynamic(labels::DynamicValue::InstanceGuid) => {
                (None, Some(DynamicValue::InstanceGuid))
            }
        };
        MetricTag { name: name.clone(), r#static: fixed, dynamic }
    };
    tags.iter().map(shown).collect()
}

/// The tags of a line, by name.
pub(super) fn of_line(tags: &BTreeMap<String, String>) -> Vec<LineTag> {
    let tag =
        |(name, value): (&String, &String)| LineTag { name: name.clone(), value: value.clone() };
    tags.iter().map(tag).collect()
}

/// Tags as the domain has them; `None` when a fault was noted.
pub(super) fn tags_of(
    tags: Vec<MetricTagInput>,
    path: &str,
    faults: &mut Faults,
) -> Option<MetricTags> {
    let read = faults.each(path, tags, |tag, path, faults| {
        let value = match (tag.r#static, tag.dynamic) {
            (Some(text), None) => Ok(labels::MetricTag::Static(text)),
            (None, Some(DynamicValue::Index)) => {
                Ok(labels::MetricTag::Dynamic(labels::DynamicValue::Index))
            }
            (None, Some(DynamicValue::InstanceGuid)) => {
                Ok(labels::MetricTag::Dynamic(labels::DynamicValue::InstanceGuid))
            }
            (Some(_), Some(_)) | (None, None) => Err("must have static or dynamic, not both"),
        };
        Some((tag.name, faults.parsed(path, value)?))
    })?;
    let count = read.len();
    let tags: MetricTags = read.into_iter().collect();
    let is_unique = if tags.len() == count { Ok(tags) } else { Err("must have each name once") };
    faults.parsed(path, is_unique)
}

/// Internal routes as the domain has them; `None` when a fault was noted.
pub(super) fn internal_routes_of(
    routes: Vec<String>,
    path: &str,
    faults: &mut Faults,
) -> Option<Vec<Hostname>> {
    faults.each(path, routes, |name, path, faults| faults.parsed(path, Hostname::new(&name)))
}
