//! What the log holds, against what clients were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use serde_json::Value;

use super::client::{History, Told};

/// The events of one command of a user.
#[derive(Debug, Default)]
struct Caused {
    /// Where, and in which streams.
    events: Vec<(u64, String)>,
}

/// What an exported log holds.
#[derive(Debug)]
pub(super) struct Journal {
    /// The last position.
    pub(super) head: u64,
    commands: BTreeMap<String, Caused>,
}

impl Journal {
    /// Reads an export from the first event on; the positions must be dense.
    pub(super) fn read(file: &Path) -> Self {
        let mut journal = Self { head: 0, commands: BTreeMap::new() };
        for line in BufReader::new(File::open(file).unwrap()).lines() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if line["event"].is_object() {
                journal.add(&line["event"]);
            }
        }
        journal
    }

    fn add(&mut self, event: &Value) {
        let position = event["position"].as_u64().unwrap();
        assert_eq!(position, self.head + 1, "a gap or a double");
        self.head = position;
        if event["actorKind"] == "user" {
            let command_id = event["commandId"].as_str().unwrap().to_owned();
            let stream = event["stream"].as_str().unwrap().to_owned();
            self.commands.entry(command_id).or_default().events.push((position, stream));
        }
    }

    /// Everything that was acknowledged is there, where it was told to be, once; and nothing else.
    pub(super) fn check(&self, histories: &[History]) {
        let told: Vec<&Told> = histories.iter().flat_map(|history| &history.told).collect();
        for told in &told {
            let caused = self.commands.get(&told.command_id);
            let events = &caused.unwrap_or_else(|| panic!("lost: {told:?}")).events;
            assert_eq!(u64::try_from(events.len()).unwrap(), told.events, "{told:?}: {events:?}");
            assert_eq!(events.last().map(|(at, _)| *at), Some(told.position), "{told:?}");
            let is_once = events.iter().filter(|(_, stream)| *stream == told.stream).count() == 1;
            assert!(is_once, "done twice: {told:?}: {events:?}");
        }
        let known: BTreeSet<&str> = told.iter().map(|told| told.command_id.as_str()).collect();
        assert_eq!(known.len(), told.len(), "an id was used twice");
        let others: Vec<_> =
            self.commands.keys().filter(|id| !known.contains(id.as_str())).collect();
        assert!(others.is_empty(), "nobody was told of {others:?}");
    }
}
