//! What is done to whom, and when.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::cluster::{APP, Cluster, INSTANCES};
use crate::harness::{Following, process_with, signal};

/// How long something is stopped, late or cut off.
pub(super) const WHILE: Duration = Duration::from_secs(20);

/// What an instance was doing when it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Placed,
    Claimed,
    Started,
    Running,
    Stopping,
    Evacuating,
}

/// Whom it meets: what an instance of the step runs on, or under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    ControlPlane,
    Agent,
    Shim,
    App,
    Network,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// SIGKILL; it is started again at once.
    Killed,
    /// SIGKILL; it is started again late.
    KilledAndLate,
    /// SIGSTOP, and SIGCONT late.
    Stopped,
    /// Nothing passes from the cell, then from the control plane, then at all.
    CutToControlPlane,
    CutToCell,
    CutBothWays,
}

/// One thing that is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) step: Step,
    pub(super) victim: Victim,
    pub(super) harm: Harm,
}

impl Case {
    pub(super) const fn new(step: Step, victim: Victim, harm: Harm) -> Self {
        Self { step, victim, harm }
    }

    /// Every one there is.
    pub(super) fn all() -> Vec<Self> {
        let steps = [
            Step::Placed,
            Step::Claimed,
            Step::Started,
            Step::Running,
            Step::Stopping,
            Step::Evacuating,
        ];
        let mut all = Vec::new();
        for step in steps {
            for victim in [Victim::ControlPlane, Victim::Agent] {
                for harm in [Harm::Killed, Harm::KilledAndLate, Harm::Stopped] {
                    all.push(Self::new(step, victim, harm));
                }
            }
            for harm in [Harm::CutToControlPlane, Harm::CutToCell, Harm::CutBothWays] {
                all.push(Self::new(step, Victim::Network, harm));
            }
        }
        for step in [Step::Started, Step::Running, Step::Stopping, Step::Evacuating] {
            for victim in [Victim::Shim, Victim::App] {
                all.push(Self::new(step, victim, Harm::Killed));
            }
        }
        all.push(Self::new(Step::Running, Victim::App, Harm::Stopped));
        all
    }
}

/// An instance and where it is.
#[derive(Debug)]
struct Place {
    cell: String,
    instance: String,
}

impl Place {
    fn of(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Self { cell: text("cellId"), instance: text("instanceGuid") }
    }
}

/// Brings an instance to the step, does the harm, and takes it back when its time is over. How long
/// it took from then until all was as wished.
pub(super) fn inflict(cluster: &mut Cluster, case: Case) -> Duration {
    let (index, type_name) = match case.step {
        Step::Placed => (INSTANCES, "actual_lrp.placed"),
        Step::Claimed => (INSTANCES, "actual_lrp.claimed"),
        Step::Started => (INSTANCES, "actual_lrp.started"),
        Step::Running => (0, ""),
        Step::Stopping => (INSTANCES, "actual_lrp.withdrawal_started"),
        Step::Evacuating => (0, "actual_lrp.evacuation_started"),
    };
    if case.step == Step::Stopping {
        scale(cluster, INSTANCES + 1);
        cluster.settle(INSTANCES + 1);
    }
    let before = place(cluster, index);
    let mut following = follow(cluster, type_name);
    match case.step {
        Step::Placed | Step::Claimed | Step::Started => scale(cluster, INSTANCES + 1),
        Step::Running => {}
        Step::Stopping => scale(cluster, INSTANCES),
        Step::Evacuating => {
            let cell = before.as_ref().expect("it runs").cell.clone();
            cluster.control_plane().text(&["cells", "evacuate", &cell]);
        }
    }
    if case.step != Step::Running {
        following.wait_for(type_name);
    }
    drop(following);
    let place = before.or_else(|| place(cluster, index));
    harm(cluster, case, place.as_ref());
    let begun = Instant::now();
    cluster.start_again();
    match case.step {
        Step::Placed | Step::Claimed | Step::Started => cluster.settle(INSTANCES + 1),
        Step::Running | Step::Stopping | Step::Evacuating => cluster.settle(INSTANCES),
    }
    begun.elapsed()
}

/// As before the case.
pub(super) fn undo(cluster: &Cluster, case: Case) {
    match case.step {
        Step::Placed | Step::Claimed | Step::Started => scale(cluster, INSTANCES),
        Step::Running | Step::Stopping => {}
        Step::Evacuating => {
            for cell in ["cell-1", "cell-2", "cell-3"] {
                cluster.control_plane().text(&["cells", "use", cell]);
            }
        }
    }
}

fn follow(cluster: &Cluster, type_name: &str) -> Following {
    let server = cluster.control_plane();
    let head = server.json(&["log", "tail", "--limit", "1"]);
    let after = format!("@{}", head["position"].as_str().unwrap());
    let mut arguments = vec!["log", "tail", "-f", "--json", "--after", &after];
    if !type_name.is_empty() {
        arguments.extend(["--type", type_name]);
    }
    server.follow(&arguments)
}

fn scale(cluster: &Cluster, instances: usize) {
    cluster.control_plane().text(&["lrp", "scale", APP, &instances.to_string()]);
}

fn place(cluster: &Cluster, index: usize) -> Option<Place> {
    cluster.slots().iter().find(|slot| slot["index"] == index).map(Place::of)
}

fn harm(cluster: &mut Cluster, case: Case, place: Option<&Place>) {
    let cell = place.map_or("cell-1", |place| place.cell.as_str());
    let instance = place.map_or("", |place| place.instance.as_str());
    match (case.victim, case.harm) {
        (Victim::ControlPlane, Harm::Killed) => cluster.kill_control_plane(),
        (Victim::ControlPlane, Harm::KilledAndLate) => {
            cluster.kill_control_plane();
            thread::sleep(WHILE);
        }
        (Victim::ControlPlane, _) => stop_for_a_while(cluster.control_plane_pid()),
        (Victim::Agent, Harm::Killed) => cluster.kill_agent(cell),
        (Victim::Agent, Harm::KilledAndLate) => {
            cluster.kill_agent(cell);
            thread::sleep(WHILE);
        }
        (Victim::Agent, _) => stop_for_a_while(cluster.agent_pid(cell)),
        (Victim::Shim, harm) => harm_process(cluster.shim_pid(cell, instance), harm),
        (Victim::App, harm) => {
            let variable = format!("INSTANCE_GUID={instance}");
            harm_process(process_with(&variable).map(|(pid, _)| pid), harm);
        }
        (Victim::Network, harm) => {
            let up = harm != Harm::CutToCell;
            let down = harm != Harm::CutToControlPlane;
            cluster.cut(cell, up, down);
            thread::sleep(WHILE);
            cluster.cut(cell, false, false);
        }
    }
}

/// It may have ended by itself: then there is nothing to harm.
fn harm_process(found: Option<u32>, harm: Harm) {
    match (found, harm) {
        (Some(pid), Harm::Stopped) => stop_for_a_while(pid),
        (Some(pid), _) => signal(pid, "KILL"),
        (None, _) => {}
    }
}

fn stop_for_a_while(pid: u32) {
    signal(pid, "STOP");
    thread::sleep(WHILE);
    signal(pid, "CONT");
}
