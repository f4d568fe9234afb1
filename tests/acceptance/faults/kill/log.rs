//! The log under test: where it is, its nodes, and the operator's commands on it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use projections::failpoint::Failpoint;

use super::node::Node;
use crate::harness::{diario, folder, told};

/// A log of its own.
pub(super) struct Log {
    folder: tempfile::TempDir,
    /// Its database's address, where it is not in the data folder.
    database: Option<String>,
}

impl Log {
    pub(super) fn new(database: Option<&str>) -> Self {
        Self { folder: folder(), database: database.map(str::to_owned) }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("one")
    }

    /// Starts the node that is killed.
    pub(super) fn start(&self, failpoint: Option<Failpoint>) -> Node {
        self.start_in(&self.data_dir(), failpoint)
    }

    /// Starts another node on the same log.
    pub(super) fn start_other(&self) -> Node {
        let data_dir = self.folder.path().join("two");
        fs::create_dir_all(data_dir.join("keys")).unwrap();
        for key in fs::read_dir(self.data_dir().join("keys")).unwrap().flatten() {
            fs::copy(key.path(), data_dir.join("keys").join(key.file_name())).unwrap();
        }
        self.start_in(&data_dir, None)
    }

    fn start_in(&self, data_dir: &Path, failpoint: Option<Failpoint>) -> Node {
        let mut command = diario();
        command.args(["serve", "--port", "0", "--router-port", "0"]);
        command.arg("--data-dir").arg(data_dir).args(self.storage());
        if self.database.is_some() {
            // Short: who is started after a kill is to lead soon.
            command.args(["--lease-ttl", "1"]);
        }
        if let Some(failpoint) = failpoint {
            command.env("DIARIO_FAILPOINT", failpoint.to_string());
        }
        Node::start(&mut command)
    }

    fn storage(&self) -> Vec<&str> {
        self.database.iter().flat_map(|url| ["--database-url", url]).collect()
    }

    /// Starts to move all but the newest events to an archive.
    pub(super) fn archive(&self, failpoint: Failpoint) -> Node {
        let mut command = diario();
        command.args(["archive", "run", "--to"]).arg(self.folder.path().join("archive"));
        command.args(["--keep-events", "100", "--data-dir"]).arg(self.data_dir());
        command.args(self.storage()).env("DIARIO_FAILPOINT", failpoint.to_string());
        Node::start(&mut command)
    }

    /// Proves the chain, and says how much there is.
    pub(super) fn verify(&self) -> String {
        let verified = self.run(&["verify"], "");
        assert!(verified.starts_with("ok: "), "{verified}");
        verified
    }

    /// Compares the views of the node at an API with a fresh fold.
    pub(super) fn compare_views(&self, api: &str) {
        self.run(&["replay", "--verify-views"], api);
    }

    /// Writes all events to a file, and says which.
    pub(super) fn export(&self) -> PathBuf {
        let file = self.folder.path().join("export");
        self.run(&["log", "export", "--from", "@1", "--output", file.to_str().unwrap()], "");
        file
    }

    /// Runs an operator's command, which must succeed.
    fn run(&self, arguments: &[&str], api: &str) -> String {
        let mut command = diario();
        command.args(arguments).arg("--data-dir").arg(self.data_dir()).args(self.storage());
        if !api.is_empty() {
            command.env("DIARIO_API", api);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}
