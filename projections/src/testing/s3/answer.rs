//! What the server does with one request.

use std::{io, ops::Range, sync::Arc};

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header,
    http::request::Parts,
};
use sha2::{Digest as _, Sha256};

use super::{BUCKET, Call, Fault, Shared, locked, signature};

/// An object's date: nothing asks how old one is.
const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

type Chunks = StreamBody<stream::Iter<std::vec::IntoIter<io::Result<Frame<Bytes>>>>>;

/// Answers a request; an error ends the connection.
pub(super) async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> io::Result<Response<Chunks>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let key = parts.uri.path().strip_prefix('/').and_then(|it| it.strip_prefix(BUCKET));
    let key = key.and_then(|it| it.strip_prefix('/')).filter(|it| !it.contains('%'));
    let Some(key) = key.map(str::to_owned) else {
        return Ok(refusal(StatusCode::NOT_FOUND, "NoSuchBucket"));
    };
    let call = Call { method: parts.method.clone(), key };
    let fault = shared.fault(&call);
    if let Err(problem) = signature::check(&parts, &body) {
        return Ok(refusal(StatusCode::FORBIDDEN, problem));
    }
    match fault {
        Some(Fault::Busy) => return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        Some(Fault::Denied) => return Ok(refusal(StatusCode::FORBIDDEN, "AccessDenied")),
        Some(Fault::Dropped) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Late(pause)) => tokio::time::sleep(pause).await,
        Some(Fault::AnswerLost | Fault::CutOff | Fault::Old) | None => {}
    }
    let response = act(&parts, &call.key, body, &shared, fault == Some(Fault::Old));
    match fault {
        Some(Fault::AnswerLost) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::CutOff) => Ok(response.map(|whole| body_of(&whole, true))),
        Some(Fault::Busy | Fault::Denied | Fault::Dropped | Fault::Late(_) | Fault::Old) | None => {
            Ok(response.map(|whole| body_of(&whole, false)))
        }
    }
}

fn body_of(whole: &Bytes, is_cut_off: bool) -> Chunks {
    let mut chunks = Vec::new();
    if !whole.is_empty() {
        chunks.push(Ok(Frame::data(whole.clone())));
    }
    if is_cut_off {
        let half = whole.slice(..whole.len() / 2);
        chunks = vec![Ok(Frame::data(half)), Err(io::ErrorKind::ConnectionReset.into())];
    }
    StreamBody::new(stream::iter(chunks))
}

fn refusal(status: StatusCode, code: &str) -> Response<Chunks> {
    refused(status, code).map(|whole| body_of(&whole, false))
}

fn refused(status: StatusCode, code: &str) -> Response<Bytes> {
    let text = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
    with(status, &[(header::CONTENT_LENGTH, text.len().to_string())], text.into())
}

fn with(
    status: StatusCode,
    headers: &[(header::HeaderName, String)],
    body: Bytes,
) -> Response<Bytes> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body).expect("plain headers")
}

fn etag(object: &[u8]) -> String {
    format!("\"{}\"", hex::encode(Sha256::digest(object)))
}

fn act(parts: &Parts, key: &str, body: Bytes, shared: &Shared, shows_old: bool) -> Response<Bytes> {
    if parts.uri.query().is_some() {
        return refused(StatusCode::NOT_IMPLEMENTED, "NotImplemented");
    }
    if parts.method == Method::PUT {
        put(parts, key, body, shared)
    } else if parts.method == Method::GET || parts.method == Method::HEAD {
        let before = locked(&shared.before).get(key).cloned();
        match before.filter(|_| shows_old) {
            Some(before) => get(parts, before),
            None => get(parts, locked(&shared.objects).get(key).cloned()),
        }
    } else if parts.method == Method::DELETE {
        locked(&shared.objects).remove(key);
        with(StatusCode::NO_CONTENT, &[], Bytes::new())
    } else {
        refused(StatusCode::NOT_IMPLEMENTED, "NotImplemented")
    }
}

fn put(parts: &Parts, key: &str, body: Bytes, shared: &Shared) -> Response<Bytes> {
    let mut objects = locked(&shared.objects);
    let there = objects.get(key).map(|object| etag(object));
    let condition = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if condition(header::IF_NONE_MATCH).is_some() && there.is_some() {
        return refused(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    match (condition(header::IF_MATCH), &there) {
        (Some(_), None) => return refused(StatusCode::NOT_FOUND, "NoSuchKey"),
        (Some(wanted), Some(there)) if wanted != there => {
            return refused(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        (Some(_) | None, _) => {}
    }
    let headers = [(header::ETAG, etag(&body)), (header::CONTENT_LENGTH, "0".to_owned())];
    let before = objects.insert(key.to_owned(), body.into());
    locked(&shared.before).insert(key.to_owned(), before);
    with(StatusCode::OK, &headers, Bytes::new())
}

fn get(parts: &Parts, object: Option<Vec<u8>>) -> Response<Bytes> {
    let Some(object) = object else {
        return refused(StatusCode::NOT_FOUND, "NoSuchKey");
    };
    let length = object.len();
    let mut headers = vec![(header::ETAG, etag(&object)), (header::LAST_MODIFIED, DATE.to_owned())];
    let range = parts.headers.get(header::RANGE).map(|value| range(value.to_str().ok(), length));
    let (status, part) = match range {
        None => (StatusCode::OK, 0..length),
        Some(None) => return refused(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
        Some(Some(part)) => {
            let last = part.end.saturating_sub(1);
            let told = format!("bytes {}-{last}/{length}", part.start);
            headers.push((header::CONTENT_RANGE, told));
            (StatusCode::PARTIAL_CONTENT, part)
        }
    };
    let body = Bytes::from(object).slice(part);
    headers.push((header::CONTENT_LENGTH, body.len().to_string()));
    let body = if parts.method == Method::HEAD { Bytes::new() } else { body };
    with(status, &headers, body)
}

/// `bytes=FIRST-LAST`, cut at the object's end.
fn range(text: Option<&str>, length: usize) -> Option<Range<usize>> {
    let (first, last) = text?.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && first < length).then(|| first..length.min(last.saturating_add(1)))
}
