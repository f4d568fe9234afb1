//! Reading what was written through another node: a question may say how far this node's view must
//! be, by the header `Diario-At-Least` or the request's extension `atLeast`.
//!
//! Waits a little; then the answer is an error that says how far this node is.

use async_graphql::ServerError;
use axum::http::HeaderMap;
use domain::log::{Cursor, Position};
use serde_json::Value;

use super::{
    error::{invalid_field, of_not_caught_up},
    log::position_of,
    scalars::{CursorText, PositionText},
};
use crate::control_plane::ControlPlane;

/// The header's name.
pub(crate) const HEADER: &str = "diario-at-least";

/// What a client asks for: a position, or a cursor as a mutation's answer holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AtLeast(String);

impl AtLeast {
    /// What a header asks for.
    pub(super) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(HEADER)?;
        // What is no text is refused as any other malformed position.
        Some(Self(value.to_str().unwrap_or("?").to_owned()))
    }

    /// What the extensions of a request ask for.
    pub(super) fn of_extensions(
        extensions: Option<&serde_json::Map<String, Value>>,
    ) -> Option<Self> {
        let value = extensions?.get("atLeast")?;
        Some(Self(value.as_str().unwrap_or("?").to_owned()))
    }

    /// Waits until the view is that far.
    ///
    /// # Errors
    /// `INVALID` when it is no position, `AHEAD_OF_HEAD`, `NOT_CAUGHT_UP`, `CURSOR_OF_ANOTHER_LOG`.
    pub(super) async fn wait(&self, control_plane: &ControlPlane) -> Result<(), ServerError> {
        let waited = async {
            let wanted = self.read(control_plane)?;
            control_plane.catch_up(wanted).await.map_err(|failure| of_not_caught_up(&failure))
        };
        waited.await.map_err(|failure| failure.into_server_error(Default::default()))
    }

    fn read(&self, control_plane: &ControlPlane) -> Result<Position, async_graphql::Error> {
        let text = self.0.as_str();
        if let Some(PositionText(position)) = PositionText::of_text(text) {
            return Ok(position);
        }
        let cursor: Cursor = text
            .parse()
            .map_err(|_| invalid_field("atLeast", "must be a position or a cursor, as a text"))?;
        position_of(CursorText(cursor), control_plane.incarnation)
    }
}
