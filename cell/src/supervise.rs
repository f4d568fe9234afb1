//! The one place of this crate where an asynchronous worker is started.
//!
//! A worker that panics is told in the log at once. Dropping its handle ends it, so that a
//! session that is dropped leaves no worker behind. Never spawn past this file.

use std::future::Future;

use tokio::task::JoinHandle;

/// A worker that runs until it ends or its handle is dropped.
#[derive(Debug)]
pub(crate) struct Worker(JoinHandle<()>);

impl Worker {
    /// Waits until the worker has ended, however it did.
    pub(crate) async fn ended(&mut self) {
        if !self.0.is_finished() {
            // Its panic was logged by the supervisor; what it was doing is over either way.
            drop((&mut self.0).await);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a worker under a name.
///
/// # Panics
/// Outside a tokio runtime.
#[expect(clippy::disallowed_methods, reason = "this is the supervised spawn")]
pub(crate) fn spawn<F>(name: &'static str, worker: F) -> Worker
where
    F: Future<Output = ()> + Send + 'static,
{
    Worker(tokio::spawn(async move {
        let mut inner = Worker(tokio::spawn(worker));
        if let Err(failure) = (&mut inner.0).await
            && failure.is_panic()
        {
            tracing::error!(worker = name, %failure, "A worker panicked and has stopped.");
        }
    }))
}
