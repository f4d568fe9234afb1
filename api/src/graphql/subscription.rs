//! What can be followed: the log, slots, output.
//!
//! A stream takes from the log only as fast as its reader takes from it, so a slow reader costs
//! no memory here; the socket closes one that takes nothing for too long.

use std::{collections::BTreeSet, sync::Arc};

use async_graphql::{Context, Result, SimpleObject, Subscription as GraphqlSubscription};
use domain::{
    id::{ActualLrpKey, ProcessGuid},
    log::{Cursor, Position, Recorded, StreamId},
};
use futures_util::{Stream, StreamExt as _, stream};
use projections::{
    event_store,
    observations::{Follow, Kind},
};

use crate::telemetry::subscribers::Subscriber;

use super::{
    ControlPlane,
    actual_lrp::{self, ActualLrp},
    error::{GOING_DOWN, coded, of_log, of_observations, parse_id},
    log::{self, LogEvent, LogFilter},
    observations::{self, LogLine, RecordsOf},
    page,
    progress::Progress,
    query::InstantInput,
    scalars::{CursorText, PositionText},
    state,
};

/// How many events are looked at together.
const BATCH_MAX: usize = 500;

/// The streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription;

/// A slot as it is now, or that it is gone.
#[derive(SimpleObject)]
pub(super) struct ActualLrpChange {
    /// Whose slot.
    process_guid: String,
    /// Which slot.
    index: u32,
    /// The slot; absent when it is gone.
    actual_lrp: Option<ActualLrp>,
    /// The position at which it is so.
    position: PositionText,
}

/// What can be followed.
#[GraphqlSubscription]
impl Subscription {
    /// The log behind a cursor: first what is there, then what comes, each event once, in order.
    /// Without a cursor: what comes from now on. To go on after a break, give the cursor of the
    /// last event that was received.
    async fn log(
        &self,
        ctx: &Context<'_>,
        after: Option<CursorText>,
        filter: Option<LogFilter>,
    ) -> Result<impl Stream<Item = Result<LogEvent>> + use<>> {
        let ControlPlane { store, incarnation, .. } = &state(ctx)?.control_plane;
        let filter = log::checked_filter(filter)?;
        let head = store.head().await.map_err(|failure| of_log(&failure))?.position;
        let after = match after {
            Some(cursor) => log::position_of(cursor, *incarnation)?,
            None => head,
        };
        if after > head {
            let message = format!("the cursor is ahead of the log's head, {head}");
            return Err(coded("AHEAD_OF_HEAD", message));
        }
        let incarnation = *incarnation;
        let progress = ctx.data_opt::<Arc<Progress>>().cloned().unwrap_or_default();
        progress.passed(Cursor { incarnation, position: after });
        let feed = match &filter.owner {
            Some(owner) => Feed::OfOne(store.subscribe_to(owner, after)),
            None => Feed::OfAll(store.subscribe(after)),
        };
        let start =
            Following { feed: Some(feed), progress, given: None, _counted: Subscriber::of("log") };
        Ok(stream::unfold(start, move |following| next_event(following, incarnation))
            .filter(move |event| {
                let passes = match event {
                    Ok(recorded) => log::lets_through(&filter, recorded),
                    Err(_) => true,
                };
                std::future::ready(passes)
            })
            .map(move |event| event.map(|recorded| LogEvent::new(recorded, incarnation))))
    }

    /// Slots: first those that are there, then each that has changed, as it is then. Changes that
    /// come close together show only their last state.
    async fn actual_lrps(
        &self,
        ctx: &Context<'_>,
        process_guid: Option<String>,
    ) -> Result<impl Stream<Item = Result<ActualLrpChange>> + use<>> {
        let control_plane = state(ctx)?.control_plane.clone();
        let process_guid: Option<ProcessGuid> =
            process_guid.map(|text| parse_id("processGuid", &text)).transpose()?;
        let (keys, position) = control_plane.now.read(|world| {
            let aggregates = world.aggregates();
            let keys = match &process_guid {
                Some(process_guid) => {
                    aggregates.slots_of(process_guid).map(|slot| slot.key.clone()).collect()
                }
                None => aggregates.slots().map(|slot| slot.key.clone()).collect(),
            };
            (keys, world.position())
        });
        let subscription = Some(control_plane.store.subscribe(position));
        let start = Slots {
            control_plane,
            process_guid,
            subscription,
            present: Some(keys),
            _counted: Subscriber::of("actual_lrps"),
        };
        Ok(stream::unfold(start, next_slots).flat_map(stream::iter))
    }

    /// The output of a process or a task: the lines behind a cursor or since an instant, or the
    /// last ones, or what comes from now on; then what comes.
    #[expect(clippy::too_many_arguments, reason = "the arguments of a GraphQL field")]
    async fn logs(
        &self,
        ctx: &Context<'_>,
        process_guid: Option<String>,
        task_guid: Option<String>,
        index: Option<u32>,
        after: Option<String>,
        #[graphql(desc = "Only what was written then or later, by the cell's clock.")]
        since: Option<InstantInput>,
        last: Option<i32>,
    ) -> Result<impl Stream<Item = Result<LogLine>> + use<>> {
        let last = match (&after, &since, last) {
            (_, _, Some(last)) => Some(page("last", last)?),
            (Some(_), _, None) | (None, Some(_), None) => None,
            (None, None, None) => Some(0),
        };
        let since = observations::time_of(&state(ctx)?.control_plane, "since", since).await?;
        let of = RecordsOf { process_guid, task_guid, index, after, since, until: None };
        let (owner, query) = of.checked(Kind::Lines)?;
        let query = projections::observations::Query { last, ..query };
        let follow = state(ctx)?.control_plane.observations.follow(&owner, query).await;
        let follow = follow.map_err(|failure| of_observations(&failure))?;
        let start = Some((follow, Subscriber::of("logs")));
        Ok(stream::unfold(start, next_lines).flat_map(stream::iter))
    }
}

/// The log, or one owner's part of it, by which an event of another costs nothing.
enum Feed {
    OfAll(event_store::Subscription),
    OfOne(event_store::OwnerSubscription),
}

impl Feed {
    async fn next(&mut self) -> std::result::Result<Event, event_store::Error> {
        match self {
            Self::OfAll(subscription) => subscription.next().await,
            Self::OfOne(subscription) => subscription.next().await,
        }
    }
}

/// Where following the log is. `feed` is `None` after an error was told.
struct Following {
    feed: Option<Feed>,
    progress: Arc<Progress>,
    given: Option<Position>,
    _counted: Subscriber,
}

type Event = Arc<Recorded<domain::event::Event>>;

async fn next_event(
    mut following: Following,
    incarnation: domain::log::Incarnation,
) -> Option<(Result<Event>, Following)> {
    // Asked for the next, so the one before has been taken.
    if let Some(position) = following.given.take() {
        following.progress.passed(Cursor { incarnation, position });
    }
    let event = following.feed.as_mut()?.next().await;
    Some(match event {
        Ok(event) => {
            following.given = Some(event.position);
            (Ok(event), following)
        }
        Err(failure) => {
            following.feed = None;
            (Err(of_log(&failure)), following)
        }
    })
}

/// Where following slots is. `subscription` is `None` after an error was told.
struct Slots {
    control_plane: ControlPlane,
    process_guid: Option<ProcessGuid>,
    subscription: Option<event_store::Subscription>,
    present: Option<BTreeSet<ActualLrpKey>>,
    _counted: Subscriber,
}

fn is_of(key: &ActualLrpKey, process_guid: Option<&ProcessGuid>) -> bool {
    process_guid.is_none_or(|process_guid| *process_guid == key.process_guid)
}

type Changes = Vec<Result<ActualLrpChange>>;

async fn next_slots(mut slots: Slots) -> Option<(Changes, Slots)> {
    let subscription = slots.subscription.as_mut()?;
    let keys = match slots.present.take() {
        Some(keys) => keys,
        None => match subscription.next_batch(BATCH_MAX).await {
            Ok(events) => changed(&events, slots.process_guid.as_ref()),
            Err(failure) => {
                slots.subscription = None;
                return Some((vec![Err(of_log(&failure))], slots));
            }
        },
    };
    // The view may be behind what the subscription read.
    if !slots.control_plane.now.reach(subscription.position()).await {
        let gone = coded("UNAVAILABLE", GOING_DOWN);
        slots.subscription = None;
        return Some((vec![Err(gone)], slots));
    }
    Some((look(&slots.control_plane, keys), slots))
}

fn changed(events: &[Event], process_guid: Option<&ProcessGuid>) -> BTreeSet<ActualLrpKey> {
    let keys = events.iter().filter_map(|event| match &event.stream {
        StreamId::ActualLrp(key) if is_of(key, process_guid) => Some(key.clone()),
        StreamId::ActualLrp(_)
        | StreamId::DesiredLrp(_)
        | StreamId::Task(_)
        | StreamId::Cell(_)
        | StreamId::FreshnessDomain(_)
        | StreamId::Secrets(_) => None,
    });
    keys.collect()
}

fn look(control_plane: &ControlPlane, keys: BTreeSet<ActualLrpKey>) -> Changes {
    control_plane.now.read(|world| {
        let change = |key: ActualLrpKey| ActualLrpChange {
            process_guid: key.process_guid.to_string(),
            index: key.index,
            actual_lrp: world
                .aggregates()
                .slot(&key)
                .and_then(|slot| actual_lrp::slot(world, slot)),
            position: PositionText(world.position()),
        };
        keys.into_iter().map(|key| Ok(change(key))).collect()
    })
}

type Lines = Vec<Result<LogLine>>;

type Counted = (Follow, Subscriber);

async fn next_lines(counted: Option<Counted>) -> Option<(Lines, Option<Counted>)> {
    let (mut follow, subscriber) = counted?;
    Some(match follow.next().await {
        Ok(page) => {
            let lines = page.records.into_iter().filter_map(LogLine::of).map(Ok).collect();
            (lines, Some((follow, subscriber)))
        }
        Err(failure) => (vec![Err(of_observations(&failure))], None),
    })
}
