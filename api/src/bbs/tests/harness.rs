//! A BBS over real mutual TLS, on a control plane in memory; and the wishes that tests have.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use domain::units::Timestamp;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use crate::{
    bbs::{
        call::Bbs,
        certificates::{self, Wanted},
        hub::Hub,
        listener::{self, Listener},
        options::Security,
        proto,
        tls::Files,
    },
    clock::Clock,
    testing::InMemory,
};

/// A BBS that is gone with the test.
pub(super) struct Served {
    pub(super) node: InMemory,
    pub(super) client: Client,
    pub(super) folder: PathBuf,
    shutdown: CancellationToken,
    _folder: TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Certificates in a new folder.
pub(super) fn certify(name: &str, days: i64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let hosts = vec!["localhost".to_owned()];
    let now: Timestamp = Clock::default().now();
    let wanted = Wanted { folder: folder.path(), hosts, client: name, now, days };
    certificates::make(&wanted).unwrap();
    folder
}

pub(super) fn files(folder: &std::path::Path) -> Files {
    Files {
        certificate: folder.join("server.crt"),
        key: folder.join("server.key"),
        authority: folder.join("ca.crt"),
    }
}

impl Served {
    /// Serves a node that has one cell.
    pub(super) async fn start() -> Self {
        let folder = certify("ann", 1);
        let security = Security::Tls(files(folder.path()));
        Self::with(folder, security).await
    }

    pub(super) async fn with(folder: TempDir, security: Security) -> Self {
        let node = InMemory::start(7);
        node.register("cell-1").await;
        let control_plane = node.control_plane.clone();
        let hub = Arc::new(Hub::start(&control_plane));
        // Nobody makes slots here but the test.
        let bbs = Bbs { control_plane, hub, slots_wait: Duration::ZERO };
        let is_plain = security == Security::PlainOnLoopback;
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), security).await.unwrap();
        let address = listener.address();
        let shutdown = CancellationToken::new();
        let served = listener::serve_bbs(listener, bbs, shutdown.clone());
        drop(projections::worker::spawn("served", served));
        let client = if is_plain {
            Client::plain(address)
        } else {
            Client::new(address, folder.path(), folder.path())
        };
        Self { node, client, folder: folder.path().to_owned(), shutdown, _folder: folder }
    }

    /// Calls, and expects no error.
    pub(super) async fn done(&self, path: &str, message: &impl prost::Message) {
        assert_eq!(self.error(path, message).await, None, "{path}");
    }

    /// Calls something whose answer begins with an error, and gives that.
    pub(super) async fn error(
        &self,
        path: &str,
        message: &impl prost::Message,
    ) -> Option<(i32, String)> {
        let answer: proto::TaskLifecycleResponse = self.client.call(path, message).await;
        answer.error.map(|error| (error.r#type, error.message))
    }

    /// Desires two instances of a process.
    pub(super) async fn desire(&self, process_guid: &str) {
        let request = proto::DesireLrpRequest { desired_lrp: Some(lrp(process_guid)) };
        self.done("/v1/desired_lrp/desire.r2", &request).await;
    }

    /// Desires a task.
    pub(super) async fn desire_task(&self, task_guid: &str) {
        self.done("/v1/tasks/desire.r2", &task(task_guid)).await;
    }

    /// The records of a process.
    pub(super) async fn rows(&self, process_guid: &str) -> Vec<proto::ActualLrp> {
        let process_guid = process_guid.to_owned();
        let request = proto::ActualLrpsRequest { process_guid, ..Default::default() };
        let answer: proto::ActualLrpsResponse =
            self.client.call("/v1/actual_lrps/list", &request).await;
        assert_eq!(answer.error, None);
        answer.actual_lrps
    }
}

/// An action that runs something.
pub(super) fn run(path: &str) -> proto::Action {
    let run = proto::RunAction {
        path: path.to_owned(),
        user: "vcap".to_owned(),
        ..proto::RunAction::default()
    };
    proto::Action { run_action: Some(Box::new(run)), ..proto::Action::default() }
}

/// A wish for two instances.
pub(super) fn lrp(process_guid: &str) -> proto::DesiredLrp {
    let source = proto::MetricTagValue { r#static: "app".to_owned(), ..Default::default() };
    let routes = [("cf-router", r#"[{"hostnames":["web.test"],"port":8080}]"#)];
    let route = |(name, json): (&str, &str)| (name.to_owned(), json.as_bytes().to_vec());
    proto::DesiredLrp {
        process_guid: process_guid.to_owned(),
        domain: "cf-apps".to_owned(),
        root_fs: "preloaded:diario".to_owned(),
        instances: 2,
        action: Some(run("/bin/web")),
        memory_mb: 64,
        disk_mb: 64,
        cpu_weight: 10,
        ports: vec![8080],
        routes: Some(proto::ProtoRoutes { routes: routes.into_iter().map(route).collect() }),
        log_source: "CELL".to_owned(),
        log_guid: "app".to_owned(),
        metrics_guid: "app".to_owned(),
        annotation: "v1".to_owned(),
        start_timeout_ms: 60_000,
        metric_tags: BTreeMap::from([("source_id".to_owned(), source)]),
        ..proto::DesiredLrp::default()
    }
}

/// A task.
pub(super) fn task(task_guid: &str) -> proto::DesireTaskRequest {
    let definition = proto::TaskDefinition {
        root_fs: "preloaded:diario".to_owned(),
        action: Some(run("/bin/true")),
        memory_mb: 32,
        disk_mb: 32,
        cpu_weight: 1,
        log_source: "APP/TASK/x".to_owned(),
        annotation: "note".to_owned(),
        ..proto::TaskDefinition::default()
    };
    proto::DesireTaskRequest {
        task_definition: Some(definition),
        task_guid: task_guid.to_owned(),
        domain: "cf-tasks".to_owned(),
    }
}

/// An instance key.
pub(super) fn instance(instance_guid: &str, cell_id: &str) -> Option<proto::ActualLrpInstanceKey> {
    Some(proto::ActualLrpInstanceKey {
        instance_guid: instance_guid.to_owned(),
        cell_id: cell_id.to_owned(),
    })
}

/// A slot key.
pub(super) fn slot(process_guid: &str, index: i32) -> Option<proto::ActualLrpKey> {
    Some(proto::ActualLrpKey {
        process_guid: process_guid.to_owned(),
        index,
        domain: "cf-apps".to_owned(),
    })
}

/// How an instance is reached.
pub(super) fn net_info() -> Option<proto::ActualLrpNetInfo> {
    let port = proto::PortMapping { container_port: 8080, host_port: 8080, ..Default::default() };
    Some(proto::ActualLrpNetInfo {
        address: "10.0.0.9".to_owned(),
        ports: vec![port],
        ..Default::default()
    })
}

pub(super) fn not_found() -> Option<(i32, String)> {
    Some((13, "the requested resource could not be found".to_owned()))
}

pub(super) fn invalid(fields: &str) -> Option<(i32, String)> {
    let named: Vec<String> = fields.split(' ').map(|it| format!("Invalid field: {it}")).collect();
    Some((4, named.join(", ")))
}
