//! Everything at one position of the log: the same type, and the same resolvers, for the present
//! and for any instant of the past.

use std::sync::Arc;

use async_graphql::{Context, Object, Result};
use domain::{
    id::{FreshnessDomainName, ProcessGuid},
    log::Position,
    units::Timestamp,
};
use projections::world;

use super::{
    actual_lrp::{self, ActualLrp, ActualLrpState, InstanceStatus},
    candidates::{self, Candidates},
    cell::{self, Cell},
    convergence::Convergence,
    crash::{self, Crash},
    desired_lrp::DesiredLrp,
    error::{internal, parse_id},
    freshness_domain::FreshnessDomain,
    page,
    rebalance::{self, RebalancePlan},
    route::{self, Route},
    scalars::{PositionText, Time},
    state,
    task::{self, Task, TaskState},
};

/// Everything at one position of the log.
pub(super) struct World {
    /// The world, or as much of it as is asked for.
    pub(super) world: Arc<world::World>,
    /// The instant at which what is due by time alone is judged: the present for `now`, the given
    /// time for `at(time)`, the recording of the last event for `at(position)`.
    pub(super) instant: Timestamp,
}

/// Everything at one position of the log. All fields of one World are of that position.
#[Object]
impl World {
    /// The last event that is counted in.
    async fn position(&self) -> PositionText {
        PositionText(self.world.position())
    }

    /// When that event was recorded; absent before the first event.
    async fn recorded_at(&self) -> Option<Time> {
        (self.world.position() > Position(0)).then(|| Time(self.world.recorded_at()))
    }

    /// Desired LRPs, by guid.
    async fn desired_lrps(
        &self,
        process_guid: Option<String>,
        domain: Option<String>,
    ) -> Result<Vec<DesiredLrp>> {
        let process_guid = process_guid.map(|text| parse_id("processGuid", &text)).transpose()?;
        let domain = domain.map(|text| parse_id("domain", &text)).transpose()?;
        let lrps = self.world.aggregates().desired_lrps().filter(|lrp| {
            process_guid.as_ref().is_none_or(|guid: &ProcessGuid| *guid == lrp.process_guid)
                && domain.as_ref().is_none_or(|name: &FreshnessDomainName| *name == lrp.domain)
        });
        Ok(lrps.cloned().map(DesiredLrp).collect())
    }

    /// One desired LRP.
    async fn desired_lrp(&self, process_guid: String) -> Result<Option<DesiredLrp>> {
        let process_guid = parse_id("processGuid", &process_guid)?;
        Ok(self.world.aggregates().desired_lrp(&process_guid).cloned().map(DesiredLrp))
    }

    /// Slots, by process guid and index.
    async fn actual_lrps(
        &self,
        process_guid: Option<String>,
        cell_id: Option<String>,
        state: Option<ActualLrpState>,
    ) -> Result<Vec<ActualLrp>> {
        let wanted = actual_lrp::Wanted {
            process_guid: process_guid.map(|text| parse_id("processGuid", &text)).transpose()?,
            cell_id: cell_id.map(|text| parse_id("cellId", &text)).transpose()?,
            state,
        };
        Ok(actual_lrp::slots(&self.world, &wanted))
    }

    /// Tasks, by guid: those that are pending, running, or ended lately.
    async fn tasks(
        &self,
        domain: Option<String>,
        cell_id: Option<String>,
        state: Option<TaskState>,
    ) -> Result<Vec<Task>> {
        let wanted = task::Wanted {
            domain: domain.map(|text| parse_id("domain", &text)).transpose()?,
            cell_id: cell_id.map(|text| parse_id("cellId", &text)).transpose()?,
            state,
        };
        let tasks = self.world.aggregates().tasks().filter(|task| wanted.lets_through(task));
        Ok(tasks.cloned().map(Task).collect())
    }

    /// One task.
    async fn task(&self, task_guid: String) -> Result<Option<Task>> {
        let task_guid = parse_id("taskGuid", &task_guid)?;
        Ok(self.world.aggregates().task(&task_guid).cloned().map(Task))
    }

    /// All cells that ever registered, by id.
    async fn cells(&self) -> Vec<Cell> {
        cell::cells(&self.world)
    }

    /// All routes, by host name.
    async fn routes(&self) -> Vec<Route> {
        route::routes(&self.world)
    }

    /// The newest crashes, newest first: of one process or of all, and only before a crash where
    /// one is named, to go further back.
    #[graphql(complexity = "super::page_complexity(first, child_complexity)")]
    async fn crashes(
        &self,
        ctx: &Context<'_>,
        process_guid: Option<String>,
        #[graphql(default = 20)] first: i32,
        before: Option<PositionText>,
    ) -> Result<Vec<Crash>> {
        let process_guid = process_guid.map(|text| parse_id("processGuid", &text)).transpose()?;
        let first = page("first", first)?;
        let end = self.world.position().next();
        let before = before.map_or(end, |before| before.0.min(end));
        // The store takes 0 for the head; before the first event there is no crash.
        if before == Position(0) {
            return Ok(Vec::new());
        }
        let store = &state(ctx)?.control_plane.store;
        crash::crashes_before(store.as_ref(), process_guid, before, first).await
    }

    /// Which moves of running instances would even out the cells, `movesMax` of them at most. It is
    /// only told, never applied.
    #[graphql(complexity = "super::past_complexity(1, child_complexity)")]
    async fn rebalance_plan(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 100)] moves_max: i32,
    ) -> Result<RebalancePlan> {
        let moves_max = page("movesMax", moves_max)?;
        let world = Arc::clone(&self.world);
        let settings = state(ctx)?.control_plane.placement;
        // A large world takes its time; other questions are answered meanwhile.
        let plan = move || rebalance::plan(&world, settings, moves_max);
        let plan = tokio::task::spawn_blocking(plan).await;
        plan.map_err(|failure| internal("cannot plan the moves", &failure))
    }

    /// What each cell came to when a slot (`processGuid`, and `index`, 0 when absent) or a task
    /// (`taskGuid`) was placed where it is or was, or was not placed: why it is there, or nowhere.
    /// Absent where there is no such slot or task, and where nothing was judged: nobody has looked
    /// yet, or a cell refused it after it was placed.
    async fn candidates(
        &self,
        ctx: &Context<'_>,
        process_guid: Option<String>,
        index: Option<i64>,
        task_guid: Option<String>,
    ) -> Result<Option<Candidates>> {
        let store = state(ctx)?.control_plane.store.as_ref();
        let of = candidates::read(process_guid, index, task_guid)?;
        candidates::of(store, self.world.aggregates(), &of).await
    }

    /// What differs between desired and actual, and why.
    async fn convergence(&self) -> Convergence {
        let aggregates = self.world.aggregates();
        self.world.discrepancies().report(aggregates, self.instant).into()
    }

    /// The instances of a process as Cloud Controller shows them.
    async fn app_status(&self, process_guid: String) -> Result<Vec<InstanceStatus>> {
        let process_guid = parse_id("processGuid", &process_guid)?;
        Ok(actual_lrp::status_of(&self.world, &process_guid))
    }

    /// Who vouches that the desired state is complete, by name.
    async fn freshness_domains(&self) -> Vec<FreshnessDomain> {
        let domains = self.world.aggregates().freshness_domains();
        domains.map(|domain| FreshnessDomain::at(domain, self.instant)).collect()
    }
}
