//! The lease under which this node's loops act: taken, renewed, given up.
//!
//! Loops stop here well before another node can take the lease, and their commands carry its epoch,
//! which the log checks at each append: a node that does not notice does no harm. Decides nothing
//! about the loops' work.

use std::{sync::Arc, time::Duration};

use domain::{log::LeaseEpoch, units::Milliseconds};
use projections::leases::{LeaseState, Leases};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The shortest time to live: below it a pause of the machine would pass the lease on.
pub const TIME_TO_LIVE_MIN: Milliseconds = Milliseconds::from_seconds(1);
/// The longest time to live.
pub const TIME_TO_LIVE_MAX: Milliseconds = Milliseconds::from_seconds(300);

/// The longest pause between two tries to take the lease from another node.
const TRY_PAUSE_MAX: Duration = Duration::from_millis(500);

/// What this node has of the lease: a cheap handle that loops and command bus share.
#[derive(Debug, Clone)]
pub struct Lease {
    epoch: Arc<watch::Sender<Option<LeaseEpoch>>>,
}

impl Lease {
    /// A lease that is not held yet.
    #[must_use]
    pub fn free() -> Self {
        Self { epoch: Arc::new(watch::Sender::new(None)) }
    }

    /// A lease that is held for ever: of a log that nobody else writes.
    #[must_use]
    pub fn held(lease_epoch: LeaseEpoch) -> Self {
        Self { epoch: Arc::new(watch::Sender::new(Some(lease_epoch))) }
    }

    /// The epoch under which loops may act now; `None` while another node has the lease.
    #[must_use]
    pub fn epoch(&self) -> Option<LeaseEpoch> {
        *self.epoch.borrow()
    }

    /// Wakes whenever the lease was taken or lost.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<Option<LeaseEpoch>> {
        self.epoch.subscribe()
    }

    /// Waits until this node has the lease.
    pub async fn taken(&self) {
        // Never fails: this handle is one of those that keep it.
        drop(self.changed().wait_for(Option::is_some).await);
    }

    /// Waits until this node has the lease no more.
    pub async fn lost(&self) {
        drop(self.changed().wait_for(Option::is_none).await);
    }

    /// Notes that the log refused an epoch: another node has taken the lease since.
    pub fn note_passed(&self, lease_epoch: LeaseEpoch) {
        self.epoch.send_if_modified(|held| {
            let is_passed = *held == Some(lease_epoch);
            if is_passed {
                warn!(lease_epoch = lease_epoch.0, "The lease has passed to another node.");
                *held = None;
            }
            is_passed
        });
    }

    fn set(&self, epoch: Option<LeaseEpoch>) {
        self.epoch.send_if_modified(|held| {
            let is_new = *held != epoch;
            *held = epoch;
            is_new
        });
    }
}

/// Takes the lease, renews it, and tries again while another node has it.
#[derive(Debug)]
pub struct Keeper {
    leases: Arc<dyn Leases>,
    lease: Lease,
    /// Another at each start of a process.
    holder: String,
    time_to_live: Milliseconds,
    /// When the last renewal that was granted had been asked for.
    renewed: Option<Instant>,
}

impl Keeper {
    /// A keeper that has not asked yet.
    #[must_use]
    pub fn new(
        leases: Arc<dyn Leases>,
        lease: Lease,
        holder: String,
        time_to_live: Milliseconds,
    ) -> Self {
        Self { leases, lease, holder, time_to_live, renewed: None }
    }

    /// Keeps the lease until told to stop. It is not given up then: loops may still be ending.
    pub async fn run(&mut self, shutdown: &CancellationToken) {
        let mut changed = self.lease.changed();
        loop {
            changed.mark_unchanged();
            let pause = tokio::select! {
                () = shutdown.cancelled() => return,
                pause = self.ask() => pause,
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                // The log has refused the epoch: another node is known to have it.
                _ = changed.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Gives the lease up, so that another node need not wait for its end.
    pub async fn release(self) {
        self.lease.set(None);
        if let Err(failure) = self.leases.release(&self.holder).await {
            warn!(error = %failure, "The lease could not be given up; it ends by itself.");
        }
    }

    /// Asks once. Answers with the pause before the next time.
    async fn ask(&mut self) -> Duration {
        let asked = Instant::now();
        let third = self.time_to_live.duration() / 3;
        let answer = timeout(third, self.leases.acquire(&self.holder, self.time_to_live)).await;
        let pause = match answer {
            Ok(Ok(LeaseState::Held { lease_epoch })) => {
                if self.lease.epoch() != Some(lease_epoch) {
                    info!(lease_epoch = lease_epoch.0, "This node has the lease: its loops act.");
                }
                self.renewed = Some(asked);
                self.lease.set(Some(lease_epoch));
                third.saturating_sub(asked.elapsed())
            }
            Ok(Ok(LeaseState::HeldByOther { holder, lease_epoch, left })) => {
                if self.renewed.take().is_some() {
                    warn!(%holder, lease_epoch = lease_epoch.0, "Another node has the lease.");
                }
                self.lease.set(None);
                left.duration().min(TRY_PAUSE_MAX)
            }
            Ok(Err(failure)) => {
                warn!(error = %failure, "The lease could not be asked for.");
                third / 5
            }
            Err(_) => {
                warn!(seconds = third.as_secs(), "The lease was asked for without an answer.");
                Duration::ZERO
            }
        };
        self.let_go_in_time();
        pause.max(Duration::from_millis(10))
    }

    /// Without a renewal for two thirds of its time the lease may soon be another's.
    fn let_go_in_time(&mut self) {
        let limit = self.time_to_live.duration() / 3 * 2;
        if self.renewed.is_some_and(|renewed| renewed.elapsed() >= limit) {
            warn!("The lease was not renewed in time: the loops stop.");
            self.renewed = None;
            self.lease.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use projections::event_store::Error;

    use super::*;

    const TIME_TO_LIVE: Milliseconds = Milliseconds::from_seconds(15);

    /// A lease by the test's clock, and nodes that cannot reach it.
    #[derive(Debug, Default)]
    struct Table {
        held: Mutex<Option<(String, u64, Instant)>>,
        cut_off: Mutex<Option<&'static str>>,
    }

    #[async_trait]
    impl Leases for Table {
        async fn acquire(&self, holder: &str, ttl: Milliseconds) -> Result<LeaseState, Error> {
            if self.cut_off.lock().unwrap().is_some_and(|node| node == holder) {
                return Err(Error::Closed);
            }
            let mut held = self.held.lock().unwrap();
            let now = Instant::now();
            let epoch = match held.as_ref() {
                Some((other, epoch, ends)) if other != holder && *ends > now => {
                    return Ok(LeaseState::HeldByOther {
                        holder: other.clone(),
                        lease_epoch: LeaseEpoch(*epoch),
                        left: Milliseconds(u64::try_from((*ends - now).as_millis()).unwrap()),
                    });
                }
                Some((other, epoch, _)) if other == holder => *epoch,
                Some((_, epoch, _)) => epoch + 1,
                None => 1,
            };
            *held = Some((holder.to_owned(), epoch, now + ttl.duration()));
            Ok(LeaseState::Held { lease_epoch: LeaseEpoch(epoch) })
        }

        async fn release(&self, holder: &str) -> Result<(), Error> {
            let mut held = self.held.lock().unwrap();
            if held.as_ref().is_some_and(|(other, ..)| other == holder) {
                held.as_mut().unwrap().2 = Instant::now();
            }
            Ok(())
        }
    }

    fn node(table: &Arc<Table>, name: &str, shutdown: &CancellationToken) -> Lease {
        let (lease, shutdown) = (Lease::free(), shutdown.clone());
        let leases: Arc<dyn Leases> = table.clone();
        let mut keeper = Keeper::new(leases, lease.clone(), name.to_owned(), TIME_TO_LIVE);
        drop(projections::worker::spawn("keeper", async move {
            keeper.run(&shutdown).await;
            keeper.release().await;
        }));
        lease
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_cut_off_lets_go_before_another_takes_over_within_the_lease_and_a_second()
     {
        let table = Arc::new(Table::default());
        let stop = CancellationToken::new();
        let first = node(&table, "first", &stop);
        first.changed().wait_for(Option::is_some).await.unwrap();
        let second = node(&table, "second", &stop);
        sleep(Duration::from_secs(60)).await;
        assert_eq!((first.epoch(), second.epoch()), (Some(LeaseEpoch(1)), None));

        *table.cut_off.lock().unwrap() = Some("first");
        let cut = Instant::now();
        first.changed().wait_for(Option::is_none).await.unwrap();
        assert!(cut.elapsed() <= TIME_TO_LIVE.duration() * 2 / 3 + Duration::from_secs(1));
        assert_eq!(second.epoch(), None, "two nodes had the lease");
        second.changed().wait_for(Option::is_some).await.unwrap();

        assert_eq!(second.epoch(), Some(LeaseEpoch(2)));
        assert!(cut.elapsed() <= TIME_TO_LIVE.duration() + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stops_hands_the_lease_on_at_once_and_a_passed_epoch_is_asked_for_anew() {
        let table = Arc::new(Table::default());
        let (stop_first, stop) = (CancellationToken::new(), CancellationToken::new());
        let first = node(&table, "first", &stop_first);
        first.changed().wait_for(Option::is_some).await.unwrap();
        let second = node(&table, "second", &stop);

        stop_first.cancel();
        let told = Instant::now();
        second.changed().wait_for(Option::is_some).await.unwrap();
        assert!(told.elapsed() <= Duration::from_secs(1));

        second.note_passed(LeaseEpoch(1));
        assert_eq!(second.epoch(), Some(LeaseEpoch(2)), "a foreign epoch passed");
        second.note_passed(LeaseEpoch(2));
        assert_eq!(second.epoch(), None);
        second.changed().wait_for(Option::is_some).await.unwrap();
    }
}
