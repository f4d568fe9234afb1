//! A Postgres server for one run of a bench, in a folder that goes with it, `fsync` on.
//!
//! A helper process waits for our end, however that comes, and takes server and folder away.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
};

use nix::unistd::{Gid, Uid, User};

use super::Error;

/// Where Debian puts each version's programs.
const VERSIONS: &str = "/usr/lib/postgresql";
const PACKAGE: &str = "postgresql";
const SUPERUSER: &str = "diario";

/// Waits until the other end of its input is gone, then ends the server and removes its folder.
const JANITOR: &str = "trap '' INT TERM HUP; cat >/dev/null; \
     pid=$(head -n 1 \"$0/data/postmaster.pid\" 2>/dev/null); \
     if [ -n \"$pid\" ]; then kill -QUIT \"$pid\"; \
     while kill -0 \"$pid\" 2>/dev/null; do sleep 0.05; done; fi; rm -rf \"$0\"";

/// A running server. Dropped, it is stopped and its folder removed.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    /// The account that it runs as where we are root, which it refuses.
    account: Option<(Uid, Gid)>,
    janitor: Option<(Child, ChildStdin)>,
}

impl PostgresServer {
    /// Makes a server in a folder that must not be there yet, and starts it. Blocks.
    ///
    /// # Errors
    /// When Postgres is not installed or does not start.
    pub fn start(folder: &Path) -> Result<Self, Error> {
        let programs = newest_programs()?;
        let account = if Uid::effective().is_root() { Some(account()?) } else { None };
        let unusable = |source| Error::Folder { path: folder.to_owned(), source };
        fs::create_dir(folder).map_err(unusable)?;
        let janitor = Some(start_janitor(folder)?);
        if let Some((uid, gid)) = account {
            chown(folder, Some(uid.as_raw()), Some(gid.as_raw())).map_err(unusable)?;
        }
        let listener = TcpListener::bind("127.0.0.1:0").map_err(unusable)?;
        let port = listener.local_addr().map_err(unusable)?.port();
        drop(listener);
        let server = Self { programs, folder: folder.to_owned(), port, account, janitor };
        server.initialise()?;
        Ok(server)
    }

    fn initialise(&self) -> Result<(), Error> {
        let data = self.folder.join("data").display().to_string();
        self.run(
            "initdb",
            &["-D", &data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        )?;
        let folder = self.folder.display();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{folder}'\n\
             fsync = on\nsynchronous_commit = on\nmax_connections = 600\n\
             shared_buffers = '512MB'\nmax_wal_size = '8GB'\n",
            self.port
        );
        let file = self.folder.join("data").join("bench.conf");
        fs::write(&file, settings)
            .map_err(|source| Error::Folder { path: file.clone(), source })?;
        if let Some((uid, gid)) = self.account {
            chown(&file, Some(uid.as_raw()), Some(gid.as_raw()))
                .map_err(|source| Error::Folder { path: file, source })?;
        }
        let log = self.folder.join("log").display().to_string();
        let include = format!(
            "-c config_file={data}/bench.conf -c data_directory={data} \
             -c hba_file={data}/pg_hba.conf -c ident_file={data}/pg_ident.conf"
        );
        self.run("pg_ctl", &["start", "-s", "-w", "-D", &data, "-l", &log, "-o", &include])?;
        Ok(())
    }

    /// Makes an empty database and answers with its address.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn new_database(&self, name: &str) -> Result<String, Error> {
        self.query("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        Ok(format!("postgres://{SUPERUSER}@127.0.0.1:{}/{name}", self.port))
    }

    /// Runs statements and answers with what they print, values alone.
    ///
    /// # Errors
    /// When one fails.
    pub fn query(&self, database: &str, statements: &str) -> Result<String, Error> {
        let connection = self.connection(database);
        let mut arguments = vec!["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"];
        arguments.extend(connection.iter().map(String::as_str));
        arguments.extend(["-c", statements]);
        let output = self.run("psql", &arguments)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// How many bytes some tables take with their indexes.
    ///
    /// # Errors
    /// When one is not there.
    pub fn table_bytes(&self, database: &str, tables: &[&str]) -> Result<u64, Error> {
        let sum: Vec<String> =
            tables.iter().map(|table| format!("pg_total_relation_size('{table}')")).collect();
        let answer = self.query(database, &format!("SELECT {}", sum.join(" + ")))?;
        answer.parse().map_err(|_| Error::Failed { program: "psql".to_owned(), said: answer })
    }

    pub(super) fn connection(&self, database: &str) -> Vec<String> {
        let parts = ["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", SUPERUSER, database];
        parts.iter().map(|&part| part.to_owned()).collect()
    }

    /// The folder that goes with the server.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<Output, Error> {
        let path = self.programs.join(program);
        if !path.exists() {
            return Err(Error::Missing { program: program.to_owned(), package: PACKAGE });
        }
        let mut command = Command::new(path);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        if let Some((uid, gid)) = self.account {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        // The server keeps what it inherits: a pipe would never end.
        let is_server = program == "pg_ctl";
        if is_server {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let output = command
            .output()
            .map_err(|source| Error::Run { program: program.to_owned(), source })?;
        if output.status.success() {
            return Ok(output);
        }
        let said = if is_server {
            fs::read_to_string(self.folder.join("log")).unwrap_or_default()
        } else {
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        let last = said.lines().rev().take(3).collect::<Vec<_>>().join(" | ");
        Err(Error::Failed { program: program.to_owned(), said: last })
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some((mut janitor, stdin)) = self.janitor.take() {
            drop(stdin);
            if let Err(failure) = janitor.wait() {
                tracing::warn!(%failure, "The bench's Postgres server was left behind.");
            }
        }
    }
}

fn start_janitor(folder: &Path) -> Result<(Child, ChildStdin), Error> {
    let failed = |source| Error::Run { program: "sh".to_owned(), source };
    let mut janitor = Command::new("sh")
        .arg("-c")
        .arg(JANITOR)
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A signal to our terminal's group must not reach it.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    match janitor.stdin.take() {
        Some(stdin) => Ok((janitor, stdin)),
        None => Err(failed(std::io::ErrorKind::BrokenPipe.into())),
    }
}

fn account() -> Result<(Uid, Gid), Error> {
    let found = User::from_name("postgres").ok().flatten();
    let missing = || Error::Missing { program: "the user postgres".to_owned(), package: PACKAGE };
    found.map(|user| (user.uid, user.gid)).ok_or_else(missing)
}

fn newest_programs() -> Result<PathBuf, Error> {
    let missing = || Error::Missing { program: "Postgres".to_owned(), package: PACKAGE };
    let versions = fs::read_dir(VERSIONS).map_err(|_| missing())?;
    let newest = versions
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max()
        .ok_or_else(missing)?;
    Ok(Path::new(VERSIONS).join(newest.to_string()).join("bin"))
}
