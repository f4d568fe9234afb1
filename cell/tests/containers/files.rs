//! Files of real containers: unpacked into them by the cell, mounted, read and sent from them, with
//! the rights of their users and no others.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use cell::config::OnShutdown;
use domain::action::{Action, Download, Run, Serial, Upload};
use domain::bbs::definition::{CachedDependency, Definition};
use domain::id::TaskGuid;
use domain::rep::{Ended, WorkKind};
use domain::sealed::PlainText;

use crate::harness::{BINARY, World, eventually, tests};
use crate::instances::{Agent, app, lines, until_ended, work};
use crate::plane::FakePlane;

tests![
    a_task_has_its_files_and_leaves_a_result,
    nothing_is_unpacked_into_what_is_mounted,
    nothing_is_unpacked_where_its_user_may_not_write,
    nothing_is_sent_that_its_user_may_not_read,
    no_link_of_a_container_leads_to_a_file_of_the_host,
];

/// Serves an archive with the files `data` and `passwd` for as long as the tests run.
fn serve() -> String {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["data", "passwd"] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        header.set_uid(12_345);
        header.set_size(4);
        builder.append_data(&mut header, name, &b"data"[..]).unwrap();
    }
    let archive = builder.into_inner().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _count = stream.read(&mut request).unwrap();
            let length = archive.len();
            let head =
                format!("HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(&[head.as_bytes(), &archive].concat()).unwrap();
        }
    });
    url
}

fn download(to: &str) -> Action<PlainText> {
    Action::Download(Download {
        artifact: String::new(),
        from: PlainText(serve()),
        to: to.to_owned(),
        cache_key: "key".to_owned(),
        log_source: None,
        user: "vcap".to_owned(),
        checksum: None,
    })
}

fn run(words: &str) -> Action<PlainText> {
    let args = words.split(' ').map(str::to_owned).collect();
    Action::Run(Run { args, ..Run::new(BINARY, "vcap") })
}

/// Runs a task to its end, and gives it with the lines of its log.
async fn ended(
    world: &World,
    actions: Vec<Action<PlainText>>,
    more: impl FnOnce(Definition<PlainText>) -> Definition<PlainText>,
) -> (Ended, Vec<String>) {
    let plane = FakePlane::default();
    let agent = Agent::start(world, &plane, OnShutdown::DestroyAll);
    let action = Action::Serial(Serial { actions, log_source: None });
    let definition = more(Definition { action, ..app("/", "unused") });
    plane.place(&work(WorkKind::Task(TaskGuid::new("t").unwrap())), definition);
    let ended = until_ended(&plane).await;
    agent.stop().await;
    (ended, lines(&plane))
}

async fn a_task_has_its_files_and_leaves_a_result(world: &mut World) {
    let actions = vec![
        download("app"),
        run("inside file app/data"),
        run("inside file /tools/data"),
        run("inside write /tools/data no"),
        run("inside write /tmp/result done"),
    ];
    let (ended, lines) = ended(world, actions, |definition| {
        let dependency = CachedDependency {
            name: String::new(),
            from: PlainText(serve()),
            to: "/tools".to_owned(),
            cache_key: "tools".to_owned(),
            log_source: None,
            checksum: None,
        };
        let result_file = Some("/tmp/result".to_owned());
        Definition { cached_dependencies: vec![dependency], result_file, ..definition }
    })
    .await;

    assert_eq!((ended.failure_reason, ended.result.as_str()), (None, "done"));
    for told in [
        "app/data: 640 of 2000:2000, 4 bytes",
        "/tools/data: 640 of 0:0, 4 bytes",
        "/tools/data: Read-only file system (os error 30)",
    ] {
        assert!(lines.contains(&told.to_owned()), "{told}: {lines:?}");
    }
    // What nobody holds any more may go, and nothing of it is mounted on the host.
    let index = fs::read_to_string(world.home.path().join("agent/downloads/index.json")).unwrap();
    assert!(!index.contains("\"one\""), "{index}");
}

async fn nothing_is_unpacked_into_what_is_mounted(world: &mut World) {
    let (ended, _) = ended(world, vec![download("/proc/sys/kernel")], |it| it).await;

    let told = "Copying into the container failed: /proc/sys/kernel is not on the file system of \
        the container's root";
    assert_eq!(ended.failure_reason.as_deref(), Some(told));
}

async fn nothing_is_unpacked_where_its_user_may_not_write(world: &mut World) {
    let (ended, _) = ended(world, vec![download("/etc")], |it| it).await;

    let told = "Copying into the container failed: cannot write data: Permission denied";
    assert_eq!(ended.failure_reason.as_deref(), Some(told));
}

async fn nothing_is_sent_that_its_user_may_not_read(world: &mut World) {
    let upload = Action::Upload(Upload {
        artifact: String::new(),
        from: "/root/secret".to_owned(),
        to: PlainText("http://127.0.0.1:1/".to_owned()),
        log_source: None,
        user: "vcap".to_owned(),
    });
    let (ended, _) = ended(world, vec![upload], |it| it).await;

    let told = "Failed to establish stream from container: /root/secret: Permission denied";
    assert_eq!(ended.failure_reason.as_deref(), Some(told));
}

async fn no_link_of_a_container_leads_to_a_file_of_the_host(world: &mut World) {
    let secret = world.home.path().join("secret");
    fs::write(&secret, "of the host").unwrap();
    let target = format!("/../../../..{}", secret.display());
    let actions = vec![run(&format!("inside link /tmp/result {target}"))];
    let (ended, lines) = ended(world, actions, |definition| Definition {
        result_file: Some("/tmp/result".to_owned()),
        ..definition
    })
    .await;

    assert_eq!(ended.failure_reason.as_deref(), Some("failed to fetch result"));
    assert_eq!(ended.result, "");
    let told = "failed to fetch result: /tmp/result is not in the container";
    eventually("told", || lines.contains(&told.to_owned())).await;
}
