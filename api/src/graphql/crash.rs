//! A crash as clients see it: the event, and the sealed evidence that it names by digest.

use std::sync::Arc;

use async_graphql::{Context, Object, Result, SimpleObject};
use domain::{
    bbs::actual_lrp::{self, Crashed, Restart as DomainRestart, TwinCrashed},
    event::Event,
    exit::{self, ExitStatus, ProcessExit},
    id::{ActualLrpKey, CellId, InstanceGuid, ProcessGuid},
    log::{Owner, Position, Recorded, StreamId},
    rep,
    sealed::Digest,
    units::Timestamp,
};
use projections::event_store::{EventStore, Filter, Order};

use super::{
    actual_lrp::{InstancePresence, Restart},
    error,
    evidence::Evidence,
    scalars::{BigInt, PositionText, Time},
    state,
};

/// The stored names of the events that a crash is. A kill after the grace is shown like one, but is
/// not on the list: it was asked for.
const CRASHED: [&str; 2] = ["actual_lrp.crashed", "actual_lrp.twin_crashed"];

/// An instance that ended without being asked to: a slot's ordinary one, or one beside it.
pub(super) struct Crash {
    key: ActualLrpKey,
    position: Position,
    recorded_at: Timestamp,
    presence: actual_lrp::InstancePresence,
    instance_guid: InstanceGuid,
    cell_id: CellId,
    reason: Arc<str>,
    exit: Option<ProcessExit>,
    evidence: Option<Digest>,
    /// The how-manyth crash in a row, and what follows, where the slot is concerned.
    follows: Option<(u32, DomainRestart)>,
}

fn killed(killed: actual_lrp::Killed) -> TwinCrashed {
    let actual_lrp::Killed { instance_guid, cell_id, grace_ms, evidence } = killed;
    let seconds = grace_ms.duration().as_secs_f64();
    TwinCrashed {
        instance_guid,
        cell_id,
        presence: actual_lrp::InstancePresence::Leaving,
        reason: format!("killed: it was to be stopped and did not end within {seconds} s").into(),
        exit: Some(ProcessExit { status: ExitStatus::Signalled(9), out_of_memory: None }),
        evidence,
    }
}

impl Crash {
    /// The crash that an event is; `None` when it is another event.
    pub(super) fn of(recorded: Recorded<Event>) -> Option<Self> {
        let Recorded { position, recorded_at, stream, event, .. } = recorded;
        let (StreamId::ActualLrp(key), Event::ActualLrp(event)) = (stream, event) else {
            return None;
        };
        let (crashed, follows) = match event {
            actual_lrp::Event::Crashed(crashed) => {
                let follows = Some((crashed.crash_count, crashed.restart));
                let presence = actual_lrp::InstancePresence::Ordinary;
                let Crashed { instance_guid, cell_id, reason, exit, evidence, .. } = crashed;
                let crashed =
                    TwinCrashed { instance_guid, cell_id, presence, reason, exit, evidence };
                (crashed, follows)
            }
            actual_lrp::Event::TwinCrashed(crashed) => (crashed, None),
            actual_lrp::Event::Killed(event) => (killed(event), None),
            actual_lrp::Event::Created(_)
            | actual_lrp::Event::Placed(_)
            | actual_lrp::Event::PlacementFailed(_)
            | actual_lrp::Event::Refused(_)
            | actual_lrp::Event::Claimed(_)
            | actual_lrp::Event::Started(_)
            | actual_lrp::Event::Unclaimed(_)
            | actual_lrp::Event::Retired(_)
            | actual_lrp::Event::Removed(_)
            | actual_lrp::Event::Left(_)
            | actual_lrp::Event::WithdrawalStarted(_)
            | actual_lrp::Event::WithdrawalEnded(_)
            | actual_lrp::Event::Suspected(_)
            | actual_lrp::Event::SuspectRestored(_)
            | actual_lrp::Event::SuspectRemoved(_)
            | actual_lrp::Event::EvacuationStarted(_)
            | actual_lrp::Event::EvacuationEnded(_)
            | actual_lrp::Event::ReadinessChanged(_) => return None,
        };
        let TwinCrashed { instance_guid, cell_id, presence, reason, exit, evidence } = crashed;
        Some(Self {
            key,
            position,
            recorded_at,
            presence,
            instance_guid,
            cell_id,
            reason,
            exit,
            evidence,
            follows,
        })
    }
}

/// An instance that ended without being asked to.
#[Object]
impl Crash {
    /// Its id: the position of its event.
    async fn id(&self) -> PositionText {
        PositionText(self.position)
    }

    /// Whose instance.
    async fn process_guid(&self) -> &str {
        self.key.process_guid.as_str()
    }

    /// Which slot.
    async fn index(&self) -> u32 {
        self.key.index
    }

    /// On which cell.
    async fn cell_id(&self) -> &str {
        self.cell_id.as_str()
    }

    /// Which container.
    async fn instance_guid(&self) -> &str {
        self.instance_guid.as_str()
    }

    /// In words.
    async fn reason(&self) -> &str {
        &self.reason
    }

    /// The status that its main process left.
    async fn exit_status(&self) -> Option<i32> {
        self.exit.as_ref().and_then(exit_status)
    }

    /// The signal that ended its main process.
    async fn signal(&self) -> Option<i32> {
        self.exit.as_ref().and_then(signal)
    }

    /// What its main process's end means, in words.
    async fn meaning(&self) -> Option<String> {
        self.exit.as_ref().map(ProcessExit::meaning)
    }

    /// The kernel's word, when memory ran out.
    async fn out_of_memory(&self) -> Option<OutOfMemory> {
        self.exit.and_then(|exit| exit.out_of_memory).map(OutOfMemory::from)
    }

    /// Which of the slot's instances it was.
    async fn presence(&self) -> InstancePresence {
        self.presence.into()
    }

    /// The how-manyth crash in a row; absent for one beside the ordinary one, which is not counted.
    async fn crash_count(&self) -> Option<u32> {
        self.follows.map(|(crash_count, _)| crash_count)
    }

    /// What follows; absent for one beside the ordinary one: that has its replacement already.
    async fn restart(&self) -> Option<Restart> {
        self.follows.map(|(_, restart)| restart.into())
    }

    /// When it was recorded.
    async fn at(&self) -> Time {
        Time(self.recorded_at)
    }

    /// Its event.
    async fn position(&self) -> PositionText {
        PositionText(self.position)
    }

    /// What its cell saw of it last; absent when nothing was kept.
    async fn evidence(&self, ctx: &Context<'_>) -> Result<Option<Evidence>> {
        let Some(digest) = self.evidence else { return Ok(None) };
        let kept = state(ctx)?.control_plane.keyring.get_blob(digest).await;
        let kept = kept.map_err(|failure| error::of_keys("cannot open the evidence", &failure))?;
        let Some(bytes) = kept else { return Ok(None) };
        let evidence: rep::Evidence = serde_json::from_slice(&bytes)
            .map_err(|failure| error::internal("cannot read the evidence", &failure))?;
        Ok(Some(Evidence::of(evidence)))
    }
}

/// The kernel killed for want of memory within the container's limit.
#[derive(SimpleObject)]
pub(super) struct OutOfMemory {
    /// The container's limit in bytes.
    limit_bytes: BigInt,
    /// The most it ever used, in bytes.
    peak_bytes: BigInt,
    /// How many processes the kernel killed.
    kills: BigInt,
}

impl From<exit::OutOfMemory> for OutOfMemory {
    fn from(word: exit::OutOfMemory) -> Self {
        Self {
            limit_bytes: BigInt(word.limit_bytes),
            peak_bytes: BigInt(word.peak_bytes),
            kills: BigInt(word.kills),
        }
    }
}

/// The status that a process left, when no signal ended it.
pub(super) fn exit_status(exit: &ProcessExit) -> Option<i32> {
    match exit.status {
        ExitStatus::Exited(status) => Some(status),
        ExitStatus::Signalled(_) => None,
    }
}

/// The signal that ended a process, when one did.
pub(super) fn signal(exit: &ProcessExit) -> Option<i32> {
    match exit.status {
        ExitStatus::Exited(_) => None,
        ExitStatus::Signalled(signal) => Some(signal),
    }
}

/// The newest crashes before a position, newest first.
pub(super) async fn crashes_before(
    store: &dyn EventStore,
    process_guid: Option<ProcessGuid>,
    before: Position,
    first: usize,
) -> Result<Vec<Crash>> {
    let filter = Filter {
        owner: process_guid.map(Owner::Process),
        types: CRASHED.map(str::to_owned).to_vec(),
        actor: None,
        until: None,
    };
    let found = store.read_filtered(&filter, before, first, Order::NewestFirst).await;
    let events = found.map_err(|failure| error::of_log(&failure))?;
    Ok(events.into_iter().filter_map(Crash::of).collect())
}

/// The crash at a position, if its event is one.
pub(super) async fn crash_at(store: &dyn EventStore, position: Position) -> Result<Option<Crash>> {
    let Some(before) = position.0.checked_sub(1) else { return Ok(None) };
    let events =
        store.read_all(Position(before), 1).await.map_err(|failure| error::of_log(&failure))?;
    Ok(events.into_iter().next().and_then(Crash::of))
}
