//! What becomes of an ended task: one resolver at a time, callbacks at least once, nothing for ever.

use super::{
    CallbackDelivered, CallbackFailed, CallbackOutcome, Calls, Command, DeleteReason, Deleted,
    Demoted, EXPIRE_COMPLETED_AFTER, KICK_AFTER, Released, Resolving, State, Task,
};
use crate::{
    aggregates::Aggregates,
    convergence::{Discrepancies, plan},
    log::Position,
    testing::{
        Dice, Story, cell_id, desire_task_with_callback, given, on_task, place_task,
        random_command, register, task_guid, task_story,
    },
    units::Milliseconds,
};

fn ended() -> Story {
    given([]).after(desire_task_with_callback("t")).after(cancel())
}

fn cancel() -> Command {
    Command::Cancel { task_guid: task_guid("t") }
}

fn resolve() -> Command {
    Command::Resolve { task_guid: task_guid("t") }
}

fn delete() -> Command {
    Command::Delete { task_guid: task_guid("t") }
}

fn demote() -> Command {
    Command::Demote { task_guid: task_guid("t") }
}

fn note(resolving: Position, attempts: u32, outcome: CallbackOutcome) -> Command {
    let calls = Calls { attempts, outcome };
    Command::NoteCallback { task_guid: task_guid("t"), resolving, calls }
}

fn delivered(resolving: Position) -> Command {
    note(resolving, 1, CallbackOutcome::Delivered(404))
}

fn failed(resolving: Position) -> Command {
    note(resolving, 3, CallbackOutcome::Failed("answered with HTTP status 503".to_owned()))
}

fn task(story: &Story) -> &Task {
    story.aggregates.task(&task_guid("t")).expect("it is there")
}

fn planned(story: &Story) -> Vec<crate::command::Command> {
    plan(&Discrepancies::of(&story.aggregates), &story.aggregates, story.now)
}

fn wants_callback(story: &Story) -> bool {
    Discrepancies::of(&story.aggregates).callbacks().next().is_some()
}

fn of_callback(story: &Story) -> Position {
    story.head().position
}

#[test]
fn only_the_first_resolver_is_accepted_and_only_of_what_has_ended() {
    let pending = given([]).after(desire_task_with_callback("t"));
    pending.when(resolve()).then_rejected("INVALID_TRANSITION");
    given([]).when(resolve()).then_rejected("NOT_FOUND");

    ended()
        .when(resolve())
        .then([on_task("t", Resolving {})])
        .when(resolve())
        .then_rejected("INVALID_TRANSITION");
}

#[test]
fn a_client_that_asks_for_results_resolves_and_deletes() {
    ended().when(delete()).then_rejected("INVALID_TRANSITION");

    ended()
        .after(resolve())
        .when(delete())
        .then([on_task("t", Deleted { reason: DeleteReason::Resolved })])
        .when(delete())
        .then_rejected("NOT_FOUND");
}

#[test]
fn an_answer_of_any_status_deletes_the_task_and_its_status_is_in_the_log() {
    let story = ended().after(resolve());
    let resolving = of_callback(&story);

    story
        .when(delivered(resolving))
        .then([
            on_task("t", CallbackDelivered { attempts: 1, status: 404 }),
            on_task("t", Deleted { reason: DeleteReason::CallbackDelivered }),
        ])
        .when(delivered(resolving))
        .then_rejected("NOT_FOUND");
}

#[test]
fn calls_that_failed_leave_it_resolving_until_it_is_kicked_and_called_for_again() {
    let story = ended().after(resolve());
    let resolving = of_callback(&story);
    let reason = "answered with HTTP status 503".to_owned();

    let story = story
        .when(failed(resolving))
        .then([on_task("t", CallbackFailed { attempts: 3, reason: reason.clone() })]);
    let callback = task(&story).callback.as_ref().unwrap();
    let last = Some(CallbackOutcome::Failed(reason));
    assert_eq!((callback.attempts, &callback.last), (3, &last));

    let story = story.later(Milliseconds(KICK_AFTER.0 - 1));
    assert!(planned(&story).is_empty() && !wants_callback(&story));
    let story = story.when(demote()).then_rejected("INVALID_TRANSITION").later(Milliseconds(1));
    assert_eq!(planned(&story), [demote().into()]);
    let story = story.when(demote()).then([on_task("t", Demoted {})]);
    assert!(wants_callback(&story), "it is sent again at once");
}

#[test]
fn what_calls_of_an_earlier_resolving_came_to_is_refused() {
    let story = ended().after(resolve());
    let earlier = of_callback(&story);
    let story = story.later(KICK_AFTER).after(demote());
    let story = story.when(delivered(earlier)).then_rejected("INVALID_TRANSITION");

    story.after(resolve()).when(failed(earlier)).then_rejected("INVALID_TRANSITION");
}

#[test]
fn a_result_that_cannot_be_delivered_is_dropped_two_minutes_after_its_end_and_the_log_says_so() {
    let dropped = || on_task("t", Deleted { reason: DeleteReason::CallbackUndelivered });
    let expire = || Command::Expire { task_guid: task_guid("t") };
    let story = ended().later(EXPIRE_COMPLETED_AFTER);
    assert_eq!(planned(&story), [expire().into()]);
    story.when(expire()).then([dropped()]);

    let story = ended().later(Milliseconds::from_seconds(100)).after(resolve());
    let story = story.later(Milliseconds::from_seconds(29));
    assert_eq!(planned(&story), [], "whoever resolves it has its time");
    let story = story.later(Milliseconds::from_seconds(1));
    story.when(demote()).then([on_task("t", Demoted {}), dropped()]);
}

#[test]
fn being_resolved_and_demoted_does_not_make_a_task_younger() {
    let story = ended();
    let at = task(&story).ended().unwrap().at;

    let story = story.after(resolve()).later(KICK_AFTER).after(demote());

    assert_eq!(task(&story).ended().unwrap().at, at);
    assert_eq!(task(&story).expires_at(), Some(at.plus(EXPIRE_COMPLETED_AFTER)));
}

#[test]
fn a_deleted_task_keeps_its_room_and_its_guid_until_its_container_is_gone() {
    let story = task_story();
    let reference = story.task(&task_guid("t"));
    let story = story.after(cancel()).after(resolve()).after(delete());

    assert!(matches!(task(&story).state, State::Deleting(_)));
    assert_ne!(story.aggregates.reserved_on(&cell_id("cell-1")), Default::default());
    let story = story.when(desire_task_with_callback("t")).then_rejected("ALREADY_EXISTS");
    for command in [cancel(), resolve(), delete(), demote()] {
        story.clone().when(command).then_rejected("INVALID_TRANSITION");
    }
    let released = [on_task("t", Released {})];
    let story = story.when(Command::Release { task: reference }).then(released);
    assert_eq!(story.aggregates.reserved_on(&cell_id("cell-1")), Default::default());
    let _desired_again = story.after(desire_task_with_callback("t"));
}

#[test]
fn random_commands_at_random_states_never_break_the_fold_of_a_task() {
    for seed in 0..50 {
        let mut dice = Dice::new(seed);
        let mut story = given([]).after(register("cell-1", 1)).after(register("cell-2", 2));
        for step in 0..200 {
            story.now = story.now.plus(Milliseconds(u64::from(dice.below(20_000))));
            let command = any_command(&mut dice, &story, step);
            let _refused_or_not = story.submit(command);
            let index = Discrepancies::of(&story.aggregates);
            for command in plan(&index, &story.aggregates, story.now) {
                let told = format!("seed {seed}: {command:?}");
                let accepted = story.clone().submit(command);
                assert!(accepted.is_ok_and(|decision| !decision.events.is_empty()), "{told}");
            }
        }
        let mut replayed = Aggregates::default();
        for recorded in &story.recorded {
            replayed.apply(recorded);
        }
        let (live, replayed) = (format!("{:?}", story.aggregates), format!("{replayed:?}"));
        assert_eq!(live, replayed, "seed {seed}");
    }
}

/// Above all of tasks, with the right position of a resolving or a wrong one.
fn any_command(dice: &mut Dice, story: &Story, step: u32) -> crate::command::Command {
    let name = dice.pick(&["t", "u"]);
    let guid = task_guid(name);
    let resolving = match story.aggregates.task(&guid).map(|task| &task.state) {
        Some(State::Resolving { by, .. }) if !dice.one_in(5) => *by,
        Some(_) | None => Position(u64::from(dice.below(50))),
    };
    let delivered = dice.one_in(2);
    let outcome = if delivered {
        CallbackOutcome::Delivered(200)
    } else {
        CallbackOutcome::Failed("x".repeat(usize::try_from(dice.below(3000)).unwrap()))
    };
    let calls = Calls { attempts: dice.below(4), outcome };
    match dice.below(14) {
        0 | 1 => desire_task_with_callback(name).into(),
        2 | 3 => {
            let cell = dice.pick(&["cell-1", "cell-2"]);
            place_task(name, &format!("i-{step}"), cell).into()
        }
        4 => Command::Cancel { task_guid: guid }.into(),
        5 => Command::Fail { task_guid: guid, reason: "x".repeat(step as usize) }.into(),
        6 => Command::Resolve { task_guid: guid }.into(),
        7 => Command::NoteCallback { task_guid: guid, resolving, calls }.into(),
        8 => Command::Delete { task_guid: guid }.into(),
        9 => Command::Demote { task_guid: guid }.into(),
        10 => Command::Expire { task_guid: guid }.into(),
        11 => Command::LoseCell { task_guid: guid }.into(),
        _ => random_command(dice, story),
    }
}
