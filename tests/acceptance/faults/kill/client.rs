//! A client: sends commands of which each changes something, remembers what it was told of each,
//! and repeats under the same id what it was told nothing of.
//!
//! What it asks for is never refused: its LRPs are its own, and it knows what became of each
//! command before it sends the next.

use std::{mem, sync::Arc, thread, time::Duration};

use domain::workload::Dice;
use serde_json::{Value, json};

use super::door::{Door, Life};
use crate::{connection::Connection, harness::PATIENCE};

/// How many LRPs a client wishes for at a time.
const LRPS_MAX: usize = 3;
/// The pause before a node is asked again that could not say what became of a command.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// What a client was told.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Of each of its commands.
    pub(super) told: Vec<Told>,
    /// What it wishes for after them.
    pub(super) lrps: Vec<Lrp>,
    /// How many answers were lost with the node or its connection.
    pub(super) lost: u64,
    /// How many times a node said that it does not know what became of a command, or that it could
    /// not do it.
    pub(super) put_off: u64,
    /// How many commands were sent again though it knew the answer.
    pub(super) asked_again: u64,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Which.
    pub(super) command_id: String,
    /// The stream that it is about, in which it causes one event.
    pub(super) stream: String,
    /// The position of its last event.
    pub(super) position: u64,
    /// How many events it caused.
    pub(super) events: u64,
}

/// An LRP that a client wishes for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lrp {
    pub(super) guid: String,
    pub(super) instances: u32,
    pub(super) annotation: String,
}

/// A command, as it is sent.
#[derive(Debug, Clone)]
struct Command {
    id: String,
    stream: String,
    body: String,
    /// The client's LRPs once it is done.
    lrps: Vec<Lrp>,
}

/// What a node answered.
enum Answer {
    Told(Told),
    /// Neither done nor refused, or nobody knows: ask again.
    PutOff,
}

/// A client of one node.
pub(super) struct Client {
    name: String,
    dice: Dice,
    door: Arc<Door>,
    sent: u32,
    history: History,
    /// The last command that it was told of, and what.
    last: Option<(Command, Told)>,
}

impl Client {
    pub(super) fn new(name: String, seed: u64, door: Arc<Door>) -> Self {
        let (history, last) = (History::default(), None);
        Self { name, dice: Dice::new(seed), door, sent: 0, history, last }
    }

    /// Sends commands until the door closes, then gives what it was told.
    pub(super) fn run(mut self) -> History {
        let mut life = Life::default();
        let mut unknown = None;
        while unknown.is_some() || !self.door.is_closing() {
            life = self.door.after(life.number);
            if let Ok(mut connection) = Connection::open(&life.address, PATIENCE) {
                self.serve(&mut connection, &mut unknown);
            }
        }
        self.history
    }

    /// Sends commands until the connection or the door closes.
    fn serve(&mut self, connection: &mut Connection, unknown: &mut Option<Command>) {
        let mut known = self.last.clone();
        while unknown.is_some() || !self.door.is_closing() {
            let command = unknown.get_or_insert_with(|| self.next_command());
            match connection.ask(&command.body).map(|answer| read(command, &answer)) {
                Ok(Answer::Told(told)) => self.note(unknown, told),
                Ok(Answer::PutOff) => {
                    self.history.put_off += 1;
                    thread::sleep(RETRY_PAUSE);
                }
                Err(_) => {
                    self.history.lost += 1;
                    return;
                }
            }
            // What was acknowledged in one life is answered in the next as it was.
            let Some((command, told)) = &known else { continue };
            match connection.ask(&command.body).map(|answer| read(command, &answer)) {
                Ok(Answer::Told(again)) => {
                    assert_eq!(again, *told, "told otherwise before");
                    self.history.asked_again += 1;
                    known = None;
                }
                Ok(Answer::PutOff) => {}
                Err(_) => return,
            }
        }
    }

    fn note(&mut self, unknown: &mut Option<Command>, told: Told) {
        let Some(mut command) = unknown.take() else { return };
        self.history.lrps = mem::take(&mut command.lrps);
        self.history.told.push(told.clone());
        self.last = Some((command, told));
        self.door.note_told();
    }

    fn next_command(&mut self) -> Command {
        self.sent += 1;
        let count = self.history.lrps.len();
        if count == 0 || (count < LRPS_MAX && self.dice.one_in(4)) {
            return self.desire();
        }
        match self.dice.below(10) {
            0 => self.remove(),
            1..=2 => self.vouch(),
            3..=5 => self.scale(),
            _ => self.annotate(),
        }
    }

    fn desire(&mut self) -> Command {
        let lrp = Lrp {
            guid: format!("{}-{}", self.name, self.sent),
            instances: 1 + self.dice.below(3),
            annotation: String::new(),
        };
        let secret = json!([{ "name": "TOKEN", "value": format!("of {}", lrp.guid) }]);
        // Some are sealed, which writes a key beside the log.
        let env = if self.dice.one_in(4) { secret } else { json!([]) };
        let spec = json!({
            "processGuid": lrp.guid,
            "instances": lrp.instances,
            "definition": {
                "rootfs": "preloaded:diario",
                "env": env,
                "action": { "run": { "path": "/bin/diario", "args": ["sample-app"], "user": "root" } },
                "memoryMb": 64,
                "diskMb": 64,
            },
        });
        let mut lrps = self.history.lrps.clone();
        lrps.push(lrp.clone());
        let mutation = "mutation($id: String!, $spec: DesiredLrpInput!) \
             { done: desireLrp(spec: $spec, commandId: $id) { position events commandId } }";
        self.command(desired(&lrp), mutation, json!({ "spec": spec }), lrps)
    }

    fn annotate(&mut self) -> Command {
        let text = format!("{} of {}", self.sent, self.name);
        self.update("annotation", json!(text), |lrp| lrp.annotation.clone_from(&text))
    }

    fn scale(&mut self) -> Command {
        let (index, other) = (self.any(), 1 + self.dice.below(2));
        // Another number than before: a command that changes nothing leaves no trace to look for.
        let instances = (self.history.lrps[index].instances - 1 + other) % 3 + 1;
        self.update_at(index, "instances", json!(instances), |lrp| lrp.instances = instances)
    }

    fn remove(&mut self) -> Command {
        let mut lrps = self.history.lrps.clone();
        let gone = lrps.remove(self.any());
        let mutation = "mutation($id: String!, $guid: String!) \
             { done: removeDesiredLrp(processGuid: $guid, commandId: $id) \
             { position events commandId } }";
        self.command(desired(&gone), mutation, json!({ "guid": gone.guid }), lrps)
    }

    /// The names are everybody's: these commands meet in one stream, and never change nothing.
    fn vouch(&mut self) -> Command {
        let name = format!("domain-{}", self.dice.below(3));
        let mutation = "mutation($id: String!, $name: String!) \
             { done: upsertFreshnessDomain(name: $name, ttlSeconds: 60, commandId: $id) \
             { position events commandId } }";
        let lrps = self.history.lrps.clone();
        self.command(format!("freshness/{name}"), mutation, json!({ "name": name }), lrps)
    }

    fn any(&mut self) -> usize {
        let count = u32::try_from(self.history.lrps.len()).unwrap();
        usize::try_from(self.dice.below(count)).unwrap()
    }

    fn update(&mut self, field: &str, value: Value, change: impl FnOnce(&mut Lrp)) -> Command {
        let index = self.any();
        self.update_at(index, field, value, change)
    }

    fn update_at(
        &self,
        index: usize,
        field: &str,
        value: Value,
        change: impl FnOnce(&mut Lrp),
    ) -> Command {
        let mut lrps = self.history.lrps.clone();
        change(&mut lrps[index]);
        let guid = lrps[index].guid.clone();
        let mutation = "mutation($id: String!, $guid: String!, $instances: Int, $annotation: String) \
             { done: updateDesiredLrp(processGuid: $guid, instances: $instances, \
             annotation: $annotation, commandId: $id) { position events commandId } }";
        let stream = desired(&lrps[index]);
        self.command(stream, mutation, json!({ "guid": guid, field: value }), lrps)
    }

    fn command(
        &self,
        stream: String,
        mutation: &str,
        mut variables: Value,
        lrps: Vec<Lrp>,
    ) -> Command {
        let id = format!("{}/{}", self.name, self.sent);
        variables["id"] = json!(id);
        let body = json!({ "query": mutation, "variables": variables }).to_string();
        Command { id, stream, body, lrps }
    }
}

fn desired(lrp: &Lrp) -> String {
    format!("desired/{}", lrp.guid)
}

fn read(command: &Command, answer: &Value) -> Answer {
    let done = &answer["data"]["done"];
    let Some(position) = done["position"].as_str() else {
        let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default();
        let is_put_off = ["BUSY", "UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&code);
        assert!(is_put_off, "{command:?} was answered with {answer}");
        return Answer::PutOff;
    };
    assert_eq!(done["commandId"], command.id.as_str());
    Answer::Told(Told {
        command_id: command.id.clone(),
        stream: command.stream.clone(),
        position: position.parse().unwrap(),
        events: done["events"].as_u64().unwrap(),
    })
}

/// What the node at an API shows must be what clients wish for after all that they were told.
pub(super) fn check_wishes(histories: &[History], api: &str) {
    let query = "{ now { desiredLrps { processGuid instances annotation } } }";
    let body = json!({ "query": query }).to_string();
    let answer = Connection::open(api, PATIENCE).unwrap().ask(&body).unwrap();
    let shown = answer["data"]["now"]["desiredLrps"].as_array().unwrap().iter();
    let mut shown: Vec<Lrp> = shown.map(lrp).collect();
    let mut wished: Vec<Lrp> = histories.iter().flat_map(|it| it.lrps.clone()).collect();
    shown.sort();
    wished.sort();
    assert_eq!(shown, wished);
}

fn lrp(shown: &Value) -> Lrp {
    Lrp {
        guid: shown["processGuid"].as_str().unwrap().to_owned(),
        instances: u32::try_from(shown["instances"].as_u64().unwrap()).unwrap(),
        annotation: shown["annotation"].as_str().unwrap().to_owned(),
    }
}
