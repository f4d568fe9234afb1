//! Samples what a container uses, once a second for evidence, and hands a sample on every 15 s and
//! at its end.
//!
//! A sample that cannot be taken is left out: what is not known is not made up.

use std::convert::Infallible;
use std::time::Duration;

use domain::observation::MetricsSample;
use tokio::time::{MissedTickBehavior, interval};

use super::Order;
use super::feed::Feed;
use crate::clock;
use crate::garden::{ContainerInfo, Garden};

const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Diego's interval.
const PUSH_EVERY_SAMPLES: usize = 15;

/// What a cell's processors are to its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// The machine's processors.
    pub(crate) processors: u32,
    /// The memory that they go with, in bytes: what the cell offers.
    pub(crate) memory_bytes: u64,
}

impl Share {
    /// The processor time that a container of so much memory can count on in a span.
    fn entitlement(self, memory_bytes: u64, span_ns: u64) -> Option<u64> {
        let all = u128::from(span_ns) * u128::from(self.processors);
        let part = all.checked_mul(u128::from(memory_bytes))?;
        u64::try_from(part.checked_div(u128::from(self.memory_bytes))?).ok()
    }
}

/// Samples one container.
#[derive(Debug)]
pub(super) struct Sampler<'a> {
    garden: &'a dyn Garden,
    order: &'a Order,
    feed: &'a Feed,
    share: Share,
    container: &'a ContainerInfo,
    disk_bytes: Option<u64>,
    unpushed: usize,
}

impl<'a> Sampler<'a> {
    pub(super) fn new(
        garden: &'a dyn Garden,
        order: &'a Order,
        feed: &'a Feed,
        share: Share,
        container: &'a ContainerInfo,
    ) -> Self {
        Self { garden, order, feed, share, container, disk_bytes: None, unpushed: 0 }
    }

    pub(super) async fn run(&mut self) -> Infallible {
        let mut tick = interval(SAMPLE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.unpushed == 0 {
                self.look_at_disk().await;
            }
            if let Some(sample) = self.sample().await {
                self.feed.note_sample(sample);
                self.unpushed += 1;
            }
            if self.unpushed >= PUSH_EVERY_SAMPLES {
                self.push();
            }
        }
    }

    /// Hands on the last sample, if some were taken since the last time.
    pub(super) fn push(&mut self) {
        if self.unpushed > 0
            && let Some(sample) = self.feed.last_sample()
        {
            self.order.sink.metrics(&[sample]);
            self.feed.note_sparse_sample(sample);
        }
        self.unpushed = 0;
    }

    /// A walk through all its files: not for every second.
    async fn look_at_disk(&mut self) {
        match self.garden.disk_usage(&self.order.handle).await {
            Ok(bytes) => self.disk_bytes = Some(bytes),
            Err(error) => {
                tracing::debug!(handle = %self.order.handle, %error, "No look at a container's disk.");
            }
        }
    }

    async fn sample(&self) -> Option<MetricsSample> {
        let Self { garden, order, feed, share, container, disk_bytes, .. } = self;
        let sample = sample(*garden, order, feed, *share, container).await?;
        Some(MetricsSample { disk_bytes: *disk_bytes, ..sample })
    }
}

/// Takes one sample, without the disk; `None` if there was none to take.
pub(super) async fn sample(
    garden: &dyn Garden,
    order: &Order,
    feed: &Feed,
    share: Share,
    container: &ContainerInfo,
) -> Option<MetricsSample> {
    let metrics = match garden.metrics(&order.handle).await {
        Ok(metrics) => metrics,
        Err(error) => {
            tracing::debug!(handle = %order.handle, %error, "No sample of a container.");
            return None;
        }
    };
    let wall_ns = clock::wall_ns();
    let age_ns = wall_ns.saturating_sub(container.created_at_ns);
    let limits = &container.limits;
    let entitlement = limits.memory_bytes.and_then(|memory| share.entitlement(memory, age_ns));
    Some(MetricsSample {
        at: clock::timestamp(wall_ns),
        age_nanoseconds: age_ns,
        memory_bytes: metrics.memory_bytes,
        memory_limit_bytes: limits.memory_bytes,
        cpu_nanoseconds: metrics.cpu_ns,
        cpu_entitlement_nanoseconds: entitlement,
        disk_bytes: feed.last_sample().and_then(|before| before.disk_bytes),
        disk_limit_bytes: Some(order.recipe.disk_mb.bytes()).filter(|bytes| *bytes > 0),
        pids: metrics.pids,
        pids_limit: limits.pids_max.map(u64::from),
        received_bytes: metrics.received_bytes,
        sent_bytes: metrics.sent_bytes,
        log_bytes: feed.written_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_entitled_to_as_much_of_the_processors_as_of_the_memory() {
        let share = Share { processors: 4, memory_bytes: 1 << 34 };

        assert_eq!(share.entitlement(1 << 32, 1000), Some(1000));
        assert_eq!(share.entitlement(1 << 30, 1000), Some(250));
        assert_eq!(Share { memory_bytes: 0, ..share }.entitlement(1, 1), None);
        assert_eq!(share.entitlement(u64::MAX, u64::MAX), None);
    }
}
