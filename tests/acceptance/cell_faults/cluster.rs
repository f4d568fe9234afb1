//! A control plane, three cells behind relays, and an app on them, all as processes of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use projections::checkpoint::{CheckpointKey, KEY_FILE};
use serde_json::Value;

use super::{prober::Prober, relay::Relay};
use crate::{
    harness::{Cell, Server, diario, folder, shim_pid, told, write_private},
    lrps::desire,
};

/// The app that is watched.
pub(super) const APP: &str = "web";
/// How many instances it has between the cases.
pub(super) const INSTANCES: usize = 3;
const CELLS: [&str; 3] = ["cell-1", "cell-2", "cell-3"];
/// How long anything may take to be as it was wished again: a presence that ends after 15 s, a
/// back-off, and a process that was stopped or late for 20 s.
const SETTLE_MAX: Duration = Duration::from_secs(150);

/// Where the log is kept, as options of `diario serve`.
pub(super) struct Place {
    pub(super) options: Vec<String>,
    /// How many control planes share it.
    pub(super) nodes: usize,
}

/// A control plane that may be down.
struct Node {
    server: Option<Server>,
    data: PathBuf,
    port: u16,
    name: String,
}

/// A cell that may be down.
struct Machine {
    agent: Option<Cell>,
    relays: Vec<Relay>,
    data: PathBuf,
}

/// All of it.
pub(super) struct Cluster {
    place: Place,
    // Before the folder: dropped first.
    prober: Option<Prober>,
    machines: BTreeMap<&'static str, Machine>,
    nodes: Vec<Node>,
    folder: tempfile::TempDir,
}

impl Cluster {
    pub(super) fn start(place: Place) -> Self {
        let folder = folder();
        let at = folder.path();
        let tokens: BTreeMap<&str, String> =
            CELLS.into_iter().map(|cell| (cell, format!("0123456789abcdef-{cell}"))).collect();
        write_private(&at.join("cells.json"), &serde_json::to_string(&tokens).unwrap());
        let mut nodes = Vec::new();
        for number in 0..place.nodes {
            let name = format!("node-{number}");
            let data = at.join(&name);
            if number > 0 {
                share_key(&at.join("node-0"), &data);
            }
            let mut node = Node { server: None, data, port: 0, name };
            node.start(&place, at);
            nodes.push(node);
        }
        let mut machines = BTreeMap::new();
        for (cell, token) in &tokens {
            write_private(&at.join(format!("{cell}.token")), token);
            let relays = nodes.iter().map(|node| Relay::to(&format!("127.0.0.1:{}", node.port)));
            let data = at.join(cell);
            let mut machine = Machine { agent: None, relays: relays.collect(), data };
            machine.start(cell, at);
            machines.insert(*cell, machine);
        }
        let mut cluster = Self { place, prober: None, machines, nodes, folder };
        let instances = u32::try_from(INSTANCES).unwrap();
        desire(cluster.control_plane(), APP, instances, &["--graceful-stop-ms", "2000"]);
        cluster.prober =
            Some(Prober::start(&cluster.control_plane().router, &format!("{APP}.test")));
        cluster.settle(INSTANCES);
        cluster
    }

    /// A control plane that is up.
    pub(super) fn control_plane(&self) -> &Server {
        self.nodes.iter().find_map(|node| node.server.as_ref()).expect("one is up")
    }

    pub(super) fn prober(&self) -> &Prober {
        self.prober.as_ref().expect("it runs from the start on")
    }

    /// Kills the first control plane.
    pub(super) fn kill_control_plane(&mut self) {
        self.nodes[0].server.take().expect("it is up").kill();
        self.ask_a_router();
    }

    /// Starts what was killed again.
    pub(super) fn start_again(&mut self) {
        for node in &mut self.nodes {
            if node.server.is_none() {
                node.start(&self.place, self.folder.path());
            }
        }
        for (cell, machine) in &mut self.machines {
            if machine.agent.is_none() {
                machine.start(cell, self.folder.path());
            }
        }
        self.ask_a_router();
    }

    fn ask_a_router(&self) {
        if let Some(server) = self.nodes.iter().find_map(|node| node.server.as_ref()) {
            self.prober().ask_at(&server.router);
        }
    }

    pub(super) fn control_plane_pid(&self) -> u32 {
        self.nodes[0].server.as_ref().expect("it is up").pid()
    }

    pub(super) fn kill_agent(&mut self, cell: &str) {
        self.machines.get_mut(cell).unwrap().agent.take().expect("it is up").kill();
    }

    pub(super) fn agent_pid(&self, cell: &str) -> u32 {
        self.machines[cell].agent.as_ref().expect("it is up").pid()
    }

    /// The shim of an instance, while it runs.
    pub(super) fn shim_pid(&self, cell: &str, instance: &str) -> Option<u32> {
        shim_pid(&self.machines[cell].data, instance)
    }

    /// Cuts, or mends, the network of a cell.
    pub(super) fn cut(&self, cell: &str, to_control_plane: bool, to_cell: bool) {
        for relay in &self.machines[cell].relays {
            relay.cut(to_control_plane, to_cell);
        }
    }

    pub(super) fn slots(&self) -> Vec<Value> {
        let shown = self.control_plane().json(&["lrp", "show", APP]);
        shown["actualLrps"].as_array().unwrap().clone()
    }

    /// Waits until what runs is what is wished, on the machines too, and the app is answered.
    pub(super) fn settle(&self, instances: usize) {
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let Err(reason) = self.is_settled(instances) else { return };
            let waited = SETTLE_MAX.as_secs();
            assert!(Instant::now() < deadline, "not settled after {waited} s: {reason}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_settled(&self, instances: usize) -> Result<(), String> {
        let slots = self.slots();
        let are_running =
            slots.iter().all(|slot| slot["state"] == "RUNNING" && slot["isStopping"] == false);
        if slots.len() != instances || !are_running {
            return Err(format!("{slots:?}"));
        }
        let cells = self.control_plane().json(&["cells"])["cells"].clone();
        let are_heard = cells.as_array().unwrap().iter().all(|cell| cell["presence"] == "PRESENT");
        if !are_heard {
            return Err(format!("not every cell is heard: {cells}"));
        }
        let wished: BTreeSet<(String, String)> =
            slots.iter().map(|slot| (text(slot, "cellId"), text(slot, "instanceGuid"))).collect();
        let there = self.containers();
        if wished != there {
            return Err(format!("running {wished:?}, but on the machines {there:?}"));
        }
        if !self.prober().is_answered() {
            return Err("the app is not answered".to_owned());
        }
        Ok(())
    }

    /// Every container that runs, on every machine.
    fn containers(&self) -> BTreeSet<(String, String)> {
        let of_machine = |(cell, machine): (&&str, &Machine)| {
            let found =
                fs::read_dir(machine.data.join("containers")).into_iter().flatten().flatten();
            let names = found.map(|entry| entry.file_name().to_string_lossy().into_owned());
            let runs = |name: &String| self.shim_pid(cell, name).is_some();
            names.filter(runs).map(|name| ((*cell).to_owned(), name)).collect::<Vec<_>>()
        };
        self.machines.iter().flat_map(of_machine).collect()
    }

    /// Every view folded afresh, and the hash chain checked.
    pub(super) fn verify(&self) {
        let data = self.nodes[0].data.to_str().unwrap();
        let mut arguments = vec!["replay", "--verify-views", "--data-dir", data];
        arguments.extend(self.place.options.iter().map(String::as_str));
        self.control_plane().text(&arguments);
    }

    /// The whole chain, once nobody writes any more.
    pub(super) fn verify_chain(mut self) {
        self.prober = None;
        // They take their containers along.
        for machine in self.machines.values_mut() {
            machine.agent = None;
        }
        for node in &mut self.nodes {
            node.server = None;
        }
        let mut verify = diario();
        verify.arg("verify").args(&self.place.options).arg("--data-dir").arg(&self.nodes[0].data);
        // Each node signs by a key of its own.
        for node in &self.nodes {
            let key = CheckpointKey::open(&node.data.join("keys").join(KEY_FILE)).unwrap();
            verify.args(["--public-key", &key.public_key().to_string()]);
        }
        let verified = verify.output().unwrap();
        assert!(verified.status.success(), "{}", told(&verified));
        assert_eq!(self.containers(), BTreeSet::new(), "left on the machines");
    }
}

fn text(slot: &Value, name: &str) -> String {
    slot[name].as_str().unwrap_or_default().to_owned()
}

/// All nodes of a log hold its keys.
fn share_key(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("keys")).unwrap();
    let key = fs::read_to_string(from.join("keys/master.key")).unwrap();
    write_private(&to.join("keys/master.key"), &key);
}

impl Node {
    fn start(&mut self, place: &Place, folder: &Path) {
        let port = self.port.to_string();
        let mut command = diario();
        command.args(["serve", "--port", &port, "--router-port", "0", "--cell-tokens"]);
        command.arg(folder.join("cells.json")).arg("--data-dir").arg(&self.data);
        if place.nodes > 1 {
            command.args(["--node", &self.name]);
        }
        let server = Server::spawn(command.args(&place.options), None);
        self.port = server.port();
        self.server = Some(server);
    }
}

impl Machine {
    fn start(&mut self, cell: &str, folder: &Path) {
        self.agent = Some(Cell::spawn(&mut self.command(cell, folder)));
    }

    fn command(&self, cell: &str, folder: &Path) -> std::process::Command {
        let urls: Vec<String> = self.relays.iter().map(Relay::url).collect();
        let mut command = diario();
        command.args(["cell", "--cell-id", cell, "--api", &urls.join(","), "--token-file"]);
        command.arg(folder.join(format!("{cell}.token"))).arg("--data-dir").arg(&self.data);
        command.args(["--memory-mb", "1024", "--disk-mb", "4096", "--remove-on-stop"]);
        command
    }
}
