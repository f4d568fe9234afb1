//! The bodies that pass through: counted, timed, never gathered.
//!
//! A frame is handed on as it comes; what the other side does not take stays in the kernel's
//! buffers, so a slow reader slows the writer and costs no memory here.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::{access_log::OpenRecord, endpoint_connections::Lease, error::Error};

/// What a request's body has done so far, seen from beside it.
#[derive(Debug)]
pub(super) struct Meter {
    bytes: AtomicU64,
    has_failed: AtomicBool,
    started: Instant,
    moved_after_ms: AtomicU64,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            bytes: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            started: Instant::now(),
            moved_after_ms: AtomicU64::new(0),
        }
    }

    /// How many bytes have been handed on.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the client broke its own body off.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.touch();
    }

    fn touch(&self) {
        let after = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_after_ms.store(after, Ordering::Relaxed);
    }

    fn deadline(&self, silence_max: Duration) -> Instant {
        let moved = Duration::from_millis(self.moved_after_ms.load(Ordering::Relaxed));
        self.started + moved + silence_max
    }

    /// Waits for an answer; `None` when neither it nor the request's body moved for so long. A
    /// long upload that goes on is not a silent endpoint.
    pub(super) async fn answer<F: Future>(
        &self,
        silence_max: Duration,
        answer: F,
    ) -> Option<F::Output> {
        let mut answer = pin!(answer);
        self.touch();
        loop {
            if let Ok(output) = timeout_at(self.deadline(silence_max), answer.as_mut()).await {
                return Some(output);
            }
            if self.deadline(silence_max) <= Instant::now() {
                return None;
            }
        }
    }
}

/// A request's body on its way to an instance.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// None, or one that was given away with an earlier try.
    Empty,
    /// As the client sends it.
    Streaming(Incoming, Arc<Meter>),
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, meter: Arc<Meter>) -> Self {
        if incoming.is_end_stream() { Self::Empty } else { Self::Streaming(incoming, meter) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Streaming(incoming, meter) = self.get_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => meter.count(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) => meter.has_failed.store(true, Ordering::Relaxed),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(incoming, _) => incoming.size_hint(),
        }
    }
}

/// Why a response's body ended early; the client's connection is broken off then, so that it
/// does not take half a response for a whole one.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResponseBodyError {
    #[error("cannot read the response's body from the instance")]
    Read { source: hyper::Error },
    #[error("the instance was silent in the middle of the response's body")]
    Silent,
}

/// A response's body on its way to the client.
#[derive(Debug)]
pub(super) enum ResponseBody {
    /// The router's own words.
    Text(Full<Bytes>),
    /// As the instance sends it.
    Streaming(Box<Streaming>),
}

/// A body that an instance sends, with all that ends when it ends.
#[derive(Debug)]
pub(super) struct Streaming {
    incoming: Incoming,
    lease: Option<Lease>,
    record: OpenRecord,
    silence_max: Duration,
    // Set while the instance is waited for; a slow client is no silent instance.
    silence: Option<Pin<Box<Sleep>>>,
}

impl Streaming {
    pub(super) fn new(
        incoming: Incoming,
        lease: Lease,
        record: OpenRecord,
        silence_max: Duration,
    ) -> Self {
        let mut body = Self { incoming, lease: Some(lease), record, silence_max, silence: None };
        // Nobody polls a body that is empty.
        if body.incoming.is_end_stream() {
            body.complete();
        }
        body
    }

    fn complete(&mut self) {
        self.record.end(None);
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.silence = None;
                self.record.count_out(frame.data_ref().map_or(0, Bytes::len));
                // With a known length hyper does not ask again after the last byte.
                if self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(source))) => {
                self.record.end(Some(Error::ResponseCut));
                Poll::Ready(Some(Err(ResponseBodyError::Read { source })))
            }
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let silence_max = self.silence_max;
                let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(silence_max)));
                ready!(silence.as_mut().poll(context));
                self.record.end(Some(Error::EndpointTimeout));
                Poll::Ready(Some(Err(ResponseBodyError::Silent)))
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        match self.get_mut() {
            Self::Text(text) => {
                let frame = ready!(Pin::new(text).poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Streaming(body) => body.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            Self::Streaming(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::Streaming(body) => body.incoming.size_hint(),
        }
    }
}
