//! A Postgres server of a test's own: made in a temporary folder, reached through a socket and a
//! loopback port, killed and paused at will, and gone when its owner is, however that ends.
//!
//! For tests only: it fails loudly, trusts every local user and may lose everything.

use std::{
    net::{TcpListener, TcpStream},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use domain::units::Timestamp;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid, User},
};
use tempfile::TempDir;

use crate::event_store::{
    conformance::samples::INCARNATION,
    postgres::{Database, WallClock},
};

/// The superuser of every test cluster, and a password that no check asks for.
const USER: &str = "diario";
const PASSWORD: &str = "never-shown";

/// Waits for the end of the process that holds the other end of its input, then takes the server
/// and the folder away.
const JANITOR: &str = "trap '' INT TERM HUP; cat >/dev/null; \
     pid=$(head -n 1 \"$0/data/postmaster.pid\" 2>/dev/null); \
     if [ -n \"$pid\" ]; then \
     pkill -CONT -P \"$pid\"; kill -CONT \"$pid\"; kill -QUIT \"$pid\"; \
     while kill -0 \"$pid\" 2>/dev/null; do sleep 0.05; done; \
     fi; rm -rf \"$0\"";

/// A running server. Dropped, it is stopped and its folder removed.
#[derive(Debug)]
pub struct Cluster {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    /// The account that the server runs as, where we are root, which it refuses.
    account: Option<(Uid, Gid)>,
    databases: AtomicU32,
    janitor: Mutex<Option<(Child, ChildStdin)>>,
}

/// What a [`Cluster`] is started with.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Whether commits wait for the disk; off unless asked, for speed.
    pub waits_for_disk: bool,
    /// Further lines of the server's configuration.
    pub further: Vec<(String, String)>,
    /// The folder to make the server's in; that of temporary files unless asked.
    pub within: Option<PathBuf>,
}

/// The cluster that all tests of one process share.
///
/// # Panics
/// When Postgres is not installed or does not start.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(&Settings::default()))
}

/// Opens a database of a test under the suite's incarnation and the machine's clock.
///
/// # Panics
/// When it cannot be opened.
pub async fn open(url: &str) -> Database {
    let url = url.parse().expect("an address of a database");
    Database::open(&url, INCARNATION, wall_clock()).await.expect("a database that opens")
}

/// The machine's clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a test's clock is the machine's")]
pub fn wall_clock() -> WallClock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let since = since.unwrap_or_default().as_nanos();
        Timestamp(i64::try_from(since).unwrap_or(i64::MAX))
    })
}

impl Cluster {
    /// Makes and starts a server.
    ///
    /// # Panics
    /// When Postgres is not installed or does not start.
    #[must_use]
    pub fn start(settings: &Settings) -> Self {
        let binaries = newest_binaries();
        let account = Uid::effective().is_root().then(|| {
            let user = User::from_name("postgres").expect("readable accounts");
            let user = user.expect("a user postgres: install the Debian package postgresql");
            (user.uid, user.gid)
        });
        let within = settings.within.clone().unwrap_or_else(std::env::temp_dir);
        let folder = TempDir::with_prefix_in("diario-postgres-", within);
        let folder = folder.expect("a temporary folder").keep();
        if let Some((uid, gid)) = account {
            chown(&folder, Some(uid.as_raw()), Some(gid.as_raw())).expect("a folder of its own");
        }
        let janitor = Mutex::new(Some(start_janitor(&folder)));
        let port = free_port();
        let databases = AtomicU32::new(0);
        let cluster = Self { binaries, folder, port, account, databases, janitor };
        cluster.initialise(settings);
        cluster.restart();
        cluster
    }

    fn initialise(&self, settings: &Settings) {
        let data = self.data();
        let data = data.to_str().expect("a plain path");
        self.run(
            "initdb",
            &[
                "-D",
                data,
                "-U",
                USER,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
                "--no-instructions",
            ],
        );
        let waits = if settings.waits_for_disk { "on" } else { "off" };
        let port = self.port.to_string();
        let folder = self.folder.to_str().expect("a plain path");
        let mut lines = vec![
            ("listen_addresses", "127.0.0.1"),
            ("port", &port),
            ("unix_socket_directories", folder),
            ("fsync", waits),
            ("full_page_writes", waits),
            ("max_connections", "300"),
            ("shared_buffers", "64MB"),
        ];
        lines.extend(settings.further.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        self.configure(&lines);
    }

    /// Adds lines to the configuration, read at the next start or reload; the last one counts.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn configure(&self, lines: &[(&str, &str)]) {
        use std::io::Write as _;
        let file = self.data().join("postgresql.conf");
        let mut file =
            std::fs::OpenOptions::new().append(true).open(file).expect("a configuration");
        for (name, value) in lines {
            writeln!(file, "{name} = '{value}'").expect("a configuration line");
        }
    }

    /// Makes the running server read its configuration again.
    pub fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// An address of a database, through the loopback port. It holds a password, which must not
    /// be shown by what is tested.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_through(self.port, database)
    }

    /// As [`Cluster::url`], through another port: a proxy's.
    #[must_use]
    pub fn url_through(&self, port: u16, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/{database}")
    }

    /// The loopback port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the server's socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The server's superuser.
    #[must_use]
    pub fn user(&self) -> &'static str {
        USER
    }

    /// The folder of the server's programs: `psql`, `pgbench` and so on.
    #[must_use]
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// Makes an empty database and answers with its address.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn fresh_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
        self.url(&name)
    }

    /// Runs statements and answers with what they print, values alone, separated by `|`.
    ///
    /// # Panics
    /// When one fails.
    pub fn psql(&self, database: &str, statements: &str) -> String {
        let port = self.port.to_string();
        let folder = self.folder.to_str().expect("a plain path");
        let output = self.run(
            "psql",
            &[
                "-X",
                "-q",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                folder,
                "-p",
                &port,
                "-U",
                USER,
                "-d",
                database,
                "-c",
                statements,
            ],
        );
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// As [`Cluster::psql`], where it does not matter whether the server takes it.
    pub fn try_psql(&self, database: &str, statements: &str) {
        let mut command = Command::new(self.binaries.join("psql"));
        command.args(["-X", "-q", "-d", &self.url(database), "-c", statements]);
        let output = command.stdin(Stdio::null()).output();
        output.expect("a program of Postgres");
    }

    /// Takes one of the server's connections for as long as the answer lives; `None` when it has
    /// none left.
    ///
    /// # Panics
    /// When the server does not run.
    #[must_use]
    pub fn occupy(&self) -> Option<TcpStream> {
        use std::io::{Read as _, Write as _};
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).expect("a server");
        // Its length, protocol 3.0, and who asks for what.
        let asked = format!("\0\u{3}\0\0user\0{USER}\0database\0postgres\0\0");
        let length = u32::try_from(asked.len() + 4).expect("a short message");
        let sent = connection.write_all(&length.to_be_bytes());
        sent.and_then(|()| connection.write_all(asked.as_bytes())).expect("a server that reads");
        let mut answer = [0];
        // An `R` is the question who we are, which trust answers; an `E` is a refusal.
        let is_in = connection.read_exact(&mut answer).is_ok() && answer == *b"R";
        is_in.then_some(connection)
    }

    /// Starts the server, which must be stopped, as a standby that follows nobody: it takes no
    /// writes until [`Cluster::promote`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart_as_standby(&self) {
        let signal = self.data().join("standby.signal");
        std::fs::write(&signal, "").expect("a file in its folder");
        if let Some((uid, gid)) = self.account {
            chown(&signal, Some(uid.as_raw()), Some(gid.as_raw())).expect("a file of its own");
        }
        self.restart();
    }

    /// Makes a standby the server that takes writes.
    ///
    /// # Panics
    /// When it is none.
    pub fn promote(&self) {
        assert_eq!(self.psql("postgres", "SELECT pg_promote()"), "t");
    }

    /// Copies all that the stopped server holds.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn keep_copy(&self) {
        self.copy("data", "copy");
    }

    /// Puts a copy back in the place of what the stopped server holds, as a restore would.
    ///
    /// # Panics
    /// When there is none.
    pub fn put_copy_back(&self) {
        std::fs::remove_dir_all(self.data()).expect("a stopped server");
        self.copy("copy", "data");
    }

    fn copy(&self, from: &str, to: &str) {
        let mut copying = Command::new("cp");
        copying.arg("-a").arg(self.folder.join(from)).arg(self.folder.join(to));
        assert!(copying.status().expect("cp").success());
    }

    /// Starts the server, which must be stopped, and waits until it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        let (data, log) = (self.data(), self.folder.join("log"));
        self.run(
            "pg_ctl",
            &[
                "start",
                "-s",
                "-w",
                "-t",
                "120",
                "-D",
                data.to_str().expect("a path"),
                "-l",
                log.to_str().expect("a path"),
            ],
        );
    }

    /// Whether the server's first process lives.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let pid = file.lines().next().and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_ok())
    }

    /// Stops the server and waits for its end. Immediately means that it recovers at its start.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&self, immediately: bool) {
        let mode = if immediately { "immediate" } else { "fast" };
        let data = self.data();
        self.run("pg_ctl", &["stop", "-s", "-w", "-m", mode, "-D", data.to_str().expect("a path")]);
    }

    /// Kills every process of the server without a goodbye and waits until all are gone.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&self) {
        let server = self.server();
        let mut all = self.children();
        all.push(server);
        // Stopped first, so that the server starts nothing meanwhile.
        self.signal(Signal::SIGSTOP);
        all.extend(self.children());
        for process in &all {
            // One that has ended by itself is as dead.
            kill(*process, Signal::SIGKILL).ok();
        }
        // A server that was killed leaves its file, which tells the next start a wrong id.
        let gone = format!(
            "while {}; do sleep 0.01; done",
            all.iter()
                .map(|pid| format!("kill -0 {pid} 2>/dev/null"))
                .collect::<Vec<_>>()
                .join(" || ")
        );
        Command::new("sh").args(["-c", &gone]).status().expect("a shell");
        std::fs::remove_file(self.data().join("postmaster.pid")).ok();
    }

    /// Sends a signal to the server and all its processes: `SIGSTOP` stalls it, `SIGCONT` lets it
    /// go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let server = self.server();
        kill(server, signal).expect("a running server");
        if matches!(signal, Signal::SIGSTOP | Signal::SIGCONT) {
            for process in self.children() {
                // One that has ended meanwhile needs no signal.
                kill(process, signal).ok();
            }
        }
    }

    fn server(&self) -> Pid {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid"));
        let pid = file.expect("a running server").lines().next().and_then(|pid| pid.parse().ok());
        Pid::from_raw(pid.expect("a process id"))
    }

    fn children(&self) -> Vec<Pid> {
        let server = self.server();
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
        let children = children.unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Runs one of Postgres's programs as the server's account.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.binaries.join(program));
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        if let Some((uid, gid)) = self.account {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        // The server inherits what `pg_ctl` has: a pipe would stay open for as long as it runs.
        if program == "pg_ctl" {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let output = command.output().expect("a program of Postgres");
        assert!(
            output.status.success(),
            "{program} {arguments:?} failed: {}{}",
            String::from_utf8_lossy(&output.stderr),
            std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
        );
        output
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let janitor = self.janitor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut janitor, input)) = janitor {
            drop(input);
            // It ends by itself; waiting only tells that nothing is left.
            janitor.wait().ok();
        }
    }
}

fn start_janitor(folder: &Path) -> (Child, ChildStdin) {
    let mut janitor = Command::new("sh")
        .args(["-c", JANITOR])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell");
    let input = janitor.stdin.take().expect("its input");
    (janitor, input)
}

fn newest_binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let numbered = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let binaries = entry.path().join("bin");
        binaries.join("initdb").exists().then_some((version, binaries))
    });
    let (_, binaries) = numbered
        .max_by_key(|(version, _)| *version)
        .expect("no Postgres in /usr/lib/postgresql: install the Debian package postgresql");
    binaries
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
