//! Hands what is observed of containers to the control plane, and stamps it with whose it is.
//!
//! Observations are not events: they are pushed when there is time, and a full spool drops the
//! oldest of them, with a line that says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::id::{CellId, InstanceGuid};
use domain::log::{CellEpoch, Owner, Position};
use domain::observation::{LogLine, MetricsSample, Observation, ObservationRecord, OutputStream};
use domain::rep::{ObservationsRequest, WorkKind, WorkReference};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::instance::Orders;
use super::observation_spool::ObservationSpool;
use crate::clock;
use crate::control_plane::ControlPlane;
use crate::executor::Sink;
use crate::retry::BackOff;

/// How long the first line waits for others to go along.
const GATHER: Duration = Duration::from_millis(50);

/// The head of the log as far as this cell was told.
#[derive(Debug, Default)]
pub(super) struct Head(AtomicU64);

impl Head {
    pub(super) fn note(&self, head: Position) {
        self.0.fetch_max(head.0, Ordering::Relaxed);
    }

    fn position(&self) -> Position {
        Position(self.0.load(Ordering::Relaxed))
    }
}

/// Takes observations of all containers of a cell.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) spool: Arc<ObservationSpool>,
    pub(super) head: Head,
    pub(super) cell_id: CellId,
}

impl Observer {
    fn observe(&self, observation: &Observation) {
        let dropped = self.spool.push(observation);
        if dropped == 0 {
            return;
        }
        tracing::warn!(dropped, "The oldest observations were dropped: their spool is full.");
        let text = format!("{dropped} observations were dropped: the cell's spool is full");
        let line = LogLine::new(clock::now(), "CELL", OutputStream::Err, text);
        self.spool.push(&Observation {
            owner: Owner::Cell(self.cell_id.clone()),
            index: None,
            instance_guid: InstanceGuid::new("cell").expect("letters are a guid"),
            log_position: self.head.position(),
            tags: Arc::default(),
            record: ObservationRecord::Line(line),
        });
    }

    /// Pushes what is observed until the registration has passed.
    pub(super) async fn push(
        self: Arc<Self>,
        control_plane: Arc<dyn ControlPlane>,
        cell_epoch: CellEpoch,
        epoch_passed: CancellationToken,
    ) {
        let mut back_off = BackOff::for_requests();
        loop {
            let mut batch = self.spool.batch();
            if batch.observations.is_empty() {
                self.spool.changed.notified().await;
                sleep(GATHER).await;
                continue;
            }
            let observations = std::mem::take(&mut batch.observations);
            let first_sequence = batch.first_sequence;
            let request = ObservationsRequest { cell_epoch, first_sequence, observations };
            match control_plane.observations(&request).await {
                Ok(answer) => {
                    self.spool.acknowledge(&batch, answer.acknowledged);
                    if answer.acknowledged >= first_sequence {
                        back_off.reset();
                        continue;
                    }
                }
                Err(error) if error.is_epoch_passed() => return epoch_passed.cancel(),
                Err(error) => tracing::debug!(%error, "Observations wait."),
            }
            sleep(back_off.pause()).await;
        }
    }

    /// Waits until all that was observed is stored.
    pub(super) async fn flushed(&self) {
        while !self.spool.is_empty() {
            sleep(GATHER).await;
        }
    }
}

/// Takes the observations of one container.
#[derive(Debug)]
pub(super) struct InstanceSink {
    observer: Arc<Observer>,
    owner: Owner,
    index: Option<u32>,
    instance_guid: InstanceGuid,
    /// Which say how it is tagged.
    orders: Arc<Orders>,
}

impl InstanceSink {
    pub(super) fn new(
        observer: Arc<Observer>,
        reference: &WorkReference,
        orders: Arc<Orders>,
    ) -> Self {
        let index = match &reference.kind {
            WorkKind::Lrp(key) => Some(key.index),
            WorkKind::Task(_) => None,
        };
        let owner = reference.kind.owner();
        Self { observer, owner, index, instance_guid: reference.instance_guid.clone(), orders }
    }

    fn observe(&self, record: ObservationRecord) {
        self.observer.observe(&Observation {
            owner: self.owner.clone(),
            index: self.index,
            instance_guid: self.instance_guid.clone(),
            log_position: self.observer.head.position(),
            tags: self.orders.tags(),
            record,
        });
    }
}

impl Sink for InstanceSink {
    fn line(&self, line: &LogLine) {
        self.observe(ObservationRecord::Line(line.clone()));
    }

    fn metrics(&self, samples: &[MetricsSample]) {
        for sample in samples {
            self.observe(ObservationRecord::Metrics(*sample));
        }
    }
}
