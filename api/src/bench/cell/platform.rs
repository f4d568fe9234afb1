//! A control plane and cells as processes of their own, which end with what they run when this is
//! dropped.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::super::{Error, place::Place};
use crate::{cli::client::Client, clock::Stopwatch};

/// How long anything may take before the bench gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How often something is looked at that is waited for.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How often a process is looked at that is to end.
const END_LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What each cell's token is: nobody else is on loopback while the bench runs.
const TOKEN: &str = "the-token-of-every-cell-of-a-bench";

/// A process that is told to end, and waited for, when this is dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self, Error> {
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(child.map_err(|source| Error::Io { what: "start a process", source })?))
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or_default()
    }

    fn send(&self, signal: Signal) {
        // One that has ended by itself is as gone.
        kill(Pid::from_raw(self.pid()), signal).ok();
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.send(Signal::SIGTERM);
        let started = Stopwatch::start();
        while !self.has_ended() && started.elapsed() < PATIENCE {
            thread::park_timeout(END_LOOK_AGAIN);
        }
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// All processes, and a way to ask the control plane.
#[derive(Debug)]
pub(super) struct Platform {
    // Cells end first: what they report last is taken.
    cells: BTreeMap<u32, Process>,
    control_plane: Process,
    folder: PathBuf,
    /// Asks the control plane.
    pub(super) client: Client,
    /// Where the router listens.
    pub(super) router: String,
    api: String,
}

impl Platform {
    /// A control plane on a new log, and so many cells.
    pub(super) async fn start(place: &Place, cells: u32) -> Result<Self, Error> {
        let folder = place.path().join(place.new_name());
        let io = |what| move |source| Error::Io { what, source };
        fs::create_dir(&folder).map_err(io("make a folder"))?;
        let tokens: BTreeMap<String, &str> =
            (0..=cells).map(|number| (cell_id(number), TOKEN)).collect();
        let tokens = json!(tokens).to_string();
        write_private(&folder.join("cells.json"), &tokens).map_err(io("write a token"))?;
        write_private(&folder.join("token"), TOKEN).map_err(io("write a token"))?;
        let mut command = this_program()?;
        command.args(["serve", "--port", "0", "--router-port", "0", "--data-dir"]);
        command
            .arg(folder.join("control-plane"))
            .arg("--cell-tokens")
            .arg(folder.join("cells.json"));
        let mut control_plane = Process::start(command.stdout(Stdio::piped()))?;
        let (api, router) = addresses(&mut control_plane)?;
        let client = Client::new(&api, None, None).map_err(unexpected)?;
        let cells_wanted = cells;
        let cells = BTreeMap::new();
        let mut platform = Self { cells, control_plane, folder, client, router, api };
        for number in 0..cells_wanted {
            platform.start_cell(number).await?;
        }
        Ok(platform)
    }

    /// Starts a cell, and waits until the control plane knows it.
    pub(super) async fn start_cell(&mut self, number: u32) -> Result<(), Error> {
        let mut command = this_program()?;
        command.args(["cell", "--cell-id", &cell_id(number), "--api", &self.api, "--token-file"]);
        command.arg(self.folder.join("token")).arg("--data-dir").arg(self.cell_folder(number));
        // As many as are asked for, whatever this machine has.
        command.args(["--memory-mb", "1048576", "--disk-mb", "1048576", "--remove-on-stop"]);
        let cell = Process::start(command.stdout(Stdio::null()))?;
        self.cells.insert(number, cell);
        let is_it = |cell: &Value| {
            cell.pointer("/cellId").and_then(Value::as_str) == Some(cell_id(number).as_str())
                && cell.pointer("/presence").and_then(Value::as_str) == Some("PRESENT")
        };
        let started = Stopwatch::start();
        while started.elapsed() < PATIENCE {
            let query = "{ now { cells { cellId presence } } }";
            let answer = self.client.query(query, json!({})).await.map_err(unexpected)?;
            let cells = answer.pointer("/now/cells").and_then(Value::as_array);
            if cells.is_some_and(|cells| cells.iter().any(is_it)) {
                return Ok(());
            }
            if self.cells.get_mut(&number).is_some_and(Process::has_ended) {
                return Err(Error::Unexpected("a cell has ended; it needs root".to_owned()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(Error::Unexpected("a cell does not register".to_owned()))
    }

    /// Kills a cell's agent without a goodbye.
    pub(super) fn kill_cell(&mut self, number: u32) {
        if let Some(mut cell) = self.cells.remove(&number) {
            cell.send(Signal::SIGKILL);
            cell.0.wait().ok();
        }
    }

    /// A cell's agent.
    pub(super) fn agent(&self, number: u32) -> i32 {
        self.cells.get(&number).map_or(0, Process::pid)
    }

    /// The control plane's process.
    pub(super) fn control_plane(&self) -> i32 {
        self.control_plane.pid()
    }

    /// Where a cell keeps its containers.
    pub(super) fn cell_folder(&self, number: u32) -> PathBuf {
        self.folder.join(cell_id(number))
    }
}

/// A cell's name.
pub(super) fn cell_id(number: u32) -> String {
    format!("bench-{number}")
}

/// What must not happen.
pub(super) fn unexpected(error: impl std::fmt::Display) -> Error {
    Error::Unexpected(error.to_string())
}

fn this_program() -> Result<Command, Error> {
    let path = std::env::current_exe()
        .map_err(|source| Error::Io { what: "find this program's own file", source })?;
    let mut command = Command::new(path);
    command.env("DIARIO_LOG", "error").env_remove("DIARIO_API").env_remove("DIARIO_TOKEN");
    Ok(command)
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Reads where a control plane says that it listens.
fn addresses(process: &mut Process) -> Result<(String, String), Error> {
    let ended = || Error::Unexpected("the control plane has ended before it listened".to_owned());
    let output = process.0.stdout.take().ok_or_else(ended)?;
    let mut found = [None, None];
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|source| Error::Io { what: "read a process's output", source })?;
        let url = line.split_whitespace().find(|word| word.starts_with("http"));
        for (place, name) in found.iter_mut().zip(["API", "router"]) {
            if line.starts_with(name) {
                *place = url.map(|url| url.trim_end_matches("/graphql").to_owned());
            }
        }
        if let [Some(api), Some(router)] = &found {
            return Ok((api.clone(), router.clone()));
        }
    }
    Err(ended())
}
