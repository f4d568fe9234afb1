//! Task callbacks: tells the clients of ended tasks what came of them, at least once.
//!
//! A task is resolved by a command first, which only one sender can do, and called for only when
//! that was accepted; what the calls came to is a command again. A loop that dies in between, with
//! its node or its lease, leaves a resolving task, which the converger demotes after 30 s for the
//! next loop. So the loop keeps no memory that it cannot lose: what it counts are its open calls.
//!
//! A client may have the control plane call any address that it can reach, as with Diego.

mod call;
mod client;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use domain::{
    bbs::task::{self, Calls},
    command::{Command, Envelope, Seen},
    id::TaskGuid,
    log::{Actor, ActorKind, LeaseEpoch, Position},
    units::Timestamp,
};
use projections::world::World;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    clock,
    command_bus::{self, CommandBus},
    control_plane::ControlPlane,
    reconciler,
};
use call::Call;
pub use client::Settings;

/// The loop looks at least this often, for what it could not submit.
const PERIOD: Duration = Duration::from_secs(1);
/// The pause after the log could not be written.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often the outcome of calls is offered to the log; then it stays unknown, and the task is
/// called for again.
const NOTES_MAX: u32 = 40;

const NAME: &str = "task callbacks";

/// Takes on the ended tasks of which a client is to be told. What has expired is the converger's.
#[must_use]
pub fn step(world: &World, now: Timestamp) -> Vec<Command> {
    let is_due = |task_guid: &&TaskGuid| {
        let task = world.aggregates().task(task_guid);
        task.and_then(task::Task::expires_at).is_some_and(|expires_at| now < expires_at)
    };
    let mut due: Vec<&TaskGuid> = world.discrepancies().callbacks().filter(is_due).collect();
    // Whoever was called least comes first: clients that never answer must not keep others waiting.
    let attempts = |task_guid: &&TaskGuid| {
        let task = world.aggregates().task(task_guid)?;
        task.callback.as_ref().map(|callback| callback.attempts)
    };
    due.sort_by_key(attempts);
    due.into_iter()
        .map(|task_guid| task::Command::Resolve { task_guid: task_guid.clone() }.into())
        .collect()
}

/// Calls, whenever this node has the lease, until the node goes down. Open calls are then given up.
pub async fn run(control_plane: ControlPlane, settings: Settings, shutdown: CancellationToken) {
    let caller = Arc::new(client::Client::new(Arc::clone(&control_plane.keyring), settings));
    let (via, name) = (control_plane.node.clone(), NAME.into());
    let actor = Actor { kind: ActorKind::Loop, name, via };
    let mut moved = control_plane.now.moved();
    let mut lease = control_plane.bus.lease().changed();
    let mut open = JoinSet::new();
    loop {
        moved.borrow_and_update();
        let lease_epoch = *lease.borrow_and_update();
        if let Some(lease_epoch) = lease_epoch {
            let places = settings.calls_max.saturating_sub(open.len());
            let due = look(&control_plane, lease_epoch, &actor, places);
            if !due.is_empty() {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    taken = take_on(&control_plane, due) => for (call, resolving) in taken {
                        let (caller, bus) = (Arc::clone(&caller), control_plane.bus.clone());
                        open.spawn(call_and_note(caller, bus, actor.clone(), call, resolving));
                    }
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = moved.changed() => if changed.is_err() { return },
            changed = lease.changed() => if changed.is_err() { return },
            Some(_) = open.join_next() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// The commands that take tasks on, each with the call that follows from it.
fn look(
    control_plane: &ControlPlane,
    lease_epoch: LeaseEpoch,
    actor: &Actor,
    places: usize,
) -> Vec<(Envelope, Call)> {
    if places == 0 {
        return Vec::new();
    }
    control_plane.now.read(|world| {
        let now = control_plane.clock.now().max(world.recorded_at());
        let seen = Seen { position: world.position(), lease_epoch };
        let commands = step(world, now).into_iter().take(places);
        let with_call = commands.filter_map(|command| {
            let call = Call::of(world, &command)?;
            Some((reconciler::envelope(world, actor, seen, command), call))
        });
        with_call.collect()
    })
}

/// Submits the commands; what is refused is somebody else's, or moved since.
async fn take_on(
    control_plane: &ControlPlane,
    due: Vec<(Envelope, Call)>,
) -> Vec<(Call, Position)> {
    let (envelopes, calls): (Vec<Envelope>, Vec<Call>) = due.into_iter().unzip();
    let outcomes = match control_plane.bus.submit_all(envelopes).await {
        Ok(outcomes) => outcomes,
        Err(failure) => {
            warn!(loop_name = NAME, error = %failure, "A loop could not act.");
            tokio::time::sleep(RETRY_PAUSE).await;
            return Vec::new();
        }
    };
    let mut taken = Vec::with_capacity(calls.len());
    for (call, outcome) in calls.into_iter().zip(outcomes) {
        match outcome {
            Ok(accepted) => taken.push((call, accepted.position)),
            Err(rejection) => debug!(loop_name = NAME, %rejection, "A loop's command was refused."),
        }
    }
    if let Some((_, last)) = taken.last()
        && !control_plane.now.reach(*last).await
    {
        warn!(loop_name = NAME, "The view stopped following the log.");
    }
    taken
}

async fn call_and_note(
    caller: Arc<client::Client>,
    bus: CommandBus,
    actor: Actor,
    call: Call,
    resolving: Position,
) {
    let calls = caller.call(&call).await;
    let (task_guid, attempts) = (&call.task_guid, calls.attempts);
    match &calls.outcome {
        task::CallbackOutcome::Delivered(status) => {
            info!(%task_guid, attempts, status, "A task's client was told of its end.");
        }
        task::CallbackOutcome::Failed(reason) => {
            warn!(%task_guid, attempts, reason, "A task's client could not be told of its end.");
        }
    }
    note(&bus, actor, call.task_guid, resolving, calls).await;
}

/// What calls came to is a fact, whoever has the lease by now: it is refused only when the task was
/// demoted meanwhile.
async fn note(
    bus: &CommandBus,
    actor: Actor,
    task_guid: TaskGuid,
    resolving: Position,
    calls: Calls,
) {
    let command_id = clock::new_command_id();
    let envelope = Envelope {
        correlation: command_id.clone(),
        command_id,
        actor,
        seen: None,
        causation: Some(resolving),
        command: task::Command::NoteCallback { task_guid, resolving, calls }.into(),
    };
    for _ in 0..NOTES_MAX {
        match bus.submit(envelope.clone()).await {
            Ok(_) => return,
            Err(command_bus::Error::Rejected(rejection)) => {
                return debug!(loop_name = NAME, %rejection, "What calls came to was refused.");
            }
            Err(failure) => {
                warn!(loop_name = NAME, error = %failure, "What calls came to is not noted yet.");
            }
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}
