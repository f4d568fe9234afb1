//! GraphQL over HTTP, as its specification has it: a POST of JSON, answered in the media type
//! that the client accepts; an upgrade becomes a WebSocket.
//!
//! Only `application/json` is taken, which no page of another site can send unasked.

mod media_type;

use async_graphql::{Request, Response, ServerError, Value, Variables};
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{
        Request as HttpRequest, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse as _, Response as HttpResponse},
};
use http_body_util::LengthLimitError;
use serde::Deserialize;
use serde_json::json;
use tracing::{Instrument as _, trace_span};

use super::{Edge, VIA, at_least::AtLeast, error::INVALID, socket};
use crate::{
    http::{
        Caller, Denied,
        limits::{BODY_BYTES_MAX, REQUEST_TIMEOUT},
    },
    telemetry::{SPANS, traces},
};
use media_type::MediaType;

/// A request as clients write it, over HTTP and on a WebSocket.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    query: String,
    #[serde(default)]
    operation_name: Option<String>,
    #[serde(default)]
    variables: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Wire {
    /// How far the view must be for this.
    pub(super) fn at_least(&self) -> Option<AtLeast> {
        AtLeast::of_extensions(self.extensions.as_ref())
    }
}

impl From<Wire> for Request {
    fn from(wire: Wire) -> Self {
        let variables = serde_json::Value::Object(wire.variables.unwrap_or_default());
        let mut request = Self::new(wire.query).variables(Variables::from_json(variables));
        request.operation_name = wire.operation_name;
        request
    }
}

/// Why a request is not executed.
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn answer(self, media_type: MediaType) -> HttpResponse {
        let error = json!({ "message": self.message, "extensions": { "code": self.code } });
        write(self.status, media_type, json!({ "errors": [error] }).to_string())
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::Unauthenticated => StatusCode::UNAUTHORIZED,
            Denied::Host | Denied::Origin | Denied::Malformed(_) => StatusCode::FORBIDDEN,
        };
        Self::new(status, denied.code(), denied.to_string())
    }
}

/// Answers whatever comes to `/graphql`.
pub(super) async fn answer(
    State(edge): State<Edge>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: HttpRequest,
) -> HttpResponse {
    let accepted = MediaType::negotiate(request.headers());
    let media_type = accepted.unwrap_or(MediaType::Json);
    let outcome = match (edge.access.judge(request.headers(), VIA), upgrade) {
        (Err(denied), _) => Err(denied.into()),
        (Ok(caller), Ok(upgrade)) => open_socket(edge, upgrade, caller),
        (Ok(None), Err(_)) => Err(Denied::Unauthenticated.into()),
        (Ok(Some(caller)), Err(_)) => post(edge, caller, request, accepted).await,
    };
    outcome.unwrap_or_else(|refused| {
        let is_method = refused.status == StatusCode::METHOD_NOT_ALLOWED;
        let is_token = refused.status == StatusCode::UNAUTHORIZED;
        let mut response = refused.answer(media_type);
        let headers = response.headers_mut();
        if is_method {
            headers.insert(header::ALLOW, header::HeaderValue::from_static("POST"));
        }
        if is_token {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    })
}

fn open_socket(
    edge: Edge,
    upgrade: WebSocketUpgrade,
    caller: Option<Caller>,
) -> Result<HttpResponse, Refused> {
    let upgrade = upgrade
        .max_message_size(BODY_BYTES_MAX)
        .max_frame_size(BODY_BYTES_MAX)
        .protocols([socket::PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let message = format!("header Sec-WebSocket-Protocol must offer {}", socket::PROTOCOL);
        return Err(Refused::new(StatusCode::BAD_REQUEST, INVALID, message));
    }
    let trace = traces::present();
    Ok(upgrade.on_upgrade(move |socket| socket::serve(socket, edge, caller, trace)))
}

async fn post(
    edge: Edge,
    caller: Caller,
    request: HttpRequest,
    accepted: Option<MediaType>,
) -> Result<HttpResponse, Refused> {
    if request.method() != Method::POST {
        let message = "only POST is answered here, or an upgrade to a WebSocket";
        return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message));
    }
    let Some(media_type) = accepted else {
        let message = format!("header Accept must allow {}", MediaType::ALL);
        return Err(Refused::new(StatusCode::NOT_ACCEPTABLE, "NOT_ACCEPTABLE", message));
    };
    check_content_type(request.headers())?;
    let asked_by_header = AtLeast::of_headers(request.headers());
    let executed = tokio::time::timeout(REQUEST_TIMEOUT, async move {
        let wire = read(request.into_body()).await?;
        if let Some(at_least) = wire.at_least().or(asked_by_header)
            && let Err(failure) = at_least.wait(&edge.control_plane).await
        {
            return Ok(Response::from_errors(vec![failure]));
        }
        let request = Request::from(wire);
        let span = trace_span!(target: SPANS, "graphql.execute");
        Ok(edge.schema.execute(request.data(caller)).instrument(span).await)
    });
    match executed.await {
        Ok(Ok(response)) => Ok(show(&response, media_type)),
        Ok(Err(refused)) => Err(refused),
        Err(_) => {
            let message = "the request took longer than 30 seconds; a command in it may have been \
                           accepted: repeat it with the same commandId";
            Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "TIMEOUT", message))
        }
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Refused> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if given.is_some_and(media_type::is_json) {
        return Ok(());
    }
    let message = "header Content-Type must be application/json, in UTF-8";
    Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message))
}

async fn read(body: Body) -> Result<Wire, Refused> {
    let bytes: Bytes = to_bytes(body, BODY_BYTES_MAX).await.map_err(|failure| {
        if failure.into_inner().is::<LengthLimitError>() {
            let message = format!("the body must not be larger than {BODY_BYTES_MAX} bytes");
            Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE", message)
        } else {
            Refused::new(StatusCode::BAD_REQUEST, INVALID, "the body could not be read")
        }
    })?;
    // The decoder's words are left out: they may quote a secret.
    serde_json::from_slice(&bytes).map_err(|failure| {
        let message = format!(
            "the body must be a JSON object with query (a text), and perhaps operationName, \
             variables and extensions: line {}, column {} is not as it must be",
            failure.line(),
            failure.column()
        );
        Refused::new(StatusCode::BAD_REQUEST, INVALID, message)
    })
}

/// Whether a request was refused before anything of it was executed.
fn is_request_error(response: &Response) -> bool {
    let is_without_path = |error: &ServerError| error.path.is_empty();
    response.data == Value::Null
        && !response.errors.is_empty()
        && response.errors.iter().all(is_without_path)
}

fn show(response: &Response, media_type: MediaType) -> HttpResponse {
    let (status, body) = if is_request_error(response) {
        let status = match media_type {
            // What has no `data` is not of this media type's good answers.
            MediaType::GraphqlResponse => StatusCode::BAD_REQUEST,
            MediaType::Json => StatusCode::OK,
        };
        (status, serde_json::to_string(&json!({ "errors": response.errors })))
    } else {
        (StatusCode::OK, serde_json::to_string(response))
    };
    match body {
        Ok(body) => write(status, media_type, body),
        Err(failure) => {
            let told = super::error::internal("cannot encode an answer", &failure);
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", told.message)
                .answer(media_type)
        }
    }
}

fn write(status: StatusCode, media_type: MediaType, body: String) -> HttpResponse {
    let headers = [
        (header::CONTENT_TYPE, media_type.content_type()),
        // Answers hold what only their caller may see, and are old at once.
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body).into_response()
}
