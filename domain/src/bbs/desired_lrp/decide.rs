//! The rules of the wish. Scaling down and removing act on the slots at once, in the same batch:
//! a client's direct call needs no freshness (as in Diego).

use std::sync::Arc;

use super::{
    AnnotationChanged, Command, Desired, Event, InternalRoutesChanged, MetricTagsChanged, Removed,
    RestartChanged, RestartSource, RoutesChanged, Scaled, Update,
};
use crate::{
    aggregates::Aggregates,
    bbs::actual_lrp,
    decide::Decision,
    id::ProcessGuid,
    log::{Owner, StreamId},
    rejection::Rejection,
    sealed::Sealed,
    secrets,
};

/// Judges a command against the wish and its slots.
pub(crate) fn decide(aggregates: &Aggregates, command: &Command) -> Result<Decision, Rejection> {
    match command {
        Command::Desire {
            process_guid,
            domain,
            instances,
            definition,
            routes,
            annotation,
            restart,
            labels,
            client_routes,
        } => {
            if aggregates.desired_lrp(process_guid).is_some() {
                return Err(Rejection::AlreadyExists {
                    what: "desired LRP",
                    id: process_guid.to_string(),
                });
            }
            let owner = Owner::Process(process_guid.clone());
            secrets::check_definition(aggregates, &owner, definition)?;
            secrets::check(aggregates, &owner, client_routes.as_deref().into_iter())?;
            let desired = Desired {
                domain: domain.clone(),
                instances: *instances,
                definition: definition.clone(),
                routes: routes.clone(),
                annotation: annotation.as_str().into(),
                restart: *restart,
                labels: Arc::new(labels.clone()),
                client_routes: client_routes.clone(),
            };
            Ok(one(process_guid, desired))
        }
        Command::Update { process_guid, update } => self::update(aggregates, process_guid, update),
        Command::Remove { process_guid } => {
            existing(aggregates, process_guid)?;
            let mut decision = one(process_guid, Removed {});
            retire_from(aggregates, process_guid, 0, &mut decision);
            Ok(decision)
        }
    }
}

fn update(
    aggregates: &Aggregates,
    process_guid: &ProcessGuid,
    update: &Update,
) -> Result<Decision, Rejection> {
    let lrp = existing(aggregates, process_guid)?;
    let stream = StreamId::DesiredLrp(process_guid.clone());
    let mut decision = Decision::default();
    let owner = Owner::Process(process_guid.clone());
    secrets::check(aggregates, &owner, update.client_routes.as_deref().into_iter())?;
    if let Some(changed) = routes_changed(lrp, update) {
        decision.push(stream.clone(), Event::from(changed));
    }
    let annotation = update.annotation.as_deref();
    if let Some(annotation) = annotation.filter(|text| **text != *lrp.annotation) {
        let changed = AnnotationChanged { annotation: annotation.into() };
        decision.push(stream.clone(), Event::from(changed));
    }
    let restart = update.restart.map(RestartSource::own);
    if let Some(restart) = restart.filter(|restart| *restart != lrp.restart) {
        decision.push(stream.clone(), Event::from(RestartChanged { restart }));
    }
    let internal_routes = update.internal_routes.as_ref();
    if let Some(routes) = internal_routes.filter(|it| **it != lrp.labels.internal_routes) {
        let changed = InternalRoutesChanged { internal_routes: routes.clone() };
        decision.push(stream.clone(), Event::from(changed));
    }
    let metric_tags = update.metric_tags.as_ref();
    if let Some(tags) = metric_tags.filter(|it| **it != lrp.labels.metric_tags) {
        let changed = MetricTagsChanged { metric_tags: tags.clone() };
        decision.push(stream.clone(), Event::from(changed));
    }
    if let Some(instances) = update.instances.filter(|instances| *instances != lrp.instances) {
        decision.push(stream, Event::from(Scaled { from: lrp.instances, to: instances }));
        retire_from(aggregates, process_guid, instances, &mut decision);
    }
    Ok(decision)
}

/// What changes of its routes: those that hold, or how they are written.
fn routes_changed(lrp: &super::DesiredLrp, update: &Update) -> Option<RoutesChanged> {
    let routes = update.routes.as_ref().unwrap_or(&lrp.routes);
    let fingerprint =
        |sealed: &Option<Box<Sealed>>| sealed.as_ref().map(|it| it.fingerprint.clone());
    let client_routes = &update.client_routes;
    let is_rewritten =
        client_routes.is_some() && fingerprint(client_routes) != fingerprint(&lrp.client_routes);
    (is_rewritten || *routes != lrp.routes)
        .then(|| RoutesChanged { routes: routes.clone(), client_routes: client_routes.clone() })
}

fn existing<'a>(
    aggregates: &'a Aggregates,
    process_guid: &ProcessGuid,
) -> Result<&'a super::DesiredLrp, Rejection> {
    aggregates
        .desired_lrp(process_guid)
        .ok_or_else(|| Rejection::NotFound { what: "desired LRP", id: process_guid.to_string() })
}

fn one(process_guid: &ProcessGuid, event: impl Into<Event>) -> Decision {
    let mut decision = Decision::default();
    decision.push(StreamId::DesiredLrp(process_guid.clone()), event.into());
    decision
}

fn retire_from(
    aggregates: &Aggregates,
    process_guid: &ProcessGuid,
    first_index: u32,
    decision: &mut Decision,
) {
    for slot in aggregates.slots_of(process_guid).filter(|slot| slot.key.index >= first_index) {
        actual_lrp::retire(aggregates, slot, decision);
    }
}
