//! A client that asks an app by the router without a pause, and notes how long it went without an
//! answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::harness::http;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Seen {
    router: String,
    last_answer: Instant,
    longest_gap: Duration,
}

/// A running client.
pub(super) struct Prober {
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    client: Option<JoinHandle<()>>,
}

impl Prober {
    /// Asks for `host`, at first by this router.
    pub(super) fn start(router: &str, host: &str) -> Self {
        let (router, last_answer) = (router.to_owned(), Instant::now());
        let seen = Arc::new(Mutex::new(Seen { router, last_answer, longest_gap: Duration::ZERO }));
        let is_over = Arc::new(AtomicBool::new(false));
        let (mine, over, host) = (Arc::clone(&seen), Arc::clone(&is_over), host.to_owned());
        let client = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let router = mine.lock().unwrap().router.clone();
                let is_answered = http(&router, &host).is_some_and(|(status, _)| status == 200);
                let mut seen = mine.lock().unwrap();
                let gap = seen.last_answer.elapsed();
                seen.longest_gap = seen.longest_gap.max(gap);
                if is_answered {
                    seen.last_answer = Instant::now();
                }
                drop(seen);
                thread::sleep(PAUSE);
            }
        });
        Self { seen, is_over, client: Some(client) }
    }

    /// Asks another router from now on.
    pub(super) fn ask_at(&self, router: &str) {
        router.clone_into(&mut self.seen.lock().unwrap().router);
    }

    /// Whether an answer came within the last moment.
    pub(super) fn is_answered(&self) -> bool {
        self.seen.lock().unwrap().last_answer.elapsed() < Duration::from_millis(500)
    }

    /// The longest time without an answer since the last time that this was asked.
    pub(super) fn longest_gap(&self) -> Duration {
        std::mem::take(&mut self.seen.lock().unwrap().longest_gap)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Its panic would be a failure of the test's own.
        drop(self.client.take().unwrap().join());
    }
}
