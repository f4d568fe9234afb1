//! The slots of desired LRPs as clients see them: under Diego's state names, and beside them the
//! state that Cloud Controller shows.

use async_graphql::{Enum, SimpleObject};
use domain::{
    bbs::actual_lrp::{self, Restart as DomainRestart, State},
    id::{CellId, ProcessGuid},
};
use projections::{
    app_status::{self, app_status},
    world::World,
};

use super::scalars::{PositionText, Time};

/// Diego's names of a slot's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum ActualLrpState {
    /// It waits for a cell, or a cell was chosen and has not answered yet, or it is gone but for
    /// instances that leave (it is stopping then).
    Unclaimed,
    /// The cell makes its container.
    Claimed,
    /// The instance is healthy.
    Running,
    /// The instance ended and is not to be placed yet.
    Crashed,
}

impl From<&State> for ActualLrpState {
    fn from(state: &State) -> Self {
        match state {
            State::Unclaimed | State::Placed(_) | State::Removed => Self::Unclaimed,
            State::Claimed(_) => Self::Claimed,
            State::Running(_) => Self::Running,
            State::Crashed(_) => Self::Crashed,
        }
    }
}

/// Cloud Controller's names of an instance's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum AppState {
    /// It is healthy.
    Running,
    /// It waits for a cell, or its container is being made.
    Starting,
    /// It is being stopped.
    Stopping,
    /// It ended and waits to be restarted, or was given up.
    Crashed,
    /// It is missing, or no cell can take it.
    Down,
}

impl From<app_status::InstanceState> for AppState {
    fn from(state: app_status::InstanceState) -> Self {
        match state {
            app_status::InstanceState::Running => Self::Running,
            app_status::InstanceState::Starting => Self::Starting,
            app_status::InstanceState::Stopping => Self::Stopping,
            app_status::InstanceState::Crashed => Self::Crashed,
            app_status::InstanceState::Down => Self::Down,
        }
    }
}

/// One slot of a desired LRP and the instance that fills it.
#[derive(SimpleObject)]
pub(super) struct ActualLrp {
    /// Whose slot.
    process_guid: String,
    /// Which slot, from 0.
    index: u32,
    /// Who vouches for it.
    domain: String,
    /// What it is doing.
    state: ActualLrpState,
    /// Since when.
    since: Time,
    /// Which container; absent while none is placed.
    instance_guid: Option<String>,
    /// On which cell.
    cell_id: Option<String>,
    /// The position of the event that placed it.
    placement_epoch: Option<PositionText>,
    /// The container's own address, while it is running.
    address: Option<String>,
    /// The ports it listens on.
    ports: Vec<u16>,
    /// Crashes in a row.
    crash_count: u32,
    /// What follows its newest crash, while it is crashed.
    restart: Option<Restart>,
    /// Why it could not be placed, while it is not.
    placement_error: Option<String>,
    /// Whether its instance is being stopped.
    is_stopping: bool,
    /// All its instances: the ordinary one, a suspect and an evacuating one beside it, and those
    /// that leave. The one that stands for the slot comes first.
    instances: Vec<Instance>,
    /// Its newest crash.
    last_crash: Option<LastCrash>,
    /// Its state as Cloud Controller shows it.
    app_state: AppState,
    /// Why it is not running, in words.
    details: Option<String>,
    /// Its last event.
    position: PositionText,
}

/// Which of a slot's instances one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum InstancePresence {
    /// The one that the slot is about.
    Ordinary,
    /// It runs on until the ordinary one does.
    Evacuating,
    /// Its cell is lost; it may still run there.
    Suspect,
    /// It serves no more, and its cell is to stop it.
    Leaving,
}

impl From<actual_lrp::InstancePresence> for InstancePresence {
    fn from(presence: actual_lrp::InstancePresence) -> Self {
        match presence {
            actual_lrp::InstancePresence::Ordinary => Self::Ordinary,
            actual_lrp::InstancePresence::Evacuating => Self::Evacuating,
            actual_lrp::InstancePresence::Suspect => Self::Suspect,
            actual_lrp::InstancePresence::Leaving => Self::Leaving,
        }
    }
}

/// One of a slot's instances.
#[derive(SimpleObject)]
pub(super) struct Instance {
    /// Which.
    presence: InstancePresence,
    /// Its container.
    instance_guid: String,
    /// On which cell.
    cell_id: String,
    /// The position of the event that placed it.
    placement_epoch: PositionText,
    /// Whether it is healthy, as far as it was heard; not while it leaves.
    is_running: bool,
    /// Whether it is being stopped.
    is_stopping: bool,
    /// Whether it has lost its routes and runs on until every living router has followed.
    is_withdrawing: bool,
    /// Whether it may take requests.
    is_ready: bool,
    /// Since when it does what it does.
    since: Time,
    /// The container's own address, while it is healthy.
    address: Option<String>,
    /// The ports it listens on.
    ports: Vec<u16>,
}

impl From<actual_lrp::Instance<'_>> for Instance {
    fn from(instance: actual_lrp::Instance<'_>) -> Self {
        let actual_lrp::Instance {
            presence,
            placement,
            running,
            is_stopping,
            is_withdrawing,
            since,
        } = instance;
        let net_info = running.map(|running| &running.net_info);
        Self {
            presence: presence.into(),
            instance_guid: placement.instance_guid.to_string(),
            cell_id: placement.cell_id.to_string(),
            placement_epoch: PositionText(placement.placement_epoch.0),
            is_running: running.is_some(),
            is_stopping,
            is_withdrawing,
            is_ready: running.is_some_and(|running| running.is_ready),
            since: Time(since),
            address: net_info.map(|net_info| net_info.instance_address.to_string()),
            ports: net_info.map(|net_info| net_info.ports.clone()).unwrap_or_default(),
        }
    }
}

/// The newest crash of a slot.
#[derive(SimpleObject)]
pub(super) struct LastCrash {
    /// In words.
    reason: String,
    /// When it was recorded.
    at: Time,
    /// Its event; also the crash's id.
    position: PositionText,
}

/// What follows a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum RestartKind {
    /// The slot may be placed at once.
    Immediately,
    /// The slot waits until an instant.
    NotBefore,
    /// The slot waits for a user.
    Never,
}

/// What follows a crash.
#[derive(SimpleObject)]
pub(super) struct Restart {
    /// Whether it restarts.
    kind: RestartKind,
    /// When, at the earliest.
    not_before: Option<Time>,
}

impl From<DomainRestart> for Restart {
    fn from(restart: DomainRestart) -> Self {
        match restart {
            DomainRestart::Immediately => Self { kind: RestartKind::Immediately, not_before: None },
            DomainRestart::NotBefore(instant) => {
                Self { kind: RestartKind::NotBefore, not_before: Some(Time(instant)) }
            }
            DomainRestart::Never => Self { kind: RestartKind::Never, not_before: None },
        }
    }
}

/// One instance as Cloud Controller shows it.
#[derive(SimpleObject)]
pub(super) struct InstanceStatus {
    /// Which slot.
    index: u32,
    /// Its state.
    state: AppState,
    /// Since when; absent for a slot that does not exist.
    since: Option<Time>,
    /// Why it is not running.
    details: Option<String>,
}

/// The instances that are desired, and those that are there beyond them.
pub(super) fn status_of(world: &World, process_guid: &ProcessGuid) -> Vec<InstanceStatus> {
    app_status(world.aggregates(), process_guid)
        .into_iter()
        .map(|status| InstanceStatus {
            index: status.index,
            state: status.state.into(),
            since: status.since.map(Time),
            details: status.details,
        })
        .collect()
}

/// Which slots are asked for. A field that is `None` asks nothing.
pub(super) struct Wanted {
    /// Only of this process.
    pub(super) process_guid: Option<ProcessGuid>,
    /// Only on this cell.
    pub(super) cell_id: Option<CellId>,
    /// Only in this state.
    pub(super) state: Option<ActualLrpState>,
}

/// The slots that are asked for, by process guid and index.
pub(super) fn slots(world: &World, wanted: &Wanted) -> Vec<ActualLrp> {
    let aggregates = world.aggregates();
    let all: Vec<&actual_lrp::ActualLrp> = match &wanted.process_guid {
        Some(process_guid) => aggregates.slots_of(process_guid).collect(),
        None => aggregates.slots().collect(),
    };
    all.chunk_by(|one, next| one.key.process_guid == next.key.process_guid)
        .flat_map(|group| of_one_process(world, group, wanted))
        .collect()
}

/// One slot, by its key.
pub(super) fn slot(world: &World, slot: &actual_lrp::ActualLrp) -> Option<ActualLrp> {
    let everything = Wanted { process_guid: None, cell_id: None, state: None };
    of_one_process(world, &[slot], &everything).pop()
}

fn of_one_process(
    world: &World,
    group: &[&actual_lrp::ActualLrp],
    wanted: &Wanted,
) -> Vec<ActualLrp> {
    let is_wanted = |slot: &&&actual_lrp::ActualLrp| {
        let is_on = |cell_id: &CellId| slot.instances().any(|it| it.placement.cell_id == *cell_id);
        wanted.state.is_none_or(|state| state == ActualLrpState::from(&slot.state))
            && wanted.cell_id.as_ref().is_none_or(is_on)
    };
    let Some(first) = group.first() else { return Vec::new() };
    let statuses = app_status(world.aggregates(), &first.key.process_guid);
    group
        .iter()
        .filter(is_wanted)
        .filter_map(|slot| {
            let found = statuses.binary_search_by_key(&slot.key.index, |status| status.index);
            found.ok().and_then(|at| statuses.get(at)).map(|status| shown(slot, status))
        })
        .collect()
}

fn shown(slot: &actual_lrp::ActualLrp, status: &app_status::InstanceStatus) -> ActualLrp {
    let placement = slot.placement();
    let (net_info, restart) = match &slot.state {
        State::Running(running) => (Some(&running.net_info), None),
        State::Crashed(restart) => (None, Some(Restart::from(*restart))),
        State::Unclaimed | State::Placed(_) | State::Claimed(_) | State::Removed => (None, None),
    };
    ActualLrp {
        process_guid: slot.key.process_guid.to_string(),
        index: slot.key.index,
        domain: slot.domain.to_string(),
        state: ActualLrpState::from(&slot.state),
        since: Time(slot.since),
        instance_guid: placement.map(|placement| placement.instance_guid.to_string()),
        cell_id: placement.map(|placement| placement.cell_id.to_string()),
        placement_epoch: placement.map(|placement| PositionText(placement.placement_epoch.0)),
        address: net_info.map(|net_info| net_info.instance_address.to_string()),
        ports: net_info.map(|net_info| net_info.ports.clone()).unwrap_or_default(),
        crash_count: slot.crash_count,
        restart,
        placement_error: slot.placement_error.clone(),
        is_stopping: slot.is_stopping,
        instances: instances_of(slot),
        last_crash: slot.last_crash.as_ref().map(|crash| LastCrash {
            reason: crash.reason.to_string(),
            at: Time(crash.at),
            position: PositionText(crash.position),
        }),
        app_state: status.state.into(),
        details: status.details.clone(),
        position: PositionText(slot.last_position),
    }
}

fn instances_of(slot: &actual_lrp::ActualLrp) -> Vec<Instance> {
    let first = slot.resolved();
    let others = slot.instances().filter(|instance| Some(*instance) != first);
    first.into_iter().chain(others).map(Instance::from).collect()
}
