//! The edge of the cells: registration, heartbeats, assignments, definitions, reports,
//! observations. The wire is `domain::rep`.
//!
//! A cell speaks only for itself: its token is bound to its id. Nothing is decided here; a report
//! becomes a command like any other.

mod assignments;
mod error;
mod extract;
mod observations;
mod recent;
mod reports;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::{get, post},
};
use domain::{
    bbs::{cell, definition::Definition},
    command::Command,
    id::CellId,
    log::{Actor, ActorKind, CellEpoch, Incarnation, Owner, Position},
    rejection::Rejection,
    rep::{
        Assignment, Health, HeartbeatAnswer, HeartbeatRequest, ObservationsAnswer,
        ObservationsRequest, PROTOCOL_VERSION, RegisterAnswer, RegisterRequest, ReportsAnswer,
        ReportsRequest, understands,
    },
    sealed::{Digest, PlainText},
};
use projections::world::World;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::{
    control_plane::{ControlPlane, NotCaughtUp, Wish},
    presence_watch::{self, HEARTBEAT_INTERVAL},
};

use error::Error;
use extract::{Authenticated, Body, InPath, InQuery};
use recent::Recent;
pub use tokens::{CellTokens, TokenError, TokenFileError};

/// The largest body of a cell's request.
const BODY_BYTES_MAX: usize = 8 << 20;

/// How many requests are served at once; further ones are told to come again.
const REQUESTS_MAX: usize = 256;

/// How many assignments are held back at once: one for each cell, and some that are being given up.
const HELD_MAX: usize = 4096;

/// What the handlers share.
#[derive(Debug, Clone)]
struct Gateway {
    control_plane: ControlPlane,
    tokens: Arc<CellTokens>,
    recent: Arc<Mutex<Recent>>,
    requests: Arc<Semaphore>,
    held: Arc<Semaphore>,
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
        .with_state(Gateway::new(control_plane, tokens))
}

impl Gateway {
    fn new(control_plane: ControlPlane, tokens: Arc<CellTokens>) -> Self {
        Self {
            control_plane,
            tokens,
            recent: Arc::default(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            held: Arc::new(Semaphore::new(HELD_MAX)),
        }
    }

    fn actor(cell_id: &CellId) -> Actor {
        Actor { kind: ActorKind::Cell, name: cell_id.as_str().into(), via: "gateway".into() }
    }

    async fn submit(&self, cell_id: &CellId, command: cell::Command) -> Result<Position, Error> {
        let wish =
            Wish { actor: Self::actor(cell_id), command_id: None, command: Command::Cell(command) };
        Ok(self.control_plane.submit(wish).await?.position)
    }

    /// Notes that a cell was heard; a lost one has returned. Refuses an epoch that has passed.
    async fn hear(&self, cell_id: &CellId, cell_epoch: CellEpoch) -> Result<(), Error> {
        let known = |world: &World| {
            let cell = world.aggregates().cell(cell_id)?;
            Some((cell.cell_epoch, cell.is_present())).filter(|known| known.0 == cell_epoch)
        };
        // This node may not have seen yet what the cell did at another.
        let known = self.once_caught_up(known).await?;
        let passed = || Rejection::CellEpochPassed { cell_id: cell_id.clone() };
        let (_, is_present) = known.ok_or_else(passed)?;
        self.note_presence(cell_id);
        if !is_present {
            let cell_id = cell_id.clone();
            self.submit(&cell_id.clone(), cell::Command::Return { cell_id, cell_epoch }).await?;
        }
        Ok(())
    }

    /// A cell's health is an event where it is another than before.
    async fn note_health(
        &self,
        cell_id: &CellId,
        cell_epoch: CellEpoch,
        health: Health,
    ) -> Result<(), Error> {
        let Health { failure } = health;
        let is_known = self.control_plane.now.read(|world| {
            let cell = world.aggregates().cell(cell_id);
            cell.is_some_and(|cell| cell.failure.as_deref() == failure.as_deref())
        });
        if !is_known {
            let cell_id = cell_id.clone();
            let command =
                cell::Command::NoteHealth { cell_id: cell_id.clone(), cell_epoch, failure };
            self.submit(&cell_id, command).await?;
        }
        Ok(())
    }

    /// Looks into the view; what is not there is looked for again once all that is committed now is
    /// in it.
    async fn once_caught_up<T>(
        &self,
        look: impl Fn(&World) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let found = self.control_plane.now.read(&look);
        if found.is_some() {
            return Ok(found);
        }
        self.control_plane.catch_up_to_head().await?;
        Ok(self.control_plane.now.read(&look))
    }

    /// Waits until the view shows what a cell was told at another node. A position that this log
    /// does not have is of another life of it, and not waited for.
    async fn see(&self, position: Position) -> Result<(), Error> {
        match self.control_plane.catch_up(position).await {
            Ok(()) | Err(NotCaughtUp::AheadOfHead { .. }) => Ok(()),
            Err(failure @ (NotCaughtUp::Behind { .. } | NotCaughtUp::Log(_))) => {
                Err(failure.into())
            }
        }
    }

    fn note_presence(&self, cell_id: &CellId) {
        let clock = &self.control_plane.clock;
        let (monotonic, wall) = (clock.monotonic(), clock.now());
        let mut presence =
            self.control_plane.presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence.heard(cell_id, monotonic, wall);
    }

    fn head(&self) -> Position {
        self.control_plane.now.read(World::position)
    }
}

async fn register(
    Authenticated { cell_id, permit: _permit }: Authenticated,
    State(gateway): State<Gateway>,
    Body(request): Body<RegisterRequest>,
) -> Result<Json<RegisterAnswer>, Error> {
    if !understands(request.protocol_version) {
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
    let command =
        cell::Command::Register { cell_id: cell_id.clone(), registration: registration.clone() };
    gateway.submit(&cell_id, command).await?;
    // Another machine may have registered since: it must not share that one's session.
    let session = gateway
        .control_plane
        .now
        .read(|world| presence_watch::session_of(world, &cell_id, &registration));
    let (cell_epoch, reports_seen) =
        session.ok_or_else(|| Rejection::CellEpochPassed { cell_id: cell_id.clone() })?;
    Ok(Json(RegisterAnswer {
        cell_epoch,
        reports_seen,
        heartbeat_interval_ms: HEARTBEAT_INTERVAL,
        head: gateway.head(),
        protocol_version: PROTOCOL_VERSION,
    }))
}

async fn heartbeat(
    Authenticated { cell_id, permit: _permit }: Authenticated,
    State(gateway): State<Gateway>,
    Body(request): Body<HeartbeatRequest>,
) -> Result<Json<HeartbeatAnswer>, Error> {
    gateway.hear(&cell_id, request.cell_epoch).await?;
    if let Some(health) = request.health {
        gateway.note_health(&cell_id, request.cell_epoch, health).await?;
    }
    Ok(Json(HeartbeatAnswer { head: gateway.head(), now: gateway.control_plane.clock.now() }))
}

#[derive(Debug, Deserialize)]
struct AssignmentQuery {
    after: u64,
    epoch: u64,
    /// The newest position that the cell was told by any node.
    #[serde(default)]
    seen: u64,
}

/// A list, and of which life of the log its position is.
#[derive(Debug, Serialize)]
struct Assigned {
    #[serde(flatten)]
    assignment: Assignment,
    incarnation: Incarnation,
}

async fn assignment(
    Authenticated { cell_id, permit }: Authenticated,
    State(gateway): State<Gateway>,
    InQuery(query): InQuery<AssignmentQuery>,
) -> Result<Json<Assigned>, Error> {
    gateway.hear(&cell_id, CellEpoch(query.epoch)).await?;
    // Held back, it is no load: it must not keep other requests out.
    drop(permit);
    let _held = gateway.held.try_acquire().map_err(|_| Error::Busy)?;
    let after = Position(query.after);
    // An older list than the cell has would only be ignored.
    gateway.see(after.max(Position(query.seen))).await?;
    let assignment = assignments::wait(&gateway.control_plane.now, &cell_id, after).await?;
    recent::lock(&gateway.recent)
        .note(&cell_id, assignment.work.iter().map(|work| &work.reference));
    Ok(Json(Assigned { assignment, incarnation: gateway.control_plane.incarnation }))
}

async fn definition(
    Authenticated { cell_id, permit: _permit }: Authenticated,
    State(gateway): State<Gateway>,
    InPath(digest): InPath<Digest>,
) -> Result<Json<Definition<PlainText>>, Error> {
    let found = gateway
        .once_caught_up(|world| assignments::definition(world, &cell_id, digest))
        .await?
        .ok_or(Error::UnknownDefinition)?;
    let (owner, definition): (Owner, Arc<Definition>) = found;
    let opened = gateway.control_plane.open_definition(&owner, &definition).await;
    opened.map(Json).map_err(|source| Error::OpenDefinition { digest, source })
}

async fn report(
    Authenticated { cell_id, permit: _permit }: Authenticated,
    State(gateway): State<Gateway>,
    Body(request): Body<ReportsRequest>,
) -> Result<Json<ReportsAnswer>, Error> {
    gateway.hear(&cell_id, request.cell_epoch).await?;
    reports::take(&gateway, &cell_id, request).await.map(Json)
}

async fn observe(
    Authenticated { cell_id, permit: _permit }: Authenticated,
    State(gateway): State<Gateway>,
    Body(request): Body<ObservationsRequest>,
) -> Result<Json<ObservationsAnswer>, Error> {
    gateway.hear(&cell_id, request.cell_epoch).await?;
    observations::take(&gateway, &cell_id, request).await.map(Json)
}
