//! The rules of a task, refusals first: above all, that it is started at most once.

use super::{
    Cancelled, Command, Completed, Deleted, EXPIRE_COMPLETED_AFTER, EXPIRE_PENDING_AFTER,
    PlacementFailed, RETRY_AFTER, Refused, Released, Started, State, TaskReference, TaskResult,
};
use crate::{
    bbs::cell,
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
    TaskResult { failure_reason: None, exit: None, evidence: None }
}

fn failed(reason: &str) -> Completed {
    Completed { failure_reason: Some(reason.to_owned()), exit: None, evidence: None }
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
    for command in [cancel(), place, fail_placement(), lose_cell(), expire()] {
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
        started().when(report).then_rejected("PLACEMENT_MOVED");
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

    let story = story.when(fail_placement()).then([noted(4), on_task("t", failed("no cell"))]);

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
    story.when(refuse(task)).then([refused(4), on_task("t", failed("no room"))]);
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
    pending().when(cancel()).then([on_task("t", Cancelled {})]).when(cancel()).then_nothing();
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

    for story in [task_story(), started()] {
        story.after(lose("cell-1")).when(lose_cell()).then([on_task("t", failed(reason))]);
    }
    started()
        .after(lose("cell-1"))
        .after(register("cell-1", 2))
        .when(lose_cell())
        .then([on_task("t", failed(reason))]);
    cancelled().after(lose("cell-1")).when(lose_cell()).then([on_task("t", Released {})]);
}

#[test]
fn a_task_expires_at_its_instant_and_not_before() {
    let just_before = |span: Milliseconds| Milliseconds(span.0 - 1);
    for story in [task_story(), started(), cancelled()] {
        let story = story.later(Milliseconds::from_seconds(100_000));
        story.when(expire()).then_rejected("INVALID_TRANSITION");
    }

    pending()
        .later(just_before(EXPIRE_PENDING_AFTER))
        .when(expire())
        .then_rejected("INVALID_TRANSITION")
        .later(Milliseconds(1))
        .when(expire())
        .then([on_task("t", failed("not started within time limit"))]);
    for ended in [completed(), pending().after(cancel())] {
        let _desired_again = ended
            .later(just_before(EXPIRE_COMPLETED_AFTER))
            .when(expire())
            .then_rejected("INVALID_TRANSITION")
            .later(Milliseconds(1))
            .when(expire())
            .then([on_task("t", Deleted {})])
            .after(desire_task("t"));
    }
}
