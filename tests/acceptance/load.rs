//! Clients that write without a pause, repeat what they were not told the end of, and remember what
//! was acknowledged; and the count of it in the log afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    connection::Connection,
    harness::{PATIENCE, diario, told, until},
};

/// A pause after an error, as a client's that was told to try again.
const PAUSE: Duration = Duration::from_millis(20);

/// Running clients.
pub(crate) struct Load {
    clients: Vec<JoinHandle<()>>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    /// The ids of commands whose success was told.
    acknowledged: Mutex<BTreeSet<String>>,
    /// What was told instead, and how often.
    errors: Mutex<BTreeMap<String, u32>>,
}

impl Load {
    /// Clients of a control plane. Each load on one log has a name of its own.
    pub(crate) fn start(name: &str, api: &str, clients: usize) -> Self {
        let seen = Arc::new(Seen::default());
        let start = |client| {
            let (seen, api) = (Arc::clone(&seen), api.to_owned());
            let name = format!("load/{name}/{client}");
            thread::spawn(move || write(&api, &name, &seen))
        };
        let clients = (0..clients).map(start).collect();
        Self { clients, seen }
    }

    /// How many commands were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.seen.acknowledged.lock().unwrap().len()
    }

    /// Waits until so many more are acknowledged.
    pub(crate) fn wait_for_more(&self, count: usize) {
        let enough = self.acknowledged() + count;
        until("commands to be acknowledged", || (self.acknowledged() >= enough).then_some(()));
    }

    /// What was told instead of success, and how often.
    pub(crate) fn errors(&self) -> BTreeMap<String, u32> {
        self.seen.errors.lock().unwrap().clone()
    }

    /// Stops the clients, and gives what was acknowledged.
    pub(crate) fn stop(self) -> BTreeSet<String> {
        self.seen.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        self.seen.acknowledged.lock().unwrap().clone()
    }
}

fn write(api: &str, name: &str, seen: &Seen) {
    let mut number = 0;
    while !seen.is_over.load(Ordering::Relaxed) {
        let id = format!("{name}/{number}");
        match vouch(api, &id) {
            Ok(()) => {
                seen.acknowledged.lock().unwrap().insert(id);
                number += 1;
            }
            Err(reason) => {
                *seen.errors.lock().unwrap().entry(reason).or_default() += 1;
                thread::sleep(PAUSE);
            }
        }
    }
}

/// One command; what it is refused with, or that nobody answers.
fn vouch(api: &str, id: &str) -> Result<(), String> {
    let query = "mutation($id: String!, $name: String!) \
        { upsertFreshnessDomain(name: $name, ttlSeconds: 3600, commandId: $id) { position } }";
    let variables = json!({ "id": id, "name": id.replace('/', ".") });
    let body = json!({ "query": query, "variables": variables }).to_string();
    let asked = Connection::open(api, PATIENCE).and_then(|mut connection| connection.ask(&body));
    let answer = asked.map_err(|_| "nobody answers".to_owned())?;
    match answer["errors"][0]["message"].as_str() {
        Some(message) => Err(message.to_owned()),
        None if answer["data"]["upsertFreshnessDomain"].is_object() => Ok(()),
        None => Err(answer.to_string()),
    }
}

/// A log in a folder or a database: proven by `verify`, and every acknowledged command once
/// in it. Gives how many commands of the load it holds.
pub(crate) fn assert_kept(acknowledged: &BTreeSet<String>, log: &[&str], folder: &Path) -> usize {
    let verified = diario().arg("verify").args(log).output().unwrap();
    assert!(verified.status.success(), "{}", told(&verified));
    let file = folder.join("exported.ndjson");
    let exported =
        diario().args(["log", "export", "--output"]).arg(&file).args(log).output().unwrap();
    assert!(exported.status.success(), "{}", told(&exported));
    let mut found = BTreeMap::<String, u32>::new();
    for line in fs::read_to_string(&file).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(id) = line["event"]["commandId"].as_str().filter(|id| id.starts_with("load/")) {
            *found.entry(id.to_owned()).or_default() += 1;
        }
    }
    fs::remove_file(&file).unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !found.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let twice: Vec<_> = found.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "more than once: {twice:?}");
    found.len()
}
