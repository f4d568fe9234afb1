//! What the clients were told, held against the log itself.

use std::{collections::BTreeMap, fmt};

use domain::log::Position;
use projections::{
    event_store::EventStore,
    storage::{Location, Storage},
    testing::postgres::wall_clock,
};

use super::clients::Account;
use crate::harness::{diario, told};

/// How many events are read at a time.
const PAGE_EVENTS: usize = 5000;

/// What all accounts come to.
#[derive(Debug, Default)]
pub(super) struct Sums {
    accepted: usize,
    refused: usize,
    given_up: usize,
    once_unknown: usize,
    try_again: u64,
    reads: u64,
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, refused, given_up, once_unknown, try_again, reads } = self;
        write!(
            f,
            "{accepted} commands accepted, each in the log at its place once; {once_unknown} of \
             all were unknown first and then known; {try_again} times told to try again, \
             {given_up} given up and not in the log; {refused} refused; {reads} reads"
        )
    }
}

/// Opens a log to read, beside the nodes.
pub(super) async fn opened(database: &str) -> Storage {
    let location = Location::Postgres { url: database.parse().unwrap() };
    Storage::open_to_read(&location, wall_clock()).await.unwrap()
}

/// Every event once and in order, and by command of these clients where it stands.
async fn read(store: &dyn EventStore, prefix: &str) -> (Position, BTreeMap<String, Vec<u64>>) {
    let mut by_command: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut last = Position(0);
    loop {
        let page = store.read_all(last, PAGE_EVENTS).await.unwrap();
        for event in &page {
            assert_eq!(event.position, last.next(), "the log has a hole");
            last = event.position;
            let command_id = event.command_id.as_str();
            if command_id.starts_with(prefix) {
                by_command.entry(command_id.to_owned()).or_default().push(last.0);
            }
        }
        if page.len() < PAGE_EVENTS {
            return (last, by_command);
        }
    }
}

/// Holds accounts against the log: what was accepted stands where it was said to, once, and nothing
/// else is there. Answers with the log's end and the sums.
pub(super) async fn hold(database: &str, prefix: &str, accounts: &[Account]) -> (Position, Sums) {
    let storage = opened(database).await;
    let (end, mut found) = read(storage.store.as_ref(), prefix).await;
    let mut sums = Sums::default();
    for account in accounts {
        for (id, (position, events)) in &account.accepted {
            let places = found.remove(id).unwrap_or_else(|| panic!("{id} was accepted and lost"));
            assert_eq!(places.last(), Some(position), "{id} stands elsewhere: {places:?}");
            assert_eq!(u64::try_from(places.len()), Ok(*events), "{id} was doubled: {places:?}");
        }
        for id in account.refused.iter().chain(&account.given_up) {
            assert_eq!(found.get(id), None, "{id} was not to change anything");
        }
        sums.accepted += account.accepted.len();
        sums.refused += account.refused.len();
        sums.given_up += account.given_up.len();
        sums.once_unknown += account.once_unknown.len();
        sums.try_again += account.try_again;
        sums.reads += account.reads;
    }
    assert_eq!(found, BTreeMap::new(), "nobody was told that these were accepted");
    storage.close().await;
    (end, sums)
}

/// `diario verify` finds nothing wrong.
pub(super) fn verify(database: &str) -> String {
    let folder = crate::harness::folder();
    let mut command = diario();
    command.args(["verify", "--database-url", database, "--data-dir"]).arg(folder.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
