//! The listeners of a node: the API (GraphQL and cell gateway) and the router.

use std::{
    fmt, future::IntoFuture as _, io, net::SocketAddr, path::Path, sync::Arc, time::Duration,
};

use axum::{Router, middleware};
use axum_server::tls_rustls::RustlsConfig;
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    cell_gateway::{self, CellTokens},
    control_plane::ControlPlane,
    graphql,
    http::Access,
    node::Node,
    readiness,
    router::{self, access_log::AccessLog, registry::Registry},
    telemetry::{metrics_route, traces},
};

/// How long requests may go on after a listener was told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// The ports of a node.
#[derive(Debug, Clone, Args)]
pub struct Ports {
    /// The port of the API: GraphQL, and the gateway of the cells.
    #[arg(long, default_value_t = 7400)]
    pub port: u16,
    /// The port of the router, where apps are reached by host name.
    #[arg(long, default_value_t = 7480)]
    pub router_port: u16,
}

/// What is needed to speak TLS, read and checked.
#[derive(Clone)]
pub struct Tls(RustlsConfig);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(<hidden>)")
    }
}

impl Tls {
    /// Reads a certificate chain and its private key, in PEM.
    ///
    /// # Errors
    /// When one of them cannot be read or used.
    pub async fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        RustlsConfig::from_pem_file(certificate, key).await.map(Self).map_err(Error::Tls)
    }
}

/// Why the edges cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Someone else listens there.
    #[error("{address} is in use by another process; stop it, or choose another port with {flag}")]
    InUse {
        /// Where.
        address: SocketAddr,
        /// Which option changes it.
        flag: &'static str,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address} ({flag})")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Which option changes it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("cannot use --tls-cert and --tls-key")]
    Tls(#[source] io::Error),
    /// A listener has failed.
    #[error("a listener has failed")]
    Serve(#[source] io::Error),
}

/// A node holds a socket for every subscriber, cell and request; the system's first limit is often
/// 1,024 files, and the one behind it much higher.
fn take_all_file_descriptors() {
    use nix::sys::resource::{Resource::RLIMIT_NOFILE, getrlimit, setrlimit};
    let raised = getrlimit(RLIMIT_NOFILE)
        .and_then(|(_, highest)| setrlimit(RLIMIT_NOFILE, highest, highest));
    if let Err(failure) = raised {
        tracing::debug!(%failure, "The limit of open files stays as it is.");
    }
}

/// Bound, and not yet serving: ports are tried before anything is opened.
#[derive(Debug)]
pub struct Listeners {
    api: TcpListener,
    api_address: SocketAddr,
    router: TcpListener,
    router_address: SocketAddr,
}

impl Listeners {
    /// Binds both.
    ///
    /// # Errors
    /// When one is in use or cannot be bound.
    pub async fn bind(api: SocketAddr, router: SocketAddr) -> Result<Self, Error> {
        take_all_file_descriptors();
        let (api, api_address) = bind(api, "--port").await?;
        let (router, router_address) = bind(router, "--router-port").await?;
        Ok(Self { api, api_address, router, router_address })
    }

    /// Where the API is reached.
    #[must_use]
    pub fn api_url(&self, is_tls: bool) -> String {
        let scheme = if is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.api_address)
    }

    /// Where the router is reached.
    #[must_use]
    pub fn router_url(&self) -> String {
        format!("http://{}", self.router_address)
    }
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::AddrInUse {
            Error::InUse { address, flag }
        } else {
            Error::Bind { address, flag, source }
        }
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves until told to stop; requests under way get a little longer.
///
/// # Errors
/// When certificate or key cannot be used, or a listener fails.
pub async fn serve(
    node: &Node,
    listeners: Listeners,
    access: Access,
    cell_tokens: Arc<CellTokens>,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let control_plane = node.control_plane.clone();
    let routers = Arc::clone(&control_plane.routers);
    let follow = Registry::follow(control_plane.now.clone(), routers);
    let log = AccessLog::new(Arc::clone(&control_plane.clock));
    let api = api(control_plane, access, cell_tokens);
    let stop = shutdown.clone();
    let router_shutdown = shutdown.clone();
    // When one of them ends, whatever the reason, the other is of no use.
    let served = async {
        let served = serve_api(listeners.api, api, tls, shutdown).await;
        stop.cancel();
        served
    };
    let routed = async {
        // Whoever comes before the routes are known waits at the door; the API answers meanwhile.
        if let Some(registry) = router_shutdown.run_until_cancelled(follow).await {
            router::serve(listeners.router, registry, log, router_shutdown.clone()).await;
        }
        stop.cancel();
    };
    let both = async {
        let (served, ()) = tokio::join!(served, routed);
        served
    };
    tokio::select! {
        served = both => served,
        () = metrics_route::keep_up() => Ok(()),
    }
}

/// All that is answered on the port of the API.
pub(crate) fn api(
    control_plane: ControlPlane,
    access: Access,
    cell_tokens: Arc<CellTokens>,
) -> Router {
    graphql::router(control_plane.clone(), access.clone())
        .merge(cell_gateway::router(control_plane.clone(), cell_tokens))
        .layer(middleware::from_fn(traces::trace_request))
        .merge(metrics_route::router(control_plane.clone(), access))
        .merge(readiness::router(control_plane))
}

async fn serve_api(
    listener: TcpListener,
    api: Router,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    match tls {
        None => serve_plain(listener, api, shutdown).await,
        Some(tls) => serve_tls(listener, api, tls, shutdown).await,
    }
}

async fn serve_plain(
    listener: TcpListener,
    api: Router,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let stop = shutdown.clone();
    let served = axum::serve(listener, api)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .into_future();
    // Long polls and subscriptions do not end by themselves.
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = served => result.map_err(Error::Serve),
        () = deadline => Ok(()),
    }
}

async fn serve_tls(
    listener: TcpListener,
    api: Router,
    tls: Tls,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let handle = axum_server::Handle::new();
    let stop = handle.clone();
    let told = async move {
        shutdown.cancelled().await;
        stop.graceful_shutdown(Some(DRAIN));
        std::future::pending::<()>().await;
    };
    let listener = listener.into_std().map_err(Error::Serve)?;
    let served = axum_server::from_tcp_rustls(listener, tls.0)
        .map_err(Error::Serve)?
        .handle(handle)
        .serve(api.into_make_service());
    tokio::select! {
        result = served => result.map_err(Error::Serve),
        () = told => Ok(()),
    }
}
