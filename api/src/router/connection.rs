//! One client's connection: reads requests, and ends when the client is idle or too slow.
//!
//! hyper knows one limit for both; here a client may be quiet between two requests for as long as
//! load balancers keep connections, but once it has begun a request's head it must finish it soon.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    BUFFER_BYTES_MAX, HEADERS_MAX, Settings,
    body::{ResponseBody, ResponseBodyError},
    proxy::Proxy,
};

/// How long a client that is turned away may take over its request.
const TURNED_AWAY_MAX: Duration = Duration::from_secs(2);

/// Whether there is room for one more client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Welcome {
    /// Its requests are routed.
    Served,
    /// Its request is answered with the news that the router is full.
    TurnedAway,
}

/// Serves one client until it leaves, is too slow, or `shutdown` lets the request in hand end.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    welcome: Welcome,
    proxy: Arc<Proxy>,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let watch = Arc::new(Watch::new(welcome, settings));
    let stream = Watched { stream, watch: Arc::clone(&watch) };
    let service = service_fn(|request| {
        let (proxy, busy) = (Arc::clone(&proxy), Busy::new(&watch));
        async move { Ok::<_, Infallible>(respond(&proxy, peer, welcome, request, busy).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .max_header_size(BUFFER_BYTES_MAX)
            .header_read_timeout(None)
            .keep_alive(welcome == Welcome::Served)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut is_draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(failure) = ended {
                    let error: &dyn std::error::Error = &failure;
                    debug!(%peer, error, "A client's connection has failed.");
                }
                return;
            }
            () = shutdown.cancelled(), if !is_draining => {
                connection.as_mut().graceful_shutdown();
                is_draining = true;
            }
            () = watch.expired() => {
                debug!(%peer, "Closed the connection of a client that was idle or too slow.");
                return;
            }
        }
    }
}

async fn respond(
    proxy: &Proxy,
    peer: SocketAddr,
    welcome: Welcome,
    request: Request<Incoming>,
    busy: Busy,
) -> Response<BusyBody> {
    let response = match welcome {
        Welcome::Served => proxy.handle(peer.ip(), request).await,
        Welcome::TurnedAway => proxy.turn_away(&request),
    };
    response.map(|body| BusyBody { body, _busy: busy })
}

/// What the client is doing, as far as it has a limit.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Nothing, or nothing more than it may do until then.
    Idle(Instant),
    /// It has begun a head, which must be whole by then.
    Head(Instant),
    /// A request is in hand; bodies have their own limits.
    Busy,
}

#[derive(Debug)]
struct Watch {
    phase: watch::Sender<Phase>,
    settings: Settings,
}

impl Watch {
    fn new(welcome: Welcome, settings: Settings) -> Self {
        let first = match welcome {
            Welcome::Served => settings.header_read_max,
            Welcome::TurnedAway => TURNED_AWAY_MAX,
        };
        Self { phase: watch::Sender::new(Phase::Head(Instant::now() + first)), settings }
    }

    /// Bytes came. Wakes the waiting side only if the limit came nearer.
    fn read(&self) {
        self.phase.send_if_modified(|phase| match phase {
            Phase::Idle(_) => {
                *phase = Phase::Head(Instant::now() + self.settings.header_read_max);
                true
            }
            Phase::Head(_) | Phase::Busy => false,
        });
    }

    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_first_limit = matches!(phase, Phase::Busy);
            *phase = next;
            is_first_limit
        });
    }

    /// Returns when the client has exceeded its limit.
    async fn expired(&self) {
        let mut changes = self.phase.subscribe();
        loop {
            let phase = *changes.borrow_and_update();
            match phase {
                Phase::Idle(until) | Phase::Head(until) if until <= Instant::now() => return,
                Phase::Idle(until) | Phase::Head(until) => {
                    tokio::select! {
                        () = sleep_until(until) => {}
                        changed = changes.changed() => drop(changed),
                    }
                }
                // The sender lives as long as this future.
                Phase::Busy => drop(changes.changed().await),
            }
        }
    }
}

/// A request is in hand for as long as this lives.
#[derive(Debug)]
struct Busy {
    watch: Arc<Watch>,
}

impl Busy {
    fn new(watch: &Arc<Watch>) -> Self {
        watch.enter(Phase::Busy);
        Self { watch: Arc::clone(watch) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.watch.enter(Phase::Idle(Instant::now() + self.watch.settings.idle_max));
    }
}

/// A response's body that ends the request in hand when it is dropped.
#[derive(Debug)]
struct BusyBody {
    body: ResponseBody,
    _busy: Busy,
}

impl Body for BusyBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client's stream that tells when bytes come.
#[derive(Debug)]
struct Watched {
    stream: TcpStream,
    watch: Arc<Watch>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.watch.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
