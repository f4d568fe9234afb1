//! A task as Diego's clients see it.

use domain::bbs::{
    placement::Placement,
    task::{Ended, State, Task},
};

use crate::bbs::{
    cells::at_most,
    proto::{self, task::State as Shown},
};

/// How a task stands, without what it runs. `None`: it is deleted, as far as Diego knows.
pub(in crate::bbs) fn row(task: &Task) -> Option<proto::Task> {
    let (state, placement, ended): (_, Option<&Placement>, Option<&Ended>) = match &task.state {
        // A cell that was chosen and has not answered yet is nobody's business but ours.
        State::Pending | State::Placed(_) => (Shown::Pending, None, None),
        State::Running(placement) => (Shown::Running, Some(placement), None),
        State::Completed(ended) => (Shown::Completed, None, Some(ended)),
        State::Resolving { ended, .. } => (Shown::Resolving, None, Some(ended)),
        State::Deleting(_) => return None,
    };
    let failure_reason = ended.and_then(|ended| ended.failure_reason.clone());
    Some(proto::Task {
        task_definition: None,
        task_guid: task.task_guid.to_string(),
        domain: task.domain.to_string(),
        created_at: task.created_at.0,
        updated_at: task.updated_at.0,
        first_completed_at: ended.map_or(0, |ended| ended.at.0),
        state: state.into(),
        cell_id: placement.map(|placement| placement.cell_id.to_string()).unwrap_or_default(),
        result: ended.map(|ended| ended.result.clone()).unwrap_or_default(),
        failed: failure_reason.is_some(),
        failure_reason: failure_reason.unwrap_or_default(),
        rejection_count: at_most(task.rejection_count),
        rejection_reason: task.rejection_reason.clone().unwrap_or_default(),
    })
}
