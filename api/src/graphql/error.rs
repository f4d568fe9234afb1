//! What a client is told when something cannot be answered: words, and a stable
//! `extensions.code`.
//!
//! A client's fault is told whole. Ours is told without its inside, which goes to the node's log,
//! once.

use std::{fmt::Display, ops::RangeInclusive};

use async_graphql::{Error, ErrorExtensionValues, Value, value};
use domain::{
    diego_error::DiegoError,
    id::InvalidId,
    invalid::{Invalid, InvalidField},
};
use projections::{
    event_store::{self, keys},
    history, observations, snapshot,
};
use tracing::error;

use crate::{
    command_bus,
    control_plane::{self, NotCaughtUp},
};

/// The code of a request whose values are not what they must be.
pub(super) const INVALID: &str = "INVALID";

/// What a client is told of a node that ends.
pub(super) const GOING_DOWN: &str =
    "the control plane is going down; try again, or ask another node";

/// An error with a code.
pub(super) fn coded(code: &str, message: impl Into<String>) -> Error {
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", code);
    Error { message: message.into(), source: None, extensions: Some(extensions) }
}

/// One value that is not what it must be.
pub(super) fn invalid_field(field: &str, problem: impl Into<String>) -> Error {
    invalid(&Invalid::one(field, problem))
}

/// A number that must be within bounds.
pub(super) fn within<T>(field: &str, number: i64, bounds: RangeInclusive<T>) -> Result<T, Error>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    match T::try_from(number).ok().filter(|number| bounds.contains(number)) {
        Some(number) => Ok(number),
        None => {
            let (least, most) = bounds.into_inner();
            let problem = format!("must be from {least} to {most}, but is {number}");
            Err(invalid_field(field, problem))
        }
    }
}

/// Values that are not what they must be, each with its field's path as the client named it.
pub(super) fn invalid(faults: &Invalid) -> Error {
    let mut told = coded(INVALID, faults.to_string());
    let fields: Vec<Value> = faults.0.iter().map(field_value).collect();
    if let Some(extensions) = &mut told.extensions {
        extensions.set("fields", Value::List(fields));
    }
    told
}

fn field_value(fault: &InvalidField) -> Value {
    value!({ "field": fault.field.as_str(), "problem": fault.problem.as_str() })
}

/// Reads an id that a client named.
pub(super) fn parse_id<T>(field: &str, text: &str) -> Result<T, Error>
where
    T: std::str::FromStr<Err = InvalidId>,
{
    text.parse().map_err(|problem: InvalidId| invalid_field(field, problem.to_string()))
}

/// Why a wish was not taken.
pub(super) fn of_wish(failure: control_plane::Error) -> Error {
    match failure {
        control_plane::Error::Invalid(faults) => invalid(&faults),
        control_plane::Error::Seal { source: keys::Error::Store(source), .. }
            if is_told(&source) =>
        {
            of_log(&source)
        }
        control_plane::Error::Seal { .. } => internal("cannot seal the secrets", &failure),
        control_plane::Error::Forget { .. } => {
            internal("cannot delete the keys yet; it is tried again", &failure)
        }
        control_plane::Error::Bus(failure) => of_bus(&failure),
    }
}

/// Why a command was refused or not judged.
pub(super) fn of_bus(failure: &command_bus::Error) -> Error {
    let code = match failure {
        command_bus::Error::Rejected(rejection) => rejection.code(),
        command_bus::Error::Busy => "BUSY",
        command_bus::Error::OutcomeUnknown => "OUTCOME_UNKNOWN",
        command_bus::Error::Unavailable { .. } | command_bus::Error::Closed => "UNAVAILABLE",
    };
    let mut told = coded(code, failure.to_string());
    if let (command_bus::Error::Rejected(rejection), Some(extensions)) =
        (failure, &mut told.extensions)
    {
        let DiegoError { error_type, message } = rejection.diego();
        extensions.set("diego", value!({ "type": error_type.to_string(), "message": message }));
    }
    told
}

/// Why a secret or evidence cannot be opened, or keys cannot be changed.
pub(super) fn of_keys(operation: &'static str, failure: &keys::Error) -> Error {
    match failure {
        keys::Error::Forgotten { .. } => coded("FORGOTTEN", failure.to_string()),
        keys::Error::NoSuchLabel { .. } => coded("NOT_FOUND", failure.to_string()),
        keys::Error::Store(source) if is_told(source) => of_log(source),
        keys::Error::MasterKeysGiven
        | keys::Error::MissingLabel { .. }
        | keys::Error::WrongMasterKey { .. } => coded("FAILED_PRECONDITION", failure.to_string()),
        keys::Error::MasterKeyFile(_)
        | keys::Error::WriteMasterKeys { .. }
        | keys::Error::MalformedMasterKeys { .. }
        | keys::Error::MalformedGivenKeys { .. }
        | keys::Error::LabelTaken { .. }
        | keys::Error::ActiveLabel { .. }
        | keys::Error::LabelInUse { .. }
        | keys::Error::TooManyMasterKeys { .. }
        | keys::Error::LostMasterKeys { .. }
        | keys::Error::WriteForgotten { .. }
        | keys::Error::ReadForgotten { .. }
        | keys::Error::MalformedForgotten { .. }
        | keys::Error::Entropy(_)
        | keys::Error::Store(_)
        | keys::Error::UnknownKey(_)
        | keys::Error::CannotOpen
        | keys::Error::CannotSeal
        | keys::Error::NotText
        | keys::Error::BlobTooLarge(_)
        | keys::Error::BlobAltered(_) => internal(operation, failure),
    }
}

/// Why the past cannot be shown.
pub(super) fn of_history(failure: &history::Error) -> Error {
    match failure {
        history::Error::AheadOfHead { .. } => coded("AHEAD_OF_HEAD", failure.to_string()),
        history::Error::Log { source, .. } if is_told(source) => of_log(source),
        history::Error::Snapshots { source: snapshot::Error::Store(source), .. }
            if is_told(source) =>
        {
            of_log(source)
        }
        history::Error::Log { .. } | history::Error::Snapshots { .. } => {
            internal("cannot show the past", failure)
        }
    }
}

/// Whether a client is told of the database what it can do about it.
fn is_told(failure: &event_store::Error) -> bool {
    failure.is_passing()
        || matches!(failure, event_store::Error::Pruned { .. } | event_store::Error::Archive(_))
}

/// Why this node does not show what a client has seen elsewhere.
pub(super) fn of_not_caught_up(failure: &NotCaughtUp) -> Error {
    match failure {
        NotCaughtUp::Behind { seen, .. } => {
            let mut told = coded("NOT_CAUGHT_UP", failure.to_string());
            if let Some(extensions) = &mut told.extensions {
                extensions.set("position", seen.to_string());
            }
            told
        }
        NotCaughtUp::AheadOfHead { .. } => coded("AHEAD_OF_HEAD", failure.to_string()),
        NotCaughtUp::Log(failure) => of_log(failure),
    }
}

/// Why the log cannot be read.
pub(super) fn of_log(failure: &event_store::Error) -> Error {
    match failure {
        event_store::Error::Closed => coded("UNAVAILABLE", GOING_DOWN),
        event_store::Error::AheadOfHead { .. } => coded("AHEAD_OF_HEAD", failure.to_string()),
        event_store::Error::Unavailable { .. }
        | event_store::Error::OutOfConnections { .. }
        | event_store::Error::ReadOnly { .. }
        | event_store::Error::Replaced { .. }
        | event_store::Error::DiskFull { .. }
        | event_store::Error::DiskFailed { .. }
        | event_store::Error::ClockOff { .. }
        | event_store::Error::TurnTakenBack => coded("UNAVAILABLE", failure.to_string()),
        event_store::Error::Pruned { .. } => coded("PRUNED", failure.to_string()),
        // What is broken, and what to do, is for whoever asks: it names objects, never secrets.
        event_store::Error::Archive(problem) if problem.is_damage() => {
            coded("DAMAGED", problem.to_string())
        }
        event_store::Error::Open { .. }
        | event_store::Error::NotADatabase { .. }
        | event_store::Error::NewerDatabase { .. }
        | event_store::Error::OlderDatabase { .. }
        | event_store::Error::HalfRestored { .. }
        | event_store::Error::Damaged { .. }
        | event_store::Error::TailDamaged { .. }
        | event_store::Error::Migrate { .. }
        | event_store::Error::Database { .. }
        | event_store::Error::Unreadable { .. }
        | event_store::Error::Malformed { .. }
        | event_store::Error::Encode { .. }
        | event_store::Error::Archive(_)
        | event_store::Error::Gap(_) => internal("cannot read the log", failure),
    }
}

/// Why log lines and metrics cannot be read.
pub(super) fn of_observations(failure: &observations::Error) -> Error {
    internal("cannot read the observations", failure)
}

/// Our own fault: the inside is for the node's log, not for the client.
pub(super) fn internal(
    operation: &'static str,
    failure: &(dyn std::error::Error + 'static),
) -> Error {
    error!(operation, error = failure, "A query could not be answered.");
    coded("INTERNAL", format!("{operation}; the node's log says why"))
}
