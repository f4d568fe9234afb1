//! The log as clients see it: pages of events, and the filter that pages and subscriptions share.
//!
//! Payloads are shown as they are stored: secrets in them are sealed.

use std::sync::Arc;

use async_graphql::{Enum, InputObject, Object, Result, SimpleObject};
use domain::{
    event::Event,
    log::{
        Actor as DomainActor, ActorKind as DomainActorKind, Cursor, Incarnation, Owner, Position,
        Recorded,
    },
};
use projections::event_store::{EventStore, Filter, Order};

use super::{
    candidates::{self, Candidates},
    error::{self, coded, invalid_field},
    scalars::{CursorText, PositionText, Time},
};

/// How many type names one filter may hold.
const TYPES_MAX: usize = 100;

/// What sort of party sent a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum ActorKind {
    /// A person or a program with a token.
    User,
    /// One of the control plane's loops.
    Loop,
    /// A cell's report.
    Cell,
}

impl From<DomainActorKind> for ActorKind {
    fn from(kind: DomainActorKind) -> Self {
        match kind {
            DomainActorKind::User => Self::User,
            DomainActorKind::Loop => Self::Loop,
            DomainActorKind::Cell => Self::Cell,
        }
    }
}

impl From<ActorKind> for DomainActorKind {
    fn from(kind: ActorKind) -> Self {
        match kind {
            ActorKind::User => Self::User,
            ActorKind::Loop => Self::Loop,
            ActorKind::Cell => Self::Cell,
        }
    }
}

/// Who sent a command, and by which edge.
#[derive(SimpleObject)]
pub(super) struct Actor {
    /// What sort of party.
    kind: ActorKind,
    /// Its name: of the token, the loop or the cell.
    name: String,
    /// The edge it came in by, or the node of a loop.
    via: String,
}

/// One event of the log.
pub(super) struct LogEvent {
    recorded: Arc<Recorded<Event>>,
    incarnation: Incarnation,
}

impl LogEvent {
    /// An event of one life of the log.
    pub(super) fn new(recorded: Arc<Recorded<Event>>, incarnation: Incarnation) -> Self {
        Self { recorded, incarnation }
    }
}

/// One event of the log.
#[Object]
impl LogEvent {
    /// Where a reader is that has read up to this event.
    async fn cursor(&self) -> CursorText {
        let Self { recorded, incarnation } = self;
        CursorText(Cursor { incarnation: *incarnation, position: recorded.position })
    }

    /// Its place in the log.
    async fn position(&self) -> PositionText {
        PositionText(self.recorded.position)
    }

    /// The stream it belongs to, such as `actual/<process guid>/<index>`.
    async fn stream(&self) -> String {
        self.recorded.stream.to_string()
    }

    /// Its number in that stream, from 1.
    async fn version(&self) -> String {
        self.recorded.version.0.to_string()
    }

    /// Whose history it belongs to, such as `process/<process guid>`.
    async fn owner(&self) -> String {
        self.recorded.stream.owner().to_string()
    }

    /// The name of what happened, such as `actual_lrp.crashed`.
    #[graphql(name = "type")]
    async fn type_name(&self) -> &'static str {
        self.recorded.event.type_name()
    }

    /// The version of the payload's shape.
    async fn schema_version(&self) -> u16 {
        self.recorded.event.schema_version()
    }

    /// When it was recorded.
    async fn recorded_at(&self) -> Time {
        Time(self.recorded.recorded_at)
    }

    /// Who caused it.
    async fn actor(&self) -> Actor {
        let actor = &self.recorded.actor;
        Actor {
            kind: actor.kind.into(),
            name: actor.name.as_ref().to_owned(),
            via: actor.via.as_ref().to_owned(),
        }
    }

    /// The command that it answers.
    async fn command_id(&self) -> &str {
        self.recorded.command_id.as_str()
    }

    /// The event that made the command's sender act, where there is one.
    async fn causation(&self) -> Option<PositionText> {
        self.recorded.causation.map(PositionText)
    }

    /// The first command of the chain that led here.
    async fn correlation(&self) -> &str {
        self.recorded.correlation.as_str()
    }

    /// Among which cells something was placed, and why it is where it is, or nowhere. Of other
    /// events there are none.
    async fn candidates(&self) -> Option<Candidates> {
        candidates::of_event(&self.recorded.event)
    }

    /// What happened, as JSON; secrets in it are sealed.
    async fn payload(&self) -> Result<String> {
        let bytes = self.recorded.event.payload();
        let bytes = bytes.map_err(|failure| error::internal("cannot encode an event", &failure))?;
        String::from_utf8(bytes)
            .map_err(|failure| error::internal("cannot encode an event", &failure))
    }
}

/// A part of the log, oldest first.
#[derive(SimpleObject)]
pub(super) struct LogConnection {
    /// The events.
    events: Vec<LogEvent>,
    /// Where to go on: give it as `after`. Without more events it is the end of the log as it was
    /// read, also where the filter let nothing through.
    end_cursor: CursorText,
    /// Whether there are more behind it.
    has_more: bool,
}

/// Which events are asked for. What is absent asks nothing.
#[derive(InputObject)]
pub(super) struct LogFilter {
    /// Only of this owner: `process/<guid>`, `task/<guid>`, `cell/<id>` or `freshness/<name>`.
    owner: Option<String>,
    /// Only these, by name, such as `actual_lrp.crashed`.
    types: Option<Vec<String>>,
    /// Only caused by this actor.
    actor: Option<ActorInput>,
}

/// Exactly one actor.
#[derive(InputObject)]
pub(super) struct ActorInput {
    /// What sort of party.
    kind: ActorKind,
    /// Its name.
    name: String,
    /// The edge it came in by, or the node of a loop.
    via: String,
}

/// The filter of a request; none lets everything through.
pub(super) fn checked_filter(input: Option<LogFilter>) -> Result<Filter> {
    let Some(LogFilter { owner, types, actor }) = input else { return Ok(Filter::default()) };
    let owner: Option<Owner> = owner.map(|text| text.parse()).transpose().map_err(|_| {
        invalid_field(
            "filter.owner",
            "must be process/<guid>, task/<guid>, cell/<id> or freshness/<name>",
        )
    })?;
    let types = types.unwrap_or_default();
    if types.len() > TYPES_MAX {
        let problem = format!("must not have more than {TYPES_MAX} entries");
        return Err(invalid_field("filter.types", problem));
    }
    let known = Event::type_names();
    if let Some(index) = types.iter().position(|name| !known.contains(&name.as_str())) {
        let problem = format!("must be one of {}", known.join(", "));
        return Err(invalid_field(&format!("filter.types[{index}]"), problem));
    }
    let actor = actor.map(|ActorInput { kind, name, via }| DomainActor {
        kind: kind.into(),
        name: name.into(),
        via: via.into(),
    });
    Ok(Filter { owner, types, actor, until: None })
}

/// Whether a filter lets an event through, as the store would judge.
pub(super) fn lets_through(filter: &Filter, recorded: &Recorded<Event>) -> bool {
    let type_name = recorded.event.type_name();
    filter.owner.as_ref().is_none_or(|owner| *owner == recorded.stream.owner())
        && (filter.types.is_empty() || filter.types.iter().any(|name| name == type_name))
        && filter.actor.as_ref().is_none_or(|actor| *actor == recorded.actor)
}

/// The position of a cursor of this life of the log.
pub(super) fn position_of(cursor: CursorText, incarnation: Incarnation) -> Result<Position> {
    let CursorText(cursor) = cursor;
    if cursor.incarnation == incarnation {
        return Ok(cursor.position);
    }
    let message = "the cursor is of another log, or of this one before it was restored: \
                   read the present state anew, and go on from there";
    Err(coded("CURSOR_OF_ANOTHER_LOG", message))
}

/// A page of the log.
pub(super) async fn page(
    store: &dyn EventStore,
    incarnation: Incarnation,
    after: Position,
    first: usize,
    filter: Filter,
) -> Result<LogConnection> {
    // The head is taken first, and nothing behind it is read: so it is the end of what was read.
    let head = store.head().await.map_err(|failure| error::of_log(&failure))?.position;
    if after > head {
        let message = format!("position {after} is ahead of the log's head, {head}");
        return Err(coded("AHEAD_OF_HEAD", message));
    }
    let filter = Filter { until: Some(head), ..filter };
    let found = store.read_filtered(&filter, after, first + 1, Order::OldestFirst).await;
    let mut found = found.map_err(|failure| error::of_log(&failure))?;
    let has_more = found.len() > first;
    found.truncate(first);
    let position = match found.last() {
        _ if !has_more => head,
        Some(last) => last.position,
        None => after,
    };
    Ok(LogConnection {
        events: found
            .into_iter()
            .map(|event| LogEvent::new(Arc::new(event), incarnation))
            .collect(),
        end_cursor: CursorText(Cursor { incarnation, position }),
        has_more,
    })
}

/// The newest events that a filter lets through, oldest first.
pub(super) async fn newest(
    store: &dyn EventStore,
    incarnation: Incarnation,
    last: usize,
    filter: Filter,
) -> Result<LogConnection> {
    let head = store.head().await.map_err(|failure| error::of_log(&failure))?.position;
    let found = store.read_filtered(&filter, head.next(), last, Order::NewestFirst).await;
    let found = found.map_err(|failure| error::of_log(&failure))?;
    Ok(LogConnection {
        events: found
            .into_iter()
            .rev()
            .map(|event| LogEvent::new(Arc::new(event), incarnation))
            .collect(),
        end_cursor: CursorText(Cursor { incarnation, position: head }),
        has_more: false,
    })
}
