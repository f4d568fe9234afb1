//! Supervised spawning: the one place where a worker is started.
//!
//! A worker that panics is told in the log at once. Never spawn past this file: a lost panic
//! stops a loop unseen.

use std::{future::Future, panic::AssertUnwindSafe};

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

/// Starts a worker without which the process is of no use. When it has ended, by itself or by a
/// panic, which is logged, `on_end` is told its name.
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn_essential<F>(
    name: &'static str,
    worker: F,
    on_end: impl FnOnce(&'static str) + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let inner = spawn(name, worker);
    drop(spawn(name, async move {
        // A panic was logged; the end itself is what counts.
        drop(inner.await);
        on_end(name);
    }));
}

/// Starts a worker that waits for the disk, on a thread of its own. A panic inside is logged as an
/// error and ends only this worker.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn_thread(
    name: &'static str,
    worker: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let supervised = move || {
        // What the worker held is dropped with it; nobody sees it half done.
        if std::panic::catch_unwind(AssertUnwindSafe(worker)).is_err() {
            tracing::error!(worker = name, "A worker panicked and has stopped.");
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(supervised).map(drop)
}

/// Aborting the supervisor aborts the worker too.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_an_essential_worker_is_told_also_after_a_panic() {
        let workers: [Box<dyn FnOnce() + Send>; 2] =
            [Box::new(|| ()), Box::new(|| panic!("as a defect would"))];
        for work in workers {
            let (told, end) = tokio::sync::oneshot::channel();
            spawn_essential("worker", async move { work() }, |name| told.send(name).unwrap());
            assert_eq!(end.await.unwrap(), "worker");
        }
    }
}
