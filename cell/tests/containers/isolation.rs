//! What a process may see and do: capabilities, masks, descriptors, mounts, network.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cell::garden::{BindMount, Garden};

use crate::harness::{World, container, exited, handle, process, program, tests};

tests![
    capabilities_are_gardens_and_no_new_ones_can_be_gained,
    the_hosts_secrets_are_masked_and_its_settings_read_only,
    no_descriptor_leaks_into_a_process,
    no_path_of_a_user_reaches_the_host,
    only_the_containers_own_mounts_and_processes_are_seen,
    bind_mounts_are_seen_and_read_only_if_asked,
    a_destination_that_is_a_link_stays_in_the_container,
    containers_have_addresses_of_their_own_and_are_reached,
    writes_stay_in_the_container,
];

/// Garden's unprivileged list as the kernel prints it.
const ALLOWED: &str = "00000000a80425fb";

async fn capabilities_are_gardens_and_no_new_ones_can_be_gained(world: &mut World) {
    world.create("one").await;

    let (_, root) = world.finish("one", program("root", "inside status")).await;
    let mut vcap = program("vcap", "inside status");
    vcap.user = Some("vcap".to_owned());
    let (_, vcap) = world.finish("one", vcap).await;

    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    let none = "0000000000000000";
    for (text, current) in [(&root, ALLOWED), (&vcap, none)] {
        assert_eq!(field(text, "CapBnd"), ALLOWED);
        assert_eq!(field(text, "CapPrm"), current);
        assert_eq!(field(text, "CapEff"), current);
        assert_eq!(field(text, "CapInh"), none);
        assert_eq!(field(text, "CapAmb"), none);
        assert_eq!(field(text, "NoNewPrivs"), "1");
        assert_eq!(field(text, "SigBlk"), none);
        assert_eq!(field(text, "SigIgn"), "0000000000001000", "only Rust's own SIGPIPE");
    }
}

async fn the_hosts_secrets_are_masked_and_its_settings_read_only(world: &mut World) {
    world.create("one").await;
    let mut number = 0;
    let mut look = async |path: &str| {
        number += 1;
        let id = format!("try-{number}");
        world.finish("one", program(&id, &format!("inside try {path}"))).await.1
    };

    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"] {
        if fs::metadata(path).is_ok() {
            let said = look(path).await;
            assert!(said.contains("read: Ok(\"0 bytes\")"), "{path}: {said}");
        }
    }
    for path in ["/sys/firmware", "/proc/scsi", "/proc/acpi"] {
        if fs::metadata(path).is_ok() {
            let said = look(path).await;
            assert!(said.contains("read: Ok(\"0 entries\")"), "{path}: {said}");
        }
    }
    for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"] {
        if fs::metadata(path).is_ok() {
            let said = look(path).await;
            assert!(said.contains("write: Err"), "{path}: {said}");
        }
    }
    for path in ["/proc/sys", "/sys", "/proc", "/dev"] {
        let said = look(path).await;
        assert!(said.contains("mount: Err(EPERM)"), "{path}: {said}");
    }
    // Devices: those of the list can be used, a foreign one not.
    let said = look("/dev/null").await;
    assert!(said.contains("write: Ok"), "{said}");
    let said = look("/dev/random").await;
    assert!(said.contains("read: Ok(\"100 bytes\")"), "{said}");
    // Init gives nothing of its own away, not even to root.
    for path in ["/proc/1/exe", "/proc/1/root/bin", "/proc/1/environ"] {
        let said = look(path).await;
        assert!(said.contains("read: Err"), "{path}: {said}");
    }
}

async fn no_descriptor_leaks_into_a_process(world: &mut World) {
    world.create("one").await;
    // With others running there is more to leak.
    world.garden.run(&handle("one"), program("other", "inside sleep")).await.unwrap();

    let (_, output) = world.finish("one", program("fds", "inside fds")).await;

    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.len(), 3, "{output}");
    assert_eq!(lines[0], "fd 0 /dev/null");
    assert!(lines[1].starts_with("fd 1 pipe:") && lines[2].starts_with("fd 2 pipe:"), "{output}");
}

async fn no_path_of_a_user_reaches_the_host(world: &mut World) {
    world.create("one").await;
    // With others running there is more open.
    world.garden.run(&handle("one"), program("other", "inside sleep")).await.unwrap();
    let outside = world.home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::copy(std::env::current_exe().unwrap(), outside.join("program")).unwrap();
    let up = "../".repeat(20);
    let target = outside.display();
    let mut ways: Vec<String> = (3..64).map(|number| format!("/proc/self/fd/{number}")).collect();
    ways.extend(
        ["/proc/1/root", "/proc/1/cwd", "/proc/self/root", "/proc/self/cwd"].map(str::to_owned),
    );

    for (index, way) in ways.iter().enumerate() {
        let mut in_folder = program(&format!("dir-{index}"), "inside who");
        in_folder.dir = Some(format!("{way}/{up}{target}/made"));
        let refused = world.garden.run(&handle("one"), in_folder).await;
        assert!(refused.is_err(), "{way} as a folder");
        let mut path = program(&format!("path-{index}"), "inside who");
        path.path = format!("{way}/{up}{target}/program");
        let refused = world.garden.run(&handle("one"), path).await;
        assert!(refused.is_err(), "{way} as a program");
    }

    let mut own = program("own", "inside who");
    own.path = "/proc/self/exe".to_owned();
    assert!(world.garden.run(&handle("one"), own).await.is_err(), "the shim's own program");
    assert!(!outside.join("made").exists());
    // Ordinary folders are still made, and a user's is their own.
    let mut deep = program("deep", "inside who");
    deep.dir = Some("/srv/some/deep".to_owned());
    deep.user = Some("vcap".to_owned());
    assert!(world.finish("one", deep).await.1.contains("cwd=/srv/some/deep"));
}

async fn only_the_containers_own_mounts_and_processes_are_seen(world: &mut World) {
    world.create("one").await;

    let (_, mounts) = world.finish("one", program("mounts", "inside show /proc/self/mounts")).await;
    let (_, proc) = world.finish("one", program("proc", "inside show /proc/self/stat")).await;
    let (_, cgroup) = world.finish("one", program("cgroup", "inside show /proc/self/cgroup")).await;
    let (_, net) = world.finish("one", program("net", "inside show /proc/net/dev")).await;

    for line in mounts.lines().filter(|line| !line.is_empty()) {
        let point = line.split(' ').nth(1).unwrap();
        let own = ["/", "/dev", "/etc", "/proc", "/sys"];
        assert!(own.iter().any(|own| point == *own || point.starts_with(&format!("{own}/"))));
        assert!(!point.starts_with("/proc/self"), "{line}");
    }
    assert!(mounts.starts_with("overlay / overlay rw,nodev"), "{mounts}");
    let pid: u32 = proc.split(' ').next().unwrap().parse().unwrap();
    assert!(pid < 10, "{proc}");
    assert!(!cgroup.contains(&world.config.prefix), "{cgroup}");
    let interfaces: Vec<_> = net.lines().filter_map(|line| line.split_once(':')).collect();
    assert_eq!(interfaces.len(), 2, "{net}");
}

async fn bind_mounts_are_seen_and_read_only_if_asked(world: &mut World) {
    let shared = world.home.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "from the host").unwrap();
    let mut spec = container("one");
    let mut bind = |source: std::path::PathBuf, destination: &str, is_read_only| {
        let destination = destination.into();
        spec.bind_mounts.push(BindMount { source, destination, is_read_only });
    };
    bind(shared.clone(), "/in/deep/rw", false);
    bind(shared.clone(), "/in/ro", true);
    bind(shared.join("file"), "/in/file", true);
    world.garden.create(spec).await.unwrap();

    let (_, writable) = world.finish("one", program("a", "inside try /in/deep/rw")).await;
    let (_, read_only) = world.finish("one", program("b", "inside try /in/ro")).await;
    let (_, file) = world.finish("one", program("c", "inside show /in/file")).await;

    assert!(writable.contains("create: Ok"), "{writable}");
    assert!(shared.join("new").exists());
    assert!(read_only.contains("read: Ok(\"2 entries\")"), "{read_only}");
    assert!(read_only.contains("create: Err(Os { code: 30"), "{read_only}");
    assert_eq!(file.trim(), "from the host");
}

async fn a_destination_that_is_a_link_stays_in_the_container(world: &mut World) {
    // A rootfs whose /etc leads to the host's /etc by many ways up.
    let rootfs = world.home.path().join("hostile");
    fs::create_dir_all(rootfs.join("inner")).unwrap();
    fs::create_dir_all(rootfs.join("bin")).unwrap();
    let own = &world.config.rootfses["diario"];
    fs::copy(own.join("bin/diario"), rootfs.join("bin/diario")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../../inner", rootfs.join("etc")).unwrap();
    std::os::unix::fs::symlink("/inner/../../../dev", rootfs.join("link")).unwrap();
    let mut config = world.config.clone();
    config.rootfses.insert("hostile".to_owned(), rootfs.clone());
    world.reopen(config).await;
    let before = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let mut spec = container("one");
    spec.rootfs = cell::garden::RootfsName::parse("preloaded:hostile").unwrap();

    world.garden.create(spec).await.unwrap();
    let (_, hosts) = world.finish("one", program("a", "inside show /inner/hosts")).await;

    assert!(hosts.contains("host-one"), "{hosts}");
    assert_eq!(fs::read_to_string("/etc/hosts").unwrap_or_default(), before);
}

async fn containers_have_addresses_of_their_own_and_are_reached(world: &mut World) {
    let (one, two) = (world.create("one").await, world.create("two").await);
    assert_ne!(one.address, two.address);
    for name in ["one", "two"] {
        let mut spec = program("app", "sample-app");
        spec.environment = vec![("PORT".to_owned(), "8081".to_owned())].into();
        world.garden.run(&handle(name), spec).await.unwrap();
        world.until_output(name, &process("app"), "listening on port 8081").await;
    }

    for (info, name) in [(&one, "one"), (&two, "two")] {
        let body = get(SocketAddr::from((info.address, 8081)), "/");
        assert!(body.contains(&format!("host=host-{name}")), "{body}");
    }
    let (_, hosts) = world.finish("one", program("hosts", "inside show /etc/hosts")).await;
    assert!(hosts.contains(&format!("{} host-one", one.address)), "{hosts}");

    // An address rests: a new container does not get the one just given back.
    world.garden.destroy(&handle("one")).await.unwrap();
    assert_ne!(world.create("three").await.address, one.address);
}

async fn writes_stay_in_the_container(world: &mut World) {
    world.create("one").await;
    world.create("two").await;

    let (_, said) = world.finish("one", program("a", "inside try /tmp")).await;
    let (_, other) = world.finish("two", program("a", "inside try /tmp")).await;

    assert!(said.contains("read: Ok(\"0 entries\")") && said.contains("create: Ok"), "{said}");
    assert!(other.contains("read: Ok(\"0 entries\")"), "{other}");
    assert!(!world.config.rootfses["diario"].join("tmp/new").exists());
    let (record, _) = world.finish("one", program("b", "inside exit 0")).await;
    assert_eq!(record.status, exited(0));
}

/// Gets a path over HTTP and gives the whole answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // A server that dies while it answers resets the connection.
    let _count = stream.read_to_string(&mut answer);
    answer
}
