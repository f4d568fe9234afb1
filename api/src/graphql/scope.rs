//! How much of the present one `now` needs, or of the past one `at`, read off the query before it
//! is answered.
//!
//! The present moves while a query is answered. So all that one `now` shows is copied out of it
//! under one lock, at one position: a few streams where the query names them, else the whole
//! world, of which the newest copy is shared by all who ask at the same position.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_graphql::{Context, SelectionField, ServerResult, Value};
use domain::{
    aggregates::Aggregate,
    id::{ProcessGuid, TaskGuid},
    log::{Owner, Stamp},
};
use projections::{projector::Now, world::World};

/// How much of the world is needed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    is_whole: bool,
    processes: BTreeSet<ProcessGuid>,
    tasks: BTreeSet<TaskGuid>,
    freshness_domains: bool,
}

impl Scope {
    /// All of the world.
    pub(super) fn whole() -> Self {
        Self { is_whole: true, ..Self::default() }
    }

    /// What the fields below the current one need.
    pub(super) fn of(ctx: &Context<'_>) -> ServerResult<Self> {
        let mut scope = Self::default();
        for field in ctx.look_ahead().selection_fields() {
            for below in field.selection_set() {
                scope.add(&below)?;
            }
        }
        Ok(scope)
    }

    /// The owners that are enough; `None` when more than owners are asked for.
    pub(super) fn owners(&self) -> Option<Vec<Owner>> {
        if self.is_whole || self.freshness_domains {
            return None;
        }
        let processes = self.processes.iter().cloned().map(Owner::Process);
        Some(processes.chain(self.tasks.iter().cloned().map(Owner::Task)).collect())
    }

    fn add(&mut self, field: &SelectionField<'_>) -> ServerResult<()> {
        match field.name() {
            "__typename" | "position" | "recordedAt" | "crashes" => {}
            "freshnessDomains" => self.freshness_domains = true,
            "task" => {
                // Its resolver says what is wrong with an argument that cannot be read.
                if let Some(Ok(task_guid)) = argument(field, "taskGuid")?.map(|it| it.parse()) {
                    self.tasks.insert(task_guid);
                }
            }
            // Of a slot or of a task, and only one of them.
            "candidates" => {
                let processes = argument(field, "processGuid")?.map(|text| text.parse());
                let tasks = argument(field, "taskGuid")?.map(|text| text.parse());
                self.processes.extend(processes.and_then(Result::ok));
                self.tasks.extend(tasks.and_then(Result::ok));
            }
            "desiredLrp" | "desiredLrps" | "actualLrps" | "appStatus" => {
                match argument(field, "processGuid")?.map(|text| text.parse()) {
                    Some(Ok(process_guid)) => drop(self.processes.insert(process_guid)),
                    Some(Err(_)) => {}
                    None => self.is_whole = true,
                }
            }
            _ => self.is_whole = true,
        }
        Ok(())
    }
}

fn argument(field: &SelectionField<'_>, name: &str) -> ServerResult<Option<String>> {
    let arguments = field.arguments()?;
    Ok(arguments.into_iter().find(|(found, _)| found == name).and_then(|(_, value)| match value {
        Value::String(text) => Some(text),
        Value::Null
        | Value::Number(_)
        | Value::Boolean(_)
        | Value::Binary(_)
        | Value::Enum(_)
        | Value::List(_)
        | Value::Object(_) => None,
    }))
}

/// The newest whole copy of the present.
#[derive(Debug, Default)]
pub(super) struct Present {
    whole: Mutex<Option<Arc<World>>>,
}

impl Present {
    /// A copy of what a scope needs, whole in itself, at one position.
    pub(super) fn copy(&self, now: &Now, scope: &Scope) -> Arc<World> {
        if !scope.is_whole {
            return Arc::new(now.read(|world| part_of(world, scope)));
        }
        // Held while copying: who asks meanwhile waits for this copy instead of making one.
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        now.read(|world| match &*whole {
            Some(copy) if copy.position() == world.position() => Arc::clone(copy),
            Some(_) | None => Arc::clone(whole.insert(Arc::new(world.without_views()))),
        })
    }
}

/// The aggregates of a scope, as a world of their own.
fn part_of(world: &World, scope: &Scope) -> World {
    let aggregates = world.aggregates();
    let mut part: Vec<Aggregate> = Vec::new();
    for process_guid in &scope.processes {
        part.extend(aggregates.of_owner(&Owner::Process(process_guid.clone())));
    }
    for task_guid in &scope.tasks {
        part.extend(aggregates.of_owner(&Owner::Task(task_guid.clone())));
    }
    if scope.freshness_domains {
        let domains = aggregates.freshness_domains().cloned();
        part.extend(domains.map(Aggregate::FreshnessDomain));
    }
    let stamp = Stamp { position: world.position(), recorded_at: world.recorded_at() };
    World::from_aggregates(part, stamp)
}
