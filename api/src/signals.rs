//! Being told to stop: by SIGTERM and SIGINT, or by a part of the node that has failed.

use anyhow::bail;
use api::node::{Failed, Node};
use projections::worker;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Cancels a token at the first SIGTERM or SIGINT.
pub(crate) fn cancel_on_stop(token: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    drop(worker::spawn("signals", async move {
        tokio::select! {
            _ = terminate.recv() => info!("Told to stop by SIGTERM."),
            _ = interrupt.recv() => info!("Told to stop by SIGINT."),
        }
        token.cancel();
    }));
    Ok(())
}

/// What ended without being asked to.
#[derive(Debug)]
pub(crate) struct Failure(oneshot::Receiver<Failed>);

/// Cancels a token when a part ends that the node is of no use without.
pub(crate) fn cancel_on_failure(node: &Node, token: CancellationToken) -> Failure {
    let failed = node.failed();
    let (tell, told) = oneshot::channel();
    drop(worker::spawn("failure watch", async move {
        let stopped = token.clone();
        tokio::select! {
            failed = failed => {
                if let Err(Failed { part, .. }) = tell.send(failed) {
                    warn!(part, "It failed while the process was ending anyway.");
                }
                token.cancel();
            }
            () = stopped.cancelled() => {}
        }
    }));
    Failure(told)
}

impl Failure {
    /// An error when something has failed: the process is to end with it, and to be started anew.
    pub(crate) fn check(mut self) -> anyhow::Result<()> {
        match self.0.try_recv() {
            Ok(failed) => bail!("{failed}"),
            Err(_) => Ok(()),
        }
    }
}
