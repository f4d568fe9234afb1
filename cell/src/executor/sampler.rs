//! Samples what a container uses, once a second, and hands the samples on every 15 s and at its
//! end.
//!
//! A sample that cannot be taken is left out: what is not known is not made up.

use std::convert::Infallible;
use std::time::Duration;

use domain::observation::MetricsSample;
use tokio::time::{MissedTickBehavior, interval};

use super::Order;
use super::feed::{Feed, SAMPLES_MAX};
use crate::clock;
use crate::garden::Garden;

const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const PUSH_EVERY_SAMPLES: usize = 15;

/// Samples one container.
#[derive(Debug)]
pub(super) struct Sampler<'a> {
    garden: &'a dyn Garden,
    order: &'a Order,
    feed: &'a Feed,
    unpushed: usize,
}

impl<'a> Sampler<'a> {
    pub(super) fn new(garden: &'a dyn Garden, order: &'a Order, feed: &'a Feed) -> Self {
        Self { garden, order, feed, unpushed: 0 }
    }

    pub(super) async fn run(&mut self) -> Infallible {
        let mut tick = interval(SAMPLE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if sample(self.garden, self.order, self.feed).await {
                self.unpushed += 1;
            }
            if self.unpushed >= PUSH_EVERY_SAMPLES {
                self.push();
            }
        }
    }

    /// Hands on what was not yet handed on.
    pub(super) fn push(&mut self) {
        let count = self.unpushed.min(SAMPLES_MAX);
        if count > 0 {
            self.order.sink.metrics(&self.feed.last_samples(count));
        }
        self.unpushed = 0;
    }
}

/// Takes one sample; `false` if there was none to take.
pub(super) async fn sample(garden: &dyn Garden, order: &Order, feed: &Feed) -> bool {
    match garden.metrics(&order.handle).await {
        Ok(metrics) => {
            feed.note_sample(MetricsSample {
                at: clock::now(),
                memory_bytes: metrics.memory_bytes,
                cpu_nanoseconds: metrics.cpu_ns,
                pids: metrics.pids,
            });
            true
        }
        Err(error) => {
            tracing::debug!(handle = %order.handle, %error, "No sample of a container.");
            false
        }
    }
}
