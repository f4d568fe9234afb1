//! What a client is told when its request is refused: Diego's types and texts, in an answer of 200.

use domain::{
    diego_error::DiegoError,
    rejection::{Rejection, SlotTransition},
};

use super::{
    proto::{self, error::Type},
    wire,
};
use crate::{command_bus, control_plane};

/// Why a request is refused, in Diego's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    kind: Type,
    message: String,
}

impl Failure {
    fn new(kind: Type, message: &str) -> Self {
        Self { kind, message: message.to_owned() }
    }

    pub(super) fn not_found() -> Self {
        Self::new(Type::ResourceNotFound, "the requested resource could not be found")
    }

    pub(super) fn cannot_be_claimed() -> Self {
        Self::new(Type::ActualLrpCannotBeClaimed, "cannot claim actual LRP")
    }

    pub(super) fn cannot_be_started() -> Self {
        Self::new(Type::ActualLrpCannotBeStarted, "cannot start actual LRP")
    }

    pub(super) fn cannot_be_crashed() -> Self {
        Self::new(Type::ActualLrpCannotBeCrashed, "cannot crash actual LRP")
    }

    /// Of a body that cannot be read.
    pub(super) fn invalid_request() -> Self {
        Self::new(Type::InvalidRequest, "the request received is invalid")
    }

    /// Of a body that breaks off or is too long.
    pub(super) fn unreadable() -> Self {
        Self::new(Type::UnknownError, "the request failed for an unknown reason")
    }

    /// Of a message that is well formed, with what is wrong in it.
    pub(super) fn invalid(message: String) -> Self {
        Self { kind: Type::InvalidRequest, message }
    }

    /// Ours alone: this node cannot answer now.
    pub(super) fn unavailable(message: String) -> Self {
        Self { kind: Type::UnknownError, message }
    }

    pub(super) fn rejected(rejection: &Rejection) -> Self {
        let DiegoError { error_type, message } = rejection.diego();
        let kind = Type::try_from(error_type as i32).unwrap_or(Type::UnknownError);
        Self { kind, message }
    }

    /// Whether it says that there is no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        self.kind == Type::ResourceNotFound
    }

    fn of_bus(failure: &command_bus::Error) -> Self {
        match failure {
            command_bus::Error::Rejected(rejection) => Self::rejected(rejection),
            command_bus::Error::OutcomeUnknown => {
                Self { kind: Type::Timeout, message: failure.to_string() }
            }
            command_bus::Error::Busy
            | command_bus::Error::Unavailable { .. }
            | command_bus::Error::Closed => Self::unavailable(failure.to_string()),
        }
    }
}

impl From<command_bus::Error> for Failure {
    fn from(failure: command_bus::Error) -> Self {
        Self::of_bus(&failure)
    }
}

impl From<control_plane::Error> for Failure {
    fn from(failure: control_plane::Error) -> Self {
        match failure {
            control_plane::Error::Invalid(invalid) => Self::invalid(invalid.to_string()),
            control_plane::Error::Bus(failure) => Self::of_bus(&failure),
            failure @ (control_plane::Error::Seal { .. } | control_plane::Error::Forget { .. }) => {
                tracing::error!(error = &failure as &dyn std::error::Error, "A wish failed.");
                Self::unavailable(failure.to_string())
            }
        }
    }
}

impl From<wire::Error> for Failure {
    fn from(_: wire::Error) -> Self {
        Self::invalid_request()
    }
}

impl From<Failure> for proto::Error {
    fn from(failure: Failure) -> Self {
        Self { r#type: failure.kind.into(), message: failure.message }
    }
}

/// Whether an evacuation waits for other instances of the process.
pub(super) fn is_over_budget(failure: &command_bus::Error) -> bool {
    matches!(failure, command_bus::Error::Rejected(Rejection::EvacuationBudget { .. }))
}

/// Whether an instance is in no state to be moved.
pub(super) fn is_not_to_be_moved(failure: &command_bus::Error) -> bool {
    matches!(
        failure,
        command_bus::Error::Rejected(
            Rejection::InvalidTransition { wanted: SlotTransition::Evacuated, .. }
                | Rejection::NotFound { .. }
        )
    )
}

/// An answer that can say why there is nothing else in it.
pub(super) trait Answer: prost::Message + Default {
    fn refusal(failure: Failure) -> Self;
}

macro_rules! answers {
    ($($name:ident,)*) => {
        $(impl Answer for proto::$name {
            fn refusal(failure: Failure) -> Self {
                let refused = |mut answer: Self| {
                    answer.error = Some(failure.into());
                    answer
                };
                refused(Self::default())
            }
        })*
    };
}

answers! {
    ActualLrpGroupResponse,
    ActualLrpGroupsResponse,
    ActualLrpLifecycleResponse,
    ActualLrpsByProcessGuidsResponse,
    ActualLrpsResponse,
    CellsResponse,
    DesiredLrpLifecycleResponse,
    DesiredLrpResponse,
    DesiredLrpSchedulingInfoByProcessGuidResponse,
    DesiredLrpSchedulingInfosResponse,
    DesiredLrpsResponse,
    DomainsResponse,
    EvacuationResponse,
    RemoveEvacuatingActualLrpResponse,
    StartTaskResponse,
    TaskLifecycleResponse,
    TaskResponse,
    TasksResponse,
    UpsertDomainResponse,
}

/// It has no room for an error, and is never refused.
impl Answer for proto::PingResponse {
    fn refusal(_: Failure) -> Self {
        Self { available: false }
    }
}
