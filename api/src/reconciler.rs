//! Drives the loops: plain functions of a view, woken by its change and by a period.
//!
//! Loops act only while this node has the lease. A loop remembers nothing, so running one twice, or after a year's pause, is harmless. Its
//! commands carry what it saw, and are refused if that has moved since.

use std::{sync::Arc, time::Duration};

use domain::{
    command::{Command, Envelope, Seen},
    log::{Actor, ActorKind, LeaseEpoch},
    rejection::Rejection,
    units::Timestamp,
};
use projections::{projector::Now, world::World};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    clock::{self, Clock},
    command_bus::{self, CommandBus},
    control_plane::ControlPlane,
};

/// A loop runs at least this often, for what is due by time alone: so that the work of a lost cell is
/// placed again well within a second after its time to live.
pub(crate) const PERIOD: Duration = Duration::from_millis(500);
/// The pause after the log could not be written.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How many commands one step submits; the rest follows in the next step.
pub(crate) const COMMANDS_MAX: usize = 4096;

/// The whole view in, commands out.
pub type Step = fn(&World, Timestamp) -> Vec<Command>;

/// Runs a loop, whenever this node has the lease, until the node goes down.
pub async fn run(
    name: &'static str,
    control_plane: ControlPlane,
    step: impl Fn(&World, Timestamp) -> Vec<Command> + Send + Sync,
    shutdown: CancellationToken,
) {
    run_with_bell(name, control_plane, step, std::future::pending::<()>, shutdown).await;
}

/// The same, for a loop that looks at something beside the view: `bell` ends when that changes.
pub async fn run_with_bell<Bell: Future<Output = ()> + Send>(
    name: &'static str,
    control_plane: ControlPlane,
    step: impl Fn(&World, Timestamp) -> Vec<Command> + Send + Sync,
    bell: impl Fn() -> Bell + Send + Sync,
    shutdown: CancellationToken,
) {
    let actor = Actor { kind: ActorKind::Loop, name: name.into(), via: control_plane.node.clone() };
    let ControlPlane { bus, now, clock, .. } = control_plane;
    let mut moved = now.moved();
    let mut lease = bus.lease().changed();
    loop {
        moved.borrow_and_update();
        let Some(lease_epoch) = *lease.borrow_and_update() else {
            // Another node's loops act.
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = lease.changed() => if changed.is_err() { return },
            }
            continue;
        };
        let envelopes = now.read(|world| look(world, &clock, lease_epoch, &actor, &step));
        if !envelopes.is_empty() {
            // What was submitted is decided all the same; a stop need not wait for it.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = act(name, &bus, &now, envelopes) => {}
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = moved.changed() => if changed.is_err() { return },
            changed = lease.changed() => if changed.is_err() { return },
            () = bell() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn act(name: &'static str, bus: &CommandBus, now: &Now, envelopes: Vec<Envelope>) {
    match bus.submit_all(envelopes).await {
        Ok(outcomes) => settle(name, now, outcomes).await,
        Err(failure) => {
            warn!(loop_name = name, error = %failure, "A loop could not act.");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

fn look(
    world: &World,
    clock: &Arc<Clock>,
    lease_epoch: LeaseEpoch,
    actor: &Actor,
    step: &impl Fn(&World, Timestamp) -> Vec<Command>,
) -> Vec<Envelope> {
    let now = clock.now().max(world.recorded_at());
    let seen = Seen { position: world.position(), lease_epoch };
    let mut commands = step(world, now);
    commands.truncate(COMMANDS_MAX);
    commands.into_iter().map(|command| envelope(world, actor, seen, command)).collect()
}

/// A loop's command is caused by the newest event of what it is about.
pub(crate) fn envelope(world: &World, actor: &Actor, seen: Seen, command: Command) -> Envelope {
    let command_id = clock::new_command_id();
    Envelope {
        correlation: command_id.clone(),
        command_id,
        actor: actor.clone(),
        seen: Some(seen),
        causation: world.aggregates().last_position(&command.stream()),
        command,
    }
}

/// Waits until the view shows what was done, so that the next step does not do it again.
async fn settle(name: &'static str, now: &Now, outcomes: Vec<command_bus::Outcome>) {
    let mut last = None;
    for outcome in outcomes {
        match outcome {
            Ok(accepted) => last = last.max(Some(accepted.position)),
            // The view was behind: the next step sees what moved.
            Err(Rejection::Moved { stream }) => debug!(loop_name = name, %stream, "Moved since."),
            Err(rejection) => debug!(loop_name = name, %rejection, "A loop's command was refused."),
        }
    }
    if let Some(position) = last
        && !now.reach(position).await
    {
        warn!(loop_name = name, "The view stopped following the log.");
    }
}
