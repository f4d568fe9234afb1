//! What Diego's BBS would have said to a refused command: its error's type and text, for clients that
//! match on them. Ours stands beside it and says more.

use std::fmt;

use crate::rejection::{Rejection, SlotTransition};

/// The type of an error, as Diego's protocol numbers and names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Diego's, and say all there is")]
pub enum ErrorType {
    InvalidRequest = 4,
    InvalidStateTransition = 9,
    ResourceConflict = 11,
    ResourceExists = 12,
    ResourceNotFound = 13,
    ActualLRPCannotBeFailed = 18,
    ActualLRPCannotBeUnclaimed = 21,
    RunningOnDifferentCell = 24,
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An error in Diego's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiegoError {
    /// Its type.
    pub error_type: ErrorType,
    /// Its text.
    pub message: String,
}

const NOT_FOUND: &str = "the requested resource could not be found";
const EXISTS: &str = "the requested resource already exists";
const CONFLICT: &str = "the requested resource is in a conflicting state";
const INVALID: &str = "the request received is invalid";

impl Rejection {
    /// The same in Diego's words.
    #[must_use]
    pub fn diego(&self) -> DiegoError {
        let (error_type, message) = match self {
            Self::TaskTransition { from, to, .. } => {
                let message = format!("Cannot transition from {from} to {to}");
                (ErrorType::InvalidStateTransition, message)
            }
            Self::RunningOnDifferentCell { cell_id, caller, .. } => {
                let message = format!("Running on cell {cell_id} not {caller}");
                (ErrorType::RunningOnDifferentCell, message)
            }
            Self::InvalidRequest { diego_field, .. } => {
                (ErrorType::InvalidRequest, format!("Invalid field: {diego_field}"))
            }
            Self::InvalidTransition { wanted, .. } => {
                let (error_type, text) = of_actual_lrp(*wanted);
                (error_type, text.to_owned())
            }
            Self::TaskNotRejectable { .. } | Self::TooLarge { .. } => {
                (ErrorType::InvalidRequest, INVALID.to_owned())
            }
            Self::AlreadyExists { .. } => (ErrorType::ResourceExists, EXISTS.to_owned()),
            // Of an instance that is not there Diego finds no row.
            Self::NotFound { .. } | Self::PlacementMoved { .. } => {
                (ErrorType::ResourceNotFound, NOT_FOUND.to_owned())
            }
            Self::CellIdInUse { .. }
            | Self::CellEpochPassed { .. }
            | Self::CellLost { .. }
            | Self::CellEvacuating { .. }
            | Self::CellUnhealthy { .. }
            | Self::EvacuationBudget { .. }
            | Self::NoRoom { .. }
            | Self::Moved { .. }
            | Self::LeasePassed { .. }
            | Self::CommandIdReused { .. }
            | Self::SecretsForgotten { .. } => (ErrorType::ResourceConflict, CONFLICT.to_owned()),
        };
        DiegoError { error_type, message }
    }
}

/// By what was asked of an actual LRP. What a cell says too late is not found, as in Diego.
fn of_actual_lrp(wanted: SlotTransition) -> (ErrorType, &'static str) {
    match wanted {
        SlotTransition::Failed => (ErrorType::ActualLRPCannotBeFailed, "cannot fail actual LRP"),
        SlotTransition::Unclaimed => {
            (ErrorType::ActualLRPCannotBeUnclaimed, "cannot unclaim actual LRP")
        }
        // Diego asks these of nobody, or answers them with no error of their own.
        SlotTransition::Placed
        | SlotTransition::Refused
        | SlotTransition::Evacuated
        | SlotTransition::Settled => (ErrorType::ResourceConflict, CONFLICT),
    }
}
