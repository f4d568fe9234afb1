//! Runs the tests one after another, each in a cell of its own, and counts.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cell::clock;
use cell::garden::linux::{LinuxConfig, LinuxGarden};
use cell::garden::{
    ContainerInfo, ContainerSpec, Environment, ExitRecord, ExitStatus, Garden, Handle, Limits,
    OutputCursor, OutputStream, ProcessId, ProcessSpec, RootfsName,
};
use cell::lifecycle::rootfs;
use tempfile::TempDir;
use tokio::runtime;
use tokio::time::timeout;

use crate::leaks;

/// The binary inside the containers.
pub(crate) const BINARY: &str = "/bin/diario";
/// How long anything in a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The cell that stands in while a test's own is closed: what its prefix has more, its folder.
pub(crate) const PARKED: (&str, &str) = ("x", "parked");

type Body = fn(World) -> Pin<Box<dyn Future<Output = World> + Send>>;

/// One test: a sentence and what it does.
#[derive(Clone)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) body: Body,
}

/// Lists async functions as tests, their names as sentences.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn tests() -> Vec<crate::harness::Test> {
            vec![$(crate::harness::Test {
                name: stringify!($name),
                body: |mut world| Box::pin(async move {
                    $name(&mut world).await;
                    world
                }),
            }),*]
        }
    };
}
pub(crate) use tests;

/// A cell of its own for each test.
pub(crate) struct World {
    pub(crate) garden: LinuxGarden,
    pub(crate) config: LinuxConfig,
    pub(crate) home: Arc<TempDir>,
}

pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for test in tests {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with("--"));
    let chosen = tests.iter().filter(|test| filter.is_none_or(|filter| test.name.contains(filter)));
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (mut passed, mut failed) = (0, Vec::new());
    for test in chosen {
        let started = clock::monotonic();
        match runtime.block_on(run_one(test)) {
            Ok(()) => {
                let took = started.elapsed().as_millis();
                println!("test {} ... ok ({took} ms)", test.name.replace('_', " "));
                passed += 1;
            }
            Err(reason) => {
                println!("test {} ... FAILED: {reason}", test.name.replace('_', " "));
                failed.push(test.name);
            }
        }
    }
    println!("{passed} passed, {} failed", failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}

async fn run_one(test: &Test) -> Result<(), String> {
    // Outlives the world, which a panic drops.
    let home = Arc::new(tempfile::tempdir().map_err(|error| error.to_string())?);
    let config = config(home.path());
    let home_of_world = Arc::clone(&home);
    let (prefix, folder) = (config.prefix.clone(), config.cell_dir.clone());
    let before = leaks::count(&prefix, &folder);
    if !before.is_empty() {
        return Err(format!("the machine is not clean before: {before:?}"));
    }
    let garden = LinuxGarden::open(config.clone()).await.map_err(|error| chain(&error))?;
    let world = World { garden, config: config.clone(), home: home_of_world };
    let tested = runtime::Handle::current().spawn((test.body)(world)).await;
    match tested {
        Ok(world) => {
            // The test may have opened its cell again: what it leaves is the garden to ask.
            world.garden.tear_down().await.map_err(|error| chain(&error))?;
            let after = leaks::count(&prefix, &folder);
            if after.is_empty() { Ok(()) } else { Err(format!("leaks: {after:?}")) }
        }
        Err(panicked) => {
            // The panic dropped the world and with it the gardens: take their folders up again.
            for (suffix, name) in [("", "cell"), PARKED] {
                let mut left = config.clone();
                left.prefix.push_str(suffix);
                left.cell_dir = home.path().join(name);
                if left.cell_dir.exists() {
                    let garden = LinuxGarden::open(left).await.map_err(|error| chain(&error))?;
                    garden.tear_down().await.map_err(|error| chain(&error))?;
                }
            }
            Err(panicked.to_string())
        }
    }
}

/// Settings of a fresh cell: the test binary is the shim and the program in the rootfs.
pub(crate) fn config(home: &Path) -> LinuxConfig {
    let binary = std::env::current_exe().unwrap();
    let shared = binary.parent().unwrap().join("containers-test-rootfs");
    let rootfs = rootfs::build(&shared, &binary).unwrap();
    let unique = clock::wall_ns() / 1000;
    LinuxConfig {
        cell_dir: home.join("cell"),
        prefix: format!("t{:06x}", unique & 0xff_ffff),
        subnet: None,
        shim_binary: binary,
        rootfses: BTreeMap::from([("diario".to_owned(), rootfs.folder)]),
        containers_max: 20,
    }
}

pub(crate) fn handle(text: &str) -> Handle {
    Handle::parse(text).unwrap()
}

pub(crate) fn process(text: &str) -> ProcessId {
    ProcessId::parse(text).unwrap()
}

/// A container with modest limits.
pub(crate) fn container(name: &str) -> ContainerSpec {
    ContainerSpec {
        handle: handle(name),
        rootfs: RootfsName::parse("preloaded:diario").unwrap(),
        hostname: format!("host-{name}"),
        environment: Environment(vec![("FROM_CONTAINER".to_owned(), "1".to_owned())]),
        limits: Limits {
            memory_bytes: Some(64 << 20),
            cpu_shares: Some(512),
            cpu_quota_us: None,
            pids_max: Some(32),
        },
        bind_mounts: Vec::new(),
        properties: BTreeMap::from([("owner".to_owned(), "test".to_owned())]),
    }
}

/// A process of the binary inside: `arguments` split at spaces.
pub(crate) fn program(id: &str, arguments: &str) -> ProcessSpec {
    ProcessSpec {
        id: process(id),
        path: BINARY.to_owned(),
        args: arguments.split(' ').map(str::to_owned).collect(),
        environment: Environment::default(),
        dir: None,
        user: None,
        nofile: None,
        is_fleeting: false,
    }
}

impl World {
    pub(crate) async fn create(&self, name: &str) -> ContainerInfo {
        self.garden.create(container(name)).await.unwrap()
    }

    /// Runs a process to its end; gives how it ended and what it wrote.
    pub(crate) async fn finish(&self, name: &str, spec: ProcessSpec) -> (ExitRecord, String) {
        let id = spec.id.clone();
        self.garden.run(&handle(name), spec).await.unwrap();
        let record = self.wait(name, &id).await;
        (record, self.output(name, &id, None).await)
    }

    pub(crate) async fn wait(&self, name: &str, id: &ProcessId) -> ExitRecord {
        timeout(PATIENCE, self.garden.wait(&handle(name), id)).await.unwrap().unwrap()
    }

    /// All that a process wrote so far, to one stream or to both.
    pub(crate) async fn output(
        &self,
        name: &str,
        id: &ProcessId,
        stream: Option<OutputStream>,
    ) -> String {
        let (mut text, mut cursor) = (Vec::new(), OutputCursor::default());
        loop {
            let chunk = self.garden.read_output(&handle(name), cursor, 100_000).await.unwrap();
            if chunk.records.is_empty() {
                return String::from_utf8_lossy(&text).into_owned();
            }
            cursor = chunk.next;
            let wanted = chunk.records.into_iter().filter(|record| {
                &record.process == id && stream.is_none_or(|stream| record.stream == stream)
            });
            text.extend(wanted.flat_map(|record| record.bytes));
        }
    }

    /// Waits until a process has written a text.
    pub(crate) async fn until_output(&self, name: &str, id: &ProcessId, wanted: &str) {
        let search = async {
            let mut cursor = OutputCursor::default();
            while !self.output(name, id, None).await.contains(wanted) {
                self.garden.output_ready(&handle(name), cursor).await;
                let chunk = self.garden.read_output(&handle(name), cursor, 1 << 20).await;
                cursor = chunk.unwrap().next;
            }
        };
        timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("{wanted:?} never came"));
    }
}

pub(crate) const fn exited(code: i32) -> ExitStatus {
    ExitStatus::Exited { code }
}

pub(crate) const fn signaled(signal: i32) -> ExitStatus {
    ExitStatus::Signaled { signal }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = clock::monotonic() + PATIENCE;
    while !is_so() {
        assert!(clock::monotonic() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Where a container's folder is.
pub(crate) fn depot(config: &LinuxConfig, name: &str) -> PathBuf {
    config.cell_dir.join("containers").join(name)
}
