//! The edge of the cells: registration, heartbeats, assignments, definitions, reports,
//! observations. The wire is `domain::rep`.
//!
//! A cell speaks only for itself: its token is bound to its id. Nothing is decided here; a report
//! becomes a command like any other.

mod assignments;
mod error;
mod observations;
mod reports;
mod tokens;

use std::sync::{Arc, PoisonError};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::HeaderMap,
    routing::{get, post},
};
use domain::{
    bbs::{cell, definition::Definition},
    command::Command,
    id::CellId,
    log::{Actor, ActorKind, CellEpoch, Owner, Position},
    rejection::Rejection,
    rep::{
        Assignment, HeartbeatAnswer, HeartbeatRequest, ObservationsAnswer, ObservationsRequest,
        PROTOCOL_VERSION, RegisterAnswer, RegisterRequest, ReportsAnswer, ReportsRequest,
    },
    sealed::{Digest, PlainText},
};
use serde::Deserialize;

use crate::{
    control_plane::{ControlPlane, Wish},
    presence_watch::{self, HEARTBEAT_INTERVAL},
};

use error::Error;
pub use tokens::{CellTokens, TokenError, TokenFileError};

/// The largest body of a cell's request.
const BODY_BYTES_MAX: usize = 8 << 20;

/// What the handlers share.
#[derive(Debug, Clone)]
struct Gateway {
    control_plane: ControlPlane,
    tokens: Arc<CellTokens>,
}

/// The routes below `/cell/v1`.
pub fn router(control_plane: ControlPlane, tokens: Arc<CellTokens>) -> Router {
    Router::new()
        .route("/cell/v1/register", post(register))
        .route("/cell/v1/heartbeat", post(heartbeat))
        .route("/cell/v1/assignment", get(assignment))
        .route("/cell/v1/definitions/{digest}", get(definition))
        .route("/cell/v1/reports", post(report))
        .route("/cell/v1/observations", post(observe))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Gateway { control_plane, tokens })
}

impl Gateway {
    /// Which cell speaks, proven by its token.
    fn authenticate(&self, headers: &HeaderMap) -> Result<CellId, Error> {
        self.tokens.authenticate(headers).map_err(Error::from)
    }

    fn actor(cell_id: &CellId) -> Actor {
        Actor { kind: ActorKind::Cell, name: cell_id.to_string(), via: "gateway".to_owned() }
    }

    async fn submit(&self, cell_id: &CellId, command: cell::Command) -> Result<Position, Error> {
        let wish =
            Wish { actor: Self::actor(cell_id), command_id: None, command: Command::Cell(command) };
        Ok(self.control_plane.submit(wish).await?.position)
    }

    /// Notes that a cell was heard; a lost one has returned. Refuses an epoch that has passed.
    async fn hear(&self, cell_id: &CellId, cell_epoch: CellEpoch) -> Result<(), Error> {
        let known = self.control_plane.now.read(|world| {
            let cell = world.aggregates().cell(cell_id)?;
            Some((cell.cell_epoch, cell.is_present()))
        });
        let passed = || Rejection::CellEpochPassed { cell_id: cell_id.clone() };
        let (known_epoch, is_present) = known.ok_or_else(passed)?;
        if known_epoch != cell_epoch {
            return Err(passed().into());
        }
        self.note_presence(cell_id);
        if !is_present {
            let cell_id = cell_id.clone();
            self.submit(&cell_id.clone(), cell::Command::Return { cell_id, cell_epoch }).await?;
        }
        Ok(())
    }

    fn note_presence(&self, cell_id: &CellId) {
        let now = self.control_plane.clock.now();
        let mut presence =
            self.control_plane.presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence.heard(cell_id, now);
    }

    fn head(&self) -> Position {
        self.control_plane.now.read(projections::world::World::position)
    }
}

async fn register(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Json(request): Json<RegisterRequest>,
) -> Result<Json<RegisterAnswer>, Error> {
    let cell_id = gateway.authenticate(&headers)?;
    if request.protocol_version != PROTOCOL_VERSION {
        return Err(Error::ProtocolVersion { found: request.protocol_version });
    }
    let registration = Box::new(request.registration);
    let is_voice = gateway
        .control_plane
        .now
        .read(|world| presence_watch::is_voice_of(world, &cell_id, &registration));
    if is_voice {
        // Heard first: a cell that returns must not be lost again while it registers.
        gateway.note_presence(&cell_id);
    }
    let command = cell::Command::Register { cell_id: cell_id.clone(), registration };
    gateway.submit(&cell_id, command).await?;
    let known = gateway.control_plane.now.read(|world| {
        world.aggregates().cell(&cell_id).map(|cell| (cell.cell_epoch, cell.reports_seen))
    });
    let (cell_epoch, reports_seen) =
        known.ok_or_else(|| Rejection::CellEpochPassed { cell_id: cell_id.clone() })?;
    Ok(Json(RegisterAnswer {
        cell_epoch,
        reports_seen,
        heartbeat_interval_ms: HEARTBEAT_INTERVAL,
        head: gateway.head(),
    }))
}

async fn heartbeat(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Json(request): Json<HeartbeatRequest>,
) -> Result<Json<HeartbeatAnswer>, Error> {
    let cell_id = gateway.authenticate(&headers)?;
    gateway.hear(&cell_id, request.cell_epoch).await?;
    Ok(Json(HeartbeatAnswer { head: gateway.head(), now: gateway.control_plane.clock.now() }))
}

#[derive(Debug, Deserialize)]
struct AssignmentQuery {
    after: u64,
    epoch: u64,
}

async fn assignment(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Query(query): Query<AssignmentQuery>,
) -> Result<Json<Assignment>, Error> {
    let cell_id = gateway.authenticate(&headers)?;
    gateway.hear(&cell_id, CellEpoch(query.epoch)).await?;
    let after = Position(query.after);
    assignments::wait(&gateway.control_plane.now, &cell_id, after).await.map(Json)
}

async fn definition(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Path(digest): Path<String>,
) -> Result<Json<Definition<PlainText>>, Error> {
    let cell_id = gateway.authenticate(&headers)?;
    let digest = Digest::try_from(digest).map_err(|_| Error::UnknownDefinition)?;
    let found = gateway
        .control_plane
        .now
        .read(|world| assignments::definition(world, &cell_id, digest))
        .ok_or(Error::UnknownDefinition)?;
    let (owner, definition): (Owner, Arc<Definition>) = found;
    let opened = gateway.control_plane.open_definition(&owner, &definition).await;
    opened.map(Json).map_err(|source| Error::OpenDefinition { digest, source })
}

async fn report(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Json(request): Json<ReportsRequest>,
) -> Result<Json<ReportsAnswer>, Error> {
    let cell_id = gateway.authenticate(&headers)?;
    gateway.hear(&cell_id, request.cell_epoch).await?;
    reports::take(&gateway.control_plane, &cell_id, request).await.map(Json)
}

async fn observe(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Json(request): Json<ObservationsRequest>,
) -> Result<Json<ObservationsAnswer>, Error> {
    let cell_id = gateway.authenticate(&headers)?;
    gateway.hear(&cell_id, request.cell_epoch).await?;
    observations::take(&gateway.control_plane, &cell_id, request).await.map(Json)
}
