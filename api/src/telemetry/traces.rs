//! Traces by OpenTelemetry, exported by OTLP over HTTP when an endpoint is given; else nothing is
//! recorded.
//!
//! A request that carries a W3C `traceparent` is continued. Spans wait in a bounded queue: a
//! collector that is slow or gone costs spans, never a command.

use std::time::Duration;

use axum::{extract::Request, http::HeaderMap, middleware::Next, response::Response};
use clap::Args;
use opentelemetry::{
    Context, KeyValue, propagation::Extractor, propagation::TextMapPropagator as _,
    trace::TracerProvider as _,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData},
};
use projections::worker;
use tokio::{runtime::Handle, sync::oneshot};
use tracing::{Instrument as _, Level, Metadata, Span, Subscriber, field, trace_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::FilterFn, registry::LookupSpan};

use super::SPANS;

/// The path of traces below an endpoint, as OTLP has it.
const TRACES_PATH: &str = "v1/traces";
/// How many spans may wait to be exported; more are dropped.
const QUEUE_SPANS_MAX: usize = 8192;
/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long spans are gathered before they are exported.
const EXPORT_PERIOD: Duration = Duration::from_secs(1);

/// Where traces go.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
pub struct Options {
    /// Send traces to this OpenTelemetry collector, by OTLP over HTTP (protobuf), such as
    /// `http://127.0.0.1:4318`. Without it nothing is traced.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    pub otlp_endpoint: Option<String>,
}

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is no address. It is not repeated: it may hold a password.
    #[error(
        "--otlp-endpoint must be an http or https URL without user and password, such as \
         http://127.0.0.1:4318"
    )]
    Endpoint,
    /// The exporter cannot be made.
    #[error("cannot make the exporter of traces")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// The exporter of a process's traces.
#[derive(Debug, Clone)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts to export to an endpoint; `node` tells nodes apart. Requests are made on `runtime`.
    ///
    /// # Errors
    /// When the endpoint is malformed.
    pub fn start(endpoint: &str, node: &str, runtime: Handle) -> Result<Self, Error> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(traces_url(endpoint)?)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(Error::Exporter)?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS_MAX)
            .with_scheduled_delay(EXPORT_PERIOD)
            .build();
        let exporter = OnRuntime { exporter: std::sync::Arc::new(exporter), runtime };
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder()
            .with_service_name("diario")
            .with_attribute(KeyValue::new("service.instance.id", node.to_owned()))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// What takes our spans, and nothing else, from the process's subscriber.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("diario"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(FilterFn::new(is_ours).with_max_level_hint(Level::TRACE))
    }

    /// Exports what waits, and ends. Blocks for as long as an export may take: not for a thread
    /// that drives the runtime.
    pub fn stop(&self) {
        if let Err(failure) = self.0.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%failure, "The last traces could not be exported.");
        }
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == SPANS
}

fn traces_url(endpoint: &str) -> Result<String, Error> {
    let url = reqwest::Url::parse(endpoint).map_err(|_| Error::Endpoint)?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    if !["http", "https"].contains(&url.scheme()) || url.host().is_none() || !is_plain {
        return Err(Error::Endpoint);
    }
    let base = url.as_str().trim_end_matches('/');
    if base.ends_with(TRACES_PATH) {
        return Ok(base.to_owned());
    }
    Ok(format!("{base}/{TRACES_PATH}"))
}

/// The SDK exports from a thread of its own, the HTTP client needs the runtime: each export is
/// made there and waited for here.
#[derive(Debug)]
struct OnRuntime {
    exporter: std::sync::Arc<SpanExporter>,
    runtime: Handle,
}

impl opentelemetry_sdk::trace::SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (done, exported) = oneshot::channel();
        let exporter = std::sync::Arc::clone(&self.exporter);
        {
            let _entered = self.runtime.enter();
            drop(worker::spawn("export of traces", async move {
                // Whoever waited may have given up.
                done.send(exporter.export(batch).await).ok();
            }));
        }
        match exported.await {
            Ok(result) => result,
            Err(_) => Err(OTelSdkError::InternalFailure("the export was not finished".to_owned())),
        }
    }
}

/// Puts a span around each request of an edge, as a part of its sender's trace.
pub async fn trace_request(request: Request, next: Next) -> Response {
    let span = trace_span!(
        target: SPANS,
        "http.request",
        otel.kind = "server",
        http.request.method = method(&request),
        http.route = route(request.uri().path()),
        http.response.status_code = field::Empty,
    );
    if span.is_disabled() {
        return next.run(request).await;
    }
    continue_trace(&span, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}

fn continue_trace(span: &Span, headers: &HeaderMap) {
    continue_in(span, TraceContextPropagator::new().extract(&Carrier(headers)));
}

fn continue_in(span: &Span, context: Context) {
    if span.is_disabled() {
        return;
    }
    if let Err(failure) = span.set_parent(context) {
        tracing::debug!(%failure, "A request's trace could not be continued.");
    }
}

/// The trace that the present span is a part of, for what outlives the span.
#[must_use]
pub fn present() -> Context {
    Span::current().context()
}

/// A span around one operation on a WebSocket, as a part of the trace of its upgrade.
#[must_use]
pub fn socket_operation(upgrade: &Context) -> Span {
    let span = trace_span!(target: SPANS, "ws.operation", otel.kind = "server");
    continue_in(&span, upgrade.clone());
    span
}

struct Carrier<'h>(&'h HeaderMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// Only known words: a path and a method are a stranger's text.
fn method(request: &Request) -> &'static str {
    match request.method().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

fn route(path: &str) -> &'static str {
    const ROUTES: [&str; 9] = [
        "/graphql",
        "/cell/v1/register",
        "/cell/v1/heartbeat",
        "/cell/v1/assignment",
        "/cell/v1/definitions",
        "/cell/v1/reports",
        "/cell/v1/observations",
        "/healthz",
        "/readyz",
    ];
    ROUTES.into_iter().find(|route| path.starts_with(route)).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_url_and_the_path_of_traces_is_added() {
        for endpoint in ["", "collector", "ftp://c:1", "unix:/c", "http://me:secret@c:4318"] {
            assert!(matches!(traces_url(endpoint), Err(Error::Endpoint)), "{endpoint}");
        }
        let expected = "http://c:4318/v1/traces";
        for endpoint in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            assert_eq!(traces_url(endpoint).unwrap(), expected);
        }
    }
}
