//! The messages and close codes of graphql-transport-ws.

use async_graphql::Response;
use axum::extract::ws::{CloseFrame, close_code};
use domain::log::Cursor;
use serde::{Deserialize, Serialize};

use crate::graphql::handler::Wire;

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ClientMessage {
    /// The first message, perhaps with a token.
    ConnectionInit {
        /// Anything.
        #[serde(default)]
        payload: Option<serde_json::Value>,
    },
    /// Asks for a pong.
    Ping {},
    /// Answers a ping.
    Pong {},
    /// Opens an operation.
    Subscribe {
        /// The client's id for it.
        id: String,
        /// What is asked.
        payload: Wire,
    },
    /// Ends an operation.
    Complete {
        /// Which.
        id: String,
    },
}

/// What the server says.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ServerMessage<'m> {
    /// The client is let in.
    ConnectionAck,
    /// Answers a ping.
    Pong,
    /// An answer of an operation.
    Next {
        /// Which.
        id: &'m str,
        /// The answer.
        payload: &'m Response,
    },
    /// An operation ended because of errors.
    Error {
        /// Which.
        id: &'m str,
        /// The errors.
        payload: serde_json::Value,
    },
    /// An operation ended by itself.
    Complete {
        /// Which.
        id: &'m str,
    },
}

/// Why a socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// The other side is no longer there: nothing is said.
    Gone,
    /// A message was not of the protocol.
    Malformed,
    /// An operation came before `connection_init`.
    Unauthorized,
    /// `connection_init` held no known token.
    Forbidden,
    /// `connection_init` did not come in time.
    InitTimeout,
    /// `connection_init` came twice.
    InitTwice,
    /// The id of an open operation was used again.
    IdInUse,
    /// The reader took nothing for too long.
    TooSlow {
        /// Up to where it has read the log, when it reads it.
        last: Option<Cursor>,
    },
}

impl Close {
    /// The close frame; its reason has at most 123 bytes.
    pub(super) fn frame(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Gone => return None,
            Self::Malformed => (4400, "Invalid message received".to_owned()),
            Self::Unauthorized => (4401, "Unauthorized".to_owned()),
            Self::Forbidden => (4403, "Forbidden".to_owned()),
            Self::InitTimeout => (4408, "Connection initialisation timeout".to_owned()),
            Self::InitTwice => (4429, "Too many initialisation requests".to_owned()),
            Self::IdInUse => (4409, "Subscriber for this id already exists".to_owned()),
            Self::TooSlow { last: Some(cursor) } => {
                (close_code::AGAIN, format!("TOO_SLOW: go on after cursor {cursor}"))
            }
            Self::TooSlow { last: None } => (close_code::AGAIN, "TOO_SLOW".to_owned()),
        };
        Some(CloseFrame { code, reason: reason.into() })
    }
}
