//! Short ways to the things that stories are about. Everything is small and well formed.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::{Story, given};
use crate::{
    action::{Action, EnvironmentVariable, Run},
    bbs::{
        actual_lrp::{self, CrashReport, NetInfo},
        cell::{self, Registration},
        definition::{Definition, Rootfs},
        desired_lrp, freshness_domain,
        placement::Resources,
        rootfs::RootfsProviders,
        task,
    },
    event::Event,
    exit::{ExitStatus, ProcessExit},
    id::{
        ActualLrpKey, CellId, FreshnessDomainName, InstanceGuid, MachineId, ProcessGuid, TaskGuid,
        Zone,
    },
    labels::Labels,
    log::{CellEpoch, StreamId},
    sealed::{PlainText, Sealed},
    units::Mebibytes,
};

macro_rules! well_formed {
    ($($(#[$doc:meta])* $name:ident -> $id:ident;)+) => {
        $(
            $(#[$doc])*
            ///
            /// # Panics
            /// When it is not well formed.
            #[must_use]
            pub fn $name(text: &str) -> $id {
                $id::new(text).expect("well formed")
            }
        )+
    };
}
well_formed! {
    /// A process guid.
    process_guid -> ProcessGuid;
    /// A task guid.
    task_guid -> TaskGuid;
    /// A cell's id.
    cell_id -> CellId;
    /// A container's guid.
    instance_guid -> InstanceGuid;
}

pub(super) fn domain() -> FreshnessDomainName {
    FreshnessDomainName::new("cf-apps").expect("well formed")
}

/// A slot.
#[must_use]
pub fn key(process: &str, index: u32) -> ActualLrpKey {
    ActualLrpKey { process_guid: process_guid(process), index }
}

/// An event of a desired LRP.
pub fn on_desired(process: &str, event: impl Into<desired_lrp::Event>) -> (StreamId, Event) {
    (StreamId::DesiredLrp(process_guid(process)), event.into().into())
}

/// An event of a slot.
pub fn on_slot(key: &ActualLrpKey, event: impl Into<actual_lrp::Event>) -> (StreamId, Event) {
    (StreamId::ActualLrp(key.clone()), event.into().into())
}

/// An event of a task.
pub fn on_task(task: &str, event: impl Into<task::Event>) -> (StreamId, Event) {
    (StreamId::Task(task_guid(task)), event.into().into())
}

/// An event of a cell.
pub fn on_cell(cell: &str, event: impl Into<cell::Event>) -> (StreamId, Event) {
    (StreamId::Cell(cell_id(cell)), event.into().into())
}

/// An event of the freshness domain `cf-apps`.
pub fn on_freshness(event: impl Into<freshness_domain::Event>) -> (StreamId, Event) {
    (StreamId::FreshnessDomain(domain()), event.into().into())
}

/// A secret that no key opens.
#[must_use]
pub fn sealed() -> Sealed {
    Sealed {
        key_id: uuid::Uuid::from_u128(7),
        nonce: vec![1; 12],
        ciphertext: vec![2; 21],
        fingerprint: vec![3; 32],
    }
}

/// A definition in clear: one process with one variable, 64 MiB of memory and of disk.
///
/// # Panics
/// Never: its root file system is well formed.
#[must_use]
pub fn plain_definition() -> Definition<PlainText> {
    let secret = EnvironmentVariable { name: "TOKEN".to_owned(), value: PlainText("s".into()) };
    let rootfs = Rootfs::new("preloaded:diario").expect("well formed");
    let run = Run { args: vec!["sample-app".to_owned()], ..Run::new("/bin/diario", "vcap") };
    Definition {
        env: vec![secret],
        ports: vec![8080],
        ..Definition::new(rootfs, Action::Run(run), Mebibytes(64), Mebibytes(64))
    }
}

/// [`plain_definition`] with its secret sealed.
#[must_use]
pub fn definition() -> Definition {
    let sealing = plain_definition().try_map(&mut |_: &PlainText| Ok::<_, ()>(sealed()));
    sealing.unwrap_or_else(|()| unreachable!("the mapping never fails"))
}

/// Wishes for instances of [`definition`], in the domain `cf-apps`.
#[must_use]
pub fn desire(process: &str, instances: u32) -> desired_lrp::Command {
    desire_of(process, instances, Arc::new(definition()))
}

/// Wishes for instances of a definition, in the domain `cf-apps`.
#[must_use]
pub fn desire_of(
    process: &str,
    instances: u32,
    definition: Arc<Definition>,
) -> desired_lrp::Command {
    desired_lrp::Command::Desire {
        process_guid: process_guid(process),
        domain: domain(),
        instances,
        definition,
        routes: Vec::new(),
        annotation: String::new(),
        restart: None,
        labels: Labels::default(),
        client_routes: None,
    }
}

/// Asks for a task of [`definition`].
#[must_use]
pub fn desire_task(task: &str) -> task::Command {
    task::Command::Desire {
        task_guid: task_guid(task),
        domain: domain(),
        definition: Arc::new(definition()),
        annotation: String::new(),
        completion_callback_url: None,
    }
}

/// Asks for a task of whose end a client is to be told.
#[must_use]
pub fn desire_task_with_callback(task: &str) -> task::Command {
    task::Command::Desire {
        task_guid: task_guid(task),
        domain: domain(),
        definition: Arc::new(definition()),
        annotation: String::new(),
        completion_callback_url: Some(sealed()),
    }
}

/// A machine, by number.
#[must_use]
pub fn machine(number: u128) -> MachineId {
    MachineId(uuid::Uuid::from_u128(number))
}

/// What a cell with room for 16 of [`definition`] says of itself, in the zone `z1`.
///
/// # Panics
/// Never: its zone is well formed.
#[must_use]
pub fn registration(machine_number: u128) -> Registration {
    Registration {
        machine_id: machine(machine_number),
        capacity: Resources {
            memory_mb: Mebibytes(1024),
            disk_mb: Mebibytes(1024),
            containers: 16,
        },
        zone: Zone::new("z1").expect("well formed"),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rootfs_providers: RootfsProviders::preloaded(["diario"]),
        volume_drivers: BTreeSet::new(),
        placement_tags: BTreeSet::new(),
        optional_placement_tags: BTreeSet::new(),
    }
}

/// Registers a cell with [`registration`].
#[must_use]
pub fn register(cell: &str, machine_number: u128) -> cell::Command {
    let registration = Box::new(registration(machine_number));
    cell::Command::Register { cell_id: cell_id(cell), registration }
}

/// Places a slot on a cell's first registration.
#[must_use]
pub fn place(key: &ActualLrpKey, instance: &str, cell: &str) -> actual_lrp::Command {
    actual_lrp::Command::Place {
        key: key.clone(),
        instance_guid: instance_guid(instance),
        cell_id: cell_id(cell),
        cell_epoch: CellEpoch(1),
        candidates: None,
    }
}

/// Places a task on a cell's first registration.
#[must_use]
pub fn place_task(task: &str, instance: &str, cell: &str) -> task::Command {
    task::Command::Place {
        task_guid: task_guid(task),
        instance_guid: instance_guid(instance),
        cell_id: cell_id(cell),
        cell_epoch: CellEpoch(1),
        candidates: None,
    }
}

/// How an instance is reached.
#[must_use]
pub fn net_info() -> NetInfo {
    NetInfo { instance_address: Ipv4Addr::new(10, 255, 0, 2), ports: vec![8080] }
}

/// An end with exit status 1.
#[must_use]
pub fn crash_report() -> CrashReport {
    let exit = ProcessExit { status: ExitStatus::Exited(1), out_of_memory: None };
    CrashReport { reason: "Exited with status 1".to_owned(), exit: Some(exit), evidence: None }
}

/// One slot of `web` is placed on `cell-1` as `i-1`.
#[must_use]
pub fn placed_story() -> Story {
    given([])
        .after(register("cell-1", 1))
        .after(desire("web", 1))
        .after(actual_lrp::Command::Create { key: key("web", 0) })
        .after(place(&key("web", 0), "i-1", "cell-1"))
}

/// [`placed_story`], and the cell makes the container.
#[must_use]
pub fn claimed_story() -> Story {
    let story = placed_story();
    let instance = story.instance(&key("web", 0));
    story.after(actual_lrp::Command::Claim { instance })
}

/// [`claimed_story`], and the instance is healthy.
#[must_use]
pub fn running_story() -> Story {
    let story = claimed_story();
    let instance = story.instance(&key("web", 0));
    story.after(actual_lrp::Command::Start { instance, net_info: net_info(), is_ready: true })
}

/// The task `t` is placed on `cell-1` as `i-1`.
#[must_use]
pub fn task_story() -> Story {
    given([])
        .after(register("cell-1", 1))
        .after(desire_task("t"))
        .after(place_task("t", "i-1", "cell-1"))
}
