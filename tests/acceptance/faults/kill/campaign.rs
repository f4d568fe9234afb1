//! Kills a node again and again under load, and looks at what is left: now and then whether the
//! chain is whole, at the end whether all is there.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    thread,
    time::{Duration, Instant},
};

use domain::workload::Dice;
use projections::{
    failpoint::{Failpoint, Step},
    testing::postgres::Cluster,
};

use super::{
    CLIENTS, CLIENTS_OF_OTHER_NODE,
    client::{self, History},
    journal::Journal,
    load::Load,
    log::Log,
    node::{Node, leads},
    plan::Kill,
    stall::Stall,
};
use crate::harness::{tell, until};

/// After so many kills the chain is looked at.
const VERIFY_EVERY: usize = 20;
/// So many commands at least are done in a life that ends by a stop.
const TOLD_BEFORE_STOP: u64 = 50;
/// The latest instant of a kill at any time, after a first command was done.
const ANY_TIME_MAX_MS: u32 = 400;

/// Where the log is.
#[derive(Clone, Copy)]
pub(super) enum Store<'c> {
    /// In the data folder.
    Sqlite,
    /// In a database of a cluster, by its address.
    Postgres(&'c Cluster, &'c str),
}

/// Kills of the node over one log.
pub(super) struct Campaign<'c> {
    name: &'static str,
    seed: u64,
    dice: Dice,
    began: Instant,
    // Before the log: dropped first.
    other: Option<(Node, Load)>,
    log: Log,
    stall: Option<Stall<'c>>,
    /// Whether an append is stalled by now.
    is_stalled: bool,
    load: Load,
    killed: BTreeMap<String, usize>,
}

impl<'c> Campaign<'c> {
    /// Makes the log, and starts the clients of the node that will be killed.
    pub(super) fn begin(name: &'static str, store: Store<'c>, seed: u64) -> Self {
        let database = match store {
            Store::Sqlite => None,
            Store::Postgres(_, url) => Some(url),
        };
        let log = Log::new(database);
        let mut first = log.start(None);
        first.listens().expect("a node that starts");
        first.stop();
        let stall = match store {
            Store::Sqlite => None,
            Store::Postgres(cluster, url) => Some(Stall::prepare(cluster, url)),
        };
        Self {
            name,
            seed,
            dice: Dice::new(seed),
            began: Instant::now(),
            other: None,
            log,
            stall,
            is_stalled: false,
            load: Load::start("one", CLIENTS, seed),
            killed: BTreeMap::new(),
        }
    }

    /// From now on another node writes the same log, with clients of its own.
    pub(super) fn start_other_node(&mut self) {
        let mut node = self.log.start_other();
        let api = node.listens().expect("a node that starts");
        let load = Load::start("two", CLIENTS_OF_OTHER_NODE, self.seed);
        load.door().open(&api);
        self.other = Some((node, load));
    }

    /// One life after another, each to its kill.
    pub(super) fn kill_all(&mut self, kills: &[Kill]) {
        for kill in kills {
            self.live(*kill);
            *self.killed.entry(kill.to_string()).or_default() += 1;
            let killed = self.killed.values().sum::<usize>();
            if killed.is_multiple_of(VERIFY_EVERY) {
                let seconds = self.began.elapsed().as_secs();
                let verified = self.log.verify();
                tell(&format!("{}: {killed} kills in {seconds} s; {verified}", self.name));
            }
        }
    }

    fn live(&mut self, kill: Kill) {
        if let Kill::Archiving(step) = kill {
            return self.archive(step);
        }
        let failpoint = self.failpoint(kill);
        let mut node = self.log.start(failpoint);
        if let Some(api) = node.listens() {
            let told_before = self.load.door().told();
            self.load.door().open(&api);
            self.go_on(&mut node);
            self.lead_to(kill, &mut node, &api, told_before);
        }
        node.was_killed(&failpoint.map_or_else(|| kill.to_string(), |it| it.to_string()));
        self.load.check();
    }

    /// Where the node dies by itself: soon enough for a life of about a second.
    fn failpoint(&mut self, kill: Kill) -> Option<Failpoint> {
        let (step, time_max) = match kill {
            // Gone through for each request; the others for each batch.
            Kill::At(step @ Step::BusAnswering) => (step, 600),
            Kill::At(step) => (step, 60),
            Kill::AtStop(step) => (step, 1),
            Kill::InDatabase(_) | Kill::AnyTime | Kill::Archiving(_) => return None,
        };
        let time = NonZeroU32::MIN.saturating_add(self.dice.below(time_max));
        Some(Failpoint { step, time })
    }

    /// Some work, then an operator's command that moves what came of it and is killed meanwhile.
    fn archive(&mut self, step: Step) {
        let mut node = self.log.start(None);
        let api = node.listens().expect("a node that starts");
        let told_before = self.load.door().told();
        self.load.door().open(&api);
        self.done(told_before + TOLD_BEFORE_STOP, &mut node);
        node.stop();
        self.load.check();
        self.log.archive(Failpoint { step, time: NonZeroU32::MIN }).was_killed(step.name());
    }

    /// Waits until so many commands are done, or the node has died by itself already.
    fn done(&self, count: u64, node: &mut Node) {
        let door = self.load.door();
        let is_due = |node: &mut Node| door.told() >= count || !node.is_alive();
        until("commands to be done", || is_due(node).then_some(()));
    }

    /// Lets an append go on that has lost its node, once the next one waits for it.
    fn go_on(&mut self, node: &mut Node) {
        let Some(stall) = self.stall.as_ref().filter(|_| self.is_stalled) else { return };
        until("somebody to wait for the stalled append", || {
            let is_due = stall.is_waited_for() || !stall.holds() || !node.is_alive();
            is_due.then_some(())
        });
        stall.end();
        self.is_stalled = false;
    }

    /// Does from outside what a kill asks for.
    fn lead_to(&mut self, kill: Kill, node: &mut Node, api: &str, told_before: u64) {
        match kill {
            Kill::At(_) | Kill::Archiving(_) => {}
            Kill::AtStop(_) => {
                self.done(told_before + TOLD_BEFORE_STOP, node);
                until("the node to lead", || (leads(api) || !node.is_alive()).then_some(()));
                // A large log's snapshots are taken before the stop too.
                if node.is_alive() {
                    node.terminate();
                }
            }
            Kill::InDatabase(table) => {
                self.done(told_before + 1, node);
                let stall = self.stall.as_ref().expect("a database that can be stalled");
                stall.begin(table);
                until("an append to stall", || stall.holds().then_some(()));
                self.is_stalled = true;
                node.kill();
            }
            Kill::AnyTime => {
                self.done(told_before + 1, node);
                let pause = self.dice.below(ANY_TIME_MAX_MS);
                thread::sleep(Duration::from_millis(pause.into()));
                node.kill();
            }
        }
    }

    /// Lets everybody finish, and compares what there is with what was told.
    pub(super) fn end(mut self) {
        let mut node = self.log.start(None);
        let api = node.listens().expect("a node that starts");
        self.load.door().open(&api);
        self.go_on(&mut node);
        let Self { name, seed, began, other, log, load, killed, .. } = self;
        let mut histories = load.end();
        if let Some((other, load)) = other {
            histories.extend(load.end());
            other.stop();
        }
        client::check_wishes(&histories, &api);
        log.compare_views(&api);
        node.stop();
        let verified = log.verify();
        let journal = Journal::read(&log.export());
        journal.check(&histories);
        tell(&format!(
            "{name}: {} kills -9 in {} s, seed {seed} (DIARIO_SEED): {}\n  {}\n  {verified}",
            killed.values().sum::<usize>(),
            began.elapsed().as_secs(),
            killed
                .iter()
                .map(|(kill, count)| format!("{kill} {count}"))
                .collect::<Vec<_>>()
                .join(", "),
            summary(&histories),
        ));
    }
}

fn summary(histories: &[History]) -> String {
    let sum = |of: fn(&History) -> u64| histories.iter().map(of).sum::<u64>();
    let told: usize = histories.iter().map(|history| history.told.len()).sum();
    format!(
        "{told} commands acknowledged, none lost, none twice; {} answers lost and asked for again, \
         {} put off, {} acknowledged ones asked for again and told the same",
        sum(|history| history.lost),
        sum(|history| history.put_off),
        sum(|history| history.asked_again),
    )
}
