//! Room: what the cell's containers leave free of its capacity.
//!
//! A container counts from before it is made until it is destroyed. What is about to leave is
//! waited for, but not for ever; nothing is ever over-committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::bbs::placement::Resources;
use domain::id::InstanceGuid;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What is free and what is taken.
#[derive(Debug)]
pub(super) struct Room {
    capacity: Resources,
    wait_max: Duration,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    by: BTreeMap<InstanceGuid, Resources>,
    leaving: BTreeSet<InstanceGuid>,
}

impl Room {
    pub(super) fn new(capacity: Resources, wait_max: Duration) -> Self {
        Self { capacity, wait_max, taken: Mutex::default(), freed: Notify::new() }
    }

    /// Takes room for a container, waiting a while if others are leaving.
    ///
    /// # Errors
    /// It does not fit: what is lacking, and by how much.
    pub(super) async fn take(
        &self,
        instance_guid: &InstanceGuid,
        wanted: Resources,
    ) -> Result<(), String> {
        let deadline = Instant::now() + self.wait_max;
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Registered before looking, so that nothing that leaves in between is missed.
            freed.as_mut().enable();
            let Err((lacking, may_wait)) = self.try_take(instance_guid, wanted) else {
                return Ok(());
            };
            if !may_wait || timeout_at(deadline, freed).await.is_err() {
                return Err(lacking);
            }
        }
    }

    /// Notes room that an adopted container takes, whether it fits or not: it is there.
    pub(super) fn take_anyway(&self, instance_guid: &InstanceGuid, taken: Resources) {
        self.lock().by.insert(instance_guid.clone(), taken);
    }

    /// Notes that a container is about to be destroyed.
    pub(super) fn leaves(&self, instance_guid: &InstanceGuid) {
        self.lock().leaving.insert(instance_guid.clone());
    }

    /// Frees a container's room.
    pub(super) fn free(&self, instance_guid: &InstanceGuid) {
        let mut taken = self.lock();
        taken.by.remove(instance_guid);
        taken.leaving.remove(instance_guid);
        drop(taken);
        self.freed.notify_waiters();
    }

    fn try_take(
        &self,
        instance_guid: &InstanceGuid,
        wanted: Resources,
    ) -> Result<(), (String, bool)> {
        let mut taken = self.lock();
        let sum = taken.by.values().fold(Resources::default(), |sum, each| sum.plus(*each));
        let free = self.capacity.minus(sum);
        let lacking = free.lacking(wanted);
        if lacking.is_empty() {
            taken.by.insert(instance_guid.clone(), wanted);
            return Ok(());
        }
        let may_wait = taken.leaving.iter().any(|guid| taken.by.contains_key(guid));
        Err((insufficient(&lacking, wanted, free), may_wait))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `insufficient resources: memory (512 MiB wanted, 100 MiB free)`.
fn insufficient(lacking: &[&'static str], wanted: Resources, free: Resources) -> String {
    let each = lacking.iter().map(|what| match *what {
        "memory" => format!("memory ({} wanted, {} free)", wanted.memory_mb, free.memory_mb),
        "disk" => format!("disk ({} wanted, {} free)", wanted.disk_mb, free.disk_mb),
        other => format!("{other} (1 wanted, {} free)", free.containers),
    });
    format!("insufficient resources: {}", each.collect::<Vec<_>>().join(", "))
}
