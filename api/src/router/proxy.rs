//! One request: find its endpoints, offer it to one after the other, pass the answer on.
//!
//! A request is offered again only if no instance can have acted on it: it was never sent, or it
//! is idempotent and has no body. Never gathers a body and never looks into one.

use std::{net::IpAddr, sync::Arc};

use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::TrySendError,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    http::request,
};
use projections::route_table::Endpoint;
use tracing::{debug, warn};

use super::{
    Settings,
    access_log::{AccessLog, Arrived, OpenRecord},
    body::{Meter, RequestBody, ResponseBody, Streaming},
    endpoint_connections::{EndpointConnections, Lease},
    error::Error,
    headers::{self, Forwarded},
    registry::{EndpointKey, Pool, Registry},
};
use crate::clock;

/// How many endpoints a request is offered to at most.
const ATTEMPTS_MAX: usize = 3;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Proxy {
    registry: Registry,
    access: AccessLog,
    settings: Settings,
    connections: Arc<EndpointConnections>,
}

/// A request on its way out, with what it takes to offer it again.
struct Outgoing {
    head: request::Parts,
    // Empty as soon as it was given away for good.
    body: RequestBody,
    meter: Arc<Meter>,
    is_repeatable: bool,
}

/// An instance's answer and the connection that it comes over.
struct Answer {
    response: Response<Incoming>,
    lease: Lease,
}

/// Why one offer was not answered.
enum Refusal {
    /// Nobody can have acted on it: another endpoint may be asked.
    Again,
    /// It must not be offered again.
    Final(Error),
}

impl Proxy {
    pub(super) fn new(registry: Registry, access: AccessLog, settings: Settings) -> Self {
        let connections = Arc::new(EndpointConnections::new(settings.dial_max));
        Self { registry, access, settings, connections }
    }

    /// Closes connections that were not used for long.
    pub(super) fn sweep(&self) {
        self.connections.sweep();
    }

    /// Answers one request: as an instance does, or with the reason why none could.
    pub(super) async fn handle(
        &self,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let request_id = headers::request_id(request.headers(), clock::new_uuid);
        let meter = Arc::new(Meter::new());
        let mut record = self.open_record(&request, &request_id, &meter);
        let mut response = match self.route(peer, request, &request_id, meter, &mut record).await {
            Ok(answer) => self.pass_on(answer, record),
            Err(error) => refuse(error, record),
        };
        headers::set(response.headers_mut(), headers::X_VCAP_REQUEST_ID, &request_id);
        response
    }

    /// Answers one request for which there is no room.
    pub(super) fn turn_away(&self, request: &Request<Incoming>) -> Response<ResponseBody> {
        let request_id = headers::request_id(request.headers(), clock::new_uuid);
        let record = self.open_record(request, &request_id, &Arc::new(Meter::new()));
        refuse(Error::TooManyConnections, record)
    }

    fn open_record(
        &self,
        request: &Request<Incoming>,
        request_id: &str,
        meter: &Arc<Meter>,
    ) -> OpenRecord {
        let host = headers::host_text(request.uri(), request.headers()).unwrap_or_default();
        let hostname = headers::hostname(host);
        self.access.open(Arrived {
            method: request.method().as_str(),
            host: hostname.as_ref().map_or(host, |hostname| hostname.as_str()),
            path: request.uri().path(),
            request_id: request_id.to_owned(),
            meter: Arc::clone(meter),
        })
    }

    async fn route(
        &self,
        peer: IpAddr,
        request: Request<Incoming>,
        request_id: &str,
        meter: Arc<Meter>,
        record: &mut OpenRecord,
    ) -> Result<Answer, Error> {
        let host = headers::host_text(request.uri(), request.headers()).ok_or(Error::BadHost)?;
        let host = host.to_owned();
        let hostname = headers::hostname(&host)?;
        if headers::wants_upgrade(request.method(), request.headers()) {
            return Err(Error::UpgradeNotSupported);
        }
        let pool = self.registry.pool(&hostname).ok_or(Error::UnknownRoute)?;
        if pool.is_empty() {
            return Err(Error::NoEndpoints);
        }
        let (mut head, incoming) = request.into_parts();
        headers::prepare_request(
            &mut head,
            &incoming,
            &Forwarded { peer, host: &host, request_id },
        );
        let body = RequestBody::new(incoming, Arc::clone(&meter));
        let is_repeatable = head.method.is_idempotent() && matches!(body, RequestBody::Empty);
        self.offer(&pool, Outgoing { head, body, meter, is_repeatable }, record).await
    }

    /// Offers a request to one endpoint after the other.
    async fn offer(
        &self,
        pool: &Pool,
        mut outgoing: Outgoing,
        record: &mut OpenRecord,
    ) -> Result<Answer, Error> {
        let mut tried = Vec::new();
        while tried.len() < ATTEMPTS_MAX
            && let Some(endpoint) = self.registry.pick(pool, &tried)
        {
            record.offer(endpoint.clone());
            match self.ask(&endpoint, &mut outgoing).await {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Final(error)) => return Err(error),
                Err(Refusal::Again) => tried.push(EndpointKey::from(&endpoint)),
            }
        }
        Err(Error::EndpointFailure)
    }

    /// Asks one endpoint: over a kept connection, and if that is stale over a new one.
    async fn ask(&self, endpoint: &Endpoint, outgoing: &mut Outgoing) -> Result<Answer, Refusal> {
        let key = EndpointKey::from(endpoint);
        if let Some(lease) = self.connections.take_idle(endpoint) {
            match self.send(lease, outgoing).await {
                Err(Refusal::Again) => self.connections.forget(&key),
                Err(Refusal::Final(Error::EndpointFailure)) => {
                    // It took the request and broke off: the next one is not to find out again.
                    self.connections.forget(&key);
                    self.registry.put_aside(key);
                    return Err(Refusal::Final(Error::EndpointFailure));
                }
                answered => return answered,
            }
        }
        let lease = match self.connections.dial(endpoint).await {
            Ok(lease) => lease,
            Err(failure) => {
                warn!(
                    address = %endpoint.address, instance = %endpoint.key,
                    instance_guid = %endpoint.instance_guid,
                    error = &failure as &dyn std::error::Error,
                    "Put an endpoint aside that cannot be dialled."
                );
                self.registry.put_aside(key);
                return Err(Refusal::Again);
            }
        };
        let answered = self.send(lease, outgoing).await;
        match &answered {
            Ok(_) => self.registry.take_back(&key),
            Err(Refusal::Again | Refusal::Final(Error::EndpointFailure)) => {
                warn!(
                    address = %endpoint.address, instance = %endpoint.key,
                    instance_guid = %endpoint.instance_guid,
                    "Put an endpoint aside that broke off before it answered."
                );
                self.registry.put_aside(key);
            }
            Err(Refusal::Final(_)) => {}
        }
        answered
    }

    async fn send(&self, mut lease: Lease, outgoing: &mut Outgoing) -> Result<Answer, Refusal> {
        let body = std::mem::replace(&mut outgoing.body, RequestBody::Empty);
        let request = Request::from_parts(outgoing.head.clone(), body);
        let meter = Arc::clone(&outgoing.meter);
        let answer = lease.sender.try_send_request(request);
        match meter.answer(self.settings.response_silence_max, answer).await {
            None => Err(Refusal::Final(Error::EndpointTimeout)),
            Some(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                // Nothing was asked for that it could switch to.
                Err(Refusal::Final(Error::EndpointFailure))
            }
            Some(Ok(response)) => Ok(Answer { response, lease }),
            Some(Err(failure)) => Err(judge(failure, outgoing)),
        }
    }

    fn pass_on(&self, answer: Answer, mut record: OpenRecord) -> Response<ResponseBody> {
        let Answer { response, lease } = answer;
        let (mut head, incoming) = response.into_parts();
        headers::remove_hop_by_hop(&mut head.headers);
        head.headers.remove(headers::X_DIARIO_ERROR);
        head.version = hyper::Version::HTTP_11;
        record.answer(head.status.as_u16());
        let silence_max = self.settings.response_silence_max;
        let body = Streaming::new(incoming, lease, record, silence_max);
        Response::from_parts(head, ResponseBody::Streaming(Box::new(body)))
    }
}

/// Whether a request that was not answered may be offered again.
fn judge(mut failure: TrySendError<Request<RequestBody>>, outgoing: &mut Outgoing) -> Refusal {
    if let Some(unsent) = failure.take_message() {
        outgoing.body = unsent.into_body();
        return Refusal::Again;
    }
    let failure = failure.into_error();
    debug!(error = &failure as &dyn std::error::Error, "A request was not answered.");
    if outgoing.meter.has_failed() {
        return Refusal::Final(Error::ClientGone);
    }
    // Something that cannot be parsed was an answer: the request has been acted on.
    if outgoing.is_repeatable && !failure.is_parse() {
        Refusal::Again
    } else {
        Refusal::Final(Error::EndpointFailure)
    }
}

/// The router's own answer.
fn refuse(error: Error, mut record: OpenRecord) -> Response<ResponseBody> {
    let text = format!("{} {error}\n", error.status());
    record.answer(error.status().as_u16());
    record.count_out(text.len());
    record.end(Some(error));
    let mut response = Response::new(ResponseBody::Text(Full::new(Bytes::from(text))));
    *response.status_mut() = error.status();
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(headers::X_DIARIO_ERROR, HeaderValue::from_static(error.reason()));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // A route may be there a moment later.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    response
}
