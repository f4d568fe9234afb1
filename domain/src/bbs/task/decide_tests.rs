//! The rules of a task, refusals first: above all, that it is started at most once.

use super::{
    Cancelled, Command, Completed, DeleteReason, Deleted, EXPIRE_COMPLETED_AFTER,
    EXPIRE_PENDING_AFTER, Failed, PlacementFailed, PlacementLost, RESULT_BYTES_MAX, RETRY_AFTER,
    Refused, Released, Started, State, TaskReference, TaskResult,
};
use crate::{
    bbs::cell,
    diego_error::ErrorType,
    log::{CellEpoch, PlacementEpoch, Position},
    testing::{
        Dice, Story, cell_id, desire_task, given, instance_guid, on_task, place_task, register,
        task_guid, task_story,
    },
    units::{Milliseconds, Timestamp},
};

fn started() -> Story {
    let story = task_story();
    let task = story.task(&task_guid("t"));
    story.after(Command::Start { task })
}

fn pending() -> Story {
    given([]).after(register("cell-1", 1)).after(desire_task("t"))
}

fn completed() -> Story {
    let story = started();
    let task = story.task(&task_guid("t"));
    story.after(Command::Complete { task, result: success() })
}

fn cancelled() -> Story {
    started().after(cancel())
}

fn cancel() -> Command {
    Command::Cancel { task_guid: task_guid("t") }
}

fn expire() -> Command {
    Command::Expire { task_guid: task_guid("t") }
}

fn lose_cell() -> Command {
    Command::LoseCell { task_guid: task_guid("t") }
}

fn fail_placement() -> Command {
    Command::FailPlacement {
        task_guid: task_guid("t"),
        error: "no cell".to_owned(),
        candidates: None,
    }
}

fn lose(cell: &str) -> cell::Command {
    let (last_heard_at, heard_by) = (Timestamp(0), "node-1".to_owned());
    cell::Command::Lose { cell_id: cell_id(cell), last_heard_at, heard_by }
}

fn success() -> TaskResult {
    TaskResult { failure_reason: None, exit: None, evidence: None, result: String::new() }
}

fn failed(reason: &str) -> Completed {
    let (exit, evidence, result) = (None, None, String::new());
    Completed { failure_reason: Some(reason.to_owned()), exit, evidence, result }
}

fn given_up(reason: &str) -> Failed {
    Failed { reason: reason.to_owned() }
}

fn fail(reason: &str) -> Command {
    Command::Fail { task_guid: task_guid("t"), reason: reason.to_owned() }
}

fn reports(task: &TaskReference) -> Vec<Command> {
    vec![
        Command::Refuse { task: task.clone(), reason: "no room".to_owned() },
        Command::Start { task: task.clone() },
        Command::Complete { task: task.clone(), result: success() },
        Command::Release { task: task.clone() },
    ]
}

#[test]
fn nothing_is_asked_of_a_task_that_is_not_there() {
    let place = place_task("t", "i-1", "cell-1");
    for command in [cancel(), fail("no"), place, fail_placement(), lose_cell(), expire()] {
        given([]).when(command).then_rejected("NOT_FOUND");
    }
}

#[test]
fn a_task_guid_is_taken_until_the_task_is_deleted() {
    pending().when(desire_task("t")).then_rejected("ALREADY_EXISTS");
    completed().when(desire_task("t")).then_rejected("ALREADY_EXISTS");
}

#[test]
fn placing_is_refused_without_cell_or_room_or_when_placed() {
    pending().when(place_task("t", "i-1", "cell-9")).then_rejected("NOT_FOUND");
    pending()
        .after(lose("cell-1"))
        .when(place_task("t", "i-1", "cell-1"))
        .then_rejected("CELL_LOST");
    let mut full = pending();
    for index in 0..16 {
        let task = format!("other-{index}");
        full = full.after(desire_task(&task)).after(place_task(&task, &task, "cell-1"));
    }
    full.when(place_task("t", "i-1", "cell-1")).then_rejected("NO_ROOM");
    for story in [task_story(), started(), completed(), cancelled()] {
        story.when(place_task("t", "i-2", "cell-1")).then_rejected("INVALID_TRANSITION");
    }

    task_story().when(place_task("t", "i-1", "cell-1")).then_nothing();
}

#[test]
fn a_report_about_any_but_the_present_placement_is_refused() {
    let present = started().task(&task_guid("t"));
    let others = [
        TaskReference { instance_guid: instance_guid("i-9"), ..present.clone() },
        TaskReference { placement_epoch: PlacementEpoch(Position(1)), ..present.clone() },
        TaskReference { cell_id: cell_id("cell-9"), ..present.clone() },
        TaskReference { cell_epoch: CellEpoch(2), ..present.clone() },
        TaskReference { task_guid: task_guid("u"), ..present.clone() },
    ];

    for report in others.iter().flat_map(reports) {
        let is_end_elsewhere = matches!(&report,
            Command::Complete { task, .. } if task.cell_id == cell_id("cell-9"));
        let code = if is_end_elsewhere { "RUNNING_ON_DIFFERENT_CELL" } else { "PLACEMENT_MOVED" };
        started().when(report).then_rejected(code);
    }
    for report in reports(&present) {
        pending().when(report.clone()).then_rejected("PLACEMENT_MOVED");
        completed().when(report).then_rejected("PLACEMENT_MOVED");
    }
}

#[test]
fn a_started_task_never_becomes_pending_again() {
    let story = started();
    let task = story.task(&task_guid("t"));
    let refuse = Command::Refuse { task: task.clone(), reason: "no room".to_owned() };

    story
        .when(refuse)
        .then_rejected("INVALID_TRANSITION")
        .when(fail_placement())
        .then_rejected("INVALID_TRANSITION")
        .when(Command::Release { task })
        .then_rejected("INVALID_TRANSITION")
        .when(expire())
        .then_rejected("INVALID_TRANSITION");
}

#[test]
fn a_cancelled_task_is_not_started() {
    let story = task_story();
    let task = story.task(&task_guid("t"));

    story.after(cancel()).when(Command::Start { task }).then_rejected("INVALID_TRANSITION");
}

#[test]
fn start_counts_once_and_its_repetition_changes_nothing() {
    let task = task_story().task(&task_guid("t"));
    let start = || Command::Start { task: task.clone() };

    task_story()
        .when(start())
        .then([on_task("t", Started { instance_guid: instance_guid("i-1") })])
        .when(start())
        .then_nothing();
}

#[test]
fn whatever_is_said_in_whatever_order_a_task_is_started_at_most_once() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let mut story = pending().after(register("cell-2", 2));
        let mut references = Vec::new();
        for step in 0..60 {
            story = story.later(Milliseconds::from_seconds(u64::from(dice.below(40))));
            let placed = story.aggregates.task(&task_guid("t")).and_then(|task| task.placement());
            if placed.is_some() {
                references.push(story.task(&task_guid("t")));
            }
            let cell = dice.pick(&["cell-1", "cell-2"]);
            let mut commands: Vec<crate::command::Command> =
                vec![place_task("t", &format!("i-{step}"), cell).into()];
            commands.extend([fail_placement(), lose_cell(), expire()].map(Into::into));
            commands.push(lose(cell).into());
            commands.push(register(cell, u128::from(dice.below(3))).into());
            commands.extend(references.iter().flat_map(reports).map(Into::into));
            let command = dice.pick(&commands);
            let _refused_or_not = story.submit(command);
        }
        let starts =
            story.recorded.iter().filter(|event| event.event.type_name() == "task.started");
        assert!(starts.count() <= 1, "seed {seed}: {:?}", story.recorded);
    }
}

#[test]
fn the_fourth_rejection_fails_a_task_with_its_reason() {
    let noted = |rejection_count| {
        on_task(
            "t",
            PlacementFailed { error: "no cell".to_owned(), rejection_count, candidates: None },
        )
    };
    let mut story = pending();
    let may_be_auctioned = |story: &Story, pause| {
        let task = story.aggregates.task(&task_guid("t")).unwrap();
        task.may_be_auctioned(story.now.plus(Milliseconds(pause)))
    };
    assert!(may_be_auctioned(&story, 0));
    for count in 1..=3 {
        story = story.when(fail_placement()).then([noted(count)]);
        assert!(
            !may_be_auctioned(&story, RETRY_AFTER.0 - 1) && may_be_auctioned(&story, RETRY_AFTER.0)
        );
    }

    let story = story.when(fail_placement()).then([noted(4), on_task("t", given_up("no cell"))]);

    assert!(matches!(story.aggregates.tasks().next().unwrap().state, State::Completed(_)));
}

#[test]
fn a_refused_task_is_pending_again_and_a_refusal_counts_as_a_rejection() {
    let story = task_story();
    let task = story.task(&task_guid("t"));
    let refused = |rejection_count| {
        let reason = "no room".to_owned();
        on_task("t", Refused { cell_id: cell_id("cell-1"), reason, rejection_count })
    };
    let refuse = |task| Command::Refuse { task, reason: "no room".to_owned() };

    let mut story = story.when(refuse(task)).then([refused(1)]);
    for count in 2..=3 {
        story = story.after(place_task("t", "i-1", "cell-1"));
        let task = story.task(&task_guid("t"));
        story = story.when(refuse(task)).then([refused(count)]);
    }
    let story = story.after(place_task("t", "i-1", "cell-1"));
    let task = story.task(&task_guid("t"));
    story.when(refuse(task)).then([refused(4), on_task("t", given_up("no room"))]);
}

#[test]
fn a_task_ends_as_its_cell_says() {
    let story = started();
    let task = story.task(&task_guid("t"));
    let result = TaskResult { failure_reason: Some("x".repeat(2000)), ..success() };
    let cut = format!("{}(truncated)", "x".repeat(1013));

    let story = story.when(Command::Complete { task, result }).then([on_task("t", failed(&cut))]);

    assert_eq!(story.aggregates.reserved_on(&cell_id("cell-1")), Default::default());
    story.when(cancel()).then_rejected("INVALID_TRANSITION");
}

#[test]
fn a_cancelled_task_holds_its_room_until_its_container_is_gone() {
    pending()
        .when(cancel())
        .then([on_task("t", Cancelled {})])
        .when(cancel())
        .then_rejected("INVALID_TRANSITION");
    let task = started().task(&task_guid("t"));
    for report in reports(&task) {
        let is_late_start = matches!(report, Command::Start { .. });
        let story = cancelled();
        assert_ne!(story.aggregates.reserved_on(&cell_id("cell-1")), Default::default());
        if is_late_start {
            story.when(report).then_rejected("INVALID_TRANSITION");
        } else {
            let story = story.when(report).then([on_task("t", Released {})]);
            assert_eq!(story.aggregates.reserved_on(&cell_id("cell-1")), Default::default());
        }
    }
}

#[test]
fn a_task_fails_with_its_cell_and_only_then() {
    for story in [pending(), started(), completed()] {
        story.when(lose_cell()).then_rejected("INVALID_TRANSITION");
    }
    let reason = "cell disappeared before completion";

    started().after(lose("cell-1")).when(lose_cell()).then([on_task("t", failed(reason))]);
    started()
        .after(lose("cell-1"))
        .after(register("cell-1", 2))
        .when(lose_cell())
        .then([on_task("t", failed(reason))]);
    cancelled().after(lose("cell-1")).when(lose_cell()).then([on_task("t", Released {})]);
}

#[test]
fn a_task_whose_cell_is_lost_before_it_was_started_is_placed_again_and_still_runs_at_most_once() {
    let (instance_guid, cell) = (instance_guid("i-1"), cell_id("cell-1"));
    let lost = || PlacementLost { instance_guid: instance_guid.clone(), cell_id: cell.clone() };
    let old = task_story().task(&task_guid("t"));
    task_story()
        .after(lose("cell-1"))
        .after(register("cell-1", 2))
        .when(lose_cell())
        .then([on_task("t", lost())]);

    let story = task_story()
        .after(lose("cell-1"))
        .when(lose_cell())
        .then([on_task("t", lost())])
        .when(lose_cell())
        .then_rejected("INVALID_TRANSITION");

    let task = story.aggregates.task(&task_guid("t")).unwrap();
    assert_eq!((&task.state, task.rejection_count), (&State::Pending, 0));
    assert!(task.may_be_auctioned(story.now), "at once");
    assert_eq!(story.aggregates.reserved_on(&cell_id("cell-1")), Default::default());
    // Its cell comes back with the container and asks, before and after it is placed elsewhere.
    let late = || Command::Start { task: old.clone() };
    let story = story
        .after(register("cell-1", 1))
        .when(late())
        .then_rejected("PLACEMENT_MOVED")
        .after(register("cell-2", 2))
        .after(place_task("t", "i-2", "cell-2"))
        .when(late())
        .then_rejected("PLACEMENT_MOVED");
    let task = story.task(&task_guid("t"));
    let _started =
        story.after(Command::Start { task }).when(late()).then_rejected("PLACEMENT_MOVED");
}

#[test]
fn a_task_expires_at_its_instant_and_not_before() {
    let just_before = |span: Milliseconds| Milliseconds(span.0 - 1);
    let running = started().later(Milliseconds::from_seconds(100_000));
    running.when(expire()).then_rejected("INVALID_TRANSITION");

    for waiting in [pending(), task_story()] {
        waiting
            .later(just_before(EXPIRE_PENDING_AFTER))
            .when(expire())
            .then_rejected("INVALID_TRANSITION")
            .later(Milliseconds(1))
            .when(expire())
            .then([on_task("t", given_up("not started within time limit"))]);
    }
    for ended in [completed(), pending().after(cancel())] {
        let _desired_again = ended
            .later(just_before(EXPIRE_COMPLETED_AFTER))
            .when(expire())
            .then_rejected("INVALID_TRANSITION")
            .later(Milliseconds(1))
            .when(expire())
            .then([on_task("t", Deleted { reason: DeleteReason::Expired })])
            .after(desire_task("t"));
    }
}

#[test]
fn a_client_may_take_a_task_for_failed_and_must_say_why() {
    for story in [pending(), task_story(), started()] {
        let story = story.when(fail("by hand")).then([on_task("t", given_up("by hand"))]);
        story.when(fail("again")).then_rejected("INVALID_TRANSITION");
    }
    pending().when(fail("")).then_rejected("INVALID_REQUEST");
    let long = "x".repeat(1024);
    let cut = format!("{}(truncated)", "x".repeat(1013));
    pending().when(fail(&long)).then([on_task("t", given_up(&cut))]);
    pending().when(fail(&long[1..])).then([on_task("t", given_up(&long[1..]))]);
}

#[test]
fn a_result_is_kept_of_what_succeeded_and_one_that_is_too_large_fails_the_task() {
    let complete = |failure_reason: Option<&str>, bytes: usize| {
        let story = started();
        let task = story.task(&task_guid("t"));
        let result = "r".repeat(bytes);
        let failure_reason = failure_reason.map(str::to_owned);
        let result = TaskResult { failure_reason, result, ..success() };
        let story = story.after(Command::Complete { task, result });
        let ended = story.aggregates.task(&task_guid("t")).unwrap().ended().unwrap().clone();
        (ended.failure_reason, ended.result.len())
    };

    assert_eq!(complete(None, RESULT_BYTES_MAX), (None, RESULT_BYTES_MAX));
    let too_large = Some("failed to fetch result".to_owned());
    assert_eq!(complete(None, RESULT_BYTES_MAX + 1), (too_large, 0));
    assert_eq!(complete(Some("exit 1"), 10), (Some("exit 1".to_owned()), 0));
}

#[test]
fn a_cell_that_refuses_without_a_reason_is_quoted_as_such() {
    let story = task_story();
    let task = story.task(&task_guid("t"));

    let story = story.after(Command::Refuse { task, reason: String::new() });

    let task = story.aggregates.task(&task_guid("t")).unwrap();
    let reason = "the cell refused it and gave no reason";
    assert_eq!(task.rejection_reason.as_deref(), Some(reason));
}

#[test]
fn a_rejected_task_leaves_its_cells_list_and_a_late_report_of_it_is_refused() {
    let story = task_story();
    let task = story.task(&task_guid("t"));
    let story = story.after(Command::Refuse { task: task.clone(), reason: "no".to_owned() });

    let found = story.aggregates.task(&task_guid("t")).unwrap();
    assert_eq!((&found.state, found.placement()), (&State::Pending, None));
    for report in reports(&task) {
        story.clone().when(report).then_rejected("PLACEMENT_MOVED");
    }
}

#[test]
fn every_refusal_is_also_told_in_diegos_words() {
    let told = |mut story: Story, command: Command| {
        let refused = story.submit(command.into()).unwrap_err().diego();
        (refused.error_type, refused.message)
    };
    let present = started().task(&task_guid("t"));
    let elsewhere = TaskReference { cell_id: cell_id("cell-9"), ..present };
    let complete = |task: TaskReference| Command::Complete { task, result: success() };
    let resolve = || Command::Resolve { task_guid: task_guid("t") };
    let delete = || Command::Delete { task_guid: task_guid("t") };
    let transition = |from: &str, to: &str| {
        (ErrorType::InvalidStateTransition, format!("Cannot transition from {from} to {to}"))
    };

    assert_eq!(told(completed(), cancel()), transition("Completed", "Completed"));
    assert_eq!(told(started(), resolve()), transition("Running", "Resolving"));
    assert_eq!(told(completed().after(resolve()), resolve()), transition("Resolving", "Resolving"));
    assert_eq!(told(completed(), delete()), transition("Completed", "Resolving"));
    assert_eq!(told(task_story(), resolve()), transition("Pending", "Resolving"));
    let different = "Running on cell cell-1 not cell-9".to_owned();
    let found = told(started(), complete(elsewhere));
    assert_eq!(found, (ErrorType::RunningOnDifferentCell, different));
    let found = told(pending(), fail(""));
    assert_eq!(found, (ErrorType::InvalidRequest, "Invalid field: failure_reason".to_owned()));
    let found = told(started(), fail_placement());
    assert_eq!(found, (ErrorType::InvalidRequest, "the request received is invalid".to_owned()));
    let found = told(pending(), desire_task("t"));
    let exists = "the requested resource already exists".to_owned();
    assert_eq!(found, (ErrorType::ResourceExists, exists));
    let found = told(given([]), cancel());
    let missing = "the requested resource could not be found".to_owned();
    assert_eq!(found, (ErrorType::ResourceNotFound, missing));
}
