//! The heads of requests and responses: which host is meant, what must not be passed on, what the
//! instance is told besides.
//!
//! Framing is always made anew from the body that was parsed, never copied: two parties that read
//! one request's length differently is how requests are smuggled.

use std::net::IpAddr;

use domain::routes::Hostname;
use hyper::{
    HeaderMap, Method, Uri,
    body::{Body, SizeHint},
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
    http::request,
};

use super::error::Error;

/// Why the router itself answered; an instance cannot set it.
pub(super) const X_DIARIO_ERROR: HeaderName = HeaderName::from_static("x-diario-error");
/// The request's id, as Gorouter names it.
pub(super) const X_VCAP_REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");
/// The request's id, as others name it.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The headers that are between two neighbours only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// The longest request id that is taken over from a client.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The host as the client names it, port and all: in the target of the request, or in `Host`.
pub(super) fn host_text<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str());
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?;
    // Two Hosts mean two things to two readers.
    if hosts.next().is_some() { None } else { host.to_str().ok() }
}

/// The host name in a host text: without the port and a last dot, in lower case.
pub(super) fn hostname(host: &str) -> Result<Hostname, Error> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) => return Err(Error::BadHost),
        None => host,
    };
    Hostname::new(name.strip_suffix('.').unwrap_or(name)).map_err(|_| Error::BadHost)
}

/// Whether the client wants to speak something else than HTTP/1.1 requests.
///
/// An offer of h2c is no wish: common clients make it with every request, and it may be ignored.
pub(super) fn wants_upgrade(method: &Method, headers: &HeaderMap) -> bool {
    let is_other =
        |protocol: &str| !protocol.is_empty() && !protocol.trim().eq_ignore_ascii_case("h2c");
    method == Method::CONNECT
        || headers
            .get_all(UPGRADE)
            .iter()
            .any(|value| value.to_str().map_or(true, |value| value.split(',').any(is_other)))
}

/// The client's id of the request, if it is harmless, or a new one.
pub(super) fn request_id(headers: &HeaderMap, draw: impl FnOnce() -> uuid::Uuid) -> String {
    [X_VCAP_REQUEST_ID, X_REQUEST_ID]
        .iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        .find(|id| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_graphic())
        })
        .map_or_else(|| draw().to_string(), ToOwned::to_owned)
}

/// Takes out what is between two neighbours only.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What the instance is told besides what the client sent.
#[derive(Debug)]
pub(super) struct Forwarded<'a> {
    pub(super) peer: IpAddr,
    pub(super) host: &'a str,
    pub(super) request_id: &'a str,
}

/// Makes the head that an instance gets out of the one that the client sent.
pub(super) fn prepare_request(
    head: &mut request::Parts,
    body: &impl Body,
    forwarded: &Forwarded<'_>,
) {
    let target = head.uri.path_and_query().cloned();
    head.uri = target.map_or_else(|| Uri::from_static("/"), Uri::from);
    head.version = hyper::Version::HTTP_11;
    let headers = &mut head.headers;
    let had_length = headers.contains_key(CONTENT_LENGTH);
    remove_hop_by_hop(headers);
    // The router itself says 100 when the instance begins to take the body.
    headers.remove(EXPECT);
    headers.remove(CONTENT_LENGTH);
    set_framing(headers, &body.size_hint(), had_length);
    set(headers, HOST, forwarded.host);
    set(headers, X_REQUEST_ID, forwarded.request_id);
    set(headers, X_VCAP_REQUEST_ID, forwarded.request_id);
    add_forwarded_for(headers, forwarded.peer);
    // A load balancer before the router knows better.
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !headers.contains_key(X_FORWARDED_HOST) {
        set(headers, X_FORWARDED_HOST, forwarded.host);
    }
}

fn set_framing(headers: &mut HeaderMap, size: &SizeHint, had_length: bool) {
    match size.exact() {
        Some(0) if !had_length => {}
        Some(length) => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from(length))),
        // Named, because hyper sends no body of unknown length with a GET otherwise.
        None => {
            drop(headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked")));
        }
    }
}

fn add_forwarded_for(headers: &mut HeaderMap, peer: IpAddr) {
    let mut chain: Vec<String> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok().map(ToOwned::to_owned))
        .collect();
    chain.push(peer.to_canonical().to_string());
    set(headers, X_FORWARDED_FOR, &chain.join(", "));
}

/// Sets a header to a text that came out of a header or is plain ASCII.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
