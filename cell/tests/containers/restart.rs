//! Agents that die: what runs is taken up again, what is half made is removed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use cell::garden::linux::{LinuxConfig, LinuxGarden};
use cell::garden::{ContainerState, Error, Garden, ProcessState};

use crate::harness::{
    PARKED, World, chain, depot, eventually, exited, handle, process, program, tests,
};
use crate::leaks;

tests![
    a_killed_agents_container_is_taken_up_with_output_and_statuses,
    an_agent_killed_at_any_moment_leaves_nothing_half_made,
    a_folder_in_use_is_refused,
    what_is_half_made_is_swept,
    a_network_in_use_is_refused,
    a_stopped_machines_containers_are_listed_as_stopped,
];

impl World {
    /// Lets go of the garden and opens its folder again, with other settings.
    pub(crate) async fn reopen(&mut self, config: LinuxConfig) {
        self.config = config;
        self.between(async |_: &LinuxConfig| {}).await;
    }

    /// Lets go of the garden, as an agent that ends does, and does something in between.
    pub(crate) async fn between(&mut self, work: impl AsyncFnOnce(&LinuxConfig)) {
        let config = self.config.clone();
        let mut other = config.clone();
        other.prefix.push_str(PARKED.0);
        other.cell_dir = self.home.path().join(PARKED.1);
        let parked = LinuxGarden::open(other).await.unwrap();
        drop(std::mem::replace(&mut self.garden, parked.clone()));
        wait_until_free(&config).await;
        work(&config).await;
        let opened = LinuxGarden::open(config).await;
        self.garden = opened.unwrap_or_else(|error| panic!("{}", chain(&error)));
        parked.tear_down().await.unwrap();
    }
}

/// The last clone of a garden may be held by a step that still ends.
async fn wait_until_free(config: &LinuxConfig) {
    let lock = config.cell_dir.join("garden.lock");
    eventually("the old agent lets go", || fs::File::open(&lock).unwrap().try_lock().is_ok()).await;
}

async fn a_killed_agents_container_is_taken_up_with_output_and_statuses(world: &mut World) {
    let home = world.home.path().display().to_string();
    world
        .between(async |config: &LinuxConfig| {
            let mut agent = Command::new("/proc/self/exe")
                .args(["agent", &home, &config.prefix])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(agent.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "up\n");
            agent.kill().unwrap();
            agent.wait().unwrap();
            // One of its processes ends while there is no agent.
            let exit = depot(config, "kept").join("exits/meanwhile.json");
            eventually("the process ends meanwhile", || exit.exists()).await;
        })
        .await;

    let listed = world.garden.list().await;
    assert_eq!(listed.len(), 1);
    let info = &listed[0];
    assert_eq!((info.handle.clone(), info.state), (handle("kept"), ContainerState::Running));
    assert_eq!(info.properties.get("owner").unwrap(), "test");
    let running = &info.processes[&process("app")];
    assert!(matches!(running, ProcessState::Running { .. }), "{running:?}");
    assert_eq!(world.wait("kept", &process("before")).await.status, exited(5));
    assert_eq!(world.wait("kept", &process("meanwhile")).await.status, exited(6));
    let output = world.output("kept", &process("meanwhile"), None).await;
    assert_eq!(output.lines().count(), 30, "{output}");
    let ticks = world.output("kept", &process("app"), None).await.lines().count();
    world.until_output("kept", &process("app"), &format!("tick {}\n", ticks + 5)).await;
    // The container's own variables are still there for new processes.
    let (_, who) = world.finish("kept", program("who", "inside who")).await;
    assert!(who.contains("env FROM_CONTAINER=1"), "{who}");
    world.garden.destroy(&handle("kept")).await.unwrap();
}

async fn an_agent_killed_at_any_moment_leaves_nothing_half_made(world: &mut World) {
    let home = world.home.path().display().to_string();
    let mut whole = 0;
    for round in 0..10 {
        world
            .between(async |config: &LinuxConfig| {
                let mut agent = Command::new("/proc/self/exe")
                    .args(["agent", &home, &config.prefix, "churn"])
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut line = String::new();
                // Kept until the agent is dead, for it goes on writing.
                let mut stdout = BufReader::new(agent.stdout.take().unwrap());
                stdout.read_line(&mut line).unwrap();
                // Not a wait for anything: the moment is what is varied.
                tokio::time::sleep(Duration::from_micros(3700 * round)).await;
                agent.kill().unwrap();
                agent.wait().unwrap();
            })
            .await;

        let listed = world.garden.list().await;
        let folders = leaks::names(world.config.cell_dir.join("containers")).len();
        let found = leaks::count(&world.config.prefix, &world.config.cell_dir);
        let shims = found.iter().filter(|one| one.starts_with("process")).count();
        // A shim and an init each, but for one whose destruction had begun.
        let running = listed.iter().filter(|info| info.state == ContainerState::Running).count();
        assert_eq!((folders, shims), (listed.len(), 2 * running), "{found:?}");
        for info in listed {
            if info.state == ContainerState::Running {
                let name = info.handle.as_str();
                let id = format!("check-{round}");
                let (record, _) = world.finish(name, program(&id, "inside exit 0")).await;
                assert_eq!(record.status, exited(0));
                whole += 1;
            }
            world.garden.destroy(&info.handle).await.unwrap();
        }
    }
    assert!(whole > 0, "no round caught a whole container");
}

async fn a_folder_in_use_is_refused(world: &mut World) {
    let second = LinuxGarden::open(world.config.clone()).await;

    assert!(matches!(second, Err(Error::FolderInUse { .. })), "{second:?}");
}

async fn what_is_half_made_is_swept(world: &mut World) {
    world.create("whole").await;
    world.create("half").await;
    world.garden.run(&handle("half"), program("app", "inside sleep")).await.unwrap();
    world
        .between(async |config: &LinuxConfig| {
            // As if the agent had been killed just before the last step of a creation.
            fs::remove_file(depot(config, "half").join("created")).unwrap();
            // And what an agent killed earlier could leave: a folder, cgroups, trash.
            fs::create_dir_all(depot(config, "early").join("upper")).unwrap();
            fs::create_dir_all(config.cell_dir.join("trash/leftover/file")).unwrap();
            let cgroup = format!("/sys/fs/cgroup/memory/diario/{}/early", config.prefix);
            fs::create_dir_all(cgroup).unwrap();
        })
        .await;

    let listed = world.garden.list().await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].handle, handle("whole"));
    let found = leaks::count(&world.config.prefix, &world.config.cell_dir);
    let of_others = ["half", "early", "leftover"];
    assert!(
        !found.iter().any(|one| of_others.iter().any(|other| one.contains(other))),
        "{found:?}"
    );
    // One interface, the shim and its init are left, and the folder.
    let interfaces =
        found.iter().filter(|one| one.starts_with(&format!("{}v", world.config.prefix)));
    assert_eq!(interfaces.count(), 1, "{found:?}");
    assert_eq!(found.iter().filter(|one| one.starts_with("process")).count(), 2, "{found:?}");
    assert_eq!(world.finish("whole", program("app", "inside exit 0")).await.0.status, exited(0));
}

async fn a_network_in_use_is_refused(world: &mut World) {
    let mut config = world.config.clone();
    config.cell_dir = world.home.path().join("second");
    config.prefix = format!("{}y", config.prefix);
    config.subnet = Some(world.garden.subnet());

    let second = LinuxGarden::open(config).await;

    let error = second.unwrap_err().to_string();
    assert!(error.contains("overlaps with"), "{error}");
}

async fn a_stopped_machines_containers_are_listed_as_stopped(world: &mut World) {
    world.create("one").await;
    world.finish("one", program("done", "inside exit 8")).await;
    world.garden.run(&handle("one"), program("app", "inside sleep")).await.unwrap();
    world
        .between(async |config: &LinuxConfig| {
            let text = fs::read_to_string(depot(config, "one").join("shim.pid")).unwrap();
            let pid = text.split(|letter: char| !letter.is_ascii_digit());
            let pid: i32 = pid.clone().find(|part| !part.is_empty()).unwrap().parse().unwrap();
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        })
        .await;

    let listed = world.garden.list().await;
    assert_eq!(listed[0].state, ContainerState::Stopped);
    assert_eq!(world.wait("one", &process("done")).await.status, exited(8));
    let lost = world.garden.wait(&handle("one"), &process("app")).await;
    assert!(matches!(lost, Err(Error::Stopped { .. })), "{lost:?}");
}
