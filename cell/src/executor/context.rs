//! What every step and check of one container works with.
//!
//! A process is run once: one that the garden knows already, from before the agent's restart, is
//! only waited for.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::bbs::definition::Definition;
use domain::units::Milliseconds;
use tokio::sync::watch;

use super::feed::Feed;
use super::process_name::ProcessName;
use super::steps::count_runs;
use super::{Control, Order, Redacted, Settings};
use crate::clock;
use crate::garden::{ContainerInfo, Garden, ProcessState};

/// What steps and checks work with.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) garden: &'a dyn Garden,
    pub(super) settings: &'a Settings,
    pub(super) order: &'a Order,
    pub(super) feed: &'a Feed,
    pub(super) container: &'a ContainerInfo,
    pub(super) address: Ipv4Addr,
    known: BTreeMap<ProcessName, ProcessState>,
    started: watch::Sender<Option<u32>>,
    was_killed: AtomicBool,
    control: &'a Control,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        garden: &'a dyn Garden,
        settings: &'a Settings,
        order: &'a Order,
        feed: &'a Feed,
        container: &'a ContainerInfo,
        control: &'a Control,
    ) -> Self {
        let known = container
            .processes
            .iter()
            .filter_map(|(id, state)| ProcessName::parse(id).map(|name| (name, state.clone())));
        Self {
            garden,
            settings,
            order,
            feed,
            container,
            address: container.address,
            known: known.collect(),
            started: watch::Sender::new(None),
            was_killed: AtomicBool::new(false),
            control,
        }
    }

    pub(super) fn recipe(&self) -> &'a Definition<Redacted> {
        &self.order.recipe
    }

    /// From SIGTERM to SIGKILL: the recipe's own, or the cell's default; no longer than that where
    /// nobody counts on it any more.
    pub(super) fn graceful_stop(&self) -> Duration {
        let default = self.settings.graceful_stop;
        let own = self.recipe().graceful_stop_ms.map_or(default, Milliseconds::duration);
        if self.control.is_given_up() { own.min(default) } else { own }
    }

    /// Notes that a process did not end within its grace.
    pub(super) fn note_killed(&self) {
        self.was_killed.store(true, Ordering::Relaxed);
    }

    /// Whether a process did not end within its grace.
    pub(super) fn was_killed(&self) -> bool {
        self.was_killed.load(Ordering::Relaxed)
    }

    /// The numbers of the first and the last Run step of the action.
    pub(super) fn action_runs(&self) -> (u32, u32) {
        let first = self.recipe().setup.as_ref().map_or(0, count_runs);
        let count = count_runs(&self.recipe().action);
        (first, (first + count).saturating_sub(1))
    }

    pub(super) fn is_known(&self, name: ProcessName) -> bool {
        self.known.contains_key(&name)
    }

    /// The newest round of readiness checks that was begun before.
    pub(super) fn last_readiness_round(&self) -> Option<u32> {
        let rounds = self.known.keys().filter_map(|name| match name {
            ProcessName::UntilReady { round, .. } | ProcessName::Readiness { round, .. } => {
                Some(*round)
            }
            ProcessName::Run(_) | ProcessName::Startup(_) | ProcessName::Liveness(_) => None,
        });
        rounds.max()
    }

    /// Whether a later Run step was run before: then this one was run before too, and ended
    /// well, even if its own record is gone.
    pub(super) fn was_passed(&self, number: u32) -> bool {
        self.known.keys().any(|name| matches!(name, ProcessName::Run(later) if *later > number))
    }

    /// How long ago the first of these Run steps began, if the garden knows it from before.
    pub(super) fn known_for(&self, numbers: std::ops::Range<u32>) -> Duration {
        let started = numbers.filter_map(|number| self.known.get(&ProcessName::Run(number)));
        let first = started
            .map(|state| match state {
                ProcessState::Running { started_at_ns, .. } => *started_at_ns,
                ProcessState::Ended(record) => record.started_at_ns,
            })
            .min();
        first.map_or(Duration::ZERO, |first| {
            Duration::from_nanos(clock::wall_ns().saturating_sub(first))
        })
    }

    pub(super) fn note_started(&self, number: u32) {
        self.started.send_replace(Some(number));
    }

    /// Waits until a Run step, or a later one, has been exec'd.
    pub(super) async fn until_started(&self, number: u32) {
        let mut started = self.started.subscribe();
        let reached = started.wait_for(|reached| reached.is_some_and(|reached| reached >= number));
        // The sender is in `self`: it cannot be gone.
        drop(reached.await);
    }
}
