//! Supervised spawning: the one place where an asynchronous worker is started.
//!
//! A worker that panics is told in the log at once. Never spawn past this file: a lost panic
//! stops a loop unseen.

use std::future::Future;

use tokio::task::JoinHandle;

/// Starts a worker under a name. Dropping the handle lets the worker run on; a panic inside is
/// logged as an error and ends only this worker.
///
/// # Panics
/// Outside a tokio runtime.
#[expect(clippy::disallowed_methods, reason = "this is the supervised spawn")]
pub fn spawn<F>(name: &'static str, worker: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        let mut inner = AbortOnDrop(tokio::spawn(worker));
        if let Err(failure) = (&mut inner.0).await
            && failure.is_panic()
        {
            tracing::error!(worker = name, %failure, "A worker panicked and has stopped.");
        }
    })
}

/// Aborting the supervisor aborts the worker too.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
