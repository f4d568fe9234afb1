//! A workload is what the rules themselves would have written.

use std::collections::BTreeMap;

use super::*;
use crate::{
    aggregates::Aggregates,
    bbs::{actual_lrp, cell, desired_lrp, freshness_domain},
    command::{Command, Envelope},
    decide::decide,
    id::ActualLrpKey,
};

/// The command that an event, the first of its command's, answers.
fn command(aggregates: &Aggregates, recorded: &Recorded<Event>) -> Command {
    match (&recorded.stream, &recorded.event) {
        (StreamId::DesiredLrp(guid), Event::DesiredLrp(event)) => {
            let process_guid = guid.clone();
            let update =
                |update| desired_lrp::Command::Update { process_guid: guid.clone(), update };
            let none = desired_lrp::Update::default;
            match event.clone() {
                desired_lrp::Event::Desired(desired) => desired_lrp::Command::Desire {
                    process_guid,
                    domain: desired.domain,
                    instances: desired.instances,
                    definition: desired.definition,
                    routes: desired.routes,
                    annotation: desired.annotation.to_string(),
                    restart: desired.restart,
                    labels: desired.labels.as_ref().clone(),
                    client_routes: desired.client_routes,
                },
                desired_lrp::Event::Scaled(scaled) => {
                    update(desired_lrp::Update { instances: Some(scaled.to), ..none() })
                }
                desired_lrp::Event::RestartChanged(changed) => {
                    let own = desired_lrp::RestartSource::Own;
                    let domain = desired_lrp::RestartSource::Domain;
                    let restart = Some(changed.restart.map_or(domain, own));
                    update(desired_lrp::Update { restart, ..none() })
                }
                desired_lrp::Event::RoutesChanged(changed) => {
                    update(desired_lrp::Update { routes: Some(changed.routes), ..none() })
                }
                desired_lrp::Event::InternalRoutesChanged(changed) => {
                    let internal_routes = Some(changed.internal_routes);
                    update(desired_lrp::Update { internal_routes, ..none() })
                }
                desired_lrp::Event::MetricTagsChanged(changed) => {
                    let metric_tags = Some(changed.metric_tags);
                    update(desired_lrp::Update { metric_tags, ..none() })
                }
                desired_lrp::Event::AnnotationChanged(changed) => {
                    let annotation = Some(changed.annotation.to_string());
                    update(desired_lrp::Update { annotation, ..none() })
                }
                desired_lrp::Event::Removed(_) => desired_lrp::Command::Remove { process_guid },
            }
            .into()
        }
        (StreamId::ActualLrp(key), Event::ActualLrp(event)) => {
            of_slot(aggregates, key, event.clone()).into()
        }
        (StreamId::Cell(cell_id), Event::Cell(cell::Event::Registered(registered))) => {
            let registration = registered.registration.clone();
            cell::Command::Register { cell_id: cell_id.clone(), registration }.into()
        }
        (StreamId::FreshnessDomain(name), Event::FreshnessDomain(_)) => {
            freshness_domain::Command::Upsert { name: name.clone(), time_to_live: None }.into()
        }
        (stream, event) => panic!("{stream}: {event:?}"),
    }
}

fn of_slot(
    aggregates: &Aggregates,
    key: &ActualLrpKey,
    event: actual_lrp::Event,
) -> actual_lrp::Command {
    use actual_lrp::{Command, Event};
    let key = key.clone();
    let instance = || {
        let placement = aggregates.slot(&key).unwrap().placement().unwrap().clone();
        actual_lrp::InstanceReference {
            key: key.clone(),
            instance_guid: placement.instance_guid,
            placement_epoch: placement.placement_epoch,
            cell_id: placement.cell_id,
            cell_epoch: placement.cell_epoch,
        }
    };
    match event {
        Event::Created(_) => Command::Create { key },
        Event::Placed(placed) => Command::Place {
            key,
            instance_guid: placed.instance_guid,
            cell_id: placed.cell_id,
            cell_epoch: placed.cell_epoch,
            candidates: None,
        },
        Event::Claimed(_) => Command::Claim { instance: instance() },
        Event::Started(started) => {
            let actual_lrp::Started { instance_guid: _, net_info, is_ready } = started;
            Command::Start { instance: instance(), net_info, is_ready }
        }
        Event::Crashed(crashed) => {
            let (exit, evidence) = (crashed.exit, crashed.evidence);
            let reason = crashed.reason.to_string();
            let report = actual_lrp::CrashReport { reason, exit, evidence };
            Command::Crash { instance: instance(), report }
        }
        Event::Unclaimed(unclaimed) => {
            assert_eq!(unclaimed.reason, actual_lrp::UnclaimedReason::BackOffOver);
            Command::Unclaim { key, reason: actual_lrp::UnclaimReason::BackOffOver }
        }
        Event::Removed(_) => Command::Remove { instance: instance() },
        Event::PlacementFailed(_)
        | Event::Refused(_)
        | Event::Retired(_)
        | Event::Left(_)
        | Event::Suspected(_)
        | Event::SuspectRestored(_)
        | Event::SuspectRemoved(_)
        | Event::TwinCrashed(_)
        | Event::EvacuationStarted(_)
        | Event::EvacuationEnded(_)
        | Event::ReadinessChanged(_)
        | Event::Killed(_)
        | Event::WithdrawalStarted(_)
        | Event::WithdrawalEnded(_) => panic!("{event:?}"),
    }
}

#[test]
fn every_event_is_what_the_rules_would_have_answered() {
    let mut aggregates = Aggregates::default();
    let mut versions: BTreeMap<StreamId, u64> = BTreeMap::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut workload = Workload::new(Shape { seed: 3, lrps: 30 }).take(20_000).peekable();
    let mut last = WORKLOAD_START;
    while let Some(first) = workload.next() {
        let command = command(&aggregates, &first);
        let (command_id, correlation) = (first.command_id.clone(), first.correlation.clone());
        let (actor, now) = (first.actor.clone(), first.recorded_at);
        let envelope =
            Envelope { command_id, actor, seen: None, causation: None, correlation, command };
        assert!(now >= last, "time goes on");
        last = now;
        let decision = decide(&aggregates, &envelope, now);
        let mut of_command = vec![first];
        while let Some(next) = workload.next_if(|next| next.command_id == envelope.command_id) {
            of_command.push(next);
        }
        let events: Vec<_> =
            of_command.iter().map(|it| (it.stream.clone(), it.event.clone())).collect();
        if workload.peek().is_some() {
            assert_eq!(decision.map(|decision| decision.events), Ok(events));
        }
        for recorded in &of_command {
            let version = versions.entry(recorded.stream.clone()).or_default();
            *version += 1;
            assert_eq!(recorded.version.0, *version, "{}", recorded.stream);
            *seen.entry(recorded.event.type_name()).or_default() += 1;
            aggregates.apply(recorded);
        }
    }
    assert_eq!(aggregates.desired_lrps().count(), 30);
    assert_eq!(seen.len(), 16, "{seen:?}");
}

#[test]
fn payloads_are_of_the_size_that_the_figures_are_told_for() {
    let workload = Workload::new(Shape { seed: 1, lrps: 200 });
    let sizes = workload.skip(2_000).take(20_000).map(|it| it.event.payload().unwrap().len());
    let average = sizes.sum::<usize>() / 20_000;
    assert!((290..=350).contains(&average), "{average} bytes on average");
}
