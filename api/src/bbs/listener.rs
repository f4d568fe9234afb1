//! Serves the BBS on a port: over mutual TLS, or in the clear on loopback when that is wanted.
//!
//! A client that makes no handshake, or begins a request and does not go on, is let go. A refused
//! handshake is told once and touches nobody else.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use projections::worker;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::{
    call::{Bbs, Caller},
    events::Connection,
    hub::Hub,
    options::Security,
    paths, tls,
};
use crate::{control_plane::ControlPlane, output};

/// How many clients may be connected.
const CONNECTIONS_MAX: usize = 8192;
/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long the head of a request may take once it has begun.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// How long requests may go on after a stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a wish waits until its slots are there; it is answered then all the same.
const SLOTS_WAIT: Duration = Duration::from_secs(2);
/// The pause after the system gave no connection, for want of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bound, and not yet serving.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    security: Secured,
}

#[derive(Debug)]
enum Secured {
    Tls(tls::Current),
    Plain,
}

/// Why the BBS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its port cannot be bound.
    #[error("cannot listen on {address} (--bbs-address)")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Its certificates cannot be used.
    #[error("cannot use the certificates of the BBS")]
    Tls(#[from] tls::Error),
}

impl Listener {
    /// Reads the certificates and binds the port.
    ///
    /// # Errors
    /// When a file cannot be used or the port is taken.
    pub(super) async fn bind(address: SocketAddr, security: Security) -> Result<Self, Error> {
        let security = match security {
            Security::Tls(files) => Secured::Tls(tls::Current::load(files)?),
            Security::PlainOnLoopback => Secured::Plain,
        };
        let failed = |source| Error::Bind { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, security })
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        match self.security {
            Secured::Tls(_) => format!("https://{}", self.address),
            Secured::Plain => format!("http://{}", self.address),
        }
    }

    /// Where it is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until told to stop, where it is asked for, and says where.
pub async fn serve_where_asked(
    listener: Option<Listener>,
    control_plane: &ControlPlane,
    shutdown: CancellationToken,
) {
    let Some(listener) = listener else { return };
    output::line(format!("BBS     {}", listener.url()));
    serve(listener, control_plane.clone(), shutdown).await;
}

/// Serves until told to stop.
async fn serve(listener: Listener, control_plane: ControlPlane, shutdown: CancellationToken) {
    let hub = Arc::new(Hub::start(&control_plane));
    let bbs = Bbs { control_plane, hub, slots_wait: SLOTS_WAIT };
    serve_bbs(listener, bbs, shutdown).await;
}

/// The same, with what requests need made already.
pub(super) async fn serve_bbs(listener: Listener, bbs: Bbs, shutdown: CancellationToken) {
    let Listener { socket, security, .. } = listener;
    let tls = match security {
        Secured::Tls(current) => {
            let keep_up = current.clone().keep_up(shutdown.clone());
            drop(worker::spawn("BBS certificates", keep_up));
            Some(current)
        }
        Secured::Plain => None,
    };
    let router = paths::router(bbs);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(socket.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(failure) => {
                warn!(%failure, "The BBS could not take a connection.");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            warn!(%peer, connections_max = CONNECTIONS_MAX, "The BBS has no room for a client.");
            continue;
        };
        let client = Client { stream, peer, router: router.clone(), shutdown: shutdown.clone() };
        let served = client.serve(tls.clone(), permit);
        drop(worker::spawn("BBS connection", connections.track_future(served)));
    }
    connections.close();
    if timeout(DRAIN, connections.wait()).await.is_err() {
        debug!("Connections to the BBS were still open at the stop.");
    }
}

/// One client.
struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
}

impl Client {
    async fn serve(self, tls: Option<tls::Current>, _permit: OwnedSemaphorePermit) {
        let Self { stream, peer, router, shutdown } = self;
        // Answers are small, and there is nothing to wait for.
        stream.set_nodelay(true).ok();
        let Some(tls) = tls else {
            return connection(stream, Caller::on_loopback(), peer, router, shutdown).await;
        };
        let handshake = TlsAcceptor::from(tls.config()).accept(stream);
        let stream = match timeout(HANDSHAKE_MAX, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(failure)) => {
                info!(%peer, %failure, "The BBS has refused a client at the handshake.");
                return;
            }
            Err(_) => {
                info!(%peer, "The BBS has let a client go that made no handshake.");
                return;
            }
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let name = certificates.and_then(|chain| chain.first()).map(tls::common_name);
        let caller = Caller::named(&name.unwrap_or_default());
        connection(stream, caller, peer, router, shutdown).await;
    }
}

async fn connection<S>(
    stream: S,
    caller: Caller,
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cut_off = Connection::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        request.extensions_mut().insert(cut_off.clone());
        let router = TowerToHyperService::new(router.clone());
        async move {
            let Ok(response) = hyper::service::Service::call(&router, request).await;
            Ok::<_, Infallible>(response)
        }
    });
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut is_draining = false;
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(failure) = ended {
                    let error: &dyn std::error::Error = &failure;
                    debug!(%peer, error, "A connection to the BBS has failed.");
                }
                return;
            }
            () = cut_off.0.cancelled() => return,
            () = shutdown.cancelled(), if !is_draining => {
                served.as_mut().graceful_shutdown();
                is_draining = true;
            }
        }
    }
}
