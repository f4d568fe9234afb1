//! The rules of a slot, refusals first.

use std::sync::Arc;

use super::{
    Claimed, Command, CrashReport, Crashed, Created, InstanceReference, Killed, Placed,
    PlacementFailed, Refused, Removed, Restart, Retired, Started, State, UnclaimReason, Unclaimed,
    UnclaimedReason,
};
use crate::{
    auction::{Candidates, Refusal, Score},
    bbs::{
        cell, desired_lrp, freshness_domain,
        placement::RETRY_AFTER,
        restart_policy::{RestartPolicy, RestartWhen},
    },
    exit::{ExitStatus, ProcessExit},
    id::ActualLrpKey,
    log::{CellEpoch, PlacementEpoch, Position},
    testing::{
        Story, cell_id, claimed_story, crash_report, definition, desire, given, instance_guid, key,
        net_info, on_slot, place, placed_story, process_guid, register, running_story,
    },
    units::{Milliseconds, Timestamp},
};

fn web() -> ActualLrpKey {
    key("web", 0)
}

fn created() -> Story {
    given([])
        .after(register("cell-1", 1))
        .after(desire("web", 1))
        .after(Command::Create { key: web() })
}

fn lose(cell: &str) -> cell::Command {
    let (last_heard_at, heard_by) = (Timestamp(0), "node-1".to_owned());
    cell::Command::Lose { cell_id: cell_id(cell), last_heard_at, heard_by }
}

fn unclaim(reason: UnclaimReason) -> Command {
    Command::Unclaim { key: web(), reason }
}

fn crash(story: &Story) -> Command {
    Command::Crash { instance: story.instance(&web()), report: crash_report() }
}

fn retired(story: Story) -> Story {
    story.after(Command::Retire { key: web() })
}

/// Everything that a cell can say about an instance.
fn reports(instance: &InstanceReference) -> Vec<Command> {
    vec![
        Command::Refuse { instance: instance.clone(), reason: "no room".to_owned() },
        Command::Claim { instance: instance.clone() },
        Command::Start { instance: instance.clone(), net_info: net_info(), is_ready: true },
        Command::SetReadiness { instance: instance.clone(), is_ready: true },
        Command::Crash { instance: instance.clone(), report: crash_report() },
        Command::Remove { instance: instance.clone() },
        killed(instance),
    ]
}

const GRACE: Milliseconds = Milliseconds::from_seconds(10);

fn killed(instance: &InstanceReference) -> Command {
    Command::RemoveKilled { instance: instance.clone(), grace: GRACE, evidence: None }
}

fn crashed(crash_count: u32, restart: Restart) -> Crashed {
    let CrashReport { reason, exit, evidence } = crash_report();
    Crashed {
        instance_guid: instance_guid("i-1"),
        cell_id: cell_id("cell-1"),
        reason: reason.into(),
        exit,
        crash_count,
        restart,
        evidence,
    }
}

#[test]
fn a_slot_of_nothing_desired_is_not_created() {
    given([]).when(Command::Create { key: web() }).then_rejected("NOT_FOUND");
}

#[test]
fn only_a_desired_index_gets_a_slot_and_only_once() {
    let story = given([]).after(desire("web", 1));
    let created =
        Created { domain: story.aggregates.desired_lrps().next().unwrap().domain.clone() };

    story
        .when(Command::Create { key: key("web", 1) })
        .then_nothing()
        .when(Command::Create { key: web() })
        .then([on_slot(&web(), created)])
        .when(Command::Create { key: web() })
        .then_nothing();
}

#[test]
fn placing_is_refused_without_slot_or_cell() {
    given([]).when(place(&web(), "i-1", "cell-1")).then_rejected("NOT_FOUND");
    created().when(place(&web(), "i-1", "cell-9")).then_rejected("NOT_FOUND");
    created().after(lose("cell-1")).when(place(&web(), "i-1", "cell-1")).then_rejected("CELL_LOST");
    created()
        .after(lose("cell-1"))
        .after(register("cell-1", 2))
        .when(place(&web(), "i-1", "cell-1"))
        .then_rejected("CELL_EPOCH_PASSED");
}

#[test]
fn placing_is_refused_when_the_cell_is_full_at_the_head_of_the_log() {
    let mut story = given([]).after(register("cell-1", 1)).after(desire("web", 17));
    for index in 0..17 {
        story = story.after(Command::Create { key: key("web", index) });
    }
    for index in 0..16 {
        story = story.after(place(&key("web", index), &format!("i-{index}"), "cell-1"));
    }

    story.when(place(&key("web", 16), "i-16", "cell-1")).then_rejected("NO_ROOM");
}

#[test]
fn a_placed_slot_is_not_placed_again() {
    let resources = placed_story().aggregates.reserved_on(&cell_id("cell-1"));
    let placed = Placed {
        instance_guid: instance_guid("i-1"),
        cell_id: cell_id("cell-1"),
        cell_epoch: CellEpoch(1),
        definition: definition().digest(),
        resources,
        candidates: None,
    };

    created()
        .when(place(&web(), "i-1", "cell-1"))
        .then([on_slot(&web(), placed)])
        .when(place(&web(), "i-1", "cell-1"))
        .then_nothing()
        .when(place(&web(), "i-2", "cell-1"))
        .then_rejected("INVALID_TRANSITION");
}

#[test]
fn a_placement_and_its_failure_keep_what_each_cell_came_to() {
    let refused = vec![(cell_id("cell-2"), Refusal::FullerZone)];
    let candidates = Some(Box::new(Candidates {
        seen: Position(3),
        best: vec![(cell_id("cell-1"), Score(1))],
        refused,
        counts: Vec::new(),
    }));
    let fail = Command::FailPlacement {
        key: web(),
        error: "no cell".to_owned(),
        candidates: candidates.clone(),
    };
    let failed = PlacementFailed { error: "no cell".to_owned(), candidates: candidates.clone() };
    let place = Command::Place {
        key: web(),
        instance_guid: instance_guid("i-1"),
        cell_id: cell_id("cell-1"),
        cell_epoch: CellEpoch(1),
        candidates: candidates.clone(),
    };
    let placed = Placed {
        instance_guid: instance_guid("i-1"),
        cell_id: cell_id("cell-1"),
        cell_epoch: CellEpoch(1),
        definition: definition().digest(),
        resources: placed_story().aggregates.reserved_on(&cell_id("cell-1")),
        candidates,
    };

    created()
        .when(fail)
        .then([on_slot(&web(), failed)])
        .when(place)
        .then([on_slot(&web(), placed)]);
}

#[test]
fn a_placement_error_is_noted_once_and_only_while_unclaimed() {
    let fail =
        || Command::FailPlacement { key: web(), error: "no cell".to_owned(), candidates: None };
    given([]).when(fail()).then_rejected("NOT_FOUND");
    placed_story().when(fail()).then_rejected("INVALID_TRANSITION");

    let story = created()
        .when(fail())
        .then([on_slot(&web(), PlacementFailed { error: "no cell".to_owned(), candidates: None })])
        .when(fail())
        .then_nothing()
        .after(place(&web(), "i-1", "cell-1"));

    assert_eq!(story.aggregates.slot(&web()).unwrap().placement_error, None);
}

#[test]
fn a_placement_error_does_not_make_a_slot_wait_anew() {
    let story = created();
    let since = story.aggregates.slot(&web()).unwrap().since;
    let fail = Command::FailPlacement {
        key: web(),
        error: "insufficient resources".to_owned(),
        candidates: None,
    };

    let story = story.later(Milliseconds::from_seconds(20)).after(fail);

    assert_eq!(story.aggregates.slot(&web()).unwrap().since, since);
}

#[test]
fn a_report_about_any_but_the_present_placement_is_refused() {
    let present = running_story().instance(&web());
    let others = [
        InstanceReference { instance_guid: instance_guid("i-9"), ..present.clone() },
        InstanceReference { placement_epoch: PlacementEpoch(Position(1)), ..present.clone() },
        InstanceReference { cell_id: cell_id("cell-9"), ..present.clone() },
        InstanceReference { cell_epoch: CellEpoch(2), ..present.clone() },
        InstanceReference { key: key("web", 7), ..present.clone() },
    ];

    for report in others.iter().flat_map(reports) {
        running_story().when(report).then_rejected("PLACEMENT_MOVED");
    }
    for report in reports(&present) {
        created().when(report).then_rejected("PLACEMENT_MOVED");
    }
}

#[test]
fn a_refused_slot_waits_again_with_the_reason_but_a_running_one_is_not_refused() {
    let refuse = |story: &Story| Command::Refuse {
        instance: story.instance(&web()),
        reason: "no room".to_owned(),
    };
    let running = running_story();
    let report = refuse(&running);
    running.when(report).then_rejected("INVALID_TRANSITION");
    let refused = Refused {
        instance_guid: instance_guid("i-1"),
        cell_id: cell_id("cell-1"),
        reason: "no room".to_owned(),
    };

    for story in [placed_story(), claimed_story()] {
        let report = refuse(&story);
        let story = story.when(report).then([on_slot(&web(), refused.clone())]);
        let slot = story.aggregates.slot(&web()).unwrap();
        assert_eq!(slot.state, State::Unclaimed);
        assert_eq!(slot.placement_error.as_deref(), Some("no room"));
        assert!(
            !slot.may_be_auctioned(story.now),
            "a cell that refuses at once is not asked at once"
        );
        assert!(slot.may_be_auctioned(story.now.plus(RETRY_AFTER)));
        let slot = story.clone().after(place(&web(), "i-2", "cell-1"));
        assert_eq!(slot.aggregates.slot(&web()).unwrap().refused_until, None);
    }
}

#[test]
fn claim_and_start_count_once_and_start_may_overtake_claim() {
    let instance = placed_story().instance(&web());
    let claim = || Command::Claim { instance: instance.clone() };
    let start =
        || Command::Start { instance: instance.clone(), net_info: net_info(), is_ready: true };
    let started =
        Started { instance_guid: instance_guid("i-1"), net_info: net_info(), is_ready: true };

    placed_story()
        .when(claim())
        .then([on_slot(&web(), Claimed { instance_guid: instance_guid("i-1") })])
        .when(claim())
        .then_nothing()
        .when(start())
        .then([on_slot(&web(), started.clone())])
        .when(start())
        .then_nothing()
        .when(claim())
        .then_nothing();
    placed_story().when(start()).then([on_slot(&web(), started)]);
}

#[test]
fn a_crash_restarts_at_once_twice_and_then_waits_its_back_off() {
    let mut story = running_story();
    for (crash_count, instance) in [(1, "i-2"), (2, "i-3")] {
        let report = crash(&story);
        story = story.after(report);
        let slot = story.aggregates.slot(&web()).unwrap();
        assert_eq!((&slot.state, slot.crash_count), (&State::Unclaimed, crash_count));
        story = story.after(place(&web(), instance, "cell-1"));
    }
    let report = crash(&story);
    let back_off = Milliseconds::from_seconds(30);
    let restart = Restart::NotBefore(story.now.plus(back_off));
    let third = Crashed { instance_guid: instance_guid("i-3"), ..crashed(3, restart) };

    story
        .when(report)
        .then([on_slot(&web(), third)])
        .when(place(&web(), "i-4", "cell-1"))
        .then_rejected("INVALID_TRANSITION")
        .later(Milliseconds(back_off.0 - 1))
        .when(unclaim(UnclaimReason::BackOffOver))
        .then_rejected("INVALID_TRANSITION")
        .later(Milliseconds(1))
        .when(unclaim(UnclaimReason::BackOffOver))
        .then([on_slot(&web(), Unclaimed { reason: UnclaimedReason::BackOffOver })])
        .when(place(&web(), "i-4", "cell-1"))
        .then([on_slot(
            &web(),
            Placed {
                instance_guid: instance_guid("i-4"),
                cell_id: cell_id("cell-1"),
                cell_epoch: CellEpoch(1),
                definition: definition().digest(),
                resources: placed_story().aggregates.reserved_on(&cell_id("cell-1")),
                candidates: None,
            },
        )]);
}

#[test]
fn the_crash_count_begins_anew_after_more_than_five_minutes_of_running() {
    let once_crashed = || {
        let story = running_story();
        let report = crash(&story);
        let story = story.after(report).after(place(&web(), "i-1", "cell-1"));
        let instance = story.instance(&web());
        story.after(Command::Start { instance, net_info: net_info(), is_ready: true })
    };
    let five_minutes = Milliseconds::from_seconds(300);
    let crash_after = |span: Milliseconds, crash_count| {
        let story = once_crashed().later(span);
        let report = crash(&story);
        let crashed = crashed(crash_count, Restart::Immediately);
        story.when(report).then([on_slot(&web(), crashed)]);
    };

    crash_after(five_minutes, 2);
    crash_after(Milliseconds(five_minutes.0 + 1), 1);
}

#[test]
fn a_slot_that_never_became_healthy_keeps_its_crash_count_however_long_it_tried() {
    let story = claimed_story();
    let report = crash(&story);
    let story = story.after(report).after(place(&web(), "i-1", "cell-1"));
    let story = story.later(Milliseconds::from_seconds(3600));
    let report = crash(&story);

    story.when(report).then([on_slot(&web(), crashed(2, Restart::Immediately))]);
}

#[test]
fn a_slot_is_unclaimed_for_a_lost_cell_only_when_the_cell_is_lost() {
    let reason = UnclaimReason::CellLost;
    given([]).when(unclaim(reason)).then_rejected("NOT_FOUND");
    running_story().when(unclaim(reason)).then_rejected("INVALID_TRANSITION");
    created().after(lose("cell-1")).when(unclaim(reason)).then_rejected("INVALID_TRANSITION");
    running_story()
        .after(lose("cell-1"))
        .after(register("cell-1", 1))
        .when(unclaim(reason))
        .then_rejected("INVALID_TRANSITION");
    let why = UnclaimedReason::CellLost;
    let unclaimed = || on_slot(&web(), Unclaimed { reason: why });

    placed_story().after(lose("cell-1")).when(unclaim(reason)).then([unclaimed()]);
    running_story()
        .after(lose("cell-1"))
        .after(register("cell-1", 2))
        .when(unclaim(reason))
        .then([unclaimed()]);
    retired(running_story())
        .after(lose("cell-1"))
        .when(unclaim(reason))
        .then([on_slot(&web(), Removed {})]);
}

#[test]
fn retiring_stops_an_instance_once_and_removes_an_empty_slot_at_once() {
    let retire = || Command::Retire { key: web() };
    given([]).when(retire()).then_rejected("NOT_FOUND");

    created().when(retire()).then([on_slot(&web(), Removed {})]);
    running_story()
        .when(retire())
        .then([on_slot(&web(), Retired {})])
        .when(retire())
        .then_nothing();
}

#[test]
fn whatever_ends_a_stopping_instance_removes_its_slot() {
    let instance = running_story().instance(&web());
    for report in reports(&instance) {
        let ends = !matches!(
            report,
            Command::Claim { .. } | Command::Start { .. } | Command::SetReadiness { .. }
        );
        let is_kill = matches!(report, Command::RemoveKilled { .. });
        let when = retired(running_story()).when(report);
        if is_kill {
            let (instance_guid, cell_id) =
                (instance.instance_guid.clone(), instance.cell_id.clone());
            let killed = Killed { instance_guid, cell_id, grace_ms: GRACE, evidence: None };
            when.then([on_slot(&web(), killed), on_slot(&web(), Removed {})]);
        } else if ends {
            when.then([on_slot(&web(), Removed {})]);
        } else {
            when.then_nothing();
        }
    }
}

#[test]
fn a_kill_is_told_once() {
    let story = retired(running_story());
    let instance = story.instance(&web());

    story.after(killed(&instance)).when(killed(&instance)).then_rejected("PLACEMENT_MOVED");
}

#[test]
fn a_removed_instance_frees_its_slot_to_be_created_again() {
    let story = running_story();
    let instance = story.instance(&web());

    let story = story
        .when(Command::Remove { instance })
        .then([on_slot(&web(), Removed {})])
        .after(Command::Create { key: web() });

    assert_eq!(story.aggregates.slots_of(&process_guid("web")).count(), 1);
}

#[test]
fn a_slot_stopped_by_a_removed_wish_is_not_placed() {
    let remove = desired_lrp::Command::Remove { process_guid: process_guid("web") };

    created().after(remove).when(place(&web(), "i-1", "cell-1")).then_rejected("NOT_FOUND");
}

fn after_end(story: Story, report: CrashReport) -> (State, Arc<str>) {
    let instance = story.instance(&web());
    let story = story.after(Command::Crash { instance, report });
    let slot = story.aggregates.slot(&web()).unwrap();
    (slot.state.clone(), slot.last_crash.as_ref().unwrap().reason.clone())
}

fn with_policy(story: Story, when: RestartWhen) -> Story {
    let policy = RestartPolicy { when, ..RestartPolicy::default() };
    let restart = Some(desired_lrp::RestartSource::Own(policy));
    let update = desired_lrp::Update { restart, ..desired_lrp::Update::default() };
    story.after(desired_lrp::Command::Update { process_guid: process_guid("web"), update })
}

fn with_domain_policy(story: Story, when: RestartWhen) -> Story {
    let name = || "cf-apps".parse().unwrap();
    let restart = Some(RestartPolicy { when, ..RestartPolicy::default() });
    story
        .after(freshness_domain::Command::Upsert { name: name(), time_to_live: None })
        .after(freshness_domain::set_restart(name(), restart).unwrap())
}

fn clean_exit() -> CrashReport {
    let exit = ProcessExit { status: ExitStatus::Exited(0), out_of_memory: None };
    CrashReport { reason: "Exited with status 0".to_owned(), exit: Some(exit), ..crash_report() }
}

#[test]
fn a_policy_says_which_ends_are_restarted_and_the_reason_says_that_they_are_not() {
    let never = State::Crashed(Restart::Never);
    assert_eq!(after_end(running_story(), clean_exit()).0, State::Unclaimed, "always by default");

    let done = after_end(with_policy(running_story(), RestartWhen::OnFailure), clean_exit());
    let reason = "Exited with status 0; not restarted: the restart policy is on_failure";
    assert_eq!(done, (never.clone(), reason.into()));
    let failed = after_end(with_policy(running_story(), RestartWhen::OnFailure), crash_report());
    assert_eq!(failed, (State::Unclaimed, "Exited with status 1".into()));
    let long = CrashReport { reason: "ü".repeat(2000), ..crash_report() };
    let (state, reason) = after_end(with_policy(running_story(), RestartWhen::Never), long);
    assert_eq!(state, never);
    assert!(reason.ends_with("; not restarted: the restart policy is never"), "{reason}");
    assert!(reason.len() <= 1024);
}

#[test]
fn a_domains_policy_holds_for_wishes_that_have_none_of_their_own() {
    let never = State::Crashed(Restart::Never);
    let story = || with_domain_policy(running_story(), RestartWhen::Never);
    assert_eq!(after_end(story(), crash_report()).0, never);
    let own = with_policy(story(), RestartWhen::Always);
    assert_eq!(after_end(own, crash_report()).0, State::Unclaimed);

    let name = || "cf-apps".parse().unwrap();
    let vouched = freshness_domain::Command::Upsert { name: name(), time_to_live: None };
    assert_eq!(after_end(story().after(vouched), crash_report()).0, never, "vouching keeps it");
    let cleared = freshness_domain::Command::SetRestart { name: name(), restart: None };
    assert_eq!(after_end(story().after(cleared), crash_report()).0, State::Unclaimed);
    let unknown = freshness_domain::Command::SetRestart { name: name(), restart: None };
    running_story().when(unknown).then_rejected("NOT_FOUND");
}

#[test]
fn what_is_not_restarted_is_started_again_by_a_user_who_retires_it() {
    let story = with_policy(running_story(), RestartWhen::Never);
    let report = crash(&story);
    let story = story.after(report);
    let story = with_policy(story, RestartWhen::Always).later(Milliseconds(86_400_000));
    let slot = story.aggregates.slot(&web()).unwrap();
    assert_eq!(slot.state, State::Crashed(Restart::Never), "a change is for the next end");

    let story = story.after(Command::Retire { key: web() }).after(Command::Create { key: web() });

    assert_eq!(story.aggregates.slot(&web()).unwrap().state, State::Unclaimed);
}
