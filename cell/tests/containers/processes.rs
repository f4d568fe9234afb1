//! Running, waiting, signalling, output and limits.

use cell::garden::{Environment, Error, Garden, OutputCursor, OutputStream, Signal};

use crate::harness::{
    World, container, eventually, exited, handle, process, program, signaled, tests,
};

tests![
    a_process_runs_and_its_output_and_status_are_told,
    what_cannot_be_run_is_refused_in_words,
    signals_reach_a_process_and_its_end_is_told,
    a_death_for_memory_is_told_in_numbers,
    a_childs_death_for_memory_is_told_too,
    the_number_of_processes_is_limited,
    users_folders_and_variables_are_as_asked,
    a_flood_of_output_never_blocks_and_drops_the_oldest,
    metrics_are_told,
    orphans_are_reaped_and_do_not_hold_the_end_back,
    names_are_used_once_and_unknown_ones_refused,
];

async fn a_process_runs_and_its_output_and_status_are_told(world: &mut World) {
    let info = world.create("one").await;
    assert_eq!(info.properties.get("owner").unwrap(), "test");

    let (record, _) = world.finish("one", program("say", "inside say hello oops")).await;
    let (failed, _) = world.finish("one", program("fail", "inside exit 42")).await;

    assert_eq!((record.status, failed.status), (exited(0), exited(42)));
    assert_eq!(record.out_of_memory, None);
    assert!(record.started_at_ns <= record.ended_at_ns);
    let id = process("say");
    assert_eq!(world.output("one", &id, Some(OutputStream::Stdout)).await, "hello\n");
    assert_eq!(world.output("one", &id, Some(OutputStream::Stderr)).await, "oops\n");
    assert!(record.output_end > OutputCursor::default());
}

async fn what_cannot_be_run_is_refused_in_words(world: &mut World) {
    world.create("one").await;
    let check = async |change: fn(&mut cell::garden::ProcessSpec), words: &str| {
        let mut spec = program("refused", "inside exit 0");
        change(&mut spec);
        let error = world.garden.run(&handle("one"), spec).await.unwrap_err();
        assert!(matches!(error, Error::Run { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error} lacks {words:?}");
    };

    check(|spec| spec.path = "/x".to_owned(), "executable /x not found").await;
    check(|spec| spec.path = "x".to_owned(), "executable x not found in PATH").await;
    check(|spec| spec.path = "/etc/passwd".to_owned(), "may not be executed").await;
    check(|spec| spec.path = "/tmp".to_owned(), "may not be executed").await;
    check(|spec| spec.user = Some("nobody".to_owned()), "user nobody not found").await;
    check(|spec| spec.dir = Some("/etc/passwd".to_owned()), "cannot enter folder").await;
    // A descriptor of the host's that is still open before the exec is no way out.
    let fds = [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24];
    for fd in fds {
        let mut spec = program("refused", "inside exit 0");
        spec.dir = Some(format!("/proc/self/fd/{fd}"));
        let error = world.garden.run(&handle("one"), spec).await.unwrap_err();
        assert!(error.to_string().contains("folder /proc/self/fd/"), "{error}");
    }

    // It never ran, so its name is free, and a name in PATH is found.
    let mut spec = program("refused", "inside exit 3");
    spec.path = "diario".to_owned();
    assert_eq!(world.finish("one", spec).await.0.status, exited(3));
}

async fn signals_reach_a_process_and_its_end_is_told(world: &mut World) {
    world.create("one").await;
    let garden = &world.garden;
    for (id, arguments) in [("term", "inside terminate"), ("hard", "inside stubborn")] {
        garden.run(&handle("one"), program(id, arguments)).await.unwrap();
    }
    world.until_output("one", &process("term"), "waiting").await;
    world.until_output("one", &process("hard"), "stubborn").await;

    garden.signal(&handle("one"), &process("hard"), Signal::Terminate).await.unwrap();
    garden.signal(&handle("one"), &process("term"), Signal::Terminate).await.unwrap();
    assert_eq!(world.wait("one", &process("term")).await.status, exited(7));
    garden.signal(&handle("one"), &process("term"), Signal::Kill).await.unwrap();
    garden.signal(&handle("one"), &process("hard"), Signal::Kill).await.unwrap();
    assert_eq!(world.wait("one", &process("hard")).await.status, signaled(9));

    let (record, _) = world.finish("one", program("rt", "inside real-time-signal")).await;
    assert_eq!(record.status, signaled(34));
}

async fn a_death_for_memory_is_told_in_numbers(world: &mut World) {
    world.create("one").await;

    let (record, output) = world.finish("one", program("eat", "inside eat 200")).await;
    let (fine, _) = world.finish("one", program("fine", "inside eat 20")).await;

    let report = record.out_of_memory.unwrap();
    assert_eq!((record.status, report.limit_bytes), (signaled(9), 64 << 20));
    assert!(report.peak_bytes > 60 << 20 && report.peak_bytes <= 64 << 20, "{report:?}");
    assert_eq!(report.kills, 1);
    assert!(!output.contains("ate"));
    assert_eq!((fine.status, fine.out_of_memory), (exited(0), None));
}

async fn a_childs_death_for_memory_is_told_too(world: &mut World) {
    world.create("one").await;

    let (record, output) = world.finish("one", program("parent", "inside eat-child 200")).await;

    assert_eq!(record.status, exited(0));
    assert!(output.contains("signal: 9"), "{output}");
    assert_eq!(record.out_of_memory.unwrap().kills, 1);
}

async fn the_number_of_processes_is_limited(world: &mut World) {
    world.create("one").await;

    let (_, output) = world.finish("one", program("fork", "inside spawn 100")).await;

    // 32 with init and the one that spawns.
    assert!(output.contains("refused at 30"), "{output}");
}

async fn users_folders_and_variables_are_as_asked(world: &mut World) {
    world.create("one").await;
    let mut spec = program("vcap", "inside who");
    spec.user = Some("vcap".to_owned());
    spec.dir = Some("/home/vcap/new/folder".to_owned());
    spec.environment = Environment(vec![
        ("FROM_CONTAINER".to_owned(), "mine".to_owned()),
        ("OWN".to_owned(), "a=b c".to_owned()),
    ]);
    spec.nofile = Some(1_000_000_000);

    let (_, output) = world.finish("one", spec).await;
    let (_, root) = world.finish("one", program("root", "inside who")).await;

    for line in [
        "uid=2000 gid=2000 groups=[]",
        "cwd=/home/vcap/new/folder",
        "host=host-one",
        "env FROM_CONTAINER=mine",
        "env OWN=a=b c",
        "env USER=vcap",
        "env HOME=/home/vcap",
        "env PATH=/usr/local/bin:/usr/bin:/bin",
    ] {
        assert!(output.contains(line), "{line:?} is not in {output}");
    }
    assert!(!output.contains("CARGO"), "the agent's variables leak: {output}");
    assert!(output.contains("nofile="), "{output}");
    for line in ["uid=0 gid=0", "cwd=/root", "env FROM_CONTAINER=1", "env PATH=/usr/local/sbin:"] {
        assert!(root.contains(line), "{line:?} is not in {root}");
    }
}

async fn a_flood_of_output_never_blocks_and_drops_the_oldest(world: &mut World) {
    world.create("one").await;
    let garden = &world.garden;
    garden.run(&handle("one"), program("flood", "inside flood 20")).await.unwrap();
    assert_eq!(world.wait("one", &process("flood")).await.status, exited(0));

    let first = garden.read_output(&handle("one"), OutputCursor::default(), 1 << 20).await.unwrap();
    let output = world.output("one", &process("flood"), None).await;

    assert!(first.dropped_bytes > 15 << 20, "{}", first.dropped_bytes);
    assert!(output.len() < 6 << 20 && output.ends_with("end of flood\n"));
}

async fn metrics_are_told(world: &mut World) {
    world.create("one").await;
    world.garden.run(&handle("one"), program("app", "inside family 2")).await.unwrap();
    world.finish("one", program("eat", "inside eat 20")).await;

    let metrics = world.garden.metrics(&handle("one")).await.unwrap();
    let capacity = world.garden.capacity().await.unwrap();

    assert_eq!(metrics.pids, 4, "init, one and its two children");
    assert!(metrics.cpu_ns > 0);
    assert!(metrics.memory_peak_bytes > 20 << 20 && metrics.memory_bytes < 20 << 20, "{metrics:?}");
    assert!(capacity.memory_bytes > 1 << 28 && capacity.disk_bytes > 1 << 28);
}

async fn orphans_are_reaped_and_do_not_hold_the_end_back(world: &mut World) {
    world.create("one").await;

    let (record, _) = world.finish("one", program("parent", "inside leave-orphans 2")).await;

    // The orphans still hold the pipes; the end is told nevertheless.
    assert_eq!(record.status, exited(0));
    let metrics = world.garden.metrics(&handle("one")).await.unwrap();
    assert_eq!(metrics.pids, 3);
}

async fn names_are_used_once_and_unknown_ones_refused(world: &mut World) {
    world.create("one").await;
    let garden = &world.garden;
    world.finish("one", program("app", "inside exit 0")).await;

    let again = garden.run(&handle("one"), program("app", "inside exit 0")).await;
    assert!(matches!(again, Err(Error::ProcessInUse { .. })), "{again:?}");
    let unknown = garden.wait(&handle("one"), &process("nobody")).await;
    assert!(matches!(unknown, Err(Error::UnknownProcess { .. })), "{unknown:?}");
    let unknown = garden.signal(&handle("one"), &process("nobody"), Signal::Kill).await;
    assert!(matches!(unknown, Err(Error::UnknownProcess { .. })), "{unknown:?}");
    let unknown = garden.run(&handle("two"), program("app", "inside exit 0")).await;
    assert!(matches!(unknown, Err(Error::UnknownHandle { .. })), "{unknown:?}");
    let twice = garden.create(container("one")).await;
    assert!(matches!(twice, Err(Error::HandleInUse { .. })), "{twice:?}");
    let mut nowhere = container("two");
    nowhere.rootfs = cell::garden::RootfsName::parse("preloaded:nowhere").unwrap();
    let nowhere = garden.create(nowhere).await;
    assert!(matches!(nowhere, Err(Error::UnknownRootfs { .. })), "{nowhere:?}");
    eventually("only one is listed", || world.config.cell_dir.join("containers/one").exists())
        .await;
    assert_eq!(garden.list().await.len(), 1);
}
