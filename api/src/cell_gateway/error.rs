//! What a cell is answered when its request cannot be taken: a status, a code, words.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{rejection::Rejection, rep::PROTOCOL_VERSION, sealed::Digest};
use projections::event_store::keys;
use serde_json::json;
use tracing::error;

use super::TokenError;
use crate::{command_bus, control_plane::NotCaughtUp};

/// Why a cell's request was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(
        "this control plane speaks cell protocol {PROTOCOL_VERSION}, the cell {found}; they may be one apart: upgrade the older one first"
    )]
    ProtocolVersion { found: u32 },
    #[error("this cell is assigned no such definition")]
    UnknownDefinition,
    #[error("cannot open the secrets of definition {digest}: {source}")]
    OpenDefinition { digest: Digest, source: keys::Error },
    #[error("cannot keep the evidence of an ended container")]
    Evidence(#[source] keys::Error),
    #[error("cannot write the evidence of an ended container as JSON")]
    EncodeEvidence(#[source] serde_json::Error),
    #[error("too many cells' requests are under way; try again in a second")]
    Busy,
    #[error("cannot keep observations: {reason}")]
    Observations { reason: String },
    #[error("{field} {problem}")]
    Invalid { field: &'static str, problem: String },
    #[error(transparent)]
    Bus(#[from] command_bus::Error),
    #[error(transparent)]
    NotCaughtUp(#[from] NotCaughtUp),
    #[error("the view stopped following the log")]
    ViewStopped,
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::Bus(rejection.into())
    }
}

impl Error {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Token(_) => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
            Self::ProtocolVersion { .. } => (StatusCode::CONFLICT, "PROTOCOL_VERSION"),
            Self::OpenDefinition { source: keys::Error::Forgotten { .. }, .. } => {
                (StatusCode::GONE, "FORGOTTEN")
            }
            Self::UnknownDefinition => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            Self::Invalid { .. } => (StatusCode::BAD_REQUEST, "INVALID"),
            Self::OpenDefinition { .. }
            | Self::Evidence(_)
            | Self::EncodeEvidence(_)
            | Self::Observations { .. }
            | Self::ViewStopped => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
            Self::Bus(command_bus::Error::Rejected(rejection)) => {
                (StatusCode::CONFLICT, rejection.code())
            }
            Self::NotCaughtUp(_) => (StatusCode::SERVICE_UNAVAILABLE, "NOT_CAUGHT_UP"),
            Self::Busy
            | Self::Bus(
                command_bus::Error::Busy
                | command_bus::Error::Unavailable { .. }
                | command_bus::Error::OutcomeUnknown
                | command_bus::Error::Closed,
            ) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            error!(error = &self as &dyn std::error::Error, "A cell's request failed.");
        }
        (status, Json(json!({ "code": code, "message": self.to_string() }))).into_response()
    }
}
