//! Which cell speaks: every cell has a token of its own, bound to its id.
//!
//! Tokens are kept as digests and compared as such; a token is never logged or repeated.

use std::{collections::BTreeMap, path::Path};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use domain::{id::CellId, sealed::Digest};
use projections::private_file;

const CELL_HEADER: &str = "x-diario-cell";

/// The tokens of the cells that may register.
#[derive(Debug, Clone, Default)]
pub struct CellTokens {
    by_cell: BTreeMap<CellId, Digest>,
}

/// Why a request is not a known cell's.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No cell is named.
    #[error("header X-Diario-Cell must name the cell")]
    NoCell,
    /// The token is absent, or another cell's.
    #[error("header Authorization must be `Bearer <token>` with the token of cell {cell_id}")]
    WrongToken {
        /// Which cell the request names.
        cell_id: CellId,
    },
}

/// Why the file of cell tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read, or others can.
    #[error(transparent)]
    Read(#[from] private_file::Error),
    /// It holds something else.
    #[error("it must hold {{\"cell id\": \"token\", ...}}, each token at least 16 characters long")]
    Malformed,
}

/// The shortest token.
const TOKEN_BYTES_MIN: usize = 16;

impl CellTokens {
    /// Reads a JSON file of tokens by cell id, which only its owner may read.
    ///
    /// # Errors
    /// When it cannot be read, others can read it, or it is malformed.
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        let text = private_file::read(path)?;
        // The decoder's own words might repeat a token.
        let tokens: BTreeMap<CellId, String> =
            serde_json::from_str(&text).map_err(|_| TokenFileError::Malformed)?;
        if tokens.values().any(|token| token.len() < TOKEN_BYTES_MIN) {
            return Err(TokenFileError::Malformed);
        }
        let tokens = tokens.into_iter();
        Ok(tokens.fold(Self::default(), |known, (cell_id, token)| known.with(cell_id, &token)))
    }

    /// Lets a cell in under a token.
    #[must_use]
    pub fn with(mut self, cell_id: CellId, token: &str) -> Self {
        self.by_cell.insert(cell_id, Digest::of(token.as_bytes()));
        self
    }

    /// The cell that a request proves to be.
    ///
    /// # Errors
    /// When it names none, or its token is not that cell's.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<CellId, TokenError> {
        let named = headers.get(CELL_HEADER).and_then(|value| value.to_str().ok());
        let cell_id: CellId = named.and_then(|text| text.parse().ok()).ok_or(TokenError::NoCell)?;
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let given = bearer.map(|token| Digest::of(token.as_bytes()));
        // Digests are compared, so that the time taken tells nothing about the token.
        let known = self.by_cell.get(&cell_id).copied();
        if known.is_some() && given == known {
            return Ok(cell_id);
        }
        Err(TokenError::WrongToken { cell_id })
    }
}
