//! An agent in a process of its own, to be killed: opens the cell it is told, makes a container
//! with some processes in it, says `up`, and waits.

use std::path::Path;
use std::process::ExitCode;

use cell::garden::Garden;
use cell::garden::linux::LinuxGarden;

use crate::harness::{config, container, handle, program};

pub(crate) fn main(arguments: Vec<String>) -> ExitCode {
    let (home, prefix, churns) = match arguments.as_slice() {
        [home, prefix] => (home, prefix, false),
        [home, prefix, word] if word == "churn" => (home, prefix, true),
        _ => panic!("agent <home> <prefix> [churn]"),
    };
    let mut config = config(Path::new(home));
    config.prefix.clone_from(prefix);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let garden = LinuxGarden::open(config).await.unwrap();
        if churns {
            churn(&garden).await;
        }
        garden.create(container("kept")).await.unwrap();
        let kept = handle("kept");
        garden.run(&kept, program("app", "inside tick")).await.unwrap();
        garden.run(&kept, program("before", "inside exit 5")).await.unwrap();
        garden.run(&kept, program("meanwhile", "inside count-then-exit 30 6")).await.unwrap();
        println!("up");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

/// Makes containers and destroys every other one, for ever.
async fn churn(garden: &LinuxGarden) {
    for number in 0_u64.. {
        let name = format!("churn-{number}");
        garden.create(container(&name)).await.unwrap();
        println!("made");
        garden.run(&handle(&name), program("app", "inside sleep")).await.unwrap();
        if !number.is_multiple_of(2) {
            garden.destroy(&handle(&name)).await.unwrap();
        }
    }
}
