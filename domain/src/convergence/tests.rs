//! What is planned when, and that the index says the same however it was filled.

use super::{Discrepancies, ExtraSlot, Report, next_due, plan};
use crate::{
    aggregates::Aggregates,
    bbs::{
        actual_lrp::{self, Created, Restart, UnclaimReason},
        cell, desired_lrp,
        freshness_domain::{self, FreshnessDomain, Upserted},
        task,
    },
    command::Command,
    id::FreshnessDomainName,
    rep::WorkKind,
    testing::{
        Dice, START, Story, cell_id, crash_report, desire, desire_task, given, key, net_info,
        on_freshness, on_slot, place, placed_story, process_guid, register, running_story,
        task_guid, task_story,
    },
    units::{Milliseconds, Timestamp},
};

fn domain() -> FreshnessDomainName {
    FreshnessDomainName::new("cf-apps").unwrap()
}

/// The plan, checked to be accepted whole by the rules that judge it.
fn planned(story: &Story) -> Vec<Command> {
    let commands = plan(&Discrepancies::of(&story.aggregates), &story.aggregates, story.now);
    for command in &commands {
        let answer = story.clone().submit(command.clone());
        assert!(answer.is_ok_and(|decision| !decision.events.is_empty()), "{command:?}");
    }
    commands
}

fn report(story: &Story) -> Report {
    Discrepancies::of(&story.aggregates).report(&story.aggregates, story.now)
}

fn create(index: u32) -> Command {
    actual_lrp::Command::Create { key: key("web", index) }.into()
}

fn unclaim(reason: UnclaimReason) -> Command {
    actual_lrp::Command::Unclaim { key: key("web", 0), reason }.into()
}

fn lose(cell: &str) -> cell::Command {
    let (last_heard_at, heard_by) = (Timestamp(0), "node-1".to_owned());
    cell::Command::Lose { cell_id: cell_id(cell), last_heard_at, heard_by }
}

/// A slot that nothing desires: only a foreign writer leaves one.
fn orphan() -> Story {
    given([on_slot(&key("web", 0), Created { domain: domain() })])
}

fn vouch(time_to_live: Option<Milliseconds>) -> freshness_domain::Command {
    freshness_domain::Command::Upsert { name: domain(), time_to_live }
}

#[test]
fn missing_indices_are_compared_not_counted_and_created_without_freshness() {
    let story = given([on_slot(&key("web", 2), Created { domain: domain() })])
        .after(desire("web", 2))
        .after(actual_lrp::Command::Create { key: key("web", 0) });

    assert_eq!(planned(&story), [create(1)]);
    assert_eq!(report(&story).missing, [key("web", 1)]);
}

#[test]
fn what_is_extra_is_retired_only_while_its_domain_is_fresh() {
    let retire = Command::from(actual_lrp::Command::Retire { key: key("web", 0) });
    let extra = |is_fresh| ExtraSlot { key: key("web", 0), domain: domain(), is_fresh };
    assert_eq!(planned(&orphan()), []);
    assert_eq!(report(&orphan()).extra, [extra(false)]);

    let fresh = orphan().after(vouch(Some(Milliseconds(1000))));
    assert_eq!(planned(&fresh), std::slice::from_ref(&retire));
    assert_eq!(report(&fresh).extra, [extra(true)]);
    assert_eq!(planned(&fresh.later(Milliseconds(1000))), []);
    assert_eq!(planned(&orphan().after(vouch(None))), [retire]);
}

#[test]
fn an_extra_crashed_slot_is_not_restarted() {
    let restart = Restart::NotBefore(START);
    let crashed = actual_lrp::Crashed {
        instance_guid: crate::testing::instance_guid("i-1"),
        cell_id: cell_id("cell-1"),
        reason: "x".into(),
        exit: None,
        crash_count: 3,
        restart,
        evidence: None,
    };

    assert_eq!(planned(&orphan().and(on_slot(&key("web", 0), crashed))), []);
}

#[test]
fn only_a_lost_cells_work_is_given_up_and_a_returned_cells_is_not() {
    let story = running_story();
    assert_eq!(planned(&story), []);

    let lost = story.after(lose("cell-1"));
    assert_eq!(planned(&lost), [unclaim(UnclaimReason::CellLost)]);
    assert_eq!(report(&lost).lost.len(), 1);
    assert_eq!(planned(&lost.clone().after(register("cell-1", 1))), []);
    assert_eq!(planned(&lost.after(register("cell-1", 2))), [unclaim(UnclaimReason::CellLost)]);
}

#[test]
fn no_cells_at_all_doom_nothing_that_was_never_placed() {
    let story = given([])
        .after(desire("web", 1))
        .after(actual_lrp::Command::Create { key: key("web", 0) })
        .after(desire_task("t"));

    assert_eq!(planned(&story), []);
    let unplaced: Vec<_> =
        report(&story).unplaced.into_iter().map(|unplaced| unplaced.work).collect();
    assert_eq!(unplaced, [WorkKind::Lrp(key("web", 0)), WorkKind::Task(task_guid("t"))]);
}

#[test]
fn a_stopping_slot_on_a_lost_cell_goes_and_is_not_made_again() {
    let remove = desired_lrp::Command::Remove { process_guid: process_guid("web") };
    let story = running_story().after(remove);
    assert_eq!(planned(&story), []);

    let story = story.after(lose("cell-1"));
    assert_eq!(planned(&story), [unclaim(UnclaimReason::CellLost)]);
    let story = story.after(unclaim(UnclaimReason::CellLost));
    assert_eq!(planned(&story), []);
    assert_eq!(story.aggregates.slots().count(), 0);
}

#[test]
fn a_back_off_is_waited_for_and_woken_for() {
    let mut story = placed_story();
    for instance in ["i-2", "i-3", "i-4"] {
        let crash = actual_lrp::Command::Crash {
            instance: story.instance(&key("web", 0)),
            report: crash_report(),
        };
        story = story.after(crash);
        if instance != "i-4" {
            story = story.after(place(&key("web", 0), instance, "cell-1"));
        }
    }
    let due = START.plus(Milliseconds::from_seconds(30));
    let index = Discrepancies::of(&story.aggregates);
    assert_eq!(planned(&story), []);
    assert_eq!(next_due(&index, story.now), Some(due));
    assert_eq!(report(&story).crashed[0].crash_count, 3);

    let story = story.later(Milliseconds::from_seconds(30));
    assert_eq!(planned(&story), [unclaim(UnclaimReason::BackOffOver)]);
    assert_eq!(next_due(&index, story.now), None);
}

#[test]
fn a_given_up_slot_waits_for_a_user() {
    let story = running_story().and(on_slot(
        &key("web", 0),
        actual_lrp::Crashed {
            instance_guid: crate::testing::instance_guid("i-1"),
            cell_id: cell_id("cell-1"),
            reason: "x".into(),
            exit: None,
            crash_count: 200,
            restart: Restart::Never,
            evidence: None,
        },
    ));

    assert_eq!(planned(&story), []);
    assert_eq!(next_due(&Discrepancies::of(&story.aggregates), story.now), None);
    assert_eq!(report(&story).crashed[0].restart, Restart::Never);
}

#[test]
fn tasks_fail_with_their_cell_and_expire_at_their_instant() {
    let lose_cell = Command::from(task::Command::LoseCell { task_guid: task_guid("t") });
    let expire = Command::from(task::Command::Expire { task_guid: task_guid("t") });
    let start = task::Command::Start { task: task_story().task(&task_guid("t")) };
    let lost = task_story().after(start).after(lose("cell-1"));
    assert_eq!(planned(&task_story()), []);
    assert_eq!(planned(&lost), std::slice::from_ref(&lose_cell));

    let ended = lost.after(lose_cell);
    let index = Discrepancies::of(&ended.aggregates);
    assert_eq!(planned(&ended), []);
    assert_eq!(next_due(&index, ended.now), Some(START.plus(task::EXPIRE_COMPLETED_AFTER)));
    let ended = ended.later(task::EXPIRE_COMPLETED_AFTER);
    assert_eq!(planned(&ended), std::slice::from_ref(&expire));

    let pending = given([]).after(desire_task("t")).later(task::EXPIRE_PENDING_AFTER);
    assert_eq!(planned(&pending), [expire]);
}

#[test]
fn the_index_kept_stream_by_stream_is_the_one_filled_from_nothing() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let story = given([]).walk(&mut dice, 400);
        let mut aggregates = Aggregates::default();
        let mut kept = Discrepancies::default();
        for recorded in &story.recorded {
            aggregates.apply(recorded);
            kept.touch(&aggregates, &recorded.stream);
            assert_eq!(kept, Discrepancies::of(&aggregates), "seed {seed} {recorded:?}");
        }
        planned(&story);
    }
}

#[test]
fn planning_until_nothing_is_due_makes_actual_equal_desired() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut story = given([]).walk(&mut dice, 300).after(vouch(None));
        // A cell that is there closes what it was told to stop.
        for key in story.aggregates.slots().map(|slot| slot.key.clone()).collect::<Vec<_>>() {
            let slot = story.aggregates.slot(&key).unwrap();
            if slot.is_stopping && !slot.is_removed() {
                let instance = story.instance(&key);
                story = story.after(actual_lrp::Command::Remove { instance });
            }
        }
        for _ in 0..10 {
            for command in planned(&story) {
                let _refused_or_not = story.submit(command);
            }
        }

        let report = report(&story);
        assert_eq!((report.missing, report.extra, report.lost), Default::default(), "seed {seed}");
    }
}

#[test]
fn freshness_is_what_the_domain_says() {
    let story = given([on_freshness(Upserted { fresh_until: Some(START) })]);
    let index = Discrepancies::of(&story.aggregates);
    let said = |story: &Story| {
        story
            .aggregates
            .freshness_domain(&domain())
            .is_some_and(|d: &FreshnessDomain| d.is_fresh(START))
    };

    assert_eq!(index.is_fresh(&domain(), START), said(&story));
    assert!(index.is_fresh(&domain(), Timestamp(START.0 - 1)));
    assert!(!Discrepancies::default().is_fresh(&domain(), START));
}

fn evacuate_cell(cell: &str) -> Command {
    cell::Command::Evacuate {
        cell_id: cell_id(cell),
        timeout: Milliseconds::from_seconds(600),
        instances_away_max: 1,
    }
    .into()
}

fn evacuate(index: u32) -> Command {
    actual_lrp::Command::Evacuate { key: key("web", index) }.into()
}

/// Three healthy instances of `web` on cell-1; there is a second cell.
fn three_running() -> Story {
    let mut story =
        given([]).after(register("cell-1", 1)).after(register("cell-2", 2)).after(desire("web", 3));
    for index in 0..3 {
        let key = key("web", index);
        story = story.after(actual_lrp::Command::Create { key: key.clone() }).after(place(
            &key,
            &format!("i-{index}"),
            "cell-1",
        ));
        let instance = story.instance(&key);
        story = story.after(actual_lrp::Command::Start {
            instance,
            net_info: net_info(),
            is_ready: true,
        });
    }
    story
}

#[test]
fn an_evacuation_moves_one_instance_of_a_process_at_a_time() {
    let story = three_running().after(evacuate_cell("cell-1"));
    assert_eq!(planned(&story), [evacuate(0)]);

    let story = story.after(evacuate(0));
    assert_eq!(planned(&story), [], "the first one's replacement is not healthy yet");
    assert_eq!(report(&story).evacuating.len(), 3);

    let story = story.after(place(&key("web", 0), "i-3", "cell-2"));
    assert_eq!(planned(&story), []);
    let instance = story.instance(&key("web", 0));
    let story =
        story.after(actual_lrp::Command::Start { instance, net_info: net_info(), is_ready: true });
    assert_eq!(planned(&story), [evacuate(1)]);
}

#[test]
fn an_evacuation_waits_no_more_once_its_time_is_over() {
    let story = three_running().after(evacuate_cell("cell-1")).after(evacuate(0));
    let evacuation = story.cell(&cell_id("cell-1")).evacuation.unwrap();
    let discrepancies = Discrepancies::of(&story.aggregates);
    assert_eq!(next_due(&discrepancies, story.now), Some(evacuation.forced_at()));

    let story = story.later(Milliseconds::from_seconds(450));
    assert_eq!(planned(&story), [evacuate(1), evacuate(2)]);
    assert_eq!(next_due(&discrepancies, story.now), Some(evacuation.ends_at));
    let story = story.later(Milliseconds::from_seconds(150));
    let settle = actual_lrp::Command::SettleTwins { key: key("web", 0) };
    assert_eq!(planned(&story), [evacuate(1), evacuate(2), settle.into()]);
}

#[test]
fn a_cell_is_told_evacuated_when_nothing_is_left_on_it() {
    let end: Command = cell::Command::EndEvacuation { cell_id: cell_id("cell-2") }.into();
    let story = three_running().after(evacuate_cell("cell-2"));
    assert_eq!(planned(&story), std::slice::from_ref(&end));

    assert_eq!(planned(&story.after(end)), []);
}

#[test]
fn a_suspect_is_put_back_when_its_cell_is_heard_again() {
    let lost = running_story().after(lose("cell-1")).after(unclaim(UnclaimReason::CellLost));
    assert_eq!(planned(&lost), []);

    let settle: Command = actual_lrp::Command::SettleTwins { key: key("web", 0) }.into();
    let back = lost.after(register("cell-1", 1));
    assert_eq!(planned(&back), std::slice::from_ref(&settle));
    assert_eq!(planned(&back.after(settle)), []);
}
