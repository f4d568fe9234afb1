//! What a handler is given: first who speaks, then what was said. Nothing is read of a stranger's
//! request, and no error repeats a request's contents: they may hold secrets.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::JsonRejection},
    http::request::Parts,
};
use domain::{id::CellId, sealed::Digest};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::{Error, Gateway};

/// Which cell speaks, proven by its token, with its place among the requests that are served.
/// Stands before everything that is read of the request.
#[derive(Debug)]
pub(super) struct Authenticated {
    pub(super) cell_id: CellId,
    pub(super) permit: OwnedSemaphorePermit,
}

impl FromRequestParts<Gateway> for Authenticated {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Error> {
        let cell_id = gateway.tokens.authenticate(&parts.headers)?;
        let permit = gateway.requests.clone().try_acquire_owned().map_err(|_full| Error::Busy)?;
        Ok(Self { cell_id, permit })
    }
}

/// A body in JSON.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Gateway> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, Error> {
        match Json::from_request(request, gateway).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(malformed(&rejection)),
        }
    }
}

/// In our own words: the decoder's may repeat what it read.
fn malformed(rejection: &JsonRejection) -> Error {
    let problem = match rejection {
        JsonRejection::MissingJsonContentType(_) => "must have the content type application/json",
        JsonRejection::JsonDataError(_) => "is not what this request takes",
        JsonRejection::JsonSyntaxError(_) => "is not JSON",
        // Also kinds that axum may add.
        JsonRejection::BytesRejection(_) | _ => "cannot be read, or is too large",
    };
    Error::Invalid { field: "the body", problem: problem.to_owned() }
}

/// The query of the address.
#[derive(Debug)]
pub(super) struct InQuery<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Gateway> for InQuery<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Error> {
        let query = Query::from_request_parts(parts, gateway).await;
        let problem = "is not what this request takes".to_owned();
        query
            .map(|Query(query)| Self(query))
            .map_err(|_| Error::Invalid { field: "the query", problem })
    }
}

/// The definition that the address names.
#[derive(Debug)]
pub(super) struct InPath<T>(pub(super) T);

impl FromRequestParts<Gateway> for InPath<Digest> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Error> {
        let path = Path::<String>::from_request_parts(parts, gateway).await;
        let digest = path.ok().and_then(|Path(digest)| Digest::try_from(digest).ok());
        digest.map(Self).ok_or(Error::UnknownDefinition)
    }
}
