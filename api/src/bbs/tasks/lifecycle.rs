//! What clients and agents of cells say of tasks, one call each.

use domain::{
    bbs::task::{Command, State, Task, TaskReference, TaskResult},
    id::{CellId, TaskGuid},
    rejection::Rejection,
};

use crate::bbs::{call::Call, convert, error::Failure, invalid::Faults, proto};

type Answered = Result<proto::TaskLifecycleResponse, Failure>;

const DONE: Answered = Ok(proto::TaskLifecycleResponse { error: None });

/// Wishes for a task that is not known yet.
pub(in crate::bbs) async fn desire(call: Call, request: proto::DesireTaskRequest) -> Answered {
    let spec = convert::task::read(request)?;
    let command = call.control_plane().task_command(spec).await?;
    call.submit(command).await?;
    DONE
}

/// May its process be run now? Only once, on the cell that it was given to.
pub(in crate::bbs) async fn start(
    call: Call,
    request: proto::StartTaskRequest,
) -> Result<proto::StartTaskResponse, Failure> {
    let mut faults = Faults::default();
    faults.guid("task_guid", &request.task_guid);
    faults.not_empty("cell_id", &request.cell_id);
    faults.check()?;
    let found = find(&call, &request.task_guid)?;
    let task = match &found.state {
        State::Placed(_) | State::Running(_) => found.on_cell(&request.cell_id),
        State::Pending | State::Completed(_) | State::Resolving { .. } | State::Deleting(_) => None,
    };
    let Some(task) = task else {
        return Err(found.cannot_be("Running", "started"));
    };
    let accepted = call.submit(Command::Start { task }).await?;
    Ok(proto::StartTaskResponse { error: None, should_start: accepted.events > 0 })
}

pub(in crate::bbs) async fn cancel(call: Call, request: proto::TaskGuidRequest) -> Answered {
    let task_guid = known_guid(&request.task_guid)?;
    call.submit(Command::Cancel { task_guid }).await?;
    DONE
}

pub(in crate::bbs) async fn resolving(call: Call, request: proto::TaskGuidRequest) -> Answered {
    let task_guid = known_guid(&request.task_guid)?;
    call.submit(Command::Resolve { task_guid }).await?;
    DONE
}

pub(in crate::bbs) async fn delete(call: Call, request: proto::TaskGuidRequest) -> Answered {
    let task_guid = known_guid(&request.task_guid)?;
    call.submit(Command::Delete { task_guid }).await?;
    DONE
}

pub(in crate::bbs) async fn fail(call: Call, request: proto::FailTaskRequest) -> Answered {
    let mut faults = Faults::default();
    faults.guid("task_guid", &request.task_guid);
    faults.not_empty("failure_reason", &request.failure_reason);
    faults.check()?;
    let task_guid = known_guid(&request.task_guid)?;
    call.submit(Command::Fail { task_guid, reason: request.failure_reason }).await?;
    DONE
}

/// No cell takes it, or its container could not be made: it waits for another one, unless it was
/// rejected too often. One that runs is not rejected: it runs at most once.
pub(in crate::bbs) async fn reject(call: Call, request: proto::RejectTaskRequest) -> Answered {
    let mut faults = Faults::default();
    faults.guid("task_guid", &request.task_guid);
    // Diego calls it so.
    faults.not_empty("failure_reason", &request.rejection_reason);
    faults.check()?;
    let found = find(&call, &request.task_guid)?;
    let reason = request.rejection_reason;
    let command = match (&found.state, found.placed) {
        (State::Placed(_) | State::Running(_), Some(task)) => Command::Refuse { task, reason },
        (
            State::Pending
            | State::Placed(_)
            | State::Running(_)
            | State::Completed(_)
            | State::Resolving { .. }
            | State::Deleting(_),
            _,
        ) => Command::FailPlacement { task_guid: found.guid, error: reason, candidates: None },
    };
    call.submit(command).await?;
    DONE
}

pub(in crate::bbs) async fn complete(call: Call, request: proto::CompleteTaskRequest) -> Answered {
    let mut faults = Faults::default();
    faults.guid("task_guid", &request.task_guid);
    faults.not_empty("cell_id", &request.cell_id);
    faults.check()?;
    let found = find(&call, &request.task_guid)?;
    if !matches!(found.state, State::Running(_)) {
        return Err(found.cannot_be("Completed", "completed"));
    }
    let Some(task) = found.on_cell(&request.cell_id) else {
        return Err(found.elsewhere(&request.cell_id));
    };
    let failure_reason = request.failed.then_some(request.failure_reason);
    let result = TaskResult { failure_reason, exit: None, evidence: None, result: request.result };
    call.submit(Command::Complete { task, result }).await?;
    DONE
}

/// A task as it stands.
struct Found {
    guid: TaskGuid,
    state: State,
    state_name: &'static str,
    placed: Option<TaskReference>,
}

impl Found {
    fn of(task: &Task) -> Self {
        let placed = task.placement().map(|placement| TaskReference {
            task_guid: task.task_guid.clone(),
            instance_guid: placement.instance_guid.clone(),
            placement_epoch: placement.placement_epoch,
            cell_id: placement.cell_id.clone(),
            cell_epoch: placement.cell_epoch,
        });
        let (guid, state) = (task.task_guid.clone(), task.state.clone());
        Self { guid, state, state_name: task.state_name(), placed }
    }

    /// Its placement, when that is on this cell.
    fn on_cell(&self, cell_id: &str) -> Option<TaskReference> {
        self.placed.clone().filter(|task| task.cell_id.as_str() == cell_id)
    }

    fn cannot_be(&self, to: &'static str, wanted: &'static str) -> Failure {
        let (task_guid, from) = (self.guid.clone(), self.state_name);
        Failure::rejected(&Rejection::TaskTransition { task_guid, from, to, wanted })
    }

    /// Told by a cell that it does not run on.
    fn elsewhere(&self, caller: &str) -> Failure {
        let (Some(placed), Ok(caller)) = (&self.placed, CellId::new(caller)) else {
            return Failure::invalid_request();
        };
        let (task_guid, cell_id) = (self.guid.clone(), placed.cell_id.clone());
        Failure::rejected(&Rejection::RunningOnDifferentCell { task_guid, cell_id, caller })
    }
}

fn find(call: &Call, task_guid: &str) -> Result<Found, Failure> {
    let task_guid = TaskGuid::new(task_guid).map_err(|_| Failure::not_found())?;
    let found = call.control_plane().now.read(|world| {
        let task = world.aggregates().task(&task_guid);
        // Diego has forgotten what is only kept until its container is gone.
        task.filter(|task| !matches!(task.state, State::Deleting(_))).map(Found::of)
    });
    found.ok_or_else(Failure::not_found)
}

fn known_guid(task_guid: &str) -> Result<TaskGuid, Failure> {
    let mut faults = Faults::default();
    faults.guid("task_guid", task_guid);
    faults.check()?;
    TaskGuid::new(task_guid).map_err(|_| Failure::not_found())
}
