//! Takes up what an earlier agent left: the book on one side, the garden's containers on the
//! other.
//!
//! A task whose started-record is missing is never exec'd: it failed. Nothing that the book does
//! not know is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::observation::OutputStream;
use domain::rep::WorkKind;

use super::book::{Entry, Stage};
use super::handle_of;
use super::instance::Instance;
use super::session::Session;
use crate::executor::MISSING;
use crate::garden::{ContainerInfo, Garden, Handle};

const TASK_NOT_STARTED: &str = "agent restarted before the task was started";

/// An entry of the book with its container, if there is one.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entry: Entry,
    container: Option<ContainerInfo>,
}

/// Destroys what is not in the book, and gives the rest.
pub(super) async fn find(session: &Session, garden: &dyn Garden) -> Vec<Found> {
    let listed = garden.list().await;
    let mut containers: BTreeMap<Handle, ContainerInfo> =
        listed.into_iter().map(|info| (info.handle.clone(), info)).collect();
    let mut found = Vec::new();
    for entry in session.book.entries() {
        let container = containers.remove(&handle_of(&entry.reference.instance_guid));
        if container.is_some() {
            session.room.take_anyway(&entry.reference.instance_guid, entry.resources);
        }
        found.push(Found { entry, container });
    }
    destroy_all(garden, containers.into_keys().collect()).await;
    let there = found.iter().filter(|found| found.container.is_some());
    let there = there.map(|found| handle_of(&found.entry.reference.instance_guid)).collect();
    session.executor.note_containers(&there);
    found
}

/// Destroys containers that belong to nobody; one that resists is left for the next start.
pub(super) async fn destroy_all(garden: &dyn Garden, handles: Vec<Handle>) {
    let destroyed = handles.iter().map(|handle| async move {
        if let Err(error) = garden.destroy(handle).await {
            tracing::warn!(%handle, %error, "Cannot destroy a container that nobody knows.");
        } else {
            tracing::info!(%handle, "Destroyed a container that nobody knows.");
        }
    });
    futures_util::future::join_all(destroyed).await;
}

/// Goes on with the story of a container.
pub(super) async fn adopt(instance: Instance, found: Found) {
    let Found { entry, container } = found;
    let session = Arc::clone(&instance.session);
    let is_task = matches!(entry.reference.kind, WorkKind::Task(_));
    match (entry.stage, container) {
        (Stage::Ended, None) => {}
        (Stage::Ended, Some(_)) => instance.remove(&entry).await,
        (Stage::Creating, _) if is_task => {
            instance.fail(&entry, TASK_NOT_STARTED, evidence(&session, &entry)).await;
        }
        (Stage::Creating, None) => {
            // Nothing of it was there yet: it is started anew, as the assignment wants it.
            if let Err(error) = session.book.remove(&entry.reference.instance_guid).await {
                tracing::error!(%error, cause = %error.source, "Cannot keep the book.");
            }
        }
        (Stage::Started | Stage::Healthy, None) => {
            if let Some(recipe) = entry.recipe.clone() {
                let order = instance.order(recipe);
                let (err, executor) = (OutputStream::Err, &session.executor);
                executor.say_why(&order, err, "did not find again instance", &session.earlier_life);
            }
            instance.fail(&entry, MISSING, evidence(&session, &entry)).await;
        }
        (Stage::Creating | Stage::Started | Stage::Healthy, Some(container)) => {
            let Some(recipe) = entry.recipe.clone() else {
                return instance.fail(&entry, MISSING, evidence(&session, &entry)).await;
            };
            let stage = match entry.stage {
                Stage::Creating => Stage::Started,
                known @ (Stage::Started | Stage::Healthy | Stage::Ended) => known,
            };
            let entry = Entry { stage, ..entry };
            let order = instance.order(recipe);
            let (out, executor) = (OutputStream::Out, &session.executor);
            executor.say_why(&order, out, "took up again instance", &session.earlier_life);
            instance.watch(entry, order, &container).await;
        }
    }
}

fn evidence(session: &Session, entry: &Entry) -> domain::rep::Evidence {
    session.executor.evidence_left(&handle_of(&entry.reference.instance_guid))
}
