//! A control plane in memory: it judges reports as the real one does, as far as a cell can tell,
//! and can be cut off, restarted, or made to lose its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use domain::bbs::definition::Definition;
use domain::id::InstanceGuid;
use domain::labels::Labels;
use domain::log::{CellEpoch, Position};
use domain::observation::Observation;
use domain::rep::{
    Assignment, Health, HeartbeatAnswer, HeartbeatRequest, NumberedReport, ObservationsAnswer,
    ObservationsRequest, Observed, RefusedReport, RegisterAnswer, RegisterRequest, ReportsAnswer,
    ReportsRequest, Wanted, Work,
};
use domain::sealed::{Digest, PlainText};
use domain::units::{Milliseconds, Timestamp};
use tokio::sync::Notify;

use crate::control_plane::{ControlPlane, Error};

/// The fake; clones share one state.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakePlane {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    epoch: u64,
    is_cut_off: bool,
    answers_to_lose: u32,
    is_id_in_use: bool,
    position: u64,
    work: Vec<Work>,
    definitions: BTreeMap<Digest, Definition<PlainText>>,
    reports: Vec<NumberedReport>,
    requests: Vec<Vec<u64>>,
    judged: u64,
    disowned: BTreeSet<InstanceGuid>,
    cancelled: BTreeSet<InstanceGuid>,
    unfit: BTreeSet<InstanceGuid>,
    observations: Vec<Observation>,
    observed: u64,
    health: Option<Health>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            epoch: 1,
            is_cut_off: false,
            answers_to_lose: 0,
            is_id_in_use: false,
            position: 1,
            work: Vec::new(),
            definitions: BTreeMap::new(),
            reports: Vec::new(),
            requests: Vec::new(),
            judged: 0,
            disowned: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            unfit: BTreeSet::new(),
            observations: Vec::new(),
            observed: 0,
            health: None,
        }
    }
}

impl FakePlane {
    pub(crate) fn place(&self, work: &Work, definition: Definition<PlainText>) {
        self.change(|state| {
            state.definitions.insert(work.definition, definition);
            state.work.push(work.clone());
        });
    }

    pub(crate) fn label(&self, work: &Work, labels: Labels) {
        self.change(|state| {
            for placed in &mut state.work {
                if placed.reference == work.reference {
                    placed.labels = Some(Arc::new(labels.clone()));
                }
            }
        });
    }

    pub(crate) fn want_stop(&self, work: &Work) {
        self.change(|state| {
            for placed in &mut state.work {
                if placed.reference == work.reference {
                    placed.wanted = Wanted::Stop;
                }
            }
        });
    }

    /// Takes the work off the list, as what was replaced while its cell was lost.
    pub(crate) fn unlist(&self, work: &Work) {
        self.change(|state| state.work.retain(|placed| placed.reference != work.reference));
    }

    /// Takes the work away without a word; reports of it are refused from now on.
    pub(crate) fn disown(&self, work: &Work) {
        self.lock().disowned.insert(work.reference.instance_guid.clone());
    }

    /// A request with a claim of this work is refused as a whole from now on.
    pub(crate) fn refuse_claims(&self, work: &Work) {
        self.lock().unfit.insert(work.reference.instance_guid.clone());
    }

    /// Cancels a task whose cell has not seen it yet.
    pub(crate) fn cancel_unseen(&self, work: &Work) {
        self.lock().cancelled.insert(work.reference.instance_guid.clone());
    }

    pub(crate) fn cut_off(&self, is_cut_off: bool) {
        self.lock().is_cut_off = is_cut_off;
    }

    /// The next requests with reports are judged, but their answers never arrive.
    pub(crate) fn lose_answers(&self, count: u32) {
        self.lock().answers_to_lose = count;
    }

    pub(crate) fn take_id_away(&self) {
        self.lock().is_id_in_use = true;
    }

    /// Another machine had the id in between: nothing of before counts.
    pub(crate) fn begin_epoch(&self, epoch: u64) {
        self.change(|state| {
            state.epoch = epoch;
            state.work.clear();
            (state.judged, state.observed) = (0, 0);
            state.reports.clear();
        });
    }

    /// Accepted reports, in order.
    pub(crate) fn reports(&self) -> Vec<NumberedReport> {
        self.lock().reports.clone()
    }

    /// The sequences of every request, also of those whose answer was lost.
    pub(crate) fn requests(&self) -> Vec<Vec<u64>> {
        self.lock().requests.clone()
    }

    pub(crate) fn observations(&self) -> Vec<Observation> {
        self.lock().observations.clone()
    }

    /// What the cell said last of its own health.
    pub(crate) fn health(&self) -> Option<Health> {
        self.lock().health.clone()
    }

    pub(crate) fn is_assigned(&self, work: &Work) -> bool {
        self.lock().work.iter().any(|placed| placed.reference == work.reference)
    }

    /// Answers as a node that has not seen the last changes, and has no work for the cell.
    pub(crate) fn fall_behind(&self) -> Vec<Work> {
        let mut state = self.lock();
        state.position -= 1;
        let work = std::mem::take(&mut state.work);
        drop(state);
        self.changed.notify_waiters();
        work
    }

    /// Answers as a node that has caught up.
    pub(crate) fn catch_up(&self, work: Vec<Work>) {
        self.change(|state| {
            state.position += 1;
            state.work = work;
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.position += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn reached(&self, epoch: Option<CellEpoch>) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.lock();
        if state.is_cut_off {
            return Err(unreachable());
        }
        if epoch.is_some_and(|epoch| epoch.0 != state.epoch) {
            return Err(refused("CELL_EPOCH_PASSED"));
        }
        Ok(state)
    }
}

impl State {
    fn judge(&mut self, report: &NumberedReport) -> Option<RefusedReport> {
        // One that was set aside leaves a gap, and no other does.
        let is_next = report.sequence == self.judged + 1 || !self.unfit.is_empty();
        assert!(is_next, "a gap in the reports");
        self.judged = report.sequence;
        let guid = &report.report.work.instance_guid;
        let refused = |code: &str| {
            let (sequence, code) = (report.sequence, code.to_owned());
            Some(RefusedReport { sequence, code, message: String::new() })
        };
        if self.disowned.contains(guid) {
            return refused("PLACEMENT_MOVED");
        }
        if self.cancelled.contains(guid) && report.report.observed == Observed::MayStart {
            return refused("INVALID_TRANSITION");
        }
        self.reports.push(report.clone());
        match report.report.observed {
            Observed::Ended(_) | Observed::Gone | Observed::Killed(_) | Observed::Refused(_) => {
                self.work.retain(|work| work.reference.instance_guid != *guid);
                self.position += 1;
            }
            Observed::Claimed
            | Observed::Healthy { .. }
            | Observed::Readiness(_)
            | Observed::MayStart => {}
        }
        None
    }
}

fn unreachable() -> Error {
    Error::Unreachable { operation: "reach the fake", source: "cut off".into() }
}

fn refused(code: &str) -> Error {
    let message = String::new();
    Error::Refused { operation: "use the fake", code: code.to_owned(), message }
}

#[async_trait]
impl ControlPlane for FakePlane {
    async fn register(&self, _: &RegisterRequest) -> Result<RegisterAnswer, Error> {
        let state = self.reached(None)?;
        if state.is_id_in_use {
            return Err(refused("CELL_ID_IN_USE"));
        }
        Ok(RegisterAnswer {
            cell_epoch: CellEpoch(state.epoch),
            reports_seen: state.judged,
            heartbeat_interval_ms: Milliseconds(1000),
            protocol_version: 1,
            head: Position(state.position),
        })
    }

    async fn heartbeat(&self, request: &HeartbeatRequest) -> Result<HeartbeatAnswer, Error> {
        let mut state = self.reached(Some(request.cell_epoch))?;
        state.health = request.health.clone();
        Ok(HeartbeatAnswer { head: Position(state.position), now: Timestamp(0) })
    }

    async fn assignment(&self, after: Position, epoch: CellEpoch) -> Result<Assignment, Error> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let changed = self.changed.notified();
            {
                let state = self.reached(Some(epoch))?;
                if state.position != after.0 || tokio::time::Instant::now() >= deadline {
                    return Ok(Assignment {
                        position: Position(state.position),
                        cell_epoch: epoch,
                        work: state.work.clone(),
                    });
                }
            }
            drop(tokio::time::timeout_at(deadline, changed).await);
        }
    }

    async fn definition(&self, digest: Digest) -> Result<Definition<PlainText>, Error> {
        let state = self.reached(None)?;
        state.definitions.get(&digest).cloned().ok_or_else(|| refused("NOT_FOUND"))
    }

    async fn reports(&self, request: &ReportsRequest) -> Result<ReportsAnswer, Error> {
        let mut state = self.reached(Some(request.cell_epoch))?;
        state.requests.push(request.reports.iter().map(|report| report.sequence).collect());
        let is_unfit = |report: &NumberedReport| {
            report.report.observed == Observed::Claimed
                && state.unfit.contains(&report.report.work.instance_guid)
        };
        if request.reports.iter().any(is_unfit) {
            return Err(refused("INVALID"));
        }
        let mut refusals = Vec::new();
        for report in &request.reports {
            // A report that was judged before is not judged again: its refusal is forgotten.
            if report.sequence > state.judged {
                refusals.extend(state.judge(report));
            }
        }
        let acknowledged = state.judged;
        let is_lost = state.answers_to_lose > 0;
        state.answers_to_lose = state.answers_to_lose.saturating_sub(1);
        drop(state);
        self.changed.notify_waiters();
        if is_lost {
            return Err(unreachable());
        }
        Ok(ReportsAnswer { acknowledged, refused: refusals })
    }

    async fn observations(
        &self,
        request: &ObservationsRequest,
    ) -> Result<ObservationsAnswer, Error> {
        let mut state = self.reached(Some(request.cell_epoch))?;
        assert!(request.first_sequence <= state.observed + 1, "a gap in the observations");
        for (sequence, observation) in (request.first_sequence..).zip(&request.observations) {
            if sequence > state.observed {
                state.observed = sequence;
                state.observations.push(observation.clone());
            }
        }
        Ok(ObservationsAnswer { acknowledged: state.observed })
    }
}
