//! One of every event, with every field filled: what the golden files hold.

use std::sync::Arc;

use super::build::{
    cell_id, crash_report, definition, domain, instance_guid, key, net_info, on_cell, on_desired,
    on_freshness, on_slot, on_task, process_guid, registration, sealed,
};
use super::recipe::rich_definition;
use crate::{
    auction::{Candidates, Lacking, Refusal, Score},
    bbs::{
        actual_lrp, cell, desired_lrp, freshness_domain,
        placement::Resources,
        restart_policy::{RestartPolicy, RestartWhen},
        task,
    },
    event::Event,
    exit::{ExitStatus, OutOfMemory, ProcessExit},
    id::{CellId, InstanceGuid},
    labels::{DynamicValue, Labels, MetricTag},
    log::{CellEpoch, Owner, Position, StreamId},
    routes::{Hostname, HttpRoute},
    sealed::Digest,
    secrets,
    units::{Mebibytes, Milliseconds, Timestamp},
};

/// One of every event with its stream, in the order of [`Event::type_names`].
#[must_use]
pub fn sample_events() -> Vec<(StreamId, Event)> {
    [
        desired_lrp_events(),
        actual_lrp_events(),
        task_events(),
        cell_events(),
        freshness_events(),
        secrets_events(),
    ]
    .concat()
}

fn routes() -> Vec<HttpRoute> {
    let hostname = Hostname::new("web.example.com").unwrap_or_else(|_| unreachable!("a constant"));
    vec![HttpRoute { hostnames: vec![hostname], port: 8080 }]
}

fn resources() -> Resources {
    Resources { memory_mb: Mebibytes(64), disk_mb: Mebibytes(64), containers: 1 }
}

fn out_of_memory() -> ProcessExit {
    let out_of_memory = OutOfMemory { limit_bytes: 67_108_864, peak_bytes: 67_104_768, kills: 1 };
    ProcessExit { status: ExitStatus::Signalled(9), out_of_memory: Some(out_of_memory) }
}

fn on_failure() -> RestartPolicy {
    RestartPolicy { when: RestartWhen::OnFailure, ..RestartPolicy::default() }
}

fn labels() -> Labels {
    let tag = |name: &str, tag| (name.to_owned(), tag);
    let internal = Hostname::new("web.apps.internal");
    Labels {
        internal_routes: internal.into_iter().collect(),
        metric_tags: [
            tag("instance", MetricTag::Dynamic(DynamicValue::InstanceGuid)),
            tag("slot", MetricTag::Dynamic(DynamicValue::Index)),
            tag("source_id", MetricTag::Static("web".to_owned())),
        ]
        .into(),
    }
}

fn desired_lrp_events() -> Vec<(StreamId, Event)> {
    let Labels { internal_routes, metric_tags } = labels();
    let desired = desired_lrp::Desired {
        domain: domain(),
        instances: 2,
        definition: Arc::new(rich_definition()),
        routes: routes(),
        annotation: "v1".into(),
        restart: Some(on_failure()),
        labels: Arc::new(labels()),
        client_routes: None,
    };
    vec![
        on_desired("web", desired),
        on_desired("web", desired_lrp::Scaled { from: 2, to: 3 }),
        on_desired("web", desired_lrp::RoutesChanged { routes: routes(), client_routes: None }),
        on_desired("web", desired_lrp::AnnotationChanged { annotation: "v2".into() }),
        on_desired("web", desired_lrp::Removed {}),
        on_desired("web", desired_lrp::RestartChanged { restart: Some(on_failure()) }),
        on_desired("web", desired_lrp::InternalRoutesChanged { internal_routes }),
        on_desired("web", desired_lrp::MetricTagsChanged { metric_tags }),
    ]
}

/// The best of many cells.
fn chosen() -> Box<Candidates> {
    let best = [("cell-1", 8_333), ("cell-2", 8_334)];
    Box::new(Candidates {
        seen: Position(41),
        best: best.map(|(name, score)| (cell_id(name), Score(score))).to_vec(),
        refused: Vec::new(),
        counts: vec![(Refusal::VolumeDrivers, 3), (Refusal::HigherScore, 95)],
    })
}

/// None of a few cells.
fn all_refused() -> Box<Candidates> {
    let lacks = Refusal::Lacks(Lacking { containers: false, disk: true, memory: true });
    let refused = vec![(cell_id("cell-1"), Refusal::PlacementTags), (cell_id("cell-2"), lacks)];
    Box::new(Candidates { seen: Position(41), best: Vec::new(), refused, counts: Vec::new() })
}

fn actual_lrp_events() -> Vec<(StreamId, Event)> {
    let slot = key("web", 0);
    let instance_guid = instance_guid("i-1");
    let cell_id = cell_id("cell-1");
    let crashed = actual_lrp::Crashed {
        instance_guid: instance_guid.clone(),
        cell_id: cell_id.clone(),
        reason: crash_report().reason.into(),
        exit: Some(out_of_memory()),
        crash_count: 3,
        restart: actual_lrp::Restart::NotBefore(Timestamp(1_700_000_030_000_000_000)),
        evidence: Some(Digest::of(b"evidence")),
    };
    let placed = actual_lrp::Placed {
        instance_guid: instance_guid.clone(),
        cell_id: cell_id.clone(),
        cell_epoch: CellEpoch(1),
        definition: definition().digest(),
        resources: resources(),
        candidates: Some(chosen()),
    };
    let refused = actual_lrp::Refused {
        instance_guid: instance_guid.clone(),
        cell_id: cell_id.clone(),
        reason: "no room".to_owned(),
    };
    let started = actual_lrp::Started {
        instance_guid: instance_guid.clone(),
        net_info: net_info(),
        is_ready: true,
    };
    let failed = actual_lrp::PlacementFailed {
        error: "insufficient resources".to_owned(),
        candidates: Some(all_refused()),
    };
    let left = actual_lrp::Left {
        instance_guid: instance_guid.clone(),
        cell_id: cell_id.clone(),
        cause: actual_lrp::LeavingEnd::Gone,
    };
    let mut events = vec![
        on_slot(&slot, actual_lrp::Created { domain: domain() }),
        on_slot(&slot, placed),
        on_slot(&slot, failed),
        on_slot(&slot, refused),
        on_slot(&slot, actual_lrp::Claimed { instance_guid: instance_guid.clone() }),
        on_slot(&slot, started),
        on_slot(&slot, crashed),
        on_slot(&slot, actual_lrp::Unclaimed { reason: actual_lrp::UnclaimedReason::CellLost }),
        on_slot(&slot, actual_lrp::Retired {}),
        on_slot(&slot, actual_lrp::Removed {}),
        on_slot(&slot, left),
    ];
    events.extend(twin_events(instance_guid.clone(), cell_id.clone()));
    events.push(on_slot(&slot, killed(instance_guid.clone(), cell_id.clone())));
    let withdrawal = withdrawal_events(&instance_guid, cell_id);
    events.extend(withdrawal.map(|event| (StreamId::ActualLrp(slot.clone()), event)));
    events
}

fn killed(instance_guid: InstanceGuid, cell_id: CellId) -> actual_lrp::Killed {
    let evidence = Some(Digest::of(b"evidence"));
    actual_lrp::Killed { instance_guid, cell_id, grace_ms: Milliseconds(10_000), evidence }
}

fn withdrawal_events(instance_guid: &InstanceGuid, cell_id: CellId) -> [Event; 2] {
    let started = actual_lrp::WithdrawalStarted { instance_guid: instance_guid.clone(), cell_id };
    let missing = vec!["two".to_owned()];
    let ended = actual_lrp::WithdrawalEnded {
        instance_guid: instance_guid.clone(),
        cause: actual_lrp::WithdrawalEnd::TimedOut { missing },
    };
    [actual_lrp::Event::from(started).into(), actual_lrp::Event::from(ended).into()]
}

fn twin_events(instance_guid: InstanceGuid, cell_id: CellId) -> [(StreamId, Event); 7] {
    let of = || (instance_guid.clone(), cell_id.clone());
    let (instance_guid, cell_id) = of();
    let suspected = actual_lrp::Suspected { instance_guid, cell_id };
    let (instance_guid, cell_id) = of();
    let in_stead = Some(super::build::instance_guid("i-2"));
    let restored =
        actual_lrp::SuspectRestored { instance_guid, cell_id, in_stead, is_leaving: true };
    let (instance_guid, cell_id) = of();
    let cause = actual_lrp::TwinEnd::Replaced { by: super::build::instance_guid("i-2") };
    let removed = actual_lrp::SuspectRemoved { instance_guid, cell_id, cause, is_leaving: true };
    let (instance_guid, cell_id) = of();
    let actual_lrp::CrashReport { reason, exit, evidence: _ } = crash_report();
    let twin_crashed = actual_lrp::TwinCrashed {
        instance_guid,
        cell_id,
        presence: actual_lrp::InstancePresence::Suspect,
        reason: reason.into(),
        exit,
        evidence: Some(Digest::of(b"evidence")),
    };
    let (instance_guid, cell_id) = of();
    let started = actual_lrp::EvacuationStarted { instance_guid, cell_id };
    let (instance_guid, cell_id) = of();
    let cause = actual_lrp::TwinEnd::TimedOut;
    let ended = actual_lrp::EvacuationEnded { instance_guid, cell_id, cause, is_leaving: false };
    let (instance_guid, _) = of();
    let readiness = actual_lrp::ReadinessChanged { instance_guid, is_ready: false };
    let slot = key("web", 0);
    [
        on_slot(&slot, suspected),
        on_slot(&slot, restored),
        on_slot(&slot, removed),
        on_slot(&slot, twin_crashed),
        on_slot(&slot, started),
        on_slot(&slot, ended),
        on_slot(&slot, readiness),
    ]
}

fn task_events() -> Vec<(StreamId, Event)> {
    let desired = task::Desired {
        domain: domain(),
        definition: Arc::new(definition()),
        annotation: "nightly".to_owned(),
        completion_callback_url: Some(sealed()),
    };
    let placed = task::Placed {
        instance_guid: instance_guid("i-1"),
        cell_id: cell_id("cell-1"),
        cell_epoch: CellEpoch(1),
        definition: definition().digest(),
        resources: resources(),
        candidates: Some(chosen()),
    };
    let failed = task::PlacementFailed {
        error: "insufficient resources: memory".to_owned(),
        rejection_count: 1,
        candidates: Some(all_refused()),
    };
    let refused = task::Refused {
        cell_id: cell_id("cell-1"),
        reason: "no room".to_owned(),
        rejection_count: 2,
    };
    let completed = task::Completed {
        failure_reason: Some("Exited with status 1".to_owned()),
        exit: Some(ProcessExit { status: ExitStatus::Exited(1), out_of_memory: None }),
        evidence: Some(Digest::of(b"evidence")),
        result: "{}".to_owned(),
    };
    let callback_failed =
        task::CallbackFailed { attempts: 3, reason: "answered with HTTP status 503".to_owned() };
    let placement_lost =
        task::PlacementLost { instance_guid: instance_guid("i-1"), cell_id: cell_id("cell-1") };
    vec![
        on_task("t", desired),
        on_task("t", placed),
        on_task("t", failed),
        on_task("t", refused),
        on_task("t", task::Started { instance_guid: instance_guid("i-1") }),
        on_task("t", completed),
        on_task("t", task::Cancelled {}),
        on_task("t", task::Released {}),
        on_task("t", task::Deleted { reason: task::DeleteReason::CallbackDelivered }),
        on_task("t", task::Failed { reason: "not started within time limit".to_owned() }),
        on_task("t", task::Resolving {}),
        on_task("t", task::CallbackDelivered { attempts: 1, status: 200 }),
        on_task("t", callback_failed),
        on_task("t", task::Demoted {}),
        on_task("t", placement_lost),
    ]
}

fn cell_events() -> Vec<(StreamId, Event)> {
    let registered =
        cell::Registered { cell_epoch: CellEpoch(1), registration: Box::new(registration(1)) };
    let lost = cell::Lost {
        last_heard_at: Timestamp(1_700_000_000_000_000_000),
        heard_by: "node-1".to_owned(),
    };
    let evacuation = cell::EvacuationStarted {
        ends_at: Timestamp(1_700_000_600_000_000_000),
        instances_away_max: 1,
        containers: 12,
    };
    vec![
        on_cell("cell-1", registered),
        on_cell("cell-1", lost),
        on_cell("cell-1", cell::Returned {}),
        on_cell("cell-1", evacuation),
        on_cell("cell-1", cell::EvacuationCancelled {}),
        on_cell("cell-1", cell::Evacuated {}),
        on_cell("cell-1", cell::HealthChanged { failure: Some("no more veth".to_owned()) }),
    ]
}

fn secrets_events() -> Vec<(StreamId, Event)> {
    let owner = Owner::Process(process_guid("web"));
    let forgotten = secrets::Forgotten { key_ids: vec![uuid::Uuid::from_u128(7)] };
    vec![(StreamId::Secrets(owner), secrets::Event::from(forgotten).into())]
}

fn freshness_events() -> Vec<(StreamId, Event)> {
    let fresh_until = Some(Timestamp(1_700_000_120_000_000_000));
    vec![
        on_freshness(freshness_domain::Upserted { fresh_until }),
        on_freshness(freshness_domain::RestartSet { restart: Some(on_failure()) }),
    ]
}
