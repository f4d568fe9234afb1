//! A user's own apps, tasks and cells for a simulation, in place of random ones.

use std::collections::BTreeSet;

use domain::{
    bbs::{desired_lrp, placement::Resources, task},
    id::{ProcessGuid, Zone},
    invalid::Invalid,
    sealed::Sealed,
    units::Mebibytes,
};
use serde::Deserialize;

/// What a simulation is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The cells; when there are none, random ones.
    pub cells: Vec<CellSpec>,
    /// The commands that desire the apps.
    pub lrps: Vec<desired_lrp::Command>,
    /// Those that desire the tasks.
    pub tasks: Vec<task::Command>,
}

impl Manifest {
    /// The cell of a number, where the manifest says what cells there are.
    pub(super) fn cell(&self, number: u32) -> Option<&CellSpec> {
        let mut left = number;
        self.cells.iter().find(|cells| match left.checked_sub(cells.count) {
            None => true,
            Some(rest) => {
                left = rest;
                false
            }
        })
    }

    pub(super) fn process_guids(&self) -> Vec<ProcessGuid> {
        let guids = self.lrps.iter().filter_map(|command| match command {
            desired_lrp::Command::Desire { process_guid, .. } => Some(process_guid.clone()),
            desired_lrp::Command::Update { .. } | desired_lrp::Command::Remove { .. } => None,
        });
        guids.collect()
    }

    /// How many cells it names.
    #[must_use]
    pub fn count_cells(&self) -> u32 {
        self.cells.iter().map(|cells| cells.count).sum()
    }
}

/// A manifest as its author writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The cells; random ones when absent.
    #[serde(default)]
    cells: Vec<CellSpec>,
    /// The apps, each as `diario lrp desire` takes it.
    #[serde(default)]
    lrps: Vec<desired_lrp::Spec>,
    /// The tasks, each as `diario task run` takes it.
    #[serde(default)]
    tasks: Vec<task::Spec>,
}

/// Cells that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellSpec {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// What each has.
    pub memory_mb: u32,
    /// What each has.
    pub disk_mb: u32,
    /// How many containers each takes.
    #[serde(default = "containers")]
    pub containers: u32,
    /// Where they are.
    #[serde(default = "zone")]
    pub zone: Zone,
    /// What only work that asks for all of these is placed on.
    #[serde(default)]
    pub placement_tags: BTreeSet<String>,
    /// What they offer besides.
    #[serde(default)]
    pub optional_placement_tags: BTreeSet<String>,
    /// Which root file systems they have, by name.
    #[serde(default = "rootfs")]
    pub rootfs: BTreeSet<String>,
    /// Which volume drivers they have.
    #[serde(default)]
    pub volume_drivers: BTreeSet<String>,
}

fn one() -> u32 {
    1
}

fn containers() -> u32 {
    250
}

fn zone() -> Zone {
    Zone::new("z1").unwrap_or_else(|_| unreachable!("a constant, well formed"))
}

fn rootfs() -> BTreeSet<String> {
    BTreeSet::from(["diario".to_owned()])
}

/// In the place of a secret: nothing here reads it.
pub(super) fn nothing() -> Sealed {
    Sealed {
        key_id: uuid::Uuid::nil(),
        nonce: Vec::new(),
        ciphertext: Vec::new(),
        fingerprint: Vec::new(),
    }
}

/// The most cells, apps and tasks.
const CELLS_MAX: u32 = 1000;
const WISHES_MAX: usize = 1000;
/// The most instances of all apps.
const INSTANCES_MAX: u32 = 10_000;

impl CellSpec {
    pub(super) fn capacity(&self) -> Resources {
        Resources {
            memory_mb: Mebibytes(self.memory_mb),
            disk_mb: Mebibytes(self.disk_mb),
            containers: self.containers,
        }
    }
}

impl Spec {
    /// Checks it as a control plane would. Secrets are not kept: nothing here reads them.
    ///
    /// # Errors
    /// Everything that is wrong with the first wish that is wrong, and which one it is.
    pub fn into_manifest(self) -> Result<Manifest, String> {
        let is_empty = self.cells.iter().any(|cells| cells.count == 0 || cells.containers == 0);
        if is_empty {
            return Err("cells[].count and cells[].containers must be at least 1".to_owned());
        }
        let cells: u32 = self.cells.iter().map(|cells| cells.count).fold(0, u32::saturating_add);
        if cells > CELLS_MAX {
            return Err(format!("cells are {cells}, but at most {CELLS_MAX}"));
        }
        for (name, count) in [("lrps", self.lrps.len()), ("tasks", self.tasks.len())] {
            if count > WISHES_MAX {
                return Err(format!("{name} are {count}, but at most {WISHES_MAX}"));
            }
        }
        let instances = self.lrps.iter().map(|lrp| lrp.instances).fold(0, u32::saturating_add);
        if instances > INSTANCES_MAX {
            return Err(format!("instances are {instances}, but at most {INSTANCES_MAX}"));
        }
        if self.lrps.is_empty() && self.tasks.is_empty() {
            return Err("lrps and tasks are empty: name what is to run".to_owned());
        }
        let lrps = (0..).zip(self.lrps).map(|(index, spec)| {
            let command = spec.into_command(|_| Ok::<_, Invalid>(nothing()));
            command.map_err(|invalid| format!("lrps[{index}]: {invalid}"))
        });
        let tasks = (0..).zip(self.tasks).map(|(index, spec)| {
            // Nobody is called back.
            let spec = task::Spec { completion_callback_url: None, ..spec };
            let command = spec.into_command(|_| Ok::<_, Invalid>(nothing()));
            command.map_err(|invalid| format!("tasks[{index}]: {invalid}"))
        });
        Ok(Manifest {
            lrps: lrps.collect::<Result<_, _>>()?,
            tasks: tasks.collect::<Result<_, _>>()?,
            cells: self.cells,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
        {"cells": [{"count": 2, "memory_mb": 512, "disk_mb": 1024}],
         "lrps": [{"process_guid": "web", "instances": 2,
                   "definition": {"rootfs": "preloaded:diario", "memory_mb": 64, "disk_mb": 64,
                                  "env": [{"name": "TOKEN", "value": "hunter2"}],
                                  "action": {"run": {"path": "/bin/app", "user": "vcap"}}}}]}"#;

    fn manifest(change: impl Fn(&str) -> String) -> Result<Manifest, String> {
        serde_json::from_str::<Spec>(&change(MANIFEST)).unwrap().into_manifest()
    }

    #[test]
    fn a_manifest_keeps_no_secret() {
        let manifest = manifest(str::to_owned).unwrap();

        assert_eq!((manifest.cells[0].count, manifest.lrps.len()), (2, 1));
        assert!(!format!("{manifest:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, told) in [
            ("\"memory_mb\": 64", "\"memory_mb\": 0", "lrps[0]: memory_mb"),
            ("\"count\": 2", "\"count\": 4000", "cells are 4000"),
            ("\"count\": 2", "\"count\": 0", "cells[].count"),
        ] {
            let fault = manifest(|text| text.replace(from, to)).unwrap_err();
            assert!(fault.contains(told), "{fault}");
        }
    }
}
