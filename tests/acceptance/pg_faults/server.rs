//! Sixteen clients on two nodes, while one harm after another comes to their Postgres.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use domain::workload::Dice;
use projections::testing::postgres::{Cluster, Settings};

use super::{
    block_on,
    clients::Load,
    harm::{Harm, inflict},
    judgement::{hold, verify},
    node, seconds, seed, setting,
};
use crate::harness::{folder, tell};

const CLIENTS: usize = 16;
/// The pause of a client between two commands.
const PAUSE: Duration = Duration::from_millis(5);

/// All harms of a run, in an order of the dice's.
fn harms(dice: &mut Dice) -> Vec<Harm> {
    let stall = seconds("DIARIO_STALL_SECONDS", 2);
    let restarts = [Harm::Killed, Harm::StoppedAtOnce, Harm::Restarted];
    let mut harms: Vec<Harm> = Vec::new();
    let mut add = |name, otherwise, sorts: &[Harm]| {
        let count = usize::try_from(setting(name, otherwise)).unwrap();
        harms.extend(sorts.iter().cycle().take(count));
    };
    add("DIARIO_RESTARTS", 3, &restarts);
    let terminated =
        [Harm::BackendTerminated, Harm::BackendTerminated, Harm::AllBackendsTerminated];
    add("DIARIO_TERMINATIONS", 5, &terminated);
    add("DIARIO_STALLS", 2, &[Harm::Stalled(stall), Harm::BackendStalled(stall)]);
    add("DIARIO_READ_ONLY", 2, &[Harm::ReadOnly, Harm::Standby]);
    add("DIARIO_FULL", 1, &[Harm::Full]);
    dice.shuffle(&mut harms);
    harms
}

fn cluster() -> Cluster {
    let settings = [("max_connections", "40"), ("superuser_reserved_connections", "0")];
    let further = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Cluster::start(&Settings { waits_for_disk: true, further, ..Settings::default() })
}

#[test]
fn no_acknowledged_command_is_lost_whatever_comes_to_the_database_and_service_is_back_by_itself() {
    let seed = seed();
    tell(&format!("Harm to Postgres under load, seed {seed} (DIARIO_SEED)."));
    let mut dice = Dice::new(seed);
    let harms = harms(&mut dice);
    let cluster = cluster();
    let database = cluster.fresh_database();
    let folder = folder();
    let nodes: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| node::start(name, folder.path(), &database, &[]))
        .collect();
    let apis: Vec<String> = nodes.iter().map(|node| node.api.clone()).collect();
    let load = Load::new("faults", CLIENTS, apis.clone(), PAUSE);
    let began = Instant::now();
    let mut slowest: BTreeMap<String, Duration> = BTreeMap::new();

    let accounts = load.beside(|| {
        load.until_all_are_served();
        for harm in &harms {
            inflict(*harm, &cluster, &load, &mut dice);
            let undone = Instant::now();
            load.until_all_are_served();
            apis.iter().for_each(|api| node::until_ready(api));
            let back = slowest.entry(format!("{harm:?}")).or_default();
            *back = undone.elapsed().max(*back);
        }
    });

    let (end, sums) = block_on(hold(&database, "faults", &accounts));
    tell(&format!(
        "{} harms in {} s; the log ends at position {end}. {sums}",
        harms.len(),
        began.elapsed().as_secs()
    ));
    for (harm, span) in slowest {
        let count = harms.iter().filter(|it| format!("{it:?}") == harm).count();
        tell(&format!("{count} x {harm}: all served and ready {span:.1?} later at most"));
    }
    for (told, count) in load.told() {
        tell(&format!("{count} x told: {told}"));
    }
    tell(&verify(&database));
    drop(nodes);
}
