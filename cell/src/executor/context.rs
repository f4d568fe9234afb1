//! What every step and check of one container works with.
//!
//! A process is run once: one that the garden knows already, from before the agent's restart, is
//! only waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::bbs::definition::Definition;
use domain::observation::OutputStream;
use domain::sealed::PlainText;
use domain::units::Milliseconds;
use tokio::sync::watch;

use super::feed::Feed;
use super::process_name::{Look, ProcessName};
use super::{Control, Executor, Order, Redacted, Settings, Traffic};
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
    /// What goes in and out is shared by all containers.
    pub(super) traffic: &'a Traffic,
    known: BTreeMap<ProcessName, ProcessState>,
    started: watch::Sender<BTreeSet<ProcessName>>,
    was_killed: AtomicBool,
    control: &'a Control,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        executor: &'a Executor,
        order: &'a Order,
        feed: &'a Feed,
        container: &'a ContainerInfo,
        control: &'a Control,
    ) -> Self {
        let Executor { garden, settings, traffic } = executor;
        let known = container
            .processes
            .iter()
            .filter_map(|(id, state)| ProcessName::parse(id).map(|name| (name, state.clone())));
        Self {
            garden: garden.as_ref(),
            settings,
            traffic,
            order,
            feed,
            container,
            address: container.address,
            known: known.collect(),
            started: watch::Sender::default(),
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

    /// What is left of the disk that the container may take; nothing where it may take all.
    pub(super) async fn disk_left(&self) -> Option<u64> {
        let limit = Some(self.recipe().disk_mb.bytes()).filter(|bytes| *bytes > 0)?;
        let taken = self.garden.disk_usage(&self.order.handle).await.unwrap_or(0);
        Some(limit.saturating_sub(taken))
    }

    /// Notes that a process did not end within its grace.
    pub(super) fn note_killed(&self) {
        self.was_killed.store(true, Ordering::Relaxed);
    }

    /// Whether a process did not end within its grace.
    pub(super) fn was_killed(&self) -> bool {
        self.was_killed.load(Ordering::Relaxed)
    }

    /// The definition with its secrets; waits until it is there to be had.
    pub(super) async fn definition(&self) -> Result<Arc<Definition<PlainText>>, String> {
        self.order.secret_definition().await
    }

    /// Tells a line of the executor's own, under the recipe's source where there is no other.
    pub(super) fn say(&self, source: Option<&str>, stream: OutputStream, text: String) {
        let source = source.unwrap_or(&self.recipe().log_source);
        self.feed.say(self.order, source, stream, text);
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
            ProcessName::Run(_)
            | ProcessName::Startup(_)
            | ProcessName::Liveness(_)
            | ProcessName::Monitor { .. } => None,
        });
        rounds.max()
    }

    /// The newest look of the monitor that was begun before.
    pub(super) fn last_look(&self) -> Option<Look> {
        let looks = self.known.keys().filter_map(|name| match name {
            ProcessName::Monitor { look, .. } => Some(*look),
            ProcessName::Run(_)
            | ProcessName::Startup(_)
            | ProcessName::Liveness(_)
            | ProcessName::UntilReady { .. }
            | ProcessName::Readiness { .. } => None,
        });
        looks.max()
    }

    /// How long ago the first of these processes began, if the garden knows it from before.
    pub(super) fn known_for(&self, names: impl Iterator<Item = ProcessName>) -> Duration {
        let started = names.filter_map(|name| self.known.get(&name));
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

    pub(super) fn note_started(&self, name: ProcessName) {
        self.started.send_modify(|started| {
            started.insert(name);
        });
    }

    /// Waits until a process has been exec'd, by this agent or an earlier one.
    pub(super) async fn until_started(&self, name: ProcessName) {
        let mut started = self.started.subscribe();
        // The sender is in `self`: it cannot be gone.
        drop(started.wait_for(|started| started.contains(&name)).await);
    }
}
