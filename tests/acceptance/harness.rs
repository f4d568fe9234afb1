//! Real processes for the scenarios: `diario` as its users start it, on free ports and a folder of
//! its own, and everything it left on the machine counted afterwards.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use domain::sealed::Digest;
use serde_json::Value;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test. `tests/run` builds it and says where it is.
pub(crate) fn binary() -> PathBuf {
    let path = std::env::var_os("DIARIO_BIN")
        .expect("DIARIO_BIN must name the built diario: run tests/run, or export it");
    PathBuf::from(path)
}

/// A folder that goes when it is dropped.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A `diario` command, with quiet logs.
pub(crate) fn diario() -> Command {
    let mut command = Command::new(binary());
    command.env("DIARIO_LOG", "warn").env_remove("DIARIO_API").env_remove("DIARIO_TOKEN");
    command
}

/// A running `diario dev` or `diario serve`.
pub(crate) struct Server {
    child: Child,
    /// The folder of its cell, where it has one; nothing of it may be left at the end.
    cell: Option<PathBuf>,
    lines: mpsc::Receiver<String>,
    token: Option<String>,
    /// Where the API is.
    pub(crate) api: String,
    /// Where the router is.
    pub(crate) router: String,
}

impl Server {
    /// `diario dev` on free ports.
    pub(crate) fn dev(data_dir: &Path) -> Self {
        Self::start(&["dev"], data_dir)
    }

    /// `diario serve` on free ports, with more options.
    pub(crate) fn start(arguments: &[&str], data_dir: &Path) -> Self {
        Self::start_on(arguments, data_dir, 0)
    }

    /// The same on a chosen API port.
    pub(crate) fn start_on(arguments: &[&str], data_dir: &Path, port: u16) -> Self {
        Self::start_command(diario(), arguments, data_dir, port)
    }

    /// The same of a command that was prepared.
    pub(crate) fn start_command(
        mut command: Command,
        arguments: &[&str],
        data_dir: &Path,
        port: u16,
    ) -> Self {
        let cell = arguments.contains(&"dev").then(|| cell_of(data_dir));
        let port = port.to_string();
        command.args(arguments).args(["--port", &port, "--router-port", "0", "--data-dir"]);
        Self::spawn(command.arg(data_dir), cell)
    }

    /// A command that serves and prints where.
    pub(crate) fn spawn(command: &mut Command, cell: Option<PathBuf>) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(&mut child);
        let (token, api, router) = (None, String::new(), String::new());
        let mut server = Self { child, cell, lines, token, api, router };
        while server.api.is_empty() || server.router.is_empty() {
            let line = server.lines.recv_timeout(PATIENCE).expect("it ended before it listened");
            let url = line.split_whitespace().find(|word| word.starts_with("http"));
            let Some(url) = url else { continue };
            if line.starts_with("router") {
                server.router = url.to_owned();
            } else {
                server.api = url.trim_end_matches("/graphql").to_owned();
            }
        }
        server
    }

    /// Gives a token to all operator's commands from now on.
    pub(crate) fn set_token(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    /// The API's port.
    pub(crate) fn port(&self) -> u16 {
        self.api.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Runs an operator's command against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = diario();
        command.args(arguments).env("DIARIO_API", &self.api);
        command.envs(self.token.iter().map(|token| ("DIARIO_TOKEN", token))).output().unwrap()
    }

    /// Runs an operator's command that must succeed, and reads its JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        let end = arguments.iter().position(|a| *a == "--").unwrap_or(arguments.len());
        arguments.insert(end, "--json");
        let output = self.run(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", told(&output)))
    }

    /// Runs an operator's command that must succeed, and gives what it printed.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts an operator's command that goes on printing.
    pub(crate) fn follow(&self, arguments: &[&str]) -> Following {
        let mut child = diario()
            .args(arguments)
            .env("DIARIO_API", &self.api)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(&mut child);
        Following { child, lines }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        until("a control plane to end", || self.child.try_wait().unwrap())
    }

    /// Kills it at once, as a machine's failure would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            stop(&mut self.child);
        }
        // A test that fails already is not to fail twice.
        if let Some(cell) = self.cell.take()
            && !thread::panicking()
            && cell.exists()
        {
            assert_eq!(left_on_machine(&cell), Vec::<String>::new(), "left by {}", cell.display());
        }
    }
}

/// A command that goes on printing.
pub(crate) struct Following {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Following {
    /// Waits for a line that holds a text.
    pub(crate) fn wait_for(&mut self, text: &str) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            if line.unwrap_or_else(|_| panic!("no line held {text:?}")).contains(text) {
                return;
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What a process prints, line by line.
fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A running `diario cell`.
pub(crate) struct Cell(Child);

impl Cell {
    /// `cell-1` of a control plane, in a folder of its own, with more options.
    pub(crate) fn start(api: &str, token_file: &Path, data_dir: &Path, more: &[&str]) -> Self {
        Self::start_command(diario(), api, token_file, data_dir, more)
    }

    /// The same of a command that was prepared.
    pub(crate) fn start_command(
        mut command: Command,
        api: &str,
        token_file: &Path,
        data_dir: &Path,
        more: &[&str],
    ) -> Self {
        let child = command
            .args(["cell", "--cell-id", "cell-1", "--api", api, "--token-file"])
            .arg(token_file)
            .arg("--data-dir")
            .arg(data_dir)
            .args(more)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// A command that is a cell.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills the agent at once.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends SIGTERM, and waits until the agent has ended.
    pub(crate) fn terminate(mut self) {
        stop(&mut self.0);
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            stop(&mut self.0);
        }
    }
}

fn stop(child: &mut Child) {
    signal(child.id(), "TERM");
    until("a process to end", || child.try_wait().unwrap().map(|_| ()));
}

/// Sends a signal by `kill`.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// Looks until something is seen.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// Looks until something is seen, for so long.
pub(crate) fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", patience.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Prints what was measured, for whoever reads the run.
#[expect(clippy::print_stderr, reason = "figures of a test run are for people")]
pub(crate) fn tell(figures: &str) {
    eprintln!("{figures}");
}

/// What a command printed, for a failure's message.
pub(crate) fn told(output: &Output) -> String {
    format!(
        "{} stdout: {} stderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// One HTTP request: status, headers and body as text.
pub(crate) fn http(url: &str, host: &str) -> Option<(u16, String)> {
    let address = url.trim_start_matches("http://");
    let (address, path) = address.split_once('/').unwrap_or((address, ""));
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, text))
}

/// Posts JSON as the holder of a token: the whole answer as text.
pub(crate) fn post(url: &str, token: &str, body: &str) -> String {
    let address = url.trim_start_matches("http://");
    let (host, path) = address.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What the cell with a folder has on this machine: mounts, shims, interfaces, cgroups.
pub(crate) fn left_on_machine(cell_folder: &Path) -> Vec<String> {
    let folder = cell_folder.canonicalize().unwrap();
    let folder = folder.to_str().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut left: Vec<String> =
        mounts.lines().filter(|line| line.contains(folder)).map(str::to_owned).collect();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(" shim ") && command.contains(folder) {
            left.push(format!("process {} {command}", entry.file_name().display()));
        }
    }
    // As `diario cell` names all that it makes.
    let digest = Digest::of(format!("cell-1 {folder}").as_bytes()).to_string();
    let prefix = format!("d{}", &digest[..6]);
    for entry in fs::read_dir("/sys/class/net").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) {
            left.push(format!("interface {name}"));
        }
    }
    for controller in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let cgroup = controller.path().join("diario").join(&prefix);
        if cgroup.exists() {
            left.push(format!("cgroup {}", cgroup.display()));
        }
    }
    left
}

/// A process on this machine that was given this variable, and all variables that it was given.
pub(crate) fn process_with(variable: &str) -> Option<(u32, String)> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let told = fs::read_to_string(entry.path().join("environ")).ok()?;
        let is_it = told.split('\0').any(|it| it == variable);
        is_it.then(|| Some((entry.file_name().to_str()?.parse().ok()?, told))).flatten()
    })
}

/// The shim of an instance, while it runs: the process above all of its container.
pub(crate) fn shim_pid(cell_folder: &Path, instance: &str) -> Option<u32> {
    let path = cell_folder.join("containers").join(instance).join("shim.pid");
    let shim: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    let pid = u32::try_from(shim["pid"].as_u64()?).ok()?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    command.contains("shim").then_some(pid)
}

/// The folder of the one cell of `diario dev`.
pub(crate) fn cell_of(data_dir: &Path) -> PathBuf {
    data_dir.join("cells").join("cell-1")
}
