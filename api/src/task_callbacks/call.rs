//! One call that is to be made: where to, and what is told. The wire form is Diego's.

use domain::{
    bbs::task::{self, Task},
    command::Command,
    id::TaskGuid,
    log::Owner,
    sealed::Sealed,
};
use projections::world::World;
use serde::Serialize;

/// One call that is to be made.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) task_guid: TaskGuid,
    pub(super) url: Sealed,
    /// The JSON body.
    pub(super) body: Vec<u8>,
}

/// Diego's `TaskCallbackResponse`.
#[derive(Debug, Serialize)]
struct Told<'a> {
    task_guid: &'a str,
    failed: bool,
    failure_reason: &'a str,
    result: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    annotation: &'a str,
    created_at: i64,
}

impl Call {
    /// The call that follows when a command of the loop is accepted.
    pub(super) fn of(world: &World, command: &Command) -> Option<Self> {
        let Command::Task(task::Command::Resolve { task_guid }) = command else { return None };
        let task = world.aggregates().task(task_guid)?;
        let url = task.callback.as_ref()?.url.clone();
        Some(Self { task_guid: task_guid.clone(), url, body: body(task)? })
    }

    /// Under whose key the URL is sealed.
    pub(super) fn owner(&self) -> Owner {
        Owner::Task(self.task_guid.clone())
    }
}

fn body(task: &Task) -> Option<Vec<u8>> {
    let ended = task.ended()?;
    let told = Told {
        task_guid: task.task_guid.as_str(),
        failed: ended.failure_reason.is_some(),
        failure_reason: ended.failure_reason.as_deref().unwrap_or_default(),
        result: &ended.result,
        annotation: &task.annotation,
        created_at: task.created_at.0,
    };
    serde_json::to_vec(&told).ok()
}
