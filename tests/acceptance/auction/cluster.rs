//! A control plane of a scenario's own with its simulated cells: what is wished for through the
//! API, and where it is.

use std::{collections::BTreeMap, thread};

use serde_json::{Value, json};

use super::{
    fleet::{Fleet, Line, ROOM, TASK_PATH, UNIT_MB, name, own_tag, write_tokens},
    spread_over::Won,
};
use crate::{
    connection::Connection,
    harness::{PATIENCE, Server, folder, until},
};

/// How many clients wish at once.
const CLIENTS: usize = 4;
/// What the guids of those begin with that fill cells before a scenario begins.
const FILLING: &str = "fill-";

/// How the control plane weighs its cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Strategy {
    /// Over all cells: the default.
    Spread,
    /// One cell after another, with this weight.
    BinPack(f64),
}

impl Strategy {
    fn arguments(self) -> Vec<String> {
        match self {
            Self::Spread => Vec::new(),
            Self::BinPack(weight) => vec![
                "--starting-container-weight=0.5".to_owned(),
                format!("--bin-pack-first-fit-weight={weight}"),
            ],
        }
    }
}

/// An app that is wished for.
#[derive(Debug, Clone)]
pub(super) struct App {
    guid: String,
    instances: u32,
    memory_units: u32,
    placement_tags: Vec<String>,
}

impl App {
    /// So many instances, of one unit of memory each.
    pub(super) fn new(guid: &str, instances: u32) -> Self {
        let (guid, placement_tags) = (guid.to_owned(), Vec::new());
        Self { guid, instances, memory_units: 1, placement_tags }
    }

    /// Of other instances.
    pub(super) fn of_memory(self, memory_units: u32) -> Self {
        Self { memory_units, ..self }
    }

    /// So many apps of one instance each.
    pub(super) fn unique(prefix: &str, count: u32) -> Vec<Self> {
        (0..count).map(|number| Self::new(&format!("{prefix}-{number:04}"), 1)).collect()
    }

    fn body(&self) -> String {
        let mut definition = definition("/app", self.memory_units);
        definition["placementTags"] = json!(self.placement_tags);
        let mutation =
            "mutation($spec: DesiredLrpInput!) { done: desireLrp(spec: $spec) { position } }";
        let spec = json!({
            "processGuid": self.guid, "instances": self.instances, "definition": definition,
        });
        json!({ "query": mutation, "variables": { "spec": spec } }).to_string()
    }
}

/// Diego's app: one mebibyte of disk, ten processes, no checks.
fn definition(path: &str, memory_units: u32) -> Value {
    json!({
        "rootfs": "preloaded:linux",
        "action": { "run": { "path": path, "user": "root" } },
        "memoryMb": memory_units * UNIT_MB, "diskMb": 1, "maxPids": 10,
    })
}

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is on the cell with this name.
    On(String),
    /// It has no cell, for this reason.
    Unplaced(String),
}

/// A control plane and its cells.
pub(super) struct Cluster {
    // Before what they speak to, and before the folder: dropped first.
    fleet: Fleet,
    server: Server,
    folder: tempfile::TempDir,
    /// How many instances were wished for.
    wished: usize,
}

impl Cluster {
    /// One with so many cells, which are there.
    pub(super) fn start(cells: u32, strategy: Strategy, line: Line) -> Self {
        let folder = folder();
        let tokens = folder.path().join("tokens.json");
        write_tokens(&tokens);
        let mut arguments = vec!["serve".to_owned(), "--cell-tokens".to_owned()];
        arguments.push(tokens.to_str().unwrap().to_owned());
        arguments.extend(strategy.arguments());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let server = Server::start(&arguments, &folder.path().join("control-plane"));
        let mut cluster = Self { fleet: Fleet::new(line), server, folder, wished: 0 };
        cluster.start_cells(cells);
        cluster
    }

    /// Starts so many more cells, and waits until all are there.
    pub(super) fn start_cells(&mut self, count: u32) {
        let there = self.cells_there() + usize::try_from(count).unwrap();
        self.fleet.start(count, &self.server.api, self.folder.path());
        until("the cells to be there", || (self.cells_there() == there).then_some(()));
    }

    fn cells_there(&self) -> usize {
        let shown = self.ask("{ now { cells { presence } } }");
        let cells = shown["cells"].as_array().unwrap().iter();
        cells.filter(|cell| cell["presence"] == "PRESENT").count()
    }

    /// Lets so many instances run on each of some cells, none of which counts in what follows.
    pub(super) fn fill(&mut self, cells: impl IntoIterator<Item = (u32, u32)>) {
        let filling = cells.into_iter().map(|(number, count)| App {
            placement_tags: vec![own_tag(number)],
            ..App::new(&format!("{FILLING}{number:03}"), count)
        });
        let filling: Vec<App> = filling.collect();
        self.wish(&filling);
        self.wait_until_running();
        for slot in self.slots() {
            let number: u32 = slot.guid.trim_start_matches(FILLING).parse().unwrap();
            assert_eq!(slot.fate, Some(Fate::On(name(number))));
        }
    }

    /// Wishes for apps, several clients at a time.
    pub(super) fn wish(&mut self, apps: &[App]) {
        let instances: u32 = apps.iter().map(|app| app.instances).sum();
        self.wished += usize::try_from(instances).unwrap();
        self.send(&apps.iter().map(App::body).collect::<Vec<_>>());
    }

    /// Runs so many tasks.
    pub(super) fn run_tasks(&self, count: u32) {
        let mutation = "mutation($spec: TaskInput!) { done: runTask(spec: $spec) { position } }";
        let body = |number: u32| {
            let guid = format!("task-{number:04}");
            let spec = json!({ "taskGuid": guid, "definition": definition(TASK_PATH, 1) });
            json!({ "query": mutation, "variables": { "spec": spec } }).to_string()
        };
        self.send(&(0..count).map(body).collect::<Vec<_>>());
    }

    fn send(&self, bodies: &[String]) {
        let api = &self.server.api;
        thread::scope(|scope| {
            for part in bodies.chunks(bodies.len().div_ceil(CLIENTS).max(1)) {
                scope.spawn(move || {
                    let mut connection = Connection::open(api, PATIENCE).unwrap();
                    for body in part {
                        let answer = connection.ask(body).unwrap();
                        assert!(answer["data"]["done"].is_object(), "{body}: {answer}");
                    }
                });
            }
        });
    }

    /// From now on nothing counts as running that is not running yet.
    pub(super) fn hold_reports(&self) {
        self.fleet.hold();
    }

    /// Where each instance that was wished for is to be, or why it is nowhere: once each is judged.
    /// No cell is given more than it has.
    pub(super) fn fates(&self) -> BTreeMap<(String, u32), Fate> {
        let slots = until("every instance to be judged", || {
            let slots = self.slots();
            let is_judged = slots.len() == self.wished && slots.iter().all(|it| it.fate.is_some());
            is_judged.then_some(slots)
        });
        assert_no_cell_is_overfull(&slots);
        let own = slots.into_iter().filter(|slot| !slot.guid.starts_with(FILLING));
        own.map(|slot| ((slot.guid, slot.index), slot.fate.unwrap())).collect()
    }

    /// Waits until this has become of no instance any more.
    pub(super) fn wait_for_another_fate(&self, fate: &Fate) {
        until("another fate", || self.fates().values().all(|other| other != fate).then_some(()));
    }

    /// How many each cell won of those that count; all have a cell.
    pub(super) fn won(&self) -> Won {
        self.fates()
            .into_iter()
            .map(|(instance, fate)| match fate {
                Fate::On(cell) => cell,
                Fate::Unplaced(reason) => panic!("{instance:?} has no cell: {reason}"),
            })
            .collect()
    }

    /// Lets the cells report, and waits until all that has a cell runs there.
    pub(super) fn end(&self) {
        let placed = self.fates();
        self.fleet.release();
        self.wait_until_running();
        assert_eq!(self.fates(), placed, "something ran elsewhere than where it was placed");
    }

    fn wait_until_running(&self) {
        until("all that has a cell to run", || {
            let slots = self.slots();
            let is_running = |slot: &Slot| match &slot.fate {
                Some(Fate::On(_)) => slot.state == "RUNNING",
                Some(Fate::Unplaced(_)) => true,
                None => false,
            };
            (slots.len() == self.wished && slots.iter().all(is_running)).then_some(())
        });
    }

    /// How many tasks each cell holds, once so many have one.
    pub(super) fn tasks_won(&self, count: u32) -> Won {
        until("every task to have a cell", || {
            let shown = self.ask("{ now { tasks { cellId } } }");
            let tasks = shown["tasks"].as_array().unwrap().iter();
            let won: Won = tasks.filter_map(|task| task["cellId"].as_str()).collect();
            (won.all() == count).then_some(won)
        })
    }

    /// Lets the cells report, and waits until so many tasks have ended well.
    pub(super) fn end_of_tasks(&self, count: u32) {
        self.fleet.release();
        until("every task to end well", || {
            let shown = self.ask("{ now { tasks { state failed } } }");
            let tasks = shown["tasks"].as_array().unwrap().iter();
            let done = tasks.filter(|it| it["state"] == "COMPLETED" && it["failed"] == false);
            (u32::try_from(done.count()).unwrap() == count).then_some(())
        });
    }

    fn slots(&self) -> Vec<Slot> {
        let shown = self.ask(
            "{ now { actualLrps { processGuid index state cellId placementError } \
             desiredLrps { processGuid definition { memoryMb } } } }",
        );
        let memory_of: BTreeMap<&str, u32> = shown["desiredLrps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|lrp| (text(&lrp["processGuid"]), number(&lrp["definition"]["memoryMb"])))
            .collect();
        let slots = shown["actualLrps"].as_array().unwrap().iter();
        slots.map(|slot| Slot::of(slot, memory_of[text(&slot["processGuid"])])).collect()
    }

    /// A question about the present.
    fn ask(&self, query: &str) -> Value {
        let body = json!({ "query": query }).to_string();
        let answer = Connection::open(&self.server.api, PATIENCE).unwrap().ask(&body).unwrap();
        assert!(answer["data"]["now"].is_object(), "{answer}");
        answer["data"]["now"].clone()
    }
}

/// An instance as the API shows it.
#[derive(Debug)]
struct Slot {
    guid: String,
    index: u32,
    state: String,
    memory_mb: u32,
    /// None while it is not judged.
    fate: Option<Fate>,
}

impl Slot {
    fn of(shown: &Value, memory_mb: u32) -> Self {
        let on = shown["cellId"].as_str().map(|cell| Fate::On(cell.to_owned()));
        let unplaced = shown["placementError"].as_str();
        Self {
            guid: text(&shown["processGuid"]).to_owned(),
            index: number(&shown["index"]),
            state: text(&shown["state"]).to_owned(),
            memory_mb,
            fate: on.or_else(|| unplaced.map(|reason| Fate::Unplaced(reason.to_owned()))),
        }
    }
}

fn text(shown: &Value) -> &str {
    shown.as_str().unwrap()
}

fn number(shown: &Value) -> u32 {
    u32::try_from(shown.as_u64().unwrap()).unwrap()
}

fn assert_no_cell_is_overfull(slots: &[Slot]) {
    let mut used: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for slot in slots {
        if let Some(Fate::On(cell)) = &slot.fate {
            let (containers, memory_mb) = used.entry(cell).or_default();
            *containers += 1;
            *memory_mb += slot.memory_mb;
        }
    }
    for (cell, (containers, memory_mb)) in used {
        assert!(
            containers <= ROOM && memory_mb <= ROOM * UNIT_MB,
            "{cell}: {containers}, {memory_mb} MiB"
        );
    }
}
