//! What is done to a Postgres server under load, one thing at a time, and undone again.

use std::{net::TcpStream, thread, time::Duration};

use domain::workload::Dice;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use projections::testing::postgres::Cluster;

use super::clients::Load;
use crate::harness::until;

/// How long a server takes no writes, or no connections.
const HOLD: Duration = Duration::from_secs(2);

/// One sort of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Harm {
    /// Every process of the server is killed with -9; it recovers when it is started.
    Killed,
    /// It is stopped without a checkpoint, and recovers when it is started.
    StoppedAtOnce,
    /// It is restarted as an operator would.
    Restarted,
    /// The process that appends for a node is terminated, whatever it is doing.
    BackendTerminated,
    /// So are all that serve nodes.
    AllBackendsTerminated,
    /// It is told to take no writes.
    ReadOnly,
    /// It becomes a standby, and is promoted.
    Standby,
    /// All its processes stand still.
    Stalled(Duration),
    /// The process that appends for a node stands still, perhaps while it holds the head's lock.
    BackendStalled(Duration),
    /// Others have all its connections.
    Full,
}

/// Does one harm and undoes it; the server works again behind it.
pub(super) fn inflict(harm: Harm, cluster: &Cluster, load: &Load, dice: &mut Dice) {
    // At a moment of the dice's within a round of commits.
    thread::sleep(Duration::from_millis(u64::from(dice.below(200))));
    match harm {
        Harm::Killed => {
            cluster.kill();
            cluster.restart();
        }
        Harm::StoppedAtOnce => {
            cluster.stop(true);
            cluster.restart();
        }
        Harm::Restarted => {
            cluster.stop(false);
            cluster.restart();
        }
        Harm::BackendTerminated => {
            terminate(cluster, "diario append");
        }
        Harm::AllBackendsTerminated => {
            terminate(cluster, "diario %");
        }
        Harm::ReadOnly => {
            cluster.configure(&[("default_transaction_read_only", "on")]);
            cluster.reload();
            until("a client to hear of it", || load.was_told("is read-only").then_some(()));
            thread::sleep(HOLD);
            cluster.configure(&[("default_transaction_read_only", "off")]);
            cluster.reload();
        }
        Harm::Standby => {
            cluster.stop(false);
            cluster.restart_as_standby();
            thread::sleep(HOLD);
            cluster.promote();
        }
        Harm::Stalled(span) => {
            cluster.signal(Signal::SIGSTOP);
            thread::sleep(span);
            cluster.signal(Signal::SIGCONT);
        }
        Harm::BackendStalled(span) => {
            let stalled = dice.pick(&backends(cluster, "diario append"));
            // One that ended by itself meanwhile stands as still.
            kill(stalled, Signal::SIGSTOP).ok();
            thread::sleep(span);
            kill(stalled, Signal::SIGCONT).ok();
        }
        Harm::Full => fill_up(cluster, load),
    }
}

/// The processes that serve an application, of which there is at least one.
fn backends(cluster: &Cluster, application: &str) -> Vec<Pid> {
    until("a backend", || {
        let found = cluster.psql(
            "postgres",
            &format!("SELECT pid FROM pg_stat_activity WHERE application_name = '{application}'"),
        );
        let found: Vec<Pid> =
            found.lines().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
        (!found.is_empty()).then_some(found)
    })
}

fn terminate(cluster: &Cluster, applications: &str) {
    cluster.psql(
        "postgres",
        &format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name LIKE '{applications}'"
        ),
    );
}

/// Cuts the nodes off and takes every connection that they leave, until clients hear of it.
fn fill_up(cluster: &Cluster, load: &Load) {
    let mut taken: Vec<TcpStream> = Vec::new();
    until("a client to hear that the server is full", || {
        while let Some(connection) = cluster.occupy() {
            taken.push(connection);
        }
        // One is left for the statement itself.
        taken.pop();
        cluster.try_psql(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name LIKE 'diario %'",
        );
        while let Some(connection) = cluster.occupy() {
            taken.push(connection);
        }
        load.was_told("is out of connections").then_some(())
    });
    thread::sleep(HOLD);
}
