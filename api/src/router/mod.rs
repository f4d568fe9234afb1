//! The router: HTTP/1.1 by host name to the running instances, streaming both ways.
//!
//! - [`registry`]: which endpoints a host has, copied from the route table; failed ones put aside
//! - `proxy`: one request, offered to up to three endpoints
//! - `connection`: one client; `endpoint_connections`: the connections to instances
//! - `headers`, `body`: what is passed on, and how
//! - [`access_log`]: one record for every request
//! - [`mod@error`]: the words of `X-Diario-Error`
//!
//! Never writes to the log, never decides that an instance is dead, never gathers a body.

pub mod access_log;
mod body;
mod connection;
mod endpoint_connections;
pub mod error;
mod headers;
mod proxy;
pub mod registry;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::{access_log::AccessLog, connection::Welcome, proxy::Proxy, registry::Registry};

/// The most bytes of a head, and of what is read ahead of a body, for one connection.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// The most headers of one request or response.
const HEADERS_MAX: usize = 100;
/// How many clients beyond the limit are told so at a time; more are cut off without a word.
const TURNED_AWAY_MAX: usize = 100;
/// How often unused connections to instances are looked through.
const SWEEP_PERIOD: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted: most likely no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of a router.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many clients may be connected; later ones get a 503.
    pub connections_max: usize,
    /// How long a client may take over a request's head.
    pub header_read_max: Duration,
    /// How long a client may be quiet between two requests. Longer than load balancers keep a
    /// connection, so that they never send a request into one that is just being closed.
    pub idle_max: Duration,
    /// How long connecting to an endpoint may take.
    pub dial_max: Duration,
    /// How long an instance may be silent, before its response and within it.
    pub response_silence_max: Duration,
    /// How long requests in hand may go on after shutdown.
    pub drain_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_read_max: Duration::from_secs(10),
            idle_max: Duration::from_secs(900),
            dial_max: Duration::from_secs(5),
            response_silence_max: Duration::from_secs(900),
            drain_max: Duration::from_secs(10),
        }
    }
}

/// Routes what comes to a listener, with the default limits, until `shutdown`; returns when the
/// requests in hand have ended or were cut off.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    access: AccessLog,
    shutdown: CancellationToken,
) {
    Router { registry, access, settings: Settings::default() }.serve(listener, shutdown).await;
}

/// A router with its own limits.
#[derive(Debug)]
pub struct Router {
    /// Where host names lead.
    pub registry: Registry,
    /// Where the records go.
    pub access: AccessLog,
    /// Its limits.
    pub settings: Settings,
}

impl Router {
    /// Routes what comes to a listener until `shutdown`; returns when the requests in hand have
    /// ended or were cut off.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let Self { registry, access, settings } = self;
        let mut clients = Clients {
            proxy: Arc::new(Proxy::new(registry, access, settings)),
            settings,
            shutdown,
            served: Arc::new(Semaphore::new(settings.connections_max)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            tasks: JoinSet::new(),
        };
        clients.accept_from(&listener).await;
        // From here on the port answers nobody: a load balancer sees it at once.
        drop(listener);
        clients.drain().await;
    }
}

/// All connected clients.
struct Clients {
    proxy: Arc<Proxy>,
    settings: Settings,
    shutdown: CancellationToken,
    served: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Clients {
    async fn accept_from(&mut self, listener: &TcpListener) {
        let shutdown = self.shutdown.clone();
        let mut sweep = interval(SWEEP_PERIOD);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = sweep.tick() => self.proxy.sweep(),
                Some(ended) = self.tasks.join_next() => log_panic(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.welcome(stream, peer),
                    Err(failure) => {
                        warn!(error = %failure, "Could not accept a connection.");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream, peer: SocketAddr) {
        if let Ok(permit) = Arc::clone(&self.served).try_acquire_owned() {
            self.spawn(stream, peer, Welcome::Served, permit);
        } else if let Ok(permit) = Arc::clone(&self.turned_away).try_acquire_owned() {
            self.spawn(stream, peer, Welcome::TurnedAway, permit);
        }
    }

    fn spawn(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        welcome: Welcome,
        permit: OwnedSemaphorePermit,
    ) {
        if let Err(failure) = stream.set_nodelay(true) {
            warn!(%peer, error = %failure, "Could not turn Nagle's algorithm off.");
        }
        let (proxy, settings) = (Arc::clone(&self.proxy), self.settings);
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            connection::serve(stream, peer, welcome, proxy, settings, shutdown).await;
            drop(permit);
        });
    }

    /// Lets requests in hand end, for a while; what is left is cut off.
    async fn drain(&mut self) {
        let in_hand = self.tasks.len();
        let all_ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                log_panic(ended);
            }
        };
        let is_drained = timeout(self.settings.drain_max, all_ended).await.is_ok();
        info!(in_hand, cut_off = self.tasks.len(), is_drained, "The router has stopped.");
        self.tasks.shutdown().await;
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(failure) = ended {
        error!(error = %failure, "A client's connection ended by a panic.");
    }
}
