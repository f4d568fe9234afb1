//! Ours from theirs, and theirs from ours: definitions, in every generation of the protocol.
//!
//! Reading says what is wrong in Diego's words; what only our domain refuses is said in ours.
//! Nothing is left out: what our domain has no room for is refused, and never forgotten.

pub(super) mod action;
pub(super) mod check;
pub(super) mod desired_lrp;
pub(super) mod layers;
pub(super) mod parts;
pub(super) mod routes;
pub(super) mod task;

use std::convert::Infallible;

use domain::{
    bbs::definition::Definition,
    log::Owner,
    sealed::{PlainText, Sealed},
};

use crate::control_plane::ControlPlane;

/// How much of the protocol a client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    /// All.
    Newest,
    /// Nothing of image layers: they are told as cached dependencies and downloads.
    WithoutLayers,
    /// Nor of cached dependencies, nor of timeouts in milliseconds.
    Oldest,
}

/// A definition with its secrets in clear; with empty ones where they cannot be opened.
async fn open(
    control_plane: &ControlPlane,
    owner: &Owner,
    definition: &Definition,
) -> Definition<PlainText> {
    match control_plane.open_definition(owner, definition).await {
        Ok(opened) => opened,
        Err(failure) => {
            tracing::debug!(%owner, %failure, "Secrets are shown empty.");
            let empty = &mut |_: &Sealed| Ok::<_, Infallible>(PlainText(String::new()));
            let Ok(emptied) = definition.try_map(empty);
            emptied
        }
    }
}

/// One secret in clear; none where it cannot be opened.
async fn open_one(
    control_plane: &ControlPlane,
    owner: &Owner,
    secret: Option<&Sealed>,
) -> Option<PlainText> {
    match control_plane.keyring.open_sealed(owner, secret?).await {
        Ok(opened) => Some(opened),
        Err(failure) => {
            tracing::debug!(%owner, %failure, "A secret is not shown.");
            None
        }
    }
}
