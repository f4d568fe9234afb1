//! A control plane in memory for the tests of edges: the real bus, log and views, no loops.
//!
//! What loops and cells would do, a test does by hand, so that it knows each position.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use domain::{
    auction,
    bbs::{
        actual_lrp::{self, CrashReport, InstanceReference, NetInfo},
        cell::{self, Registration},
        placement::Resources,
        rootfs::RootfsProviders,
        task::{self, TaskReference},
    },
    command::Command,
    id::{ActualLrpKey, CellId, InstanceGuid, MachineId, ProcessGuid, TaskGuid, Zone},
    log::{Actor, ActorKind, CellEpoch, Incarnation, LeaseEpoch, PlacementEpoch},
    units::Mebibytes,
};
use projections::{
    event_store::{
        EventStore,
        keys::Keyring,
        memory::{MemoryLog, MemoryStore},
    },
    history::History,
    observations::{Limits, Observations},
    presence::{Presence, Routers},
    projector::Now,
    snapshot::MemorySnapshotStore,
    world::World,
};
use tempfile::TempDir;

use crate::{
    clock::Clock,
    command_bus::{self, Accepted, CommandBus},
    control_plane::{ControlPlane, Wish},
    live_routers::LiveRouters,
};

/// A control plane that is gone with the test.
pub(crate) struct InMemory {
    pub(crate) control_plane: ControlPlane,
    // Log lines and metrics are kept in files.
    _observations: TempDir,
}

impl InMemory {
    /// An empty one, whose log has this incarnation.
    pub(crate) fn start(incarnation: u128) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let observations = Observations::open(folder.path(), Limits::default()).unwrap();
        let clock = Arc::new(Clock::default());
        let incarnation = Incarnation(uuid::Uuid::from_u128(incarnation));
        let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new(MemoryLog::new(incarnation)));
        let world = World::empty();
        let bus = CommandBus::start(Arc::clone(&store), &world, Arc::clone(&clock), LeaseEpoch(1));
        let snapshots = Arc::new(MemorySnapshotStore::default());
        let control_plane = ControlPlane {
            now: Now::follow(Arc::clone(&store), world),
            history: Arc::new(History::new(Arc::clone(&store), snapshots)),
            store,
            bus,
            keyring: Arc::new(Keyring::in_memory(1)),
            observations: Arc::new(observations),
            presence: Arc::new(Mutex::new(Presence::new(clock.monotonic()))),
            routers: Arc::new(LiveRouters::new(Routers::alone("node"))),
            clock,
            incarnation,
            node: Arc::from("node"),
            placement: auction::Settings::default(),
        };
        Self { control_plane, _observations: folder }
    }

    /// Submits what a loop or a cell would; it must be accepted.
    pub(crate) async fn command(&self, command: impl Into<Command>) -> Accepted {
        self.try_command(command).await.unwrap()
    }

    async fn try_command(
        &self,
        command: impl Into<Command>,
    ) -> Result<Accepted, command_bus::Error> {
        let actor = Actor { kind: ActorKind::Loop, name: "test".into(), via: "test".into() };
        self.control_plane.submit(Wish { actor, command_id: None, command: command.into() }).await
    }

    /// Registers a cell of 1 GiB, 2 GiB of disk and 10 containers.
    pub(crate) async fn register(&self, cell_id: &str) {
        let registration = Registration {
            machine_id: MachineId(uuid::Uuid::from_u128(9)),
            capacity: Resources {
                memory_mb: Mebibytes(1024),
                disk_mb: Mebibytes(2048),
                containers: 10,
            },
            zone: Zone::new("z1").unwrap(),
            address: Ipv4Addr::LOCALHOST.into(),
            rootfs_providers: RootfsProviders::preloaded(["diario"]),
            volume_drivers: BTreeSet::new(),
            placement_tags: BTreeSet::new(),
            optional_placement_tags: BTreeSet::new(),
        };
        let cell_id = CellId::new(cell_id).unwrap();
        self.command(cell::Command::Register { cell_id, registration: Box::new(registration) })
            .await;
    }

    /// Creates a slot, as the converger does.
    pub(crate) async fn create(&self, process_guid: &str, index: u32) -> ActualLrpKey {
        let key = ActualLrpKey { process_guid: ProcessGuid::new(process_guid).unwrap(), index };
        self.command(actual_lrp::Command::Create { key: key.clone() }).await;
        key
    }

    /// Places a slot on a cell, as the auctioneer does.
    pub(crate) async fn place(&self, key: &ActualLrpKey, cell_id: &str) -> InstanceReference {
        let cell_id = CellId::new(cell_id).unwrap();
        let instance_guid = instance_guid();
        let accepted = self
            .command(actual_lrp::Command::Place {
                key: key.clone(),
                instance_guid: instance_guid.clone(),
                cell_id: cell_id.clone(),
                cell_epoch: CellEpoch(1),
                candidates: None,
            })
            .await;
        let placement_epoch = PlacementEpoch(accepted.position);
        let key = key.clone();
        InstanceReference { key, instance_guid, placement_epoch, cell_id, cell_epoch: CellEpoch(1) }
    }

    /// Makes an instance healthy, as its cell reports it.
    pub(crate) async fn run(&self, instance: &InstanceReference) {
        let instance = instance.clone();
        self.command(actual_lrp::Command::Claim { instance: instance.clone() }).await;
        let net_info = NetInfo { instance_address: Ipv4Addr::new(10, 0, 0, 2), ports: vec![8080] };
        self.command(actual_lrp::Command::Start { instance, net_info, is_ready: true }).await;
    }

    /// Ends an instance, as its cell reports it.
    pub(crate) async fn crash(
        &self,
        instance: &InstanceReference,
        report: CrashReport,
    ) -> Accepted {
        self.command(actual_lrp::Command::Crash { instance: instance.clone(), report }).await
    }

    /// Places a task on a cell and starts it.
    pub(crate) async fn start_task(&self, task_guid: &str, cell_id: &str) -> TaskReference {
        let task_guid = TaskGuid::new(task_guid).unwrap();
        let cell_id = CellId::new(cell_id).unwrap();
        let instance_guid = instance_guid();
        let cell_epoch = CellEpoch(1);
        let accepted = self
            .command(task::Command::Place {
                task_guid: task_guid.clone(),
                instance_guid: instance_guid.clone(),
                cell_id: cell_id.clone(),
                cell_epoch,
                candidates: None,
            })
            .await;
        let placement_epoch = PlacementEpoch(accepted.position);
        let task = TaskReference { task_guid, instance_guid, placement_epoch, cell_id, cell_epoch };
        self.command(task::Command::Start { task: task.clone() }).await;
        task
    }
}

fn instance_guid() -> InstanceGuid {
    crate::clock::new_instance_guid()
}
