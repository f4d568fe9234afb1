//! The reporter: keeps what is said on disk, hands it to the control plane in order, and tells
//! what became of it.
//!
//! A report is sent until it is acknowledged. A refusal is passed on: the cell stops what the
//! report was about. Never sends what is not on disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::log::CellEpoch;
use domain::rep::{
    NumberedReport, Observed, RefusedReport, Report, ReportsAnswer, ReportsRequest, WorkReference,
};
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard, mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::book::off_runtime;
use super::report_spool::ReportSpool;
use crate::control_plane::{ControlPlane, Error};
use crate::retry::BackOff;

/// The most reports of one request, as the wire has it.
const REPORTS_MAX: usize = 100;
/// About how many bytes of reports one request may have.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// The code under which a report that was refused as it is counts here.
const UNFIT: &str = "UNFIT";
/// How many reports may wait for the disk.
const SUBMISSIONS_MAX: usize = 1024;

/// What the control plane made of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Accepted,
    Refused(Refusal),
}

/// Why a report was refused, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The container is nobody's any more: nothing more is said of it.
    Disowned,
    /// It does not follow from where things stand; the container is still this cell's to end.
    Untimely,
}

#[derive(Debug)]
struct Submission {
    report: Report,
    kept: Option<oneshot::Sender<()>>,
    question: Option<oneshot::Sender<Judgement>>,
}

/// A report on its way that more is known of than is on disk.
#[derive(Debug, Default)]
struct OnItsWay {
    question: Option<oneshot::Sender<Judgement>>,
    /// It was sent, and the answer was lost.
    was_sent: bool,
}

/// Says what became of containers.
#[derive(Debug)]
pub(super) struct Reporter {
    spool: Arc<AsyncMutex<ReportSpool>>,
    submissions: mpsc::Sender<Submission>,
    on_their_way: Mutex<BTreeMap<u64, OnItsWay>>,
    changed: Notify,
    emptied: Notify,
}

/// What the reporter's workers need beside it.
#[derive(Debug)]
pub(super) struct ReporterQueue(mpsc::Receiver<Submission>);

impl Reporter {
    pub(super) fn new(spool: Arc<AsyncMutex<ReportSpool>>) -> (Self, ReporterQueue) {
        let (submissions, queue) = mpsc::channel(SUBMISSIONS_MAX);
        let reporter = Self {
            spool,
            submissions,
            on_their_way: Mutex::default(),
            changed: Notify::new(),
            emptied: Notify::new(),
        };
        (reporter, ReporterQueue(queue))
    }

    /// Says something; once this returns, it survives the machine's death.
    pub(super) async fn say(&self, work: &WorkReference, observed: Observed) {
        let (kept, is_kept) = oneshot::channel();
        let report = Report { work: work.clone(), observed };
        self.submit(Submission { report, kept: Some(kept), question: None }).await;
        if is_kept.await.is_err() {
            session_over::<()>().await;
        }
    }

    /// Says something that may be lost with the agent.
    pub(super) async fn mention(&self, work: &WorkReference, observed: Observed) {
        let report = Report { work: work.clone(), observed };
        self.submit(Submission { report, kept: None, question: None }).await;
    }

    /// Asks something, and waits for the judgement.
    pub(super) async fn ask(&self, work: &WorkReference, observed: Observed) -> Judgement {
        let (question, judgement) = oneshot::channel();
        let report = Report { work: work.clone(), observed };
        self.submit(Submission { report, kept: None, question: Some(question) }).await;
        match judgement.await {
            Ok(judgement) => judgement,
            Err(_) => session_over().await,
        }
    }

    /// Waits until everything said is acknowledged.
    pub(super) async fn flushed(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.spool.lock().await.is_empty() && self.submissions.capacity() == SUBMISSIONS_MAX
            {
                return;
            }
            emptied.await;
        }
    }

    async fn submit(&self, submission: Submission) {
        if self.submissions.send(submission).await.is_err() {
            tracing::debug!("A report comes after the end of its session.");
        }
    }

    /// Keeps what is submitted, many at a time with one wait for the disk.
    pub(super) async fn keep(self: Arc<Self>, mut queue: ReporterQueue) {
        let mut batch = Vec::new();
        while queue.0.recv_many(&mut batch, REPORTS_MAX).await > 0 {
            let reports: Vec<Report> =
                batch.iter().map(|submission| submission.report.clone()).collect();
            // Held until the questions are noted: the answer may come at once.
            let (spool, sequences) = self.append(reports).await;
            for (sequence, submission) in sequences.into_iter().zip(batch.drain(..)) {
                let Submission { report: _, kept, question } = submission;
                if question.is_some() {
                    let way = OnItsWay { question, was_sent: false };
                    self.lock().insert(sequence, way);
                }
                // Who said it may be gone by now.
                kept.map(|kept| kept.send(()));
            }
            drop(spool);
            self.changed.notify_one();
        }
    }

    /// A full disk is waited out: nothing may be said that is not kept.
    async fn append(&self, reports: Vec<Report>) -> (OwnedMutexGuard<ReportSpool>, Vec<u64>) {
        let mut back_off = BackOff::for_requests();
        loop {
            let mut spool = Arc::clone(&self.spool).lock_owned().await;
            let again = reports.clone();
            let appended = off_runtime(move || {
                let sequences = spool.append(again);
                Ok((spool, sequences))
            });
            match appended.await {
                Ok((spool, Ok(sequences))) => return (spool, sequences),
                Ok((_, Err(error))) => {
                    tracing::error!(%error, cause = %error.source, "Cannot keep a report.");
                }
                Err(error) => tracing::error!(%error, "Cannot keep a report."),
            }
            sleep(back_off.pause()).await;
        }
    }

    /// Sends what waits until the registration has passed.
    pub(super) async fn send(
        self: Arc<Self>,
        control_plane: Arc<dyn ControlPlane>,
        cell_epoch: CellEpoch,
        refused: mpsc::Sender<(WorkReference, Refusal)>,
        epoch_passed: CancellationToken,
    ) {
        let mut back_off = BackOff::for_requests();
        // After a refusal of a whole batch its reports go one by one, to find the one meant.
        let mut one_by_one: usize = 0;
        loop {
            let count = if one_by_one > 0 { 1 } else { REPORTS_MAX };
            let reports = self.spool.lock().await.first(count, REQUEST_BYTES_MAX);
            let Some(first) = reports.first().map(|report| report.sequence) else {
                self.emptied.notify_waiters();
                self.changed.notified().await;
                continue;
            };
            let request = ReportsRequest { cell_epoch, reports };
            match control_plane.reports(&request).await {
                Ok(answer) if answer.acknowledged >= first => {
                    back_off.reset();
                    one_by_one = one_by_one.saturating_sub(1);
                    self.settle(answer, &refused).await;
                }
                Ok(_) => sleep(back_off.pause()).await,
                Err(error) if error.is_epoch_passed() => return epoch_passed.cancel(),
                Err(error) if is_unfit(&error) && request.reports.len() > 1 => {
                    tracing::warn!(%error, "Reports were refused together; sending each alone.");
                    self.note_sent(&request.reports);
                    one_by_one = request.reports.len();
                }
                Err(error) if is_unfit(&error) => {
                    tracing::error!(%error, sequence = first,
                        "A report was refused as it is; it is set aside.");
                    one_by_one = one_by_one.saturating_sub(1);
                    let code = UNFIT.to_owned();
                    let refusal = RefusedReport { sequence: first, code, message: String::new() };
                    let answer = ReportsAnswer { acknowledged: first, refused: vec![refusal] };
                    self.settle(answer, &refused).await;
                    // A control plane that errs must not see all of them go at once.
                    sleep(back_off.pause()).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "Reports were not acknowledged; sending them again.");
                    self.note_sent(&request.reports);
                    sleep(back_off.pause()).await;
                }
            }
        }
    }

    async fn settle(
        &self,
        answer: ReportsAnswer,
        refused: &mpsc::Sender<(WorkReference, Refusal)>,
    ) {
        let (done, written) = self.spool.lock().await.acknowledge(answer.acknowledged);
        if let Err(error) = written {
            tracing::warn!(%error, cause = %error.source,
                "Cannot note that reports were acknowledged; they may be sent again.");
        }
        for NumberedReport { sequence, report } in done {
            let way = self.lock().remove(&sequence).unwrap_or_default();
            let refusal = answer.refused.iter().find(|refusal| refusal.sequence == sequence);
            if let Some(refused_report) = refusal {
                let refusal = judge_refusal(&report.work, refused_report);
                way.question.map(|question| question.send(Judgement::Refused(refusal)));
                if refused.send((report.work, refusal)).await.is_err() {
                    tracing::debug!("A refusal comes after the end of its session.");
                }
            } else if let Some(question) = way.question {
                self.answer(report, question, way.was_sent).await;
            }
        }
    }

    /// An acceptance counts only as the answer to the first sending: to a second one, a control
    /// plane that judged the first may say no more than that it knows it.
    async fn answer(&self, report: Report, question: oneshot::Sender<Judgement>, again: bool) {
        if again {
            self.submit(Submission { report, kept: None, question: Some(question) }).await;
            return;
        }
        // Who asked may have been stopped since.
        if question.send(Judgement::Accepted).is_err() {
            tracing::debug!(instance_guid = %report.work.instance_guid, "Nobody waits any more.");
        }
    }

    fn note_sent(&self, reports: &[NumberedReport]) {
        let mut on_their_way = self.lock();
        for report in reports {
            if let Some(way) = on_their_way.get_mut(&report.sequence) {
                way.was_sent = true;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, OnItsWay>> {
        self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing may follow from what could not be said: its worker ends here, with its session.
async fn session_over<T>() -> T {
    std::future::pending().await
}

/// Whether a refusal is of the reports themselves, not of who sends them or how often.
fn is_unfit(error: &Error) -> bool {
    let others = ["UNAUTHENTICATED", "PROTOCOL_VERSION", "NOT_FOUND"];
    error.is_refusal() && !others.iter().any(|code| error.has_code(code))
}

fn judge_refusal(work: &WorkReference, refused: &RefusedReport) -> Refusal {
    let code = refused.code.as_str();
    let instance_guid = &work.instance_guid;
    tracing::info!(%instance_guid, code, "A report was refused; what it was about is stopped.");
    match code {
        "PLACEMENT_MOVED" | "NOT_FOUND" | "CELL_EPOCH_PASSED" | "RUNNING_ON_DIFFERENT_CELL" => {
            Refusal::Disowned
        }
        _ => Refusal::Untimely,
    }
}

/// How long the end of a session waits for reports to be acknowledged.
pub(super) const FLUSH_WAIT: Duration = Duration::from_secs(2);
