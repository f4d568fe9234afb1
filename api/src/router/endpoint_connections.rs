//! The connections to instances: dialled when needed, kept for the next request.
//!
//! They are kept by address and instance guid, so that a request can never reach a new container
//! over an old container's connection. Never tries again: that is the proxy's to decide.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddrV4,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use projections::{route_table::Endpoint, worker};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tracing::debug;

use super::{BUFFER_BYTES_MAX, HEADERS_MAX, body::RequestBody, registry::EndpointKey};

/// How long a connection is kept without use.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How many unused connections are kept to one endpoint.
const IDLE_PER_ENDPOINT_MAX: usize = 32;

/// Why an endpoint could not be dialled.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("cannot connect to {address}")]
    Connect { address: SocketAddrV4, source: io::Error },
    #[error("no connection to {address} within {limit:?}")]
    Timeout { address: SocketAddrV4, limit: Duration },
    #[error("cannot speak HTTP to {address}")]
    Handshake { address: SocketAddrV4, source: hyper::Error },
}

/// The connections to all endpoints.
#[derive(Debug)]
pub(super) struct EndpointConnections {
    idle: Mutex<HashMap<EndpointKey, Vec<Idle>>>,
    dial_max: Duration,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// One connection, in use. Dropping it closes the connection.
pub(super) struct Lease {
    pub(super) sender: SendRequest<RequestBody>,
    key: EndpointKey,
    home: Arc<EndpointConnections>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Lease {
    /// Keeps the connection for the next request. Call when the response has been read wholly.
    pub(super) fn give_back(self) {
        let Self { sender, key, home } = self;
        if sender.is_closed() {
            return;
        }
        let mut idle = home.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(key).or_default();
        if kept.len() < IDLE_PER_ENDPOINT_MAX {
            kept.push(Idle { sender, since: Instant::now() });
        }
    }
}

impl EndpointConnections {
    /// No connections; a dial may take so long.
    pub(super) fn new(dial_max: Duration) -> Self {
        Self { idle: Mutex::default(), dial_max }
    }

    /// A kept connection that seems alive, the last used first.
    pub(super) fn take_idle(self: &Arc<Self>, endpoint: &Endpoint) -> Option<Lease> {
        let key = EndpointKey::from(endpoint);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(&key)?;
        kept.retain(is_alive);
        // One whose last request is still being uploaded (the answer came early) is not ready.
        let found = kept.iter().rposition(|connection| connection.sender.is_ready())?;
        let sender = kept.swap_remove(found).sender;
        Some(Lease { sender, key, home: Arc::clone(self) })
    }

    /// Closes the kept connections to an endpoint.
    pub(super) fn forget(&self, key: &EndpointKey) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Closes what was not used for long.
    pub(super) fn sweep(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, kept| {
            kept.retain(is_alive);
            !kept.is_empty()
        });
    }

    /// Opens a new connection.
    pub(super) async fn dial(self: &Arc<Self>, endpoint: &Endpoint) -> Result<Lease, DialError> {
        let address = endpoint.address;
        let stream = timeout(self.dial_max, connect(address))
            .await
            .map_err(|_| DialError::Timeout { address, limit: self.dial_max })?
            .map_err(|source| DialError::Connect { address, source })?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| DialError::Handshake { address, source })?;
        drop(worker::spawn("endpoint connection", async move {
            if let Err(failure) = connection.await {
                debug!(%address, error = %failure, "A connection to an instance has failed.");
            }
        }));
        Ok(Lease { sender, key: EndpointKey::from(endpoint), home: Arc::clone(self) })
    }
}

fn is_alive(connection: &Idle) -> bool {
    !connection.sender.is_closed() && connection.since.elapsed() < IDLE_MAX
}

async fn connect(address: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A small piece of a body must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    Ok(stream)
}
