//! What containers used, as clients see it: samples, and pages of them.

use std::collections::BTreeMap;

use async_graphql::{Result, SimpleObject};
use domain::{
    id::InstanceGuid,
    observation::{MetricsSample, ObservationRecord},
};
use projections::observations::{Kind, Query, Stored};

use super::{
    ControlPlane,
    error::of_observations,
    observations::RecordsOf,
    scalars::{BigInt, Time},
};

/// What a container used at one instant. What is absent, its machine did not tell.
#[derive(SimpleObject)]
pub(super) struct Metrics {
    /// By the cell's clock.
    at: Time,
    /// How long the container had been there, in nanoseconds.
    age_nanoseconds: BigInt,
    /// Memory in bytes.
    memory_bytes: BigInt,
    /// The most memory that it may use.
    memory_limit_bytes: Option<BigInt>,
    /// Processor time since the start, in nanoseconds.
    cpu_nanoseconds: BigInt,
    /// The processor time that it could count on since the start, in nanoseconds: its memory's part
    /// of the cell's memory is its part of the cell's processors.
    cpu_entitlement_nanoseconds: Option<BigInt>,
    /// In percent of one processor, since the sample before it of the same container in the same
    /// answer; of its whole life for the first.
    cpu_percent: Option<f64>,
    /// Disk in bytes, without what its root is made of.
    disk_bytes: Option<BigInt>,
    /// The disk that it asked for.
    disk_limit_bytes: Option<BigInt>,
    /// Processes and threads.
    pids: BigInt,
    /// The most processes and threads that it may have.
    pids_limit: Option<BigInt>,
    /// Bytes that came in over its network.
    received_bytes: Option<BigInt>,
    /// Bytes that went out over its network.
    sent_bytes: Option<BigInt>,
    /// Bytes of lines that its processes wrote, with those over a rate limit.
    log_bytes: BigInt,
}

impl Metrics {
    /// A sample, with what was used since the one before it.
    pub(super) fn of(sample: MetricsSample, before: Option<&MetricsSample>) -> Self {
        let big = |number: Option<u64>| number.map(BigInt);
        Self {
            at: Time(sample.at),
            age_nanoseconds: BigInt(sample.age_nanoseconds),
            memory_bytes: BigInt(sample.memory_bytes),
            memory_limit_bytes: big(sample.memory_limit_bytes),
            cpu_nanoseconds: BigInt(sample.cpu_nanoseconds),
            cpu_entitlement_nanoseconds: big(sample.cpu_entitlement_nanoseconds),
            cpu_percent: cpu_percent(&sample, before),
            disk_bytes: big(sample.disk_bytes),
            disk_limit_bytes: big(sample.disk_limit_bytes),
            pids: BigInt(sample.pids),
            pids_limit: big(sample.pids_limit),
            received_bytes: big(sample.received_bytes),
            sent_bytes: big(sample.sent_bytes),
            log_bytes: BigInt(sample.log_bytes),
        }
    }
}

/// Samples of one container, oldest first, each with what was used since the one before it.
pub(super) fn in_order(samples: Vec<MetricsSample>) -> Vec<Metrics> {
    let mut before: Option<MetricsSample> = None;
    let metrics = samples.into_iter().map(|sample| {
        let metrics = Metrics::of(sample, before.as_ref());
        before = Some(sample);
        metrics
    });
    metrics.collect()
}

fn cpu_percent(sample: &MetricsSample, before: Option<&MetricsSample>) -> Option<f64> {
    let (used_before, age_before) =
        before.map_or((0, 0), |before| (before.cpu_nanoseconds, before.age_nanoseconds));
    let span = sample.age_nanoseconds.checked_sub(age_before).filter(|span| *span > 0)?;
    let used = sample.cpu_nanoseconds.checked_sub(used_before)?;
    // In thousandths of a percent: no more is known, and these fit.
    let thousandths = u128::from(used) * 100_000 / u128::from(span);
    Some(f64::from(u32::try_from(thousandths).ok()?) / 1000.0)
}

/// What one container used at one instant.
#[derive(SimpleObject)]
pub(super) struct ContainerMetrics {
    /// Which slot; absent for a task.
    index: Option<u32>,
    /// Which container.
    instance_guid: String,
    /// On which cell.
    cell_id: String,
    /// What it used.
    #[graphql(flatten)]
    metrics: Metrics,
}

/// The newest samples that are asked for, in the order in which they arrived.
pub(super) async fn newest(
    control_plane: &ControlPlane,
    of: RecordsOf,
    last: usize,
) -> Result<Vec<ContainerMetrics>> {
    let (owner, query) = of.checked(Kind::Metrics)?;
    let query = Query { last: Some(last), ..query };
    let read = control_plane.observations.read(&owner, query).await;
    let page = read.map_err(|failure| of_observations(&failure))?;
    let mut before: BTreeMap<InstanceGuid, MetricsSample> = BTreeMap::new();
    let samples = page.records.into_iter().filter_map(|stored| {
        let Stored { number: _, cell_id, observation } = stored;
        let sample = match observation.record {
            ObservationRecord::Metrics(sample) => sample,
            ObservationRecord::Line(_) => return None,
        };
        let earlier = before.insert(observation.instance_guid.clone(), sample);
        Some(ContainerMetrics {
            index: observation.index,
            instance_guid: observation.instance_guid.to_string(),
            cell_id: cell_id.to_string(),
            metrics: Metrics::of(sample, earlier.as_ref()),
        })
    });
    Ok(samples.collect())
}
