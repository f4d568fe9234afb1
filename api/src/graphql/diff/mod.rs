//! What changed between two instants: desired LRPs, instances, routes, and the events that did it.
//!
//! Bounded in things, fields and events, and says when it was cut. A secret shows as changed by
//! its fingerprint, never as what it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_graphql::{Enum, Result, SimpleObject};
use domain::{
    bbs::desired_lrp::DesiredLrp,
    event::Event,
    id::ProcessGuid,
    log::{Incarnation, Owner, Position, Recorded, StreamId},
};
use projections::{
    event_store::{EventStore, Filter, Order},
    history::fields::{self, Flat},
    world::World,
};

use super::{
    error::of_log,
    log::LogEvent,
    scalars::{PositionText, Time},
};
pub(super) use projections::history::fields::camel_case;

/// How many changed things of each kind are told.
const CHANGES_MAX: usize = 500;
/// How many events are told of one changed thing: the newest.
const EVENTS_PER_CHANGE_MAX: usize = 20;
/// How many processes' events are looked at, and how many of each.
const OWNERS_MAX: usize = 200;
const EVENTS_PER_OWNER_MAX: usize = 500;

/// What changed between two instants.
#[derive(SimpleObject)]
pub(super) struct Diff {
    /// The position of the first instant.
    from: PositionText,
    /// The position of the second.
    to: PositionText,
    /// The time of the last event counted in at the first.
    from_recorded_at: Time,
    /// The time of the last event counted in at the second.
    to_recorded_at: Time,
    /// Desired LRPs.
    desired_lrps: Vec<Change>,
    /// Slots and their instances.
    actual_lrps: Vec<Change>,
    /// Routes and their endpoints.
    routes: Vec<Change>,
    /// Whether something was left out.
    is_truncated: bool,
}

/// How something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is no longer there.
    Removed,
    /// It is another now.
    Changed,
}

/// One field that differs.
#[derive(SimpleObject)]
pub(super) struct FieldChange {
    /// Which, as a path.
    name: String,
    /// What it was; absent when it was not there.
    from: Option<String>,
    /// What it is; absent when it is no longer there.
    to: Option<String>,
}

impl From<fields::FieldChange> for FieldChange {
    fn from(change: fields::FieldChange) -> Self {
        let fields::FieldChange { name, from, to } = change;
        Self { name, from, to }
    }
}

/// One thing that changed.
#[derive(SimpleObject)]
pub(super) struct Change {
    /// How.
    kind: ChangeKind,
    /// A process guid, `<process guid>/<index>`, or a host name.
    key: String,
    /// The fields that differ.
    fields: Vec<FieldChange>,
    /// The newest events between the two instants that it follows from, oldest first.
    events: Vec<LogEvent>,
}

/// A changed thing whose events are not looked up yet.
struct Found {
    kind: ChangeKind,
    key: String,
    fields: Vec<FieldChange>,
    cause: Cause,
}

/// The events that a change may follow from.
struct Cause {
    streams: BTreeSet<StreamId>,
    is_relevant: fn(&Event) -> bool,
}

impl Cause {
    /// Every event of a stream.
    fn stream(stream: StreamId) -> Self {
        Self { streams: BTreeSet::from([stream]), is_relevant: |_| true }
    }
}

/// Compares two worlds and looks up the events between them.
pub(super) async fn between(
    store: &dyn EventStore,
    incarnation: Incarnation,
    from: &World,
    to: &World,
) -> Result<Diff> {
    let mut is_truncated = false;
    let mut found = [desired_lrps(from, to), actual_lrps(from, to), routes(from, to)];
    for changes in &mut found {
        is_truncated |= changes.len() > CHANGES_MAX;
        changes.truncate(CHANGES_MAX);
    }
    let mut owners: BTreeSet<ProcessGuid> = found.iter().flatten().flat_map(owners_of).collect();
    is_truncated |= owners.len() > OWNERS_MAX;
    owners = owners.into_iter().take(OWNERS_MAX).collect();
    let span = Span { from: from.position(), to: to.position() };
    let events = read_events(store, &owners, span, &mut is_truncated).await?;
    let told = |changes: Vec<Found>| -> Vec<Change> {
        changes.into_iter().map(|change| told(change, &events, incarnation)).collect()
    };
    let [desired_lrps, actual_lrps, routes] = found;
    Ok(Diff {
        from: PositionText(span.from),
        to: PositionText(span.to),
        from_recorded_at: Time(from.recorded_at()),
        to_recorded_at: Time(to.recorded_at()),
        desired_lrps: told(desired_lrps),
        actual_lrps: told(actual_lrps),
        routes: told(routes),
        is_truncated,
    })
}

fn desired_lrps(from: &World, to: &World) -> Vec<Found> {
    // Most are the same, and their fields need not be told.
    let flat = |world: &World, other: &World| {
        let lrps = world.aggregates().desired_lrps();
        let differs =
            |lrp: &&DesiredLrp| other.aggregates().desired_lrp(&lrp.process_guid) != Some(*lrp);
        let lrps = lrps.filter(differs);
        lrps.map(|lrp| (lrp.process_guid.clone(), fields::flat(lrp))).collect()
    };
    compare(flat(from, to), flat(to, from), |guid| {
        Cause::stream(StreamId::DesiredLrp(guid.clone()))
    })
}

fn actual_lrps(from: &World, to: &World) -> Vec<Found> {
    let flat = |world: &World, other: &World| {
        let slots = world.aggregates().slots().filter(|slot| !slot.is_removed());
        let slots = slots.filter(|slot| other.aggregates().slot(&slot.key) != Some(*slot));
        slots.map(|slot| (slot.key.clone(), fields::flat(slot))).collect()
    };
    compare(flat(from, to), flat(to, from), |key| Cause::stream(StreamId::ActualLrp(key.clone())))
}

fn routes(from: &World, to: &World) -> Vec<Found> {
    let mut streams: BTreeMap<String, BTreeSet<StreamId>> = BTreeMap::new();
    for lrp in from.aggregates().desired_lrps().chain(to.aggregates().desired_lrps()) {
        for hostname in lrp.routes.iter().flat_map(|route| &route.hostnames) {
            let stream = StreamId::DesiredLrp(lrp.process_guid.clone());
            streams.entry(hostname.to_string()).or_default().insert(stream);
        }
    }
    for (world, other) in [(from, to), (to, from)] {
        for (hostname, endpoints) in world.route_table().routes() {
            let there = other.route_table().endpoints(hostname).unwrap_or_default();
            let only_here = endpoints.into_iter().filter(|endpoint| !there.contains(endpoint));
            let slots = only_here.map(|endpoint| StreamId::ActualLrp(endpoint.key.clone()));
            streams.entry(hostname.to_string()).or_default().extend(slots);
        }
    }
    let flat = |world: &World| {
        let routes = world.route_table().routes();
        routes.map(|(name, to)| (name.to_string(), fields::endpoints(&to))).collect()
    };
    compare(flat(from), flat(to), |hostname| Cause {
        streams: streams.get(hostname).cloned().unwrap_or_default(),
        is_relevant: may_change_routes,
    })
}

/// Joins two sorted maps on their keys, and keeps what differs.
fn compare<K: Ord + ToString>(
    mut from: BTreeMap<K, Flat>,
    to: BTreeMap<K, Flat>,
    cause: impl Fn(&K) -> Cause,
) -> Vec<Found> {
    let mut changes = BTreeMap::new();
    for (key, after) in to {
        match from.remove(&key) {
            None => drop(changes.insert(key, (ChangeKind::Added, Flat::new(), after))),
            Some(before) if before != after => {
                changes.insert(key, (ChangeKind::Changed, before, after));
            }
            Some(_) => {}
        }
    }
    for (key, before) in from {
        changes.insert(key, (ChangeKind::Removed, before, Flat::new()));
    }
    changes
        .into_iter()
        .map(|(key, (kind, before, after))| Found {
            kind,
            key: key.to_string(),
            fields: fields::changes(&before, &after).into_iter().map(Into::into).collect(),
            cause: cause(&key),
        })
        .collect()
}

fn owners_of(change: &Found) -> BTreeSet<ProcessGuid> {
    let owners = change.cause.streams.iter().filter_map(|stream| match stream {
        StreamId::DesiredLrp(process_guid) => Some(process_guid),
        StreamId::ActualLrp(key) => Some(&key.process_guid),
        StreamId::Task(_)
        | StreamId::Cell(_)
        | StreamId::FreshnessDomain(_)
        | StreamId::Secrets(_) => None,
    });
    owners.cloned().collect()
}

/// Behind one position, up to another.
#[derive(Clone, Copy)]
struct Span {
    from: Position,
    to: Position,
}

impl Span {
    /// The same span when the two instants are given the other way round.
    fn forwards(self) -> Self {
        Self { from: self.from.min(self.to), to: self.from.max(self.to) }
    }
}

type Events = BTreeMap<ProcessGuid, Vec<Recorded<Event>>>;

async fn read_events(
    store: &dyn EventStore,
    owners: &BTreeSet<ProcessGuid>,
    span: Span,
    is_truncated: &mut bool,
) -> Result<Events> {
    let Span { from, to } = span.forwards();
    let mut events = Events::new();
    for process_guid in owners {
        let owner = Some(Owner::Process(process_guid.clone()));
        let filter = Filter { owner, ..Filter::default() };
        // Newest first: what is cut off is what came earliest.
        let read = store
            .read_filtered(&filter, to.next(), EVENTS_PER_OWNER_MAX, Order::NewestFirst)
            .await
            .map_err(|failure| of_log(&failure))?;
        let mut within: Vec<_> = read.into_iter().take_while(|it| it.position > from).collect();
        *is_truncated |= within.len() == EVENTS_PER_OWNER_MAX;
        within.reverse();
        events.insert(process_guid.clone(), within);
    }
    Ok(events)
}

fn told(change: Found, events: &Events, incarnation: Incarnation) -> Change {
    let mut mine: Vec<&Recorded<Event>> = owners_of(&change)
        .iter()
        .filter_map(|process_guid| events.get(process_guid))
        .flatten()
        .filter(|recorded| change.cause.streams.contains(&recorded.stream))
        .filter(|recorded| (change.cause.is_relevant)(&recorded.event))
        .collect();
    mine.sort_by_key(|recorded| recorded.position);
    let newest = mine.split_off(mine.len().saturating_sub(EVENTS_PER_CHANGE_MAX));
    let newest = newest.into_iter().cloned().map(Arc::new);
    Change {
        kind: change.kind,
        key: change.key,
        fields: change.fields,
        events: newest.map(|recorded| LogEvent::new(recorded, incarnation)).collect(),
    }
}

/// Whether an event of a process can change where its routes lead.
fn may_change_routes(event: &Event) -> bool {
    use domain::bbs::{actual_lrp, desired_lrp};
    match event {
        Event::DesiredLrp(event) => match event {
            desired_lrp::Event::Desired(_)
            | desired_lrp::Event::RoutesChanged(_)
            | desired_lrp::Event::Removed(_) => true,
            desired_lrp::Event::Scaled(_)
            | desired_lrp::Event::AnnotationChanged(_)
            | desired_lrp::Event::InternalRoutesChanged(_)
            | desired_lrp::Event::MetricTagsChanged(_)
            | desired_lrp::Event::RestartChanged(_) => false,
        },
        Event::ActualLrp(event) => match event {
            actual_lrp::Event::Started(_)
            | actual_lrp::Event::Crashed(_)
            | actual_lrp::Event::Unclaimed(_)
            | actual_lrp::Event::Retired(_)
            | actual_lrp::Event::Removed(_)
            | actual_lrp::Event::SuspectRemoved(_)
            | actual_lrp::Event::TwinCrashed(_)
            | actual_lrp::Event::EvacuationEnded(_)
            | actual_lrp::Event::ReadinessChanged(_) => true,
            actual_lrp::Event::Created(_)
            | actual_lrp::Event::Left(_)
            | actual_lrp::Event::Placed(_)
            | actual_lrp::Event::PlacementFailed(_)
            | actual_lrp::Event::Refused(_)
            | actual_lrp::Event::Claimed(_)
            | actual_lrp::Event::Suspected(_)
            | actual_lrp::Event::SuspectRestored(_)
            | actual_lrp::Event::EvacuationStarted(_)
            | actual_lrp::Event::Killed(_)
            | actual_lrp::Event::WithdrawalStarted(_)
            | actual_lrp::Event::WithdrawalEnded(_) => false,
        },
        Event::Task(_) | Event::Cell(_) | Event::FreshnessDomain(_) | Event::Secrets(_) => false,
    }
}
