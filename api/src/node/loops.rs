//! The loops of a node: started together, watched, and stopped together. A loop that ends unasked
//! fails its node.

use std::sync::{Arc, PoisonError};

use domain::{command::Command, units::Timestamp};
use projections::{history::Snapshotter, worker, world::World};
use tokio::sync::{oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auctioneer, clock,
    control_plane::ControlPlane,
    converger,
    lease::{Keeper, Lease},
    presence_watch, reconciler, route_withdrawal, task_callbacks,
};

/// The running loops, and which of them ended first though nobody had asked.
#[derive(Debug, Clone)]
pub(super) struct Loops {
    pub(super) shutdown: CancellationToken,
    pub(super) running: TaskTracker,
    pub(super) ended: watch::Sender<Option<&'static str>>,
}

impl Default for Loops {
    fn default() -> Self {
        let (shutdown, running) = (CancellationToken::new(), TaskTracker::new());
        Self { shutdown, running, ended: watch::Sender::new(None) }
    }
}

impl Loops {
    pub(super) fn spawn(&self, name: &'static str, run: impl Future<Output = ()> + Send + 'static) {
        let (shutdown, ended) = (self.shutdown.clone(), self.ended.clone());
        worker::spawn_essential(name, self.running.track_future(run), move |name| {
            if !shutdown.is_cancelled() {
                ended.send_modify(|first| *first = first.or(Some(name)));
            }
        });
    }
}

/// Starts the loops over the present.
pub(super) fn start_loops(control_plane: &ControlPlane, loops: &Loops) {
    let settings = control_plane.placement;
    let auctioneer = move |world: &World, now: Timestamp| {
        auctioneer::step(world, now, &settings, clock::new_instance_guid)
    };
    start_loop("auctioneer", control_plane, auctioneer, loops);
    start_loop("converger", control_plane, converger::step, loops);
    let presence = Arc::clone(&control_plane.presence);
    let node = Arc::clone(&control_plane.node);
    let clock = Arc::clone(&control_plane.clock);
    let lease = control_plane.bus.lease().clone();
    let watch = move |world: &World, _: Timestamp| {
        let Some(lease_epoch) = lease.epoch() else { return Vec::new() };
        let mut presence = presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence.watch_under(lease_epoch, clock.monotonic());
        if presence.is_deaf(clock.monotonic(), presence_watch::PRESENCE_TIME_TO_LIVE) {
            // Not looking for a while gives every cell a whole time to live afterwards.
            return Vec::new();
        }
        presence_watch::step(world, &mut presence, &node, clock.monotonic())
    };
    start_loop("presence watch", control_plane, watch, loops);
    start_withdrawal(control_plane, loops);
    start_callbacks(control_plane, loops);
}

fn start_withdrawal(control_plane: &ControlPlane, loops: &Loops) {
    let (now, shutdown) = (control_plane.now.clone(), loops.shutdown.clone());
    let (routers, clock) = (Arc::clone(&control_plane.routers), Arc::clone(&control_plane.clock));
    let looked_at = Arc::clone(&routers);
    let step = move |world: &World, now: Timestamp| {
        route_withdrawal::step(world, &looked_at.known(), now, clock.monotonic())
    };
    let bell = move || {
        let routers = Arc::clone(&routers);
        async move { routers.moved().await }
    };
    let name = "route withdrawal";
    let run = reconciler::run_with_bell(name, control_plane.clone(), step, bell, shutdown.clone());
    loops.spawn(name, async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = now.filled() => run.await,
        }
    });
}

fn start_callbacks(control_plane: &ControlPlane, loops: &Loops) {
    let (now, shutdown) = (control_plane.now.clone(), loops.shutdown.clone());
    let settings = task_callbacks::Settings::default();
    let run = task_callbacks::run(control_plane.clone(), settings, shutdown.clone());
    loops.spawn("task callbacks", async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = now.filled() => run.await,
        }
    });
}

fn start_loop(
    name: &'static str,
    control_plane: &ControlPlane,
    step: impl Fn(&World, Timestamp) -> Vec<Command> + Send + Sync + 'static,
    loops: &Loops,
) {
    let (now, shutdown) = (control_plane.now.clone(), loops.shutdown.clone());
    let run = reconciler::run(name, control_plane.clone(), step, shutdown.clone());
    loops.spawn(name, async move {
        // A step looks at views. Filling them takes long after a start, and readers come first.
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = now.filled() => run.await,
        }
    });
}

/// Keeps the lease until the node stops, then hands its keeper back to give it up.
pub(super) fn start_keeper(mut keeper: Keeper, loops: &Loops) -> oneshot::Receiver<Keeper> {
    let (hand_back, handed_back) = oneshot::channel();
    let shutdown = loops.shutdown.clone();
    let run = async move {
        keeper.run(&shutdown).await;
        drop(hand_back.send(keeper));
    };
    loops.spawn("lease keeper", run);
    handed_back
}

/// Runs the snapshotter, whenever this node has the lease, until the node stops; then hands it back
/// for the last snapshot.
pub(super) fn start_snapshotter(
    mut snapshotter: Snapshotter,
    lease: Lease,
    loops: &Loops,
) -> oneshot::Receiver<Snapshotter> {
    let (hand_back, handed_back) = oneshot::channel();
    let shutdown = loops.shutdown.clone();
    let run = async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = run_under(&lease, &mut snapshotter) => {}
        }
        drop(hand_back.send(snapshotter));
    };
    loops.spawn("snapshotter", run);
    handed_back
}

/// Runs the snapshotter while the lease is held, until the world is followed no longer.
async fn run_under(lease: &Lease, snapshotter: &mut Snapshotter) {
    loop {
        lease.taken().await;
        tokio::select! {
            () = lease.lost() => {}
            () = snapshotter.run() => return,
        }
    }
}
