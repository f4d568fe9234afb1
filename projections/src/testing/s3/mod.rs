//! A small S3 server of a test's own, over real HTTP: signed requests, ranges, puts that hold only
//! for a version, and faults at will. It keeps its objects in memory.
//!
//! For tests only. What the product does not ask of a store it refuses: listings, and deleting in
//! bulk, which not every store knows.

mod answer;
mod signature;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::{Method, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::oneshot};

use crate::worker;

/// The only account.
pub const ACCESS_KEY: &str = "AKIDTEST";
/// Its key, which signs.
pub const SECRET_KEY: &str = "never/shown+either";
/// Where it says it is.
pub const REGION: &str = "eu-test-1";
/// The only bucket.
pub const BUCKET: &str = "logs";

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with 503, as by a store that has too much to do.
    Busy,
    /// It is refused with 403.
    Denied,
    /// It is answered late.
    Late(Duration),
    /// The connection ends before anything was done.
    Dropped,
    /// It is done, and the connection ends without an answer.
    AnswerLost,
    /// The connection ends within the answer.
    CutOff,
    /// What was put last is not to be seen yet.
    Old,
}

/// A request, as a plan of faults sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// The object's name in the bucket.
    pub key: String,
}

type Plan = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    endpoint: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

/// What connections share.
#[derive(Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What each object was before it was put last.
    before: Mutex<BTreeMap<String, Option<Vec<u8>>>>,
    plan: Mutex<Option<Plan>>,
    calls: Mutex<Vec<Call>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let objects: Vec<String> = locked(&self.objects).keys().cloned().collect();
        f.debug_struct("Shared").field("objects", &objects).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn fault(&self, call: &Call) -> Option<Fault> {
        locked(&self.calls).push(call.clone());
        locked(&self.plan).as_mut().and_then(|plan| plan(call))
    }
}

impl Server {
    /// Starts a server on a loopback port, on a thread of its own.
    ///
    /// # Panics
    /// When there is no port or no thread.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("s3".to_owned());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                tell.send(listener.local_addr().expect("an address")).expect("a starter");
                tokio::select! {
                    () = accept(listener, served) => {}
                    // Also when the server was dropped without a word.
                    _ = stopped => {}
                }
            });
        };
        thread.spawn(run).expect("a thread");
        let address: SocketAddr = told.recv().expect("a server");
        Self { endpoint: format!("http://{address}"), shared, stop: Some(stop) }
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// From now on each request is asked what goes wrong with it.
    pub fn plan(&self, plan: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        *locked(&self.shared.plan) = Some(Box::new(plan));
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        *locked(&self.shared.plan) = None;
    }

    /// All requests so far, also those that failed.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        locked(&self.shared.calls).clone()
    }

    /// All objects, by name.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        locked(&self.shared.objects).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended with its test.
            stop.send(()).ok();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        drop(worker::spawn("S3 connection", async move {
            let service = service_fn(|request| answer::answer(request, Arc::clone(&shared)));
            // A connection that ends by a fault is no failure of the server.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        }));
    }
}
