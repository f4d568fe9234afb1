//! Light clients that load the nodes: each sends commands under ids of its own and keeps account of
//! what it was told. What was unknown is repeated; what was not done is tried again or given up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::wire::{Answer, Wire, judged, read_judged};
use crate::harness::until;

/// The pause after an answer that asks for another try.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

const UPSERT: &str = "mutation ($id: String, $name: String!) { \
    it: upsertFreshnessDomain(name: $name, ttlSeconds: 3600, commandId: $id) { position events } }";
const OF_NOTHING: &str = "mutation ($id: String) { \
    it: updateDesiredLrp(processGuid: \"not-there\", instances: 1, commandId: $id) \
    { position events } }";
const WITH_SECRET: &str = "mutation ($id: String, $name: String!) { it: desireLrp(spec: { \
    processGuid: $name, instances: 0, definition: { rootfs: \"preloaded:diario\", \
    env: [{ name: \"SECRET\", value: \"sealed\" }], memoryMb: 64, diskMb: 64, \
    action: { run: { path: \"/bin/true\", user: \"vcap\" } } } }, commandId: $id) \
    { position events } }";
const READ: &str = "{ now { position desiredLrp(processGuid: \"not-there\") { processGuid } } \
    log(last: 3) { events { position } } }";
const READ_PAST: &str = "{ at(position: \"1\") { position } }";

/// What the clients share.
pub(super) struct Load {
    /// Before every command id of this load.
    pub(super) prefix: String,
    /// Where the nodes are.
    nodes: Mutex<Vec<String>>,
    /// Whether a client may find its node gone; it goes to the next one then.
    nodes_may_end: bool,
    /// How long a client thinks between two commands.
    pause: Duration,
    stop: AtomicBool,
    /// A client saw what must not be, and has ended over it.
    failed: AtomicBool,
    /// How many commands each client saw accepted.
    accepted: Vec<AtomicU64>,
    /// Every error that anybody was told, and how often.
    told: Mutex<BTreeMap<String, u64>>,
}

/// What one client was told.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Position and number of events by command id.
    pub(super) accepted: BTreeMap<String, (u64, u64)>,
    /// Judged and refused.
    pub(super) refused: BTreeSet<String>,
    /// Told to try again, and never sent again.
    pub(super) given_up: BTreeSet<String>,
    /// Ids whose outcome was unknown at least once.
    pub(super) once_unknown: BTreeSet<String>,
    /// How often it was told to try again.
    pub(super) try_again: u64,
    /// Questions that were answered.
    pub(super) reads: u64,
}

/// A command that can be sent any number of times.
#[derive(Clone)]
struct Sent {
    id: String,
    query: &'static str,
    name: String,
}

impl Load {
    pub(super) fn new(prefix: &str, clients: usize, nodes: Vec<String>, pause: Duration) -> Self {
        Self {
            prefix: prefix.to_owned(),
            nodes: Mutex::new(nodes),
            nodes_may_end: false,
            pause,
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            accepted: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            told: Mutex::default(),
        }
    }

    /// Its clients look for another node when theirs is gone.
    pub(super) fn on_nodes_that_end(mut self) -> Self {
        self.nodes_may_end = true;
        self
    }

    /// Runs the clients beside `harm`, stops them behind it, and gives their accounts.
    pub(super) fn beside(&self, harm: impl FnOnce()) -> Vec<Account> {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..self.accepted.len())
                .map(|number| scope.spawn(move || Client::new(self, number).run()))
                .collect();
            let stop = StopAtEnd(&self.stop);
            harm();
            drop(stop);
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        })
    }

    /// Waits until every client has had a command accepted since now.
    pub(super) fn until_all_are_served(&self) {
        let count = || self.accepted.iter().map(|count| count.load(Ordering::Relaxed));
        let before: Vec<u64> = count().collect();
        until("every client to be served again", || {
            assert!(!self.failed.load(Ordering::Relaxed), "a client has failed");
            count().zip(&before).all(|(now, before)| now > *before).then_some(())
        });
    }

    /// Whether anybody was told this.
    pub(super) fn was_told(&self, words: &str) -> bool {
        self.told.lock().unwrap().keys().any(|told| told.contains(words))
    }

    /// Every error that was told, most often first.
    pub(super) fn told(&self) -> Vec<(String, u64)> {
        let mut told: Vec<_> = self.told.lock().unwrap().clone().into_iter().collect();
        told.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        told
    }

    fn node(&self, number: usize) -> String {
        let nodes = self.nodes.lock().unwrap();
        nodes[number % nodes.len()].clone()
    }

    fn note(&self, told: &str) {
        if !told.is_empty() {
            *self.told.lock().unwrap().entry(told.to_owned()).or_default() += 1;
        }
    }
}

/// Stops the clients also when the harm failed: else the scope would wait for them for ever.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets whoever waits for a client know that it has failed.
struct TellsFailure<'a>(&'a AtomicBool);

impl Drop for TellsFailure<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

struct Client<'a> {
    load: &'a Load,
    number: usize,
    /// Which node it talks to.
    home: usize,
    wire: Wire,
    account: Account,
    unknown: Vec<Sent>,
}

impl<'a> Client<'a> {
    fn new(load: &'a Load, number: usize) -> Self {
        let wire = Wire::to(&load.node(number));
        let (account, unknown) = (Account::default(), Vec::new());
        Self { load, number, home: number, wire, account, unknown }
    }

    fn run(mut self) -> Account {
        let _tells = TellsFailure(&self.load.failed);
        for count in 1_u64.. {
            if self.load.stop.load(Ordering::Relaxed) {
                break;
            }
            let sent = self.command(count);
            self.carry_through(&sent, count.is_multiple_of(2));
            if count.is_multiple_of(10) {
                self.read(if count.is_multiple_of(20) { READ } else { READ_PAST });
            }
            // Later, when other commands have gone between.
            if count.is_multiple_of(5)
                && let Some(earlier) = self.unknown.pop()
            {
                self.carry_through(&earlier, true);
            }
            thread::sleep(self.load.pause);
        }
        until("every unknown outcome to become known", || match self.unknown.pop() {
            Some(earlier) => {
                self.carry_through(&earlier, true);
                None
            }
            None => Some(()),
        });
        self.account
    }

    fn command(&self, count: u64) -> Sent {
        let Load { prefix, .. } = self.load;
        let id = format!("{prefix}-{}-{count}", self.number);
        let (query, name) = match count {
            _ if count.is_multiple_of(8) => (OF_NOTHING, String::new()),
            _ if count.is_multiple_of(99) => (WITH_SECRET, id.clone()),
            _ => (UPSERT, format!("{prefix}-{}", self.number)),
        };
        Sent { id, query, name }
    }

    /// Sends a command until it has an answer; `insists` where it is to be tried again.
    fn carry_through(&mut self, sent: &Sent, insists: bool) {
        loop {
            match self.send(sent) {
                Answer::Accepted { position, events } => {
                    self.load.accepted[self.number].fetch_add(1, Ordering::Relaxed);
                    let told = self.account.accepted.insert(sent.id.clone(), (position, events));
                    assert_eq!(told, None, "{} was accepted twice", sent.id);
                    return;
                }
                Answer::Refused => {
                    assert_eq!(sent.query, OF_NOTHING, "{} was refused", sent.id);
                    self.account.refused.insert(sent.id.clone());
                    return;
                }
                Answer::Unknown => {
                    self.account.once_unknown.insert(sent.id.clone());
                    self.unknown.push(sent.clone());
                    return;
                }
                Answer::TryAgain => {
                    self.account.try_again += 1;
                    let is_open = self.account.once_unknown.contains(&sent.id);
                    if is_open {
                        // This try did nothing; what became of an earlier one is open still.
                        self.unknown.push(sent.clone());
                        thread::sleep(RETRY_PAUSE);
                        return;
                    }
                    if !insists || self.load.stop.load(Ordering::Relaxed) {
                        self.account.given_up.insert(sent.id.clone());
                        return;
                    }
                    thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    fn send(&mut self, sent: &Sent) -> Answer {
        let variables = json!({ "id": sent.id, "name": sent.name });
        let Some(answer) = self.ask(sent.query, &variables) else { return Answer::Unknown };
        let (meaning, told) = judged(&answer).unwrap_or_else(|defect| panic!("{defect}"));
        if meaning != Answer::Refused {
            self.load.note(&told);
        }
        meaning
    }

    fn read(&mut self, query: &str) {
        let Some(answer) = self.ask(query, &Value::Null) else { return };
        match read_judged(&answer) {
            Ok(None) => self.account.reads += 1,
            Ok(Some(told)) => self.load.note(&told),
            Err(defect) => panic!("a question's error does not say what to do: {defect}"),
        }
    }

    /// An answer; `None` when the node is gone.
    fn ask(&mut self, query: &str, variables: &Value) -> Option<Value> {
        match self.wire.ask(query, variables) {
            Ok(answer) => Some(answer),
            Err(failure) => {
                assert!(self.load.nodes_may_end, "no answer from a living node: {failure}");
                self.load.note("no answer: the node is gone");
                self.home += 1;
                self.wire = Wire::to(&self.load.node(self.home));
                thread::sleep(RETRY_PAUSE);
                None
            }
        }
    }
}
