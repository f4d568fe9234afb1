//! Simulated cells: the agent itself, with its own client of the gateway, on a garden in memory.
//!
//! Between an agent and the control plane lies a line that may be late, and that keeps reports back
//! while it is held: nothing counts as running then, as within one round of Diego's auction.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cell::{
    agent,
    config::Config,
    control_plane::{ControlPlane, Error, HttpControlPlane},
    garden::fake::FakeGarden,
};
use domain::{
    bbs::definition::Definition,
    id::{CellId, Zone},
    log::{CellEpoch, Position},
    rep::{
        Assignment, HeartbeatAnswer, HeartbeatRequest, ObservationsAnswer, ObservationsRequest,
        RegisterAnswer, RegisterRequest, ReportsAnswer, ReportsRequest,
    },
    sealed::{Digest, PlainText},
    units::Mebibytes,
    workload::Dice,
};
use tokio::{runtime::Runtime, sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::harness::write_private;

/// What each cell has of memory in [`UNIT_MB`], of disk in mebibytes, and of containers.
pub(super) const ROOM: u32 = 100;
/// What a megabyte of Diego's suite is here, in mebibytes: no container may have less.
pub(super) const UNIT_MB: u32 = 4;
/// How many zones the cells are in, by turns.
pub(super) const ZONES: u32 = 2;
/// The most cells of a scenario.
const CELLS_MAX: u32 = 100;
/// Tasks with this path end at once, with success.
pub(super) const TASK_PATH: &str = "/task";

/// How fast cells and control plane hear of each other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Line {
    /// At once.
    Prompt,
    /// Each list and each report some 50 to 500 ms late, drawn from a seed.
    Late { seed: u64 },
}

/// The cells of a scenario. They end with it.
pub(super) struct Fleet {
    runtime: Option<Runtime>,
    line: Line,
    held: watch::Sender<bool>,
    started: u32,
}

/// The name of a cell; in the order of the numbers.
pub(super) fn name(number: u32) -> String {
    format!("cell-{number:03}")
}

/// What something must be tagged with to be placed on this cell and on no other.
pub(super) fn own_tag(number: u32) -> String {
    format!("only-{number:03}")
}

fn token(number: u32) -> String {
    format!("the token of {}", name(number))
}

/// The file of all cells' tokens, for the control plane.
pub(super) fn write_tokens(file: &Path) {
    let tokens: BTreeMap<String, String> =
        (0..CELLS_MAX).map(|number| (name(number), token(number))).collect();
    write_private(file, &serde_json::to_string(&tokens).unwrap());
}

impl Fleet {
    /// No cells yet.
    pub(super) fn new(line: Line) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self { runtime: Some(runtime.unwrap()), line, held: watch::Sender::new(false), started: 0 }
    }

    /// Starts so many more cells of a control plane.
    pub(super) fn start(&mut self, count: u32, api: &str, folder: &Path) {
        let first = self.started;
        self.started += count;
        for number in first..self.started {
            let folder = folder.join(name(number));
            fs::create_dir(&folder).unwrap();
            let agent = run(config(number, api, &folder), self.line_of(number));
            self.runtime.as_ref().unwrap().spawn(agent);
        }
    }

    /// Keeps all reports back until they are released.
    pub(super) fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Lets all reports through.
    pub(super) fn release(&self) {
        self.held.send_replace(false);
    }

    fn line_of(&self, number: u32) -> LineOfACell {
        let pauses = match self.line {
            Line::Prompt => None,
            Line::Late { seed } => Some(Mutex::new(Dice::new(seed.wrapping_add(number.into())))),
        };
        LineOfACell { pauses, held: self.held.subscribe() }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

fn config(number: u32, api: &str, folder: &Path) -> Config {
    let cell_id = CellId::new(&name(number)).unwrap();
    let urls = vec![api.to_owned()];
    let mut config = Config::new(cell_id, folder.to_owned(), urls, PlainText(token(number)));
    config.zone = Zone::new(&format!("z{}", number % ZONES)).unwrap();
    config.capacity.memory_mb = Some(Mebibytes(ROOM * UNIT_MB));
    config.capacity.disk_mb = Some(Mebibytes(ROOM));
    config.capacity.containers = ROOM;
    config.preloaded_rootfses.insert("linux".to_owned());
    config.optional_placement_tags.insert(own_tag(number));
    config.containers.healthcheck_binary = Some("/bin/true".into());
    config
}

async fn run(config: Config, line: LineOfACell) {
    let garden = FakeGarden::default();
    garden.script_exit(TASK_PATH, cell::garden::ExitStatus::Exited { code: 0 });
    let gateway = HttpControlPlane::new(&config.control_plane, config.cell_id.clone()).unwrap();
    let gateway = Arc::new(Simulated { gateway, line });
    let ended = agent::run_with(config, Arc::new(garden), gateway, CancellationToken::new()).await;
    panic!("an agent ended that nobody asked to: {ended:?}");
}

/// The line between one cell and the control plane.
#[derive(Debug)]
struct LineOfACell {
    pauses: Option<Mutex<Dice>>,
    held: watch::Receiver<bool>,
}

impl LineOfACell {
    async fn is_late(&self) {
        let drawn = self.pauses.as_ref().map(|pauses| 50 + pauses.lock().unwrap().below(451));
        if let Some(milliseconds) = drawn {
            sleep(Duration::from_millis(milliseconds.into())).await;
        }
    }

    async fn is_released(&self) {
        let mut held = self.held.clone();
        // The fleet is there for as long as its cells are.
        held.wait_for(|is_held| !is_held).await.unwrap();
    }
}

/// The real gateway, behind the line.
#[derive(Debug)]
struct Simulated {
    gateway: HttpControlPlane,
    line: LineOfACell,
}

#[async_trait]
impl ControlPlane for Simulated {
    async fn register(&self, request: &RegisterRequest) -> Result<RegisterAnswer, Error> {
        self.gateway.register(request).await
    }

    async fn heartbeat(&self, request: &HeartbeatRequest) -> Result<HeartbeatAnswer, Error> {
        self.gateway.heartbeat(request).await
    }

    async fn assignment(&self, after: Position, epoch: CellEpoch) -> Result<Assignment, Error> {
        let assignment = self.gateway.assignment(after, epoch).await;
        self.line.is_late().await;
        assignment
    }

    async fn definition(&self, digest: Digest) -> Result<Definition<PlainText>, Error> {
        self.gateway.definition(digest).await
    }

    async fn reports(&self, request: &ReportsRequest) -> Result<ReportsAnswer, Error> {
        self.line.is_released().await;
        self.line.is_late().await;
        self.gateway.reports(request).await
    }

    async fn observations(
        &self,
        request: &ObservationsRequest,
    ) -> Result<ObservationsAnswer, Error> {
        self.gateway.observations(request).await
    }
}
