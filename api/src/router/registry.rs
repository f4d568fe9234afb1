//! The router's own copy of the route table: which endpoints a host has, and whose turn it is.
//!
//! Follows the present world and is rebuilt only when routes have changed. An endpoint that could
//! not be reached is put aside for a while; that is the one thing known here that is not in the
//! log, and losing it costs a failed dial. Never decides that an instance is dead.

use std::{
    collections::HashMap,
    net::SocketAddrV4,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{id::InstanceGuid, log::Position, routes::Hostname};
use projections::{
    projector::Now,
    route_table::{Endpoint, RouteTable},
    worker,
};
use tokio::time::Instant;

use crate::{clock, live_routers::LiveRouters};

/// How long an endpoint that failed is passed over: a quarter of Gorouter's stale threshold.
const ASIDE: Duration = Duration::from_secs(30);
/// The most endpoints that are remembered as failed; past it the oldest news is dropped.
const ASIDE_MAX: usize = 10_000;

/// Where host names lead. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pools: RwLock<Arc<Pools>>,
    aside: Mutex<HashMap<EndpointKey, Instant>>,
}

type Pools = HashMap<Hostname, Arc<Pool>>;

/// What an endpoint is told by: an address alone may be a new container's by now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EndpointKey {
    address: SocketAddrV4,
    instance_guid: InstanceGuid,
}

impl From<&Endpoint> for EndpointKey {
    fn from(endpoint: &Endpoint) -> Self {
        Self { address: endpoint.address, instance_guid: endpoint.instance_guid.clone() }
    }
}

/// The endpoints of one host.
#[derive(Debug)]
pub(super) struct Pool {
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
}

impl Pool {
    /// Starts at a random endpoint, so that several routers do not all begin with the same one.
    fn new(endpoints: Vec<Endpoint>) -> Self {
        let [.., low] = clock::new_uuid().into_bytes();
        Self { endpoints, next: AtomicUsize::new(usize::from(low)) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}

impl Registry {
    /// Copies the routes of the present world once they are known, and follows it for as long as a
    /// clone lives. `routers` is told how far: no request is led by older routes any more.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn follow(now: Now, routers: Arc<LiveRouters>) -> Self {
        // Filling the view here would hold up all that shares this thread.
        now.filled().await;
        let registry = Self { shared: Arc::default() };
        let mut moved = now.moved();
        let (mut generation, position) = registry.copy_from(&now, None);
        routers.note_own(position);
        let shared = Arc::downgrade(&registry.shared);
        drop(worker::spawn("route registry", async move {
            while moved.changed().await.is_ok() {
                let Some(shared) = shared.upgrade() else { return };
                let position;
                (generation, position) = Self { shared }.copy_from(&now, Some(generation));
                routers.note_own(position);
            }
        }));
        registry
    }

    /// Copies the routes when they are not of the known generation; answers with theirs, and up to
    /// which position they hold.
    fn copy_from(&self, now: &Now, known: Option<u64>) -> (u64, Position) {
        let (generation, position, routes) = now.read(|world| {
            let table = world.route_table();
            let is_new = known != Some(table.generation());
            (table.generation(), world.position(), is_new.then(|| copy(table)))
        });
        if let Some(routes) = routes {
            self.replace(routes);
        }
        (generation, position)
    }

    /// Takes a whole new set of routes. A host whose endpoints are the same keeps its turn.
    pub(super) fn replace(&self, routes: Vec<(Hostname, Vec<Endpoint>)>) {
        let before = self.pools();
        let pool = |hostname: &Hostname, endpoints: Vec<Endpoint>| match before.get(hostname) {
            Some(pool) if pool.endpoints == endpoints => Arc::clone(pool),
            Some(_) | None => Arc::new(Pool::new(endpoints)),
        };
        let pools = routes
            .into_iter()
            .map(|(hostname, endpoints)| {
                let pool = pool(&hostname, endpoints);
                (hostname, pool)
            })
            .collect();
        *self.shared.pools.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pools);
    }

    fn pools(&self) -> Arc<Pools> {
        Arc::clone(&self.shared.pools.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The endpoints of a host, perhaps none; `None` when nobody asks for the host.
    pub(super) fn pool(&self, hostname: &Hostname) -> Option<Arc<Pool>> {
        self.pools().get(hostname).map(Arc::clone)
    }

    /// The endpoint whose turn it is among those not yet tried. One that was put aside comes only
    /// when no other is left: a doubtful instance is better than a certain error.
    pub(super) fn pick(&self, pool: &Pool, tried: &[EndpointKey]) -> Option<Endpoint> {
        let count = pool.endpoints.len();
        let start = pool.next.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let aside = self.shared.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let mut doubtful = None;
        for offset in 0..count {
            let Some(endpoint) = pool.endpoints.get(start.wrapping_add(offset) % count) else {
                continue;
            };
            let key = EndpointKey::from(endpoint);
            if tried.contains(&key) {
                continue;
            }
            if aside.get(&key).is_none_or(|until| *until <= now) {
                return Some(endpoint.clone());
            }
            doubtful = doubtful.or(Some(endpoint));
        }
        doubtful.cloned()
    }

    /// Passes an endpoint over for [`ASIDE`].
    pub(super) fn put_aside(&self, key: EndpointKey) {
        let now = Instant::now();
        let mut aside = self.shared.aside.lock().unwrap_or_else(PoisonError::into_inner);
        aside.retain(|_, until| *until > now);
        if aside.len() >= ASIDE_MAX {
            aside.clear();
        }
        aside.insert(key, now + ASIDE);
    }

    /// Takes an endpoint back that has answered.
    pub(super) fn take_back(&self, key: &EndpointKey) {
        self.shared.aside.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

fn copy(table: &RouteTable) -> Vec<(Hostname, Vec<Endpoint>)> {
    table
        .routes()
        .map(|(hostname, endpoints)| (hostname.clone(), endpoints.into_iter().cloned().collect()))
        .collect()
}

#[cfg(test)]
impl Registry {
    /// A registry that follows nothing.
    pub(super) fn of(routes: Vec<(Hostname, Vec<Endpoint>)>) -> Self {
        let registry = Self { shared: Arc::default() };
        registry.replace(routes);
        registry
    }
}
