//! Counts what carries a cell's prefix on this machine, and the tests of destruction.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cell::garden::{Error, Garden};
use tokio::runtime;

use crate::harness::{World, container, handle, process, program, tests};

/// Everything on the machine that belongs to a cell.
pub(crate) fn count(prefix: &str, cell_dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = cell_dir.to_str().unwrap();
    found.extend(
        mounts.lines().filter(|line| line.contains(folder)).map(|line| format!("mount {line}")),
    );
    found.extend(names("/sys/class/net").into_iter().filter(|name| name.starts_with(prefix)));
    for controller in names("/sys/fs/cgroup") {
        let path = format!("/sys/fs/cgroup/{controller}/diario/{prefix}");
        if Path::new(&path).exists() {
            found.push(path);
        }
    }
    for pid in names("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok()) {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(folder) {
            found.push(format!("process {pid}"));
        }
    }
    for part in ["containers", "trash"] {
        let path = cell_dir.join(part);
        found.extend(names(&path).into_iter().map(|name| format!("folder {part}/{name}")));
    }
    found
}

pub(crate) fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

tests![
    destroy_leaves_nothing_of_a_busy_container,
    a_container_that_cannot_be_made_leaves_nothing,
    destroy_twice_at_once_is_fine,
    a_creation_that_was_given_up_can_be_destroyed,
    a_killed_shim_takes_its_container_along,
    many_containers_come_and_go,
];

fn counted(world: &World) -> Vec<String> {
    let all = count(&world.config.prefix, &world.config.cell_dir);
    let cell_owned = |name: &String| name.ends_with('b') || name.contains("/diario/");
    all.into_iter().filter(|name| !cell_owned(name)).collect()
}

async fn destroy_leaves_nothing_of_a_busy_container(world: &mut World) {
    world.create("busy").await;
    for (id, arguments) in
        [("a", "inside family 3"), ("b", "inside flood 50"), ("c", "inside stubborn")]
    {
        world.garden.run(&handle("busy"), program(id, arguments)).await.unwrap();
    }
    assert!(counted(world).len() >= 3, "{:?}", counted(world));

    world.garden.destroy(&handle("busy")).await.unwrap();

    assert_eq!(counted(world), Vec::<String>::new());
    assert!(matches!(
        world.garden.wait(&handle("busy"), &process("a")).await,
        Err(Error::UnknownHandle { .. })
    ));
}

async fn a_container_that_cannot_be_made_leaves_nothing(world: &mut World) {
    let mut spec = container("broken");
    spec.bind_mounts.push(cell::garden::BindMount {
        source: "/nowhere/at/all".into(),
        destination: "/x".into(),
        is_read_only: true,
    });

    let error = world.garden.create(spec).await.unwrap_err();

    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    assert_eq!(counted(world), Vec::<String>::new());
    world.create("broken").await;
}

async fn destroy_twice_at_once_is_fine(world: &mut World) {
    world.create("twice").await;
    let wanted = handle("twice");

    let (first, second) =
        tokio::join!(world.garden.destroy(&wanted), world.garden.destroy(&wanted));

    first.unwrap();
    second.unwrap();
    world.garden.destroy(&wanted).await.unwrap();
}

async fn a_creation_that_was_given_up_can_be_destroyed(world: &mut World) {
    for microseconds in [0, 200, 1000, 3000] {
        let creation = world.garden.create(container("gone"));
        let patience = Duration::from_micros(microseconds);
        drop(tokio::time::timeout(patience, creation).await);

        world.garden.destroy(&handle("gone")).await.unwrap();

        assert_eq!(counted(world), Vec::<String>::new());
    }
}

async fn a_killed_shim_takes_its_container_along(world: &mut World) {
    world.create("orphan").await;
    world.garden.run(&handle("orphan"), program("done", "inside exit 4")).await.unwrap();
    world.wait("orphan", &process("done")).await;
    world.garden.run(&handle("orphan"), program("app", "inside sleep")).await.unwrap();
    let text = fs::read_to_string(crate::harness::depot(&world.config, "orphan").join("shim.pid"));
    let text = text.unwrap();
    let pid: i32 = text
        .split(|letter: char| !letter.is_ascii_digit())
        .find(|part| !part.is_empty())
        .unwrap()
        .parse()
        .unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();

    let lost = world.garden.wait(&handle("orphan"), &process("app")).await;
    assert!(matches!(lost, Err(Error::Stopped { .. })), "{lost:?}");
    let kept = world.wait("orphan", &process("done")).await;
    assert_eq!(kept.status, crate::harness::exited(4));
    let refused = world.garden.run(&handle("orphan"), program("late", "inside exit 0")).await;
    assert!(matches!(refused, Err(Error::Stopped { .. })), "{refused:?}");

    world.garden.destroy(&handle("orphan")).await.unwrap();
    assert_eq!(counted(world), Vec::<String>::new());
}

async fn many_containers_come_and_go(world: &mut World) {
    let mut tasks = Vec::new();
    for number in 0..8 {
        let garden = world.garden.clone();
        tasks.push(runtime::Handle::current().spawn(async move {
            let name = format!("many-{number}");
            garden.create(container(&name)).await.unwrap();
            garden.run(&handle(&name), program("app", "inside exit 0")).await.unwrap();
            garden.wait(&handle(&name), &process("app")).await.unwrap();
            garden.destroy(&handle(&name)).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }

    assert_eq!(counted(world), Vec::<String>::new());
}
