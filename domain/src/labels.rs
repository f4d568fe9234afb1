//! Labels of an LRP: its names inside of the platform's network, and the tags of its lines and samples.
//!
//! They may change while instances run, whose cells are told (Diego's `LRPUpdate`): no part of a
//! definition, and no reason for a restart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    id::InstanceGuid,
    invalid::{Invalid, InvalidField},
    routes::Hostname,
};

/// How many internal routes one LRP may ask for.
const INTERNAL_ROUTES_MAX: usize = 100;
/// How many tags one LRP may have.
const TAGS_MAX: usize = 64;
/// The longest name of a tag in bytes.
const TAG_NAME_BYTES_MAX: usize = 255;
/// The longest value of a tag in bytes.
const TAG_VALUE_BYTES_MAX: usize = 1024;

/// What may change of an LRP while its instances run, and is told to their cells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Labels {
    /// Names inside of the platform's network that stand for every running instance.
    #[serde(default)]
    pub internal_routes: Vec<Hostname>,
    /// What its lines and samples are tagged with.
    #[serde(default)]
    pub metric_tags: MetricTags,
}

/// Tags by their names.
pub type MetricTags = BTreeMap<String, MetricTag>;

/// The value of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricTag {
    /// A text.
    Static(String),
    /// Something of the instance.
    Dynamic(DynamicValue),
}

/// What of an instance a tag tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DynamicValue {
    /// Which slot.
    Index,
    /// Which container.
    InstanceGuid,
}

impl Labels {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.internal_routes.is_empty() && self.metric_tags.is_empty()
    }

    /// The tags of one instance.
    #[must_use]
    pub fn tags_of(&self, index: u32, instance_guid: &InstanceGuid) -> BTreeMap<String, String> {
        let value = |tag: &MetricTag| match tag {
            MetricTag::Static(text) => text.clone(),
            MetricTag::Dynamic(DynamicValue::Index) => index.to_string(),
            MetricTag::Dynamic(DynamicValue::InstanceGuid) => instance_guid.to_string(),
        };
        self.metric_tags.iter().map(|(name, tag)| (name.clone(), value(tag))).collect()
    }
}

/// Says what is wrong with internal routes from outside.
pub(crate) fn check_internal_routes(routes: &[Hostname], invalid: &mut Invalid) {
    invalid.at_most("internal_routes", routes.len(), INTERNAL_ROUTES_MAX);
}

/// The most bytes of all tags of one LRP: every line and sample carries them.
const TAGS_BYTES_MAX: usize = 4096;

/// Says what is wrong with tags from outside.
pub(crate) fn check_metric_tags(tags: &MetricTags, invalid: &mut Invalid) {
    invalid.at_most("metric_tags", tags.len(), TAGS_MAX);
    let is_name = |name: &String| (1..=TAG_NAME_BYTES_MAX).contains(&name.len());
    if !tags.keys().all(is_name) {
        let problem = format!("must have names of 1 to {TAG_NAME_BYTES_MAX} bytes");
        invalid.push(InvalidField::new("metric_tags", problem));
    }
    let is_value = |tag: &MetricTag| match tag {
        MetricTag::Static(text) => text.len() <= TAG_VALUE_BYTES_MAX,
        MetricTag::Dynamic(_) => true,
    };
    let text = |tag: &MetricTag| match tag {
        MetricTag::Static(text) => text.clone(),
        MetricTag::Dynamic(_) => String::new(),
    };
    let bytes: usize = tags.iter().map(|(name, tag)| name.len() + text(tag).len()).sum();
    if bytes > TAGS_BYTES_MAX {
        let problem = format!("must be at most {TAGS_BYTES_MAX} bytes together, but are {bytes}");
        invalid.push(InvalidField::new("metric_tags", problem));
    }
    let is_plain = |text: &str| !text.chars().any(char::is_control);
    if !tags.iter().all(|(name, tag)| is_plain(name) && is_plain(&text(tag))) {
        let problem = "must hold no control characters".to_owned();
        invalid.push(InvalidField::new("metric_tags", problem));
    }
    if !tags.values().all(is_value) {
        let problem = format!("must have values of at most {TAG_VALUE_BYTES_MAX} bytes");
        invalid.push(InvalidField::new("metric_tags", problem));
    }
}
