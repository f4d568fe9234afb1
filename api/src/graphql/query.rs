//! What can be asked: the present, any instant of the past, the log, and what lies between.

use async_graphql::{Context, Object, OneofObject, Result};
use domain::log::{Cursor, Position};
use projections::history::{Instant, views};

use super::{
    ControlPlane,
    crash::{self, Crash},
    diff::{self, Diff},
    error::{internal, invalid_field, of_history},
    log::{self, LogConnection, LogFilter},
    metrics::{self, ContainerMetrics},
    observations::{self, LogLineConnection, RecordsOf},
    page,
    scalars::{CursorText, PositionText, Time},
    scope::Scope,
    state,
    view::ViewDigests,
    world::World,
};

/// The questions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query;

/// An instant of the log: exactly one of these.
#[derive(OneofObject)]
pub(super) enum InstantInput {
    /// After the event at a position.
    Position(PositionText),
    /// After the last event that was not recorded later.
    Time(Time),
}

impl From<InstantInput> for Instant {
    fn from(input: InstantInput) -> Self {
        match input {
            InstantInput::Position(PositionText(position)) => Self::Position(position),
            InstantInput::Time(Time(time)) => Self::Time(time),
        }
    }
}

/// What can be asked.
#[Object]
impl Query {
    /// The present. All fields of one `now` are of one position; two of them in one query may be
    /// of two.
    async fn now(&self, ctx: &Context<'_>) -> Result<World> {
        let state = state(ctx)?;
        let scope = Scope::of(ctx).map_err(|failure| invalid_field("now", failure.message))?;
        let world = state.present.copy(&state.control_plane.now, &scope);
        let instant = state.control_plane.clock.now().max(world.recorded_at());
        Ok(World { world, instant })
    }

    /// An instant of the past: either a position or a time.
    #[graphql(complexity = "super::past_complexity(1, child_complexity)")]
    async fn at(
        &self,
        ctx: &Context<'_>,
        position: Option<PositionText>,
        time: Option<Time>,
    ) -> Result<World> {
        let instant = match (position, time) {
            (Some(position), None) => InstantInput::Position(position),
            (None, Some(time)) => InstantInput::Time(time),
            (Some(_), Some(_)) | (None, None) => {
                return Err(invalid_field("position", "must be given, or else time, not both"));
            }
        };
        let history = &state(ctx)?.control_plane.history;
        let scope = Scope::of(ctx).map_err(|failure| invalid_field("at", failure.message))?;
        let world = match scope.owners() {
            Some(owners) => history.owners_at(&owners, instant.into()).await,
            None => history.at(instant.into()).await,
        };
        let world = world.map_err(|failure| of_history(&failure))?;
        let instant = time.map_or_else(|| world.recorded_at(), |Time(time)| time);
        Ok(World { world, instant })
    }

    /// The log, oldest first: the events behind a cursor, or from the start; or the newest ones
    /// with `last`.
    #[graphql(complexity = "super::page_complexity(last.unwrap_or(first), child_complexity)")]
    async fn log(
        &self,
        ctx: &Context<'_>,
        after: Option<CursorText>,
        #[graphql(default = 100)] first: i32,
        last: Option<i32>,
        filter: Option<LogFilter>,
    ) -> Result<LogConnection> {
        let ControlPlane { store, incarnation, .. } = &state(ctx)?.control_plane;
        let first = page("first", first)?;
        let filter = log::checked_filter(filter)?;
        match (after, last) {
            (None, Some(last)) => {
                log::newest(store.as_ref(), *incarnation, page("last", last)?, filter).await
            }
            (Some(_), Some(_)) => Err(invalid_field("last", "must not be given with after")),
            (after, None) => {
                let after = match after {
                    Some(cursor) => log::position_of(cursor, *incarnation)?,
                    None => Position(0),
                };
                log::page(store.as_ref(), *incarnation, after, first, filter).await
            }
        }
    }

    /// What changed between two instants, and the events that did it.
    #[graphql(complexity = "super::past_complexity(2, child_complexity)")]
    async fn diff(&self, ctx: &Context<'_>, from: InstantInput, to: InstantInput) -> Result<Diff> {
        let ControlPlane { store, incarnation, history, .. } = &state(ctx)?.control_plane;
        let from = history.at(from.into()).await.map_err(|failure| of_history(&failure))?;
        let to = history.at(to.into()).await.map_err(|failure| of_history(&failure))?;
        diff::between(store.as_ref(), *incarnation, &from, &to).await
    }

    /// What this node's views hold at the present, told by hashes: they must be what a fold of the
    /// log up to the cursor comes to, which `diario replay --verify-views` compares.
    #[graphql(complexity = "super::past_complexity(1, child_complexity)")]
    async fn view_digests(&self, ctx: &Context<'_>) -> Result<ViewDigests> {
        let state = state(ctx)?;
        let ControlPlane { now, incarnation, .. } = &state.control_plane;
        let world = state.present.copy(now, &Scope::whole());
        let cursor = Cursor { incarnation: *incarnation, position: world.position() };
        // A large world takes its time; other questions are answered meanwhile.
        let digests = tokio::task::spawn_blocking(move || views::digests(&world)).await;
        let digests = digests.map_err(|failure| internal("cannot read the views", &failure))?;
        let views = digests.into_iter().map(Into::into).collect();
        Ok(ViewDigests { cursor: CursorText(cursor), views })
    }

    /// One crash, by its id.
    async fn crash(&self, ctx: &Context<'_>, id: PositionText) -> Result<Option<Crash>> {
        let store = &state(ctx)?.control_plane.store;
        crash::crash_at(store.as_ref(), id.0).await
    }

    /// What the containers of a process or a task used: the last samples, of every 15 s.
    #[graphql(complexity = "super::page_complexity(last, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "the arguments of a GraphQL field")]
    async fn metrics(
        &self,
        ctx: &Context<'_>,
        process_guid: Option<String>,
        task_guid: Option<String>,
        index: Option<u32>,
        #[graphql(desc = "Only what was seen then or later.")] since: Option<InstantInput>,
        #[graphql(desc = "Only what was seen then or earlier.")] until: Option<InstantInput>,
        #[graphql(default = 20)] last: i32,
    ) -> Result<Vec<ContainerMetrics>> {
        let control_plane = &state(ctx)?.control_plane;
        let last = page("last", last)?;
        let since = observations::time_of(control_plane, "since", since).await?;
        let until = observations::time_of(control_plane, "until", until).await?;
        let of = RecordsOf { process_guid, task_guid, index, after: None, since, until };
        metrics::newest(control_plane, of, last).await
    }

    /// The output of a process or a task: the first lines behind a cursor, or the last.
    #[graphql(complexity = "super::page_complexity(last.unwrap_or(first), child_complexity)")]
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
        #[graphql(desc = "Only what was written then or earlier, by the cell's clock.")]
        until: Option<InstantInput>,
        #[graphql(default = 100)] first: i32,
        last: Option<i32>,
    ) -> Result<LogLineConnection> {
        let control_plane = &state(ctx)?.control_plane;
        let first = page("first", first)?;
        let last = last.map(|last| page("last", last)).transpose()?;
        let since = observations::time_of(control_plane, "since", since).await?;
        let until = observations::time_of(control_plane, "until", until).await?;
        let of = RecordsOf { process_guid, task_guid, index, after, since, until };
        observations::page(control_plane, of, first, last).await
    }
}
