//! Suspect and evacuating instances: how each begins, what each keeps, and every way it ends.

use std::sync::Arc;

use super::{
    Command, CrashReport, EvacuationEnded, EvacuationStarted, InstancePresence, InstanceReference,
    ReadinessChanged, Removed, Retired, Started, State, SuspectRemoved, SuspectRestored, Suspected,
    TwinCrashed, TwinEnd, UnclaimReason, Unclaimed, UnclaimedReason,
};
use crate::{
    bbs::{
        cell,
        definition::{Definition, UpdateStrategy},
        desired_lrp,
        placement::Resources,
    },
    event::Event,
    id::{ActualLrpKey, CellId, InstanceGuid},
    log::StreamId,
    testing::{
        Story, cell_id, crash_report, definition, desire, desire_of, given, instance_guid, key,
        net_info, on_cell, on_slot, place, process_guid, register, running_story,
    },
    units::{Milliseconds, Timestamp},
};

pub(super) const TIMEOUT: Milliseconds = cell::EVACUATION_TIMEOUT;

pub(super) fn web() -> ActualLrpKey {
    key("web", 0)
}

pub(super) fn lose(cell: &str) -> cell::Command {
    let (last_heard_at, heard_by) = (Timestamp(0), "node-1".to_owned());
    cell::Command::Lose { cell_id: cell_id(cell), last_heard_at, heard_by }
}

pub(super) fn unclaim_lost() -> Command {
    Command::Unclaim { key: web(), reason: UnclaimReason::CellLost }
}

pub(super) fn settle() -> Command {
    Command::SettleTwins { key: web() }
}

pub(super) fn evacuate_cell(cell: &str) -> cell::Command {
    cell::Command::Evacuate {
        cell_id: cell_id(cell),
        timeout: TIMEOUT,
        instances_away_max: cell::INSTANCES_AWAY_MAX,
    }
}

pub(super) fn evacuate() -> Command {
    Command::Evacuate { key: web() }
}

pub(super) fn ids(instance: &str, cell: &str) -> (InstanceGuid, CellId) {
    (instance_guid(instance), cell_id(cell))
}

fn suspect_removed(cause: TwinEnd) -> (StreamId, Event) {
    let (instance_guid, cell_id) = ids("i-1", "cell-1");
    // Its cell is lost, or it would be a suspect no more: but under an evacuation.
    let is_leaving = cause == TwinEnd::Evacuated;
    on_slot(&web(), SuspectRemoved { instance_guid, cell_id, cause, is_leaving })
}

pub(super) fn evacuation_ended(cause: TwinEnd) -> (StreamId, Event) {
    let (instance_guid, cell_id) = ids("i-1", "cell-1");
    let is_leaving = matches!(cause, TwinEnd::Replaced { .. } | TwinEnd::TimedOut);
    on_slot(&web(), EvacuationEnded { instance_guid, cell_id, cause, is_leaving })
}

fn twin_crashed(presence: InstancePresence, report: &CrashReport) -> (StreamId, Event) {
    let (instance_guid, cell_id) = ids("i-1", "cell-1");
    let CrashReport { reason, exit, evidence } = report.clone();
    let reason = reason.into();
    let crashed = TwinCrashed { instance_guid, cell_id, presence, reason, exit, evidence };
    on_slot(&web(), crashed)
}

pub(super) fn started(instance: &str) -> (StreamId, Event) {
    let instance_guid = instance_guid(instance);
    on_slot(&web(), Started { instance_guid, net_info: net_info(), is_ready: true })
}

pub(super) fn start(instance: &InstanceReference) -> Command {
    Command::Start { instance: instance.clone(), net_info: net_info(), is_ready: true }
}

/// The instance of a presence, as its cell names it.
pub(super) fn twin(story: &Story, presence: InstancePresence) -> InstanceReference {
    let slot = story.aggregates.slot(&web()).unwrap();
    let at = slot.instances().position(|instance| instance.presence == presence).unwrap();
    story.instances(&web()).remove(at)
}

/// `i-1` ran on cell-1, which is lost; there is a second cell.
fn suspected() -> Story {
    running_story().after(register("cell-2", 2)).after(lose("cell-1")).after(unclaim_lost())
}

/// As before, and `i-2` was placed in its stead.
pub(super) fn replaced() -> Story {
    suspected().after(place(&web(), "i-2", "cell-2"))
}

/// `i-1` runs on cell-1, which is being evacuated.
pub(super) fn on_evacuating_cell() -> Story {
    running_story().after(register("cell-2", 2)).after(evacuate_cell("cell-1"))
}

pub(super) fn evacuating() -> Story {
    on_evacuating_cell().after(evacuate())
}

pub(super) fn presences(story: &Story) -> Vec<InstancePresence> {
    let slot = story.aggregates.slot(&web());
    slot.into_iter().flat_map(|slot| slot.instances()).map(|it| it.presence).collect()
}

#[test]
fn an_instance_on_a_lost_cell_is_suspect_and_its_slot_waits_for_a_cell() {
    let (instance_guid, cell_id) = ids("i-1", "cell-1");
    let story = running_story()
        .after(lose("cell-1"))
        .when(unclaim_lost())
        .then([on_slot(&web(), Suspected { instance_guid, cell_id })]);

    let slot = story.aggregates.slot(&web()).unwrap();
    assert_eq!(slot.state, State::Unclaimed);
    assert_eq!(presences(&story), [InstancePresence::Suspect]);
    assert!(slot.resolved().unwrap().running.is_some(), "it stands for the slot");
}

#[test]
fn a_suspect_whose_replacement_is_lost_too_stays_the_one_suspect() {
    let story = replaced().after(lose("cell-2"));

    let reason = UnclaimedReason::CellLost;
    story.when(unclaim_lost()).then([on_slot(&web(), Unclaimed { reason })]);
}

#[test]
fn a_healthy_replacement_ends_the_suspect_in_the_same_batch() {
    let story = replaced();
    let replacement = story.instance(&web());

    let story = story
        .when(start(&replacement))
        .then([started("i-2"), suspect_removed(TwinEnd::Replaced { by: instance_guid("i-2") })]);

    assert_eq!(presences(&story), [InstancePresence::Ordinary]);
}

#[test]
fn a_suspect_whose_cell_is_back_is_ordinary_again_and_its_replacement_goes() {
    let restored = |in_stead: Option<InstanceGuid>| {
        let (instance_guid, cell_id) = ids("i-1", "cell-1");
        let is_leaving = in_stead.is_some();
        on_slot(&web(), SuspectRestored { instance_guid, cell_id, in_stead, is_leaving })
    };
    suspected().when(settle()).then_rejected("INVALID_TRANSITION");
    suspected().after(register("cell-1", 1)).when(settle()).then([restored(None)]);

    let story = replaced();
    let since = story.aggregates.slot(&web()).unwrap().suspect.as_ref().unwrap().since;
    let replacement = story.instance(&web());
    let story = story
        .later(Milliseconds::from_seconds(20))
        .after(register("cell-1", 1))
        .when(settle())
        .then([restored(Some(instance_guid("i-2")))]);

    let slot = story.aggregates.slot(&web()).unwrap();
    assert!(matches!(slot.state, State::Running(_)));
    assert_eq!(slot.since, since, "it ran all the time: no clock was restarted");
    let story = story.when(start(&replacement)).then_nothing();
    let story = story.after(Command::Remove { instance: replacement.clone() });
    assert_eq!(story.aggregates.reserved_on(&cell_id("cell-2")), Resources::default());
    story.when(start(&replacement)).then_rejected("PLACEMENT_MOVED");
}

#[test]
fn a_suspect_never_comes_back_from_a_machine_that_another_one_has_replaced() {
    let story = suspected().after(register("cell-1", 7));
    story.when(settle()).then([suspect_removed(TwinEnd::CellLost)]);

    let story = running_story().after(lose("cell-1")).after(register("cell-1", 7));
    let reason = UnclaimedReason::CellLost;
    story.when(unclaim_lost()).then([on_slot(&web(), Unclaimed { reason })]);
}

#[test]
fn what_a_suspects_own_cell_says_is_heard() {
    let story = suspected();
    let suspect = twin(&story, InstancePresence::Suspect);
    let crash = Command::Crash { instance: suspect.clone(), report: crash_report() };
    let crashed = twin_crashed(InstancePresence::Suspect, &crash_report());
    let refuse = Command::Refuse { instance: suspect.clone(), reason: "no".to_owned() };
    let remove = Command::Remove { instance: suspect.clone() };
    let claim = Command::Claim { instance: suspect.clone() };

    let ended = story.clone().when(crash).then([crashed]);
    assert_eq!(presences(&ended), []);
    story.clone().when(refuse).then([suspect_removed(TwinEnd::Gone)]);
    story.clone().when(remove).then([suspect_removed(TwinEnd::Gone)]);
    story.clone().when(claim).then_nothing();
    story.when(start(&suspect)).then_nothing();
}

#[test]
fn a_suspect_that_became_healthy_unheard_is_noted_and_keeps_its_replacement() {
    let story = given([])
        .after(register("cell-1", 1))
        .after(desire("web", 1))
        .after(Command::Create { key: web() })
        .after(place(&web(), "i-1", "cell-1"));
    let claimed = Command::Claim { instance: story.instance(&web()) };
    let story = story.after(claimed).after(lose("cell-1")).after(unclaim_lost());
    let suspect = twin(&story, InstancePresence::Suspect);

    let story = story.when(start(&suspect)).then([started("i-1")]);

    let slot = story.aggregates.slot(&web()).unwrap();
    assert_eq!(slot.state, State::Unclaimed);
    assert!(slot.resolved().unwrap().running.is_some());
}

#[test]
fn a_wish_that_goes_takes_the_suspect_along() {
    let remove = desired_lrp::Command::Remove { process_guid: process_guid("web") };
    let removed = || crate::testing::on_desired("web", desired_lrp::Removed {});

    suspected().when(remove.clone()).then([
        removed(),
        suspect_removed(TwinEnd::Undesired),
        on_slot(&web(), Removed {}),
    ]);
    replaced().when(remove).then([
        removed(),
        suspect_removed(TwinEnd::Undesired),
        on_slot(&web(), Retired {}),
    ]);
}

#[test]
fn an_evacuated_instance_runs_on_until_its_replacement_is_healthy() {
    let (instance_guid_1, cell_id_1) = ids("i-1", "cell-1");
    let story = on_evacuating_cell()
        .when(evacuate())
        .then([on_slot(
            &web(),
            EvacuationStarted { instance_guid: instance_guid_1, cell_id: cell_id_1 },
        )])
        .when(place(&web(), "i-2", "cell-1"))
        .then_rejected("CELL_EVACUATING")
        .after(place(&web(), "i-2", "cell-2"));
    assert_eq!(presences(&story), [InstancePresence::Ordinary, InstancePresence::Evacuating]);
    assert_eq!(
        story.aggregates.slot(&web()).unwrap().resolved().unwrap().presence,
        InstancePresence::Evacuating,
        "it serves"
    );
    let old = twin(&story, InstancePresence::Evacuating);
    let replacement = story.instance(&web());

    let story = story.when(start(&old)).then_nothing();
    let story = story
        .when(start(&replacement))
        .then([started("i-2"), evacuation_ended(TwinEnd::Replaced { by: instance_guid("i-2") })]);

    assert_eq!(presences(&story), [InstancePresence::Ordinary, InstancePresence::Leaving]);
    story.when(start(&old)).then_nothing();
}

#[test]
fn what_is_not_healthy_yet_is_placed_anew_at_once() {
    let story = given([])
        .after(register("cell-1", 1))
        .after(desire("web", 1))
        .after(Command::Create { key: web() })
        .after(place(&web(), "i-1", "cell-1"));
    let claimed = Command::Claim { instance: story.instance(&web()) };
    let reason = UnclaimedReason::Evacuated;

    for story in [story.clone(), story.after(claimed)] {
        story
            .after(evacuate_cell("cell-1"))
            .when(evacuate())
            .then([on_slot(&web(), Unclaimed { reason })]);
    }
}

#[test]
fn an_instance_of_the_strategy_recreate_is_stopped_before_its_replacement_starts() {
    let update_strategy = UpdateStrategy::Recreate;
    let recreate = Arc::new(Definition { update_strategy, ..definition() });
    let story = given([])
        .after(register("cell-1", 1))
        .after(register("cell-2", 2))
        .after(desire_of("web", 1, recreate))
        .after(Command::Create { key: web() })
        .after(place(&web(), "i-1", "cell-1"));
    let healthy = start(&story.instance(&web()));
    let story = story
        .after(healthy)
        .after(evacuate_cell("cell-1"))
        .when(evacuate())
        .then([on_slot(&web(), Retired {})])
        .when(place(&web(), "i-2", "cell-2"))
        .then_rejected("INVALID_TRANSITION");
    let stopped = Command::Remove { instance: story.instance(&web()) };
    let story = story.after(stopped).after(Command::Create { key: web() });
    let story = story.after(place(&web(), "i-2", "cell-2"));
    assert_eq!(presences(&story), [InstancePresence::Ordinary]);
}

#[test]
fn nothing_is_evacuated_but_from_a_cell_that_is() {
    running_story().when(evacuate()).then_rejected("INVALID_TRANSITION");
    let cancel = cell::Command::CancelEvacuation { cell_id: cell_id("cell-1") };
    on_evacuating_cell().after(cancel).when(evacuate()).then_rejected("INVALID_TRANSITION");
    on_evacuating_cell().after(lose("cell-1")).when(evacuate()).then_rejected("INVALID_TRANSITION");
    let retire = Command::Retire { key: web() };
    on_evacuating_cell().after(retire).when(evacuate()).then_rejected("INVALID_TRANSITION");
}

#[test]
fn an_evacuation_keeps_its_budget_and_leaves_replacements_the_last_quarter_of_its_time() {
    let other = key("web", 1);
    let two = desired_lrp::Update { instances: Some(2), ..desired_lrp::Update::default() };
    let two = desired_lrp::Command::Update { process_guid: process_guid("web"), update: two };
    let story = on_evacuating_cell().after(two).after(Command::Create { key: other.clone() });

    let story = story.when(evacuate()).then_rejected("EVACUATION_BUDGET");
    let late = story.clone().later(Milliseconds(TIMEOUT.0 / 4 * 3));
    let (instance_guid, cell_id) = ids("i-1", "cell-1");
    let moved = || EvacuationStarted { instance_guid, cell_id };
    let late = late.when(evacuate()).then([on_slot(&web(), moved())]);
    late.when(settle()).then_rejected("INVALID_TRANSITION");

    let story = story.after(place(&other, "i-3", "cell-2"));
    let healthy =
        Command::Start { instance: story.instance(&other), net_info: net_info(), is_ready: true };
    let _moved = story.after(healthy).after(evacuate());
}

#[test]
fn what_an_evacuating_instances_own_cell_says_is_heard() {
    let story = evacuating();
    let old = twin(&story, InstancePresence::Evacuating);
    let long = CrashReport { reason: "x".repeat(2000), ..crash_report() };
    let crash = Command::Crash { instance: old.clone(), report: long };
    let cut = CrashReport { reason: crate::exit::cut_reason(&"x".repeat(2000)), ..crash_report() };

    let crashed = twin_crashed(InstancePresence::Evacuating, &cut);
    let ended = story.clone().when(crash).then([crashed]);
    assert_eq!(presences(&ended), []);
    story
        .clone()
        .when(Command::Remove { instance: old.clone() })
        .then([evacuation_ended(TwinEnd::Gone)]);
    let not_ready = Command::SetReadiness { instance: old, is_ready: false };
    let changed = ReadinessChanged { instance_guid: instance_guid("i-1"), is_ready: false };
    let story = story.when(not_ready).then([on_slot(&web(), changed)]);
    let evacuating = story.aggregates.slot(&web()).unwrap().resolved().unwrap();
    assert!(!evacuating.running.unwrap().is_ready);
}

#[test]
fn an_evacuating_instance_is_stopped_when_its_cell_is_lost_or_the_time_is_over() {
    evacuating().when(settle()).then_rejected("INVALID_TRANSITION");
    evacuating().after(lose("cell-1")).when(settle()).then([evacuation_ended(TwinEnd::CellLost)]);
    evacuating().later(TIMEOUT).when(settle()).then([evacuation_ended(TwinEnd::TimedOut)]);
}

#[test]
fn a_suspect_that_comes_back_to_a_cell_under_evacuation_moves_on() {
    let (instance_guid, cell_id) = ids("i-1", "cell-1");
    let story = replaced()
        .after(evacuate_cell("cell-1"))
        .after(register("cell-1", 1))
        .when(settle())
        .then([on_slot(&web(), EvacuationStarted { instance_guid, cell_id })]);

    assert_eq!(presences(&story), [InstancePresence::Ordinary, InstancePresence::Evacuating]);
}

#[test]
fn a_suspect_of_the_strategy_recreate_does_not_run_on_beside_its_replacement() {
    let update_strategy = UpdateStrategy::Recreate;
    let recreate = Arc::new(Definition { update_strategy, ..definition() });
    let story = given([])
        .after(register("cell-1", 1))
        .after(register("cell-2", 2))
        .after(desire_of("web", 1, recreate))
        .after(Command::Create { key: web() })
        .after(place(&web(), "i-1", "cell-1"));
    let healthy = start(&story.instance(&web()));

    story
        .after(healthy)
        .after(lose("cell-1"))
        .after(unclaim_lost())
        .after(evacuate_cell("cell-1"))
        .after(register("cell-1", 1))
        .when(settle())
        .then([suspect_removed(TwinEnd::Evacuated)]);
}

#[test]
fn a_replacement_that_is_gone_leaves_its_slot_while_another_instance_runs() {
    let story = evacuating().after(place(&web(), "i-2", "cell-2"));
    let replacement = story.instance(&web());

    story
        .when(Command::Remove { instance: replacement })
        .then([on_slot(&web(), Unclaimed { reason: UnclaimedReason::Gone })]);
}

#[test]
fn a_cell_is_evacuated_once_nothing_is_left_on_it() {
    let end = cell::Command::EndEvacuation { cell_id: cell_id("cell-1") };
    let story = on_evacuating_cell();
    let since = story.now;
    let evacuation = story.cell(&cell_id("cell-1")).evacuation.unwrap();
    assert_eq!((evacuation.started_at, evacuation.containers), (since, 1));
    assert_eq!(evacuation.ends_at, since.plus(TIMEOUT));
    let story = story.when(end.clone()).then_nothing();
    let story = story.when(evacuate_cell("cell-1")).then_nothing();

    let story = story.after(evacuate()).after(place(&web(), "i-2", "cell-2"));
    let healthy = start(&story.instance(&web()));
    let story = story.after(healthy).when(end.clone()).then_nothing();
    let stopped = Command::Remove { instance: twin(&story, InstancePresence::Leaving) };
    let story =
        story.after(stopped).when(end.clone()).then([on_cell("cell-1", cell::Evacuated {})]);

    let story = story.when(end).then_nothing();
    assert!(!story.cell(&cell_id("cell-1")).takes_work());
    let cancel = cell::Command::CancelEvacuation { cell_id: cell_id("cell-1") };
    let story = story.when(cancel).then([on_cell("cell-1", cell::EvacuationCancelled {})]);
    assert!(story.cell(&cell_id("cell-1")).takes_work());
}

/// Found by the exhaustive model.
#[test]
fn a_restored_suspect_that_became_healthy_unheard_replaces_what_was_evacuating() {
    let story = evacuating().after(place(&web(), "i-2", "cell-2"));
    let claim = Command::Claim { instance: story.instance(&web()) };
    let story = story.after(claim).after(lose("cell-2")).after(unclaim_lost());
    let suspect = twin(&story, InstancePresence::Suspect);
    let story = story.after(register("cell-2", 2)).after(start(&suspect));

    let (instance_guid, cell_id) = ids("i-2", "cell-2");
    let by = instance_guid.clone();
    let (in_stead, is_leaving) = (None, false);
    let restored = SuspectRestored { instance_guid, cell_id, in_stead, is_leaving };
    let story = story
        .when(settle())
        .then([on_slot(&web(), restored), evacuation_ended(TwinEnd::Replaced { by })]);

    assert_eq!(presences(&story), [InstancePresence::Ordinary, InstancePresence::Leaving]);
}

#[test]
fn an_instance_that_crashes_on_a_cell_under_evacuation_is_placed_elsewhere_at_once() {
    let story = on_evacuating_cell();
    let crash = Command::Crash { instance: story.instance(&web()), report: crash_report() };

    let story = story.after(crash).after(place(&web(), "i-2", "cell-2"));

    let slot = story.aggregates.slot(&web()).unwrap();
    assert_eq!(slot.crash_count, 1);
    assert_eq!(presences(&story), [InstancePresence::Ordinary]);
}

#[test]
fn an_evacuation_does_not_wait_for_what_was_given_up() {
    let other = key("web", 1);
    let two = desired_lrp::Update { instances: Some(2), ..desired_lrp::Update::default() };
    let two = desired_lrp::Command::Update { process_guid: process_guid("web"), update: two };
    let mut story = running_story()
        .after(register("cell-2", 2))
        .after(two)
        .after(Command::Create { key: other.clone() });
    for instance in ["i-3", "i-4", "i-5"] {
        let placed = story.after(place(&other, instance, "cell-2"));
        let report = crash_report();
        let crash = Command::Crash { instance: placed.instance(&other), report };
        story = placed.after(crash);
    }

    let (instance_guid, cell_id) = ids("i-1", "cell-1");
    story
        .after(evacuate_cell("cell-1"))
        .when(evacuate())
        .then([on_slot(&web(), EvacuationStarted { instance_guid, cell_id })]);
}

#[test]
fn a_suspect_that_was_not_healthy_yet_ends_on_a_cell_under_evacuation() {
    let story = given([])
        .after(register("cell-1", 1))
        .after(desire("web", 1))
        .after(Command::Create { key: web() })
        .after(place(&web(), "i-1", "cell-1"));
    let claimed = Command::Claim { instance: story.instance(&web()) };

    story
        .after(claimed)
        .after(lose("cell-1"))
        .after(unclaim_lost())
        .after(evacuate_cell("cell-1"))
        .after(register("cell-1", 1))
        .when(settle())
        .then([suspect_removed(TwinEnd::Evacuated)]);
}

#[test]
fn a_restored_suspect_shows_no_placement_error_and_waits_for_nothing() {
    let error = "insufficient resources".to_owned();
    let failed = Command::FailPlacement { key: web(), error: error.clone(), candidates: None };
    let story = given([])
        .after(register("cell-1", 1))
        .after(desire("web", 1))
        .after(Command::Create { key: web() })
        .after(place(&web(), "i-1", "cell-1"));
    let claimed = Command::Claim { instance: story.instance(&web()) };
    let story = story.after(claimed).after(lose("cell-1")).after(unclaim_lost()).after(failed);
    let suspect = twin(&story, InstancePresence::Suspect);
    let story = story.after(start(&suspect));
    let shown = story.aggregates.slot(&web()).unwrap().placement_error.clone();
    assert_eq!(shown, Some(error), "what is heard of a suspect says nothing of the ordinary one");

    let story = story.after(register("cell-1", 1)).after(settle());

    assert_eq!(story.aggregates.slot(&web()).unwrap().placement_error, None);
}
