//! Users' commands that are no longer in memory may be in the log: they are looked for beside the
//! writer, many at a time, so that no commit waits for it.
//!
//! Sound because whatever is committed after a look-up is in the decider's memory by the time the
//! command is judged. Keeps the order of the requests that are looked for.

use std::sync::Arc;

use domain::{command::Envelope, id::CommandId, log::ActorKind};
use projections::event_store::EventStore;
use tokio::sync::mpsc;

use super::{GATHER_MAX, NotJudged, Request};

/// Hands requests on with what the log knows of them, until either side has ended.
pub(super) async fn run(
    store: Arc<dyn EventStore>,
    mut waiting: mpsc::Receiver<Request>,
    ready: mpsc::Sender<Request>,
) {
    let mut gathered = Vec::new();
    loop {
        tokio::select! {
            () = ready.closed() => break,
            count = waiting.recv_many(&mut gathered, GATHER_MAX) => if count == 0 { return },
        }
        if let Err(reason) = look_up(store.as_ref(), &mut gathered).await {
            let reason = NotJudged::Unavailable(reason);
            gathered.drain(..).for_each(|request: Request| request.refuse(&reason));
        }
        for request in gathered.drain(..) {
            if let Err(mpsc::error::SendError(request)) = ready.send(request).await {
                request.refuse(&NotJudged::Closed);
            }
        }
    }
    waiting.close();
    while waiting.recv_many(&mut gathered, GATHER_MAX).await > 0 {
        gathered.drain(..).for_each(|request| request.refuse(&NotJudged::Closed));
    }
}

/// Whether a command may be in the log already, and is not known to be by other means.
pub(super) fn is_looked_up(envelope: &Envelope) -> bool {
    envelope.actor.kind == ActorKind::User
}

async fn look_up(store: &dyn EventStore, requests: &mut [Request]) -> Result<(), String> {
    let asked: Vec<CommandId> = requests
        .iter()
        .flat_map(|request| &request.envelopes)
        .filter(|envelope| is_looked_up(envelope))
        .map(|envelope| envelope.command_id.clone())
        .collect();
    let found = store.find_commands(&asked).await.map_err(|failure| failure.to_string())?;
    if found.is_empty() {
        return Ok(());
    }
    for request in requests {
        for envelope in request.envelopes.iter().filter(|envelope| is_looked_up(envelope)) {
            if let Some(events) = found.get(&envelope.command_id) {
                request.known.push((envelope.clone(), events.clone()));
            }
        }
    }
    Ok(())
}
