//! Four nodes on one Postgres with two writers each: every reader sees every event once, in order,
//! while the leader is killed with -9 and another takes over.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use domain::log::Position;
use projections::testing::postgres::{Cluster, Settings};

use super::{
    block_on,
    clients::Load,
    judgement::{hold, opened, verify},
    node,
    reader::{Goal, by_graphql, by_store},
    seconds, setting,
};
use crate::harness::{Server, folder, tell, until};

const NODES: [&str; 4] = ["one", "two", "three", "four"];
const WRITERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(2);

/// Lets readers end also when a scenario fails.
struct EndsReaders<'a>(&'a Goal);

impl Drop for EndsReaders<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set(Position(0));
        }
    }
}

#[test]
fn of_eight_writers_on_four_nodes_every_reader_sees_every_event_once_while_the_leader_is_replaced()
{
    let span = seconds("DIARIO_NODES_SECONDS", 6);
    let lease = setting("DIARIO_LEASE_SECONDS", 3).to_string();
    let cluster = Cluster::start(&Settings { waits_for_disk: true, ..Settings::default() });
    let database = cluster.fresh_database();
    let folder = folder();
    let start = |name| node::start(name, folder.path(), &database, &["--lease-ttl", &lease]);
    let mut nodes: Vec<Server> = NODES.into_iter().map(start).collect();
    let apis: Vec<String> = nodes.iter().map(|node| node.api.clone()).collect();
    let life = block_on(async { opened(&database).await.store.head().await.unwrap().incarnation });
    let load = Load::new("nodes", WRITERS, apis.clone(), PAUSE).on_nodes_that_end();
    let goal = Goal::open();

    let (taken_over, figures) = thread::scope(|scope| {
        let ends_readers = EndsReaders(&goal);
        let readers: Vec<_> = (0..NODES.len())
            .map(|home| {
                let (apis, goal) = (&apis, &goal);
                scope.spawn(move || by_graphql(apis, home, life, goal))
            })
            .collect();
        let direct = scope.spawn(|| block_on(by_store(&database, &goal)));
        let mut taken_over = Duration::ZERO;
        let accounts = load.beside(|| {
            thread::sleep(span / 3);
            let leader = until("a leader", || apis.iter().position(|api| node::leads(api)));
            let (killed, port) = (nodes.remove(leader), apis[leader].rsplit(':').next().unwrap());
            killed.kill();
            let at = Instant::now();
            until("another leader", || apis.iter().any(|api| node::leads(api)).then_some(()));
            taken_over = at.elapsed();
            load.until_all_are_served();
            let mut again =
                node::command(NODES[leader], folder.path(), &database, port.parse().unwrap());
            nodes.push(Server::spawn(again.args(["--lease-ttl", &lease]), None));
            node::until_ready(&apis[leader]);
            thread::sleep(span.saturating_sub(span / 3 + taken_over));
        });
        let (end, sums) = block_on(hold(&database, "nodes", &accounts));
        goal.set(end);
        let again: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        direct.join().unwrap();
        drop(ends_readers);
        let figures = format!(
            "Each of 5 readers saw 1..{end} once and in order; subscribed again {again} times. \
             {sums}"
        );
        (taken_over, figures)
    });

    tell(&format!("Leader killed with -9, replaced after {taken_over:.1?} ({lease} s lease)."));
    tell(&figures);
    for (told, count) in load.told() {
        tell(&format!("{count} x told: {told}"));
    }
    tell(&verify(&database));
    let limit = seconds("DIARIO_TAKEOVER_SECONDS", 60);
    assert!(taken_over <= limit, "replaced after {taken_over:?}, not within {limit:?}");
}

/// The database as a first start left it that was cut off: one that has no version yet.
const OLD_SCHEMA: &str = "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, \
    description text NOT NULL, installed_on timestamptz NOT NULL DEFAULT now(), \
    success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL)";

/// Holds whoever wants to know the database's version.
const HOLD: &str = "BEGIN; LOCK TABLE _sqlx_migrations; SELECT pg_sleep(600)";
const RELEASE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE application_name = 'psql' AND pid <> pg_backend_pid()";
const WAITING: &str = "SELECT string_agg(wait_event, ' ' ORDER BY wait_event) \
    FROM pg_stat_activity WHERE application_name = 'diario open' AND wait_event_type = 'Lock'";

#[test]
fn of_two_nodes_that_start_together_on_an_old_schema_one_migrates_and_the_other_waits() {
    let cluster = Cluster::start(&Settings::default());
    let database = cluster.fresh_database();
    let name = database.rsplit('/').next().unwrap();
    cluster.psql(name, OLD_SCHEMA);
    let mut hold = Command::new(cluster.binaries().join("psql"));
    let hold = hold.args(["-X", "-d", &database, "-c", HOLD]);
    let mut hold = hold.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
        AND relation = '_sqlx_migrations'::regclass";
    until("the version to be held", || (cluster.psql(name, held) == "1").then_some(()));
    let folder = folder();

    let (one, two) = thread::scope(|scope| {
        let [one, two] = ["one", "two"]
            .map(|node| scope.spawn(|| node::start(node, folder.path(), &database, &[])));
        until("one to migrate and the other to wait", || {
            (cluster.psql(name, WAITING) == "advisory relation").then_some(())
        });
        cluster.psql(name, RELEASE);
        (one.join().unwrap(), two.join().unwrap())
    });

    hold.wait().unwrap();
    let steps = fs::read_dir("migrations/postgres");
    let applied = cluster.psql(name, "SELECT count(*) FROM _sqlx_migrations");
    assert_eq!(applied, steps.unwrap().count().to_string());
    for (writer, reader, process) in [(&one, &two, "a"), (&two, &one, "b")] {
        let words = format!(
            "lrp desire --guid {process} --rootfs preloaded:diario --instances 0 --memory-mb 64 \
             --disk-mb 64 -- /bin/true"
        );
        let accepted = writer.json(&words.split_whitespace().collect::<Vec<_>>());
        let at_least = accepted["position"].as_str().unwrap();
        reader.text(&["lrp", "show", process, "--at-least", at_least]);
    }
}
