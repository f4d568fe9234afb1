//! Being told to stop: SIGTERM and SIGINT.

use projections::worker;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

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
