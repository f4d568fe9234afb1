//! Wishes over the wire: desired, changed, taken back, and shown in every generation.

use std::collections::BTreeMap;

use super::harness::{Served, invalid, lrp, not_found, run};
use crate::bbs::proto;

fn by_guid(process_guid: &str) -> proto::DesiredLrpByProcessGuidRequest {
    proto::DesiredLrpByProcessGuidRequest { process_guid: process_guid.to_owned() }
}

async fn look(served: &Served, revision: &str, process_guid: &str) -> proto::DesiredLrp {
    let path = format!("/v1/desired_lrps/get_by_process_guid.{revision}");
    let answer: proto::DesiredLrpResponse = served.client.call(&path, &by_guid(process_guid)).await;
    assert_eq!(answer.error, None);
    answer.desired_lrp.unwrap()
}

/// A wish that says all that there is to say.
fn rich() -> proto::DesiredLrp {
    let text = str::to_owned;
    let variable = proto::EnvironmentVariable { name: text("KEY"), value: text("secret") };
    let download = proto::DownloadAction {
        artifact: text("droplet"),
        from: text("https://blobs.test/droplet"),
        to: text("."),
        cache_key: text("droplets-web"),
        user: text("vcap"),
        checksum_algorithm: text("sha1"),
        checksum_value: "a".repeat(40),
        ..Default::default()
    };
    let download =
        proto::Action { download_action: Some(Box::new(download)), ..proto::Action::default() };
    let mut web = run("/bin/web");
    let limits = proto::ResourceLimits { nofile: Some(1024), ..Default::default() };
    let inner = web.run_action.as_mut().unwrap();
    inner.resource_limits = Some(limits);
    inner.env = vec![variable.clone()];
    let timeout = proto::TimeoutAction {
        action: Some(Box::new(run("/bin/check"))),
        timeout_ms: 600_000,
        ..Default::default()
    };
    let monitor =
        proto::Action { timeout_action: Some(Box::new(timeout)), ..proto::Action::default() };
    let codependent = proto::CodependentAction { actions: vec![web], log_source: text("CELL") };
    let http = proto::HttpCheck { port: 8080, path: text("/health"), ..Default::default() };
    let check = proto::Check { http_check: Some(http), tcp_check: None };
    let layer = |layer_type: proto::image_layer::Type, digest: &str| proto::ImageLayer {
        name: text("layer"),
        url: text("https://blobs.test/layer"),
        destination_path: text("/layer"),
        layer_type: layer_type.into(),
        media_type: proto::image_layer::MediaType::Tgz.into(),
        digest_algorithm: proto::image_layer::DigestAlgorithm::Sha256.into(),
        digest_value: digest.to_owned(),
    };
    let dependency = proto::CachedDependency {
        name: text("bundle"),
        from: text("https://blobs.test/bundle"),
        to: text("/tmp/lifecycle"),
        cache_key: text("bundle"),
        ..Default::default()
    };
    let rule = proto::SecurityGroupRule {
        protocol: text("tcp"),
        destinations: vec![text("10.0.0.0/8"), text("1.2.3.4-1.2.3.9")],
        ports: vec![443, 80],
        log: true,
        annotations: vec![text("note")],
        ..Default::default()
    };
    let shared = proto::SharedDevice { volume_id: text("v"), mount_config: text("{}") };
    let mount = proto::VolumeMount {
        driver: text("nfs"),
        container_dir: text("/data"),
        mode: text("rw"),
        shared: Some(shared),
        dedicated: None,
    };
    let mut tags = lrp("x").metric_tags;
    let dynamic = proto::metric_tag_value::DynamicValue::Index.into();
    tags.insert(text("index"), proto::MetricTagValue { dynamic, ..Default::default() });
    let ssh = br#"{"container_port":2222,"private_key":"pem"}"#.to_vec();
    let mut routes = lrp("x").routes.unwrap();
    routes.routes.insert(text("diego-ssh"), ssh);
    #[expect(deprecated, reason = "exclusive layers need it")]
    proto::DesiredLrp {
        environment_variables: vec![variable],
        setup: Some(download),
        action: Some(proto::Action {
            codependent_action: Some(Box::new(codependent)),
            ..proto::Action::default()
        }),
        monitor: Some(monitor),
        privileged: true,
        ports: vec![8080, 2222],
        routes: Some(routes),
        egress_rules: vec![rule],
        cached_dependencies: vec![dependency],
        legacy_download_user: text("vcap"),
        trusted_system_certificates_path: text("/etc/cf-system-certificates"),
        volume_mounts: vec![mount],
        network: Some(proto::Network {
            properties: BTreeMap::from([(text("app_id"), text("app"))]),
        }),
        placement_tags: vec![text("segment")],
        max_pids: 2048,
        certificate_properties: Some(proto::CertificateProperties {
            organizational_unit: vec![text("app:app")],
        }),
        image_username: text("bob"),
        image_password: text("hunter2"),
        check_definition: Some(proto::CheckDefinition {
            checks: vec![check.clone()],
            log_source: text("HEALTH"),
            readiness_checks: vec![check],
        }),
        image_layers: vec![
            layer(proto::image_layer::Type::Shared, &"b".repeat(64)),
            layer(proto::image_layer::Type::Exclusive, &"c".repeat(64)),
        ],
        metric_tags: tags,
        sidecars: vec![proto::Sidecar {
            action: Some(run("/bin/sidecar")),
            disk_mb: 1,
            memory_mb: 2,
        }],
        log_rate_limit: Some(proto::LogRateLimit { bytes_per_second: -1 }),
        volume_mounted_files: vec![proto::File { path: text("creds/key"), content: text("s") }],
        update_strategy: proto::desired_lrp::UpdateStrategy::Recreate.into(),
        ..lrp("web")
    }
}

#[tokio::test]
async fn a_wish_comes_back_as_it_was_sent_with_all_that_it_can_say() {
    let served = Served::start().await;
    for sent in [lrp("plain"), rich()] {
        let request = proto::DesireLrpRequest { desired_lrp: Some(sent.clone()) };
        served.done("/v1/desired_lrp/desire.r2", &request).await;

        let mut shown = look(&served, "r3", &sent.process_guid).await;
        assert!(shown.modification_tag.take().is_some());
        assert_eq!(shown, sent);
    }
    let list: proto::DesiredLrpsResponse =
        served.client.call("/v1/desired_lrps/list.r3", &proto::DesiredLrpsRequest::default()).await;
    assert_eq!(list.desired_lrps.len(), 2);
}

#[tokio::test]
async fn older_clients_see_layers_as_downloads_and_dependencies() {
    let served = Served::start().await;
    let request = proto::DesireLrpRequest { desired_lrp: Some(rich()) };
    served.done("/v1/desired_lrp/desire.r2", &request).await;

    let older = look(&served, "r2", "web").await;

    assert!(older.image_layers.is_empty());
    let keys: Vec<_> = older.cached_dependencies.iter().map(|it| it.cache_key.as_str()).collect();
    assert_eq!(keys, [format!("sha256:{}", "b".repeat(64)).as_str(), "bundle"]);
    let setup = older.setup.clone().unwrap().serial_action.unwrap().actions;
    let downloads = &setup[0].parallel_action.as_ref().unwrap().actions;
    let download = downloads[0].download_action.as_ref().unwrap();
    assert_eq!(download.cache_key, format!("sha256:{}", "c".repeat(64)));
    assert_eq!(download.user, "vcap");
    assert_eq!(Some(&setup[1]), rich().setup.as_ref());
    let list: proto::DesiredLrpsResponse =
        served.client.call("/v1/desired_lrps/list.r2", &proto::DesiredLrpsRequest::default()).await;
    assert_eq!(list.desired_lrps, [older]);
}

#[tokio::test]
async fn wishes_are_listed_by_domain_process_and_app() {
    let served = Served::start().await;
    for process_guid in ["app-1", "app-2", "other"] {
        served.desire(process_guid).await;
    }
    let list = async |request: proto::DesiredLrpsRequest| {
        let answer: proto::DesiredLrpsResponse =
            served.client.call("/v1/desired_lrps/list.r3", &request).await;
        answer.desired_lrps.into_iter().map(|lrp| lrp.process_guid).collect::<Vec<_>>()
    };
    let asked = proto::DesiredLrpsRequest::default;
    let guids = |guid: &str| vec![guid.to_owned()];

    assert_eq!(list(asked()).await, ["app-1", "app-2", "other"]);
    let request = proto::DesiredLrpsRequest { process_guids: guids("other"), ..asked() };
    assert_eq!(list(request).await, ["other"]);
    let request = proto::DesiredLrpsRequest { app_guids: guids("app"), ..asked() };
    assert_eq!(list(request).await, ["app-1", "app-2"]);
    let request = proto::DesiredLrpsRequest { domain: "x".to_owned(), ..asked() };
    assert!(list(request).await.is_empty());
}

#[tokio::test]
async fn who_places_and_who_routes_sees_what_it_needs() {
    let served = Served::start().await;
    served.desire("web").await;
    let all = proto::DesiredLrpsRequest::default();

    let infos: proto::DesiredLrpSchedulingInfosResponse =
        served.client.call("/v1/desired_lrp_scheduling_infos/list", &all).await;
    let info = &infos.desired_lrp_scheduling_infos[0];
    assert_eq!((info.desired_lrp_key.log_guid.as_str(), info.instances), ("app", 2));
    assert_eq!(info.desired_lrp_resource.memory_mb, 64);
    assert_eq!(Some(&info.routes), lrp("web").routes.as_ref());
    let path = "/v1/desired_lrp_scheduling_infos/get_by_process_guid";
    let one: proto::DesiredLrpSchedulingInfoByProcessGuidResponse =
        served.client.call(path, &by_guid("web")).await;
    assert_eq!(one.desired_lrp_scheduling_info.as_ref(), Some(info));
    assert_eq!(served.error(path, &by_guid("x")).await, not_found());
    let routing: proto::DesiredLrpsResponse =
        served.client.call("/v1/desired_lrp_routing_infos/list", &all).await;
    let part = &routing.desired_lrps[0];
    assert_eq!((part.routes.as_ref(), part.action.as_ref()), (lrp("web").routes.as_ref(), None));
}

#[tokio::test]
async fn a_wish_is_changed_and_taken_back() {
    let served = Served::start().await;
    let update = |update: proto::DesiredLrpUpdate| proto::UpdateDesiredLrpRequest {
        process_guid: "web".to_owned(),
        update: Some(update),
    };
    let path = "/v1/desired_lrp/update";
    let none = proto::DesiredLrpUpdate::default;
    assert_eq!(served.error(path, &update(none())).await, not_found());
    served.desire("web").await;
    let again = proto::DesireLrpRequest { desired_lrp: Some(lrp("web")) };
    let again = served.error("/v1/desired_lrp/desire.r2", &again).await;
    assert_eq!(again, Some((12, "the requested resource already exists".to_owned())));

    served.done(path, &update(none())).await;
    let routes = BTreeMap::from([("tcp-router".to_owned(), b"[{\"external_port\":1}]".to_vec())]);
    let routes = Some(proto::ProtoRoutes { routes });
    let change = proto::DesiredLrpUpdate {
        instances: Some(0),
        annotation: Some(String::new()),
        routes: routes.clone(),
        ..none()
    };
    served.done(path, &update(change)).await;
    let shown = look(&served, "r3", "web").await;
    assert_eq!((shown.instances, shown.annotation.as_str()), (0, ""));
    assert_eq!(shown.routes, routes);
    assert_eq!(shown.metric_tags, lrp("web").metric_tags, "what is not said stays");
    let bad = proto::DesiredLrpUpdate { instances: Some(-1), ..none() };
    assert_eq!(served.error(path, &update(bad)).await, invalid("instances"));
    let remove = proto::RemoveDesiredLrpRequest { process_guid: "web".to_owned() };
    served.done("/v1/desired_lrp/remove", &remove).await;
    assert_eq!(served.error("/v1/desired_lrp/remove", &remove).await, not_found());
    for revision in ["r2", "r3"] {
        let path = format!("/v1/desired_lrps/get_by_process_guid.{revision}");
        assert_eq!(served.error(&path, &by_guid("web")).await, not_found());
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_wish_is_told_by_diegos_names() {
    let served = Served::start().await;
    let path = "/v1/desired_lrp/desire.r2";
    let told = async |change: &dyn Fn(&mut proto::DesiredLrp)| {
        let mut wrong = lrp("web");
        change(&mut wrong);
        served.error(path, &proto::DesireLrpRequest { desired_lrp: Some(wrong) }).await
    };
    assert_eq!(
        served.error(path, &proto::DesireLrpRequest::default()).await,
        invalid("desired_lrp")
    );
    assert_eq!(told(&|it| it.process_guid = "a\nb".to_owned()).await, invalid("process_guid"));
    assert_eq!(told(&|it| it.root_fs = "x".to_owned()).await, invalid("rootfs"));
    assert_eq!(told(&|it| it.instances = -1).await, invalid("instances"));
    assert_eq!(told(&|it| it.annotation = "a".repeat(10_241)).await, invalid("annotation"));
    assert_eq!(told(&|it| it.action = None).await, Some((4, "invalid action type".to_owned())));
    assert_eq!(told(&|it| it.setup = Some(run(""))).await, invalid("setup path"));
    let mismatch = told(&|it| it.metrics_guid = "other".to_owned()).await.unwrap().1;
    assert_eq!(mismatch, "Invalid field: metric_tags, source_id should match metrics_guid");
    let routes = |it: &mut proto::DesiredLrp| {
        let long = format!("\"{}\"", "a".repeat(128 * 1024)).into_bytes();
        it.routes.as_mut().unwrap().routes.insert("x".to_owned(), long);
    };
    assert_eq!(told(&routes).await, invalid("routes"));
    let check = |it: &mut proto::DesiredLrp| {
        let check = proto::Check {
            tcp_check: Some(proto::TcpCheck::default()),
            http_check: Some(proto::HttpCheck::default()),
        };
        let checks = vec![check, proto::Check::default()];
        it.check_definition = Some(proto::CheckDefinition { checks, ..Default::default() });
    };
    assert_eq!(told(&check).await, invalid("check_definition check port"));
    let blank = |it: &mut proto::DesiredLrp| {
        it.environment_variables = vec![proto::EnvironmentVariable::default()];
    };
    let text = "invalid field: name cannot be blank".to_owned();
    assert_eq!(told(&blank).await, Some((4, text)));
    let mount = |it: &mut proto::DesiredLrp| {
        it.volume_mounts = vec![proto::VolumeMount::default()];
    };
    let text = "invalid volume_mount driver, invalid volume_mount mode".to_owned();
    assert_eq!(told(&mount).await, Some((4, text)));
}
