//! What one event changed: the fields of its own thing, and where its process's routes lead.
//!
//! Shows no secret: a sealed value is told by its fingerprint.

use std::collections::BTreeMap;

use domain::{aggregates::Aggregate, id::ProcessGuid, log::StreamId};

use super::fields::{self, FieldChange, Flat};
use crate::world::World;

/// How something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is no longer there.
    Removed,
    /// It is another now.
    Changed,
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// A stream, such as `actual/web/0`, or `route/` and a host name.
    pub thing: String,
    /// The fields that differ.
    pub fields: Vec<FieldChange>,
}

/// What events of a stream can change, as it stands in one world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look(BTreeMap<String, Flat>);

impl Look {
    /// Looks at a stream's thing and at its process's routes.
    #[must_use]
    pub fn at(world: &World, stream: &StreamId) -> Self {
        let mut things = BTreeMap::new();
        if let Some(aggregate) = world.aggregates().get(stream) {
            things.insert(stream.to_string(), flat(&aggregate));
        }
        match stream {
            StreamId::DesiredLrp(process_guid) => add_routes(world, process_guid, &mut things),
            StreamId::ActualLrp(key) => add_routes(world, &key.process_guid, &mut things),
            StreamId::Task(_)
            | StreamId::Cell(_)
            | StreamId::FreshnessDomain(_)
            | StreamId::Secrets(_) => {}
        }
        Self(things)
    }

    /// What changed from this look to a later one.
    #[must_use]
    pub fn changes_to(mut self, later: Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (thing, after) in later.0 {
            let (kind, before) = match self.0.remove(&thing) {
                None => (ChangeKind::Added, Flat::new()),
                Some(before) if before == after => continue,
                Some(before) => (ChangeKind::Changed, before),
            };
            let fields = fields::changes(&before, &after);
            changes.push(Change { kind, thing, fields });
        }
        for (thing, before) in self.0 {
            let fields = fields::changes(&before, &Flat::new());
            changes.push(Change { kind: ChangeKind::Removed, thing, fields });
        }
        changes
    }
}

/// The fields of an aggregate.
#[must_use]
pub fn flat(aggregate: &Aggregate) -> Flat {
    match aggregate {
        Aggregate::DesiredLrp(lrp) => fields::flat(lrp),
        Aggregate::ActualLrp(slot) => fields::flat(slot),
        Aggregate::Task(task) => fields::flat(task),
        Aggregate::Cell(cell) => fields::flat(cell),
        Aggregate::FreshnessDomain(domain) => fields::flat(domain),
        Aggregate::Secrets(secrets) => fields::flat(secrets),
    }
}

fn add_routes(world: &World, process_guid: &ProcessGuid, things: &mut BTreeMap<String, Flat>) {
    let Some(lrp) = world.aggregates().desired_lrp(process_guid) else { return };
    for hostname in lrp.routes.iter().flat_map(|route| &route.hostnames) {
        let mut endpoints = world.route_table().endpoints(hostname).unwrap_or_default();
        // Another process may share the name: its endpoints are its own events' business.
        endpoints.retain(|endpoint| endpoint.key.process_guid == *process_guid);
        things.insert(format!("route/{hostname}"), fields::endpoints(&endpoints));
    }
}
