//! The control plane as a cell sees it: six requests.
//!
//! Retries are the callers' business: each request says whether it failed for want of a
//! connection or was refused in words. [`http`] makes them, [`address`] says where to.

mod address;
mod http;

use std::fmt::Debug;

use async_trait::async_trait;
use domain::bbs::definition::Definition;
use domain::log::{CellEpoch, Position};
use domain::rep::{
    Assignment, HeartbeatAnswer, HeartbeatRequest, ObservationsAnswer, ObservationsRequest,
    RegisterAnswer, RegisterRequest, ReportsAnswer, ReportsRequest,
};
use domain::sealed::{Digest, PlainText};

pub use http::HttpControlPlane;

/// The code of a registration that counts no more.
const EPOCH_PASSED: &str = "CELL_EPOCH_PASSED";

/// Why the control plane did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client cannot be made from its settings.
    #[error("cannot use the control plane's settings: {reason}")]
    Settings {
        /// What is wrong.
        reason: String,
    },
    /// It was not reached, or its answer was cut off: what was asked may have been done.
    #[error("cannot {operation}")]
    Unreachable {
        /// What was asked.
        operation: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answered in words that it will not.
    #[error("cannot {operation}: {message} ({code})")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// A stable name for programs.
        code: String,
        /// In words.
        message: String,
    },
}

impl Error {
    /// Whether the cell's registration was passed by another: it registers again.
    #[must_use]
    pub fn is_epoch_passed(&self) -> bool {
        self.has_code(EPOCH_PASSED)
    }

    /// Whether it was answered in words that it will not do what was asked.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { .. } => true,
            Self::Settings { .. } | Self::Unreachable { .. } => false,
        }
    }

    /// Whether it was refused under this code.
    #[must_use]
    pub fn has_code(&self, wanted: &str) -> bool {
        match self {
            Self::Refused { code, .. } => code == wanted,
            Self::Settings { .. } | Self::Unreachable { .. } => false,
        }
    }
}

/// The control plane as a cell sees it.
#[async_trait]
pub trait ControlPlane: Send + Sync + Debug {
    /// Says what the cell is and offers.
    ///
    /// # Errors
    /// Refused with `CELL_ID_IN_USE` when another live machine has the id.
    async fn register(&self, request: &RegisterRequest) -> Result<RegisterAnswer, Error>;

    /// Says that the cell is alive.
    ///
    /// # Errors
    /// Refused with `CELL_EPOCH_PASSED` when the cell was registered anew since.
    async fn heartbeat(&self, request: &HeartbeatRequest) -> Result<HeartbeatAnswer, Error>;

    /// Waits for a list other than the one at `after`, and gives the one there is after 20 s.
    ///
    /// # Errors
    /// As [`Self::heartbeat`].
    async fn assignment(&self, after: Position, epoch: CellEpoch) -> Result<Assignment, Error>;

    /// A definition with its secrets in clear.
    ///
    /// # Errors
    /// Refused with `NOT_FOUND` when nothing that is placed here has it.
    async fn definition(&self, digest: Digest) -> Result<Definition<PlainText>, Error>;

    /// Hands reports in.
    ///
    /// # Errors
    /// As [`Self::heartbeat`]. After [`Error::Unreachable`] they may have been judged.
    async fn reports(&self, request: &ReportsRequest) -> Result<ReportsAnswer, Error>;

    /// Hands observations in.
    ///
    /// # Errors
    /// As [`Self::reports`].
    async fn observations(
        &self,
        request: &ObservationsRequest,
    ) -> Result<ObservationsAnswer, Error>;
}
