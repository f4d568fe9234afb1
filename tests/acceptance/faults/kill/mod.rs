//! The writer is killed, as by `kill -9`, at every step of an append, under load; what was
//! acknowledged is there, nothing is there twice, and the chain is whole.
//!
//! `DIARIO_KILLS` kills for each store (one for each step by default), spread evenly over the
//! steps of an append, and as often at each step of what is written beside it: snapshots and
//! archive. Their order comes from `DIARIO_SEED` (1 by default), as what clients ask for does.
//!
//! - `plan`: which kills, in which order
//! - `campaign`: one life of a node after another; `node`: one life; `stall`: inside Postgres
//! - `log`: the log under test, and the operator's commands on it
//! - `load`, `client`, `connection`, `door`: the clients
//! - `journal`: what the log holds against what clients were told

mod campaign;
mod client;
mod door;
mod journal;
mod load;
mod log;
mod node;
mod plan;
mod stall;

use projections::{
    failpoint::Step,
    testing::postgres::{Cluster, Settings},
};

use self::{
    campaign::{Campaign, Store},
    plan::{Kill, plan},
};
use crate::setting;

/// How many clients send commands to the node that is killed.
const CLIENTS: usize = 16;
/// How many more send theirs to another node, where there is one.
const CLIENTS_OF_OTHER_NODE: usize = 4;

fn seed() -> u64 {
    setting("DIARIO_SEED", 1)
}

/// How many kills in all, so that those at an append's own steps are as many as asked for, and
/// each step beside it has as many as one of these.
fn kills(of_append: usize, all: usize) -> usize {
    let asked = usize::try_from(setting("DIARIO_KILLS", 0)).unwrap().max(of_append);
    (asked * all).div_ceil(of_append)
}

#[test]
fn a_killed_writer_of_sqlite_loses_nothing_and_doubles_nothing() {
    let append = [
        Kill::At(Step::BusDecided),
        Kill::At(Step::AppendBegins),
        Kill::At(Step::HeadLocked),
        Kill::At(Step::EventsWritten),
        Kill::At(Step::BatchWritten),
        Kill::At(Step::HeadMoved),
        Kill::At(Step::Committed),
        Kill::At(Step::ViewsPublishing),
        Kill::At(Step::BusAnswering),
        Kill::AnyTime,
    ];
    let beside = [
        Kill::AtStop(Step::SnapshotWritten),
        Kill::Archiving(Step::SegmentWritten),
        Kill::Archiving(Step::SegmentListed),
        Kill::Archiving(Step::DatabaseTrimmed),
    ];
    let all = [&append[..], &beside].concat();
    let seed = seed();
    let mut campaign = Campaign::begin("SQLite", Store::Sqlite, seed);

    campaign.kill_all(&plan(&all, kills(append.len(), all.len()), seed));

    campaign.end();
}

#[test]
fn a_killed_writer_of_postgres_loses_nothing_and_doubles_nothing() {
    let alone = [
        Kill::At(Step::BusDecided),
        Kill::At(Step::AppendBegins),
        Kill::At(Step::AppendSent),
        Kill::InDatabase("events"),
        Kill::InDatabase("batches"),
        Kill::InDatabase("log_head"),
        Kill::At(Step::Committed),
        Kill::At(Step::ViewsPublishing),
        Kill::At(Step::BusAnswering),
        Kill::AnyTime,
        // Beside an append.
        Kill::AtStop(Step::SnapshotWritten),
    ];
    let among_others = [
        Kill::At(Step::TurnBegins),
        Kill::At(Step::TurnTaken),
        Kill::At(Step::HeadMoved),
        Kill::At(Step::CommitSent),
    ];
    let seed = seed();
    let kinds = alone.len() + among_others.len();
    let kills = kills(kinds - 1, kinds);
    let kills_alone = kills * alone.len() / kinds;
    let cluster = Cluster::start(&Settings { waits_for_disk: true, ..Settings::default() });
    let database = cluster.fresh_database();
    let mut campaign = Campaign::begin("Postgres", Store::Postgres(&cluster, &database), seed);

    campaign.kill_all(&plan(&alone, kills_alone, seed));
    campaign.start_other_node();
    campaign.kill_all(&plan(&among_others, kills - kills_alone, seed));

    campaign.end();
}
