//! The health check and the sample app, inside real containers.

use std::net::SocketAddr;

use cell::garden::{Garden, Signal};

use crate::harness::{World, exited, handle, process, program, signaled, tests};
use crate::isolation::get;

tests![the_health_check_answers_as_diegos, the_sample_app_does_as_it_is_told,];

async fn the_health_check_answers_as_diegos(world: &mut World) {
    world.create("one").await;
    let mut number = 0;
    let mut check = async |arguments: &str| {
        number += 1;
        let id = format!("check-{number}");
        let spec = program(&id, &format!("healthcheck {arguments}"));
        let (record, output) = world.finish("one", spec).await;
        (record.status, output)
    };

    let (status, output) = check("-port=8080 -timeout=1000ms").await;
    assert_eq!(status, exited(4));
    assert!(output.contains("failed to make TCP connection to 10."), "{output}");
    assert!(output.contains("connection refused"), "{output}");
    let (status, output) = check("-port=8080 -timeout=1000ms -uri=/health").await;
    assert_eq!(status, exited(5));
    let wanted = "failed to make HTTP request to '/health' on port 8080: connection refused";
    assert!(output.contains(wanted), "{output}");
    assert_eq!(check("-port=none").await.0, exited(127));

    world.garden.run(&handle("one"), program("app", "sample-app")).await.unwrap();
    world.until_output("one", &process("app"), "listening").await;
    assert_eq!(check("-port=8080 -timeout=1000ms").await, (exited(0), String::new()));
    assert_eq!(check("-port=8080 -timeout=1000ms -uri=/health").await.0, exited(0));
    let (status, output) = check("-port=8080 -timeout=1s -uri=/nowhere").await;
    assert_eq!(status, exited(6));
    let wanted = "to '/nowhere' on port 8080: received status code 404 in ";
    assert!(output.contains(wanted), "{output}");
}

async fn the_sample_app_does_as_it_is_told(world: &mut World) {
    let ask = async |name: &str, path: &str| {
        let info = world.create(name).await;
        let mut spec = program("app", "sample-app");
        spec.environment = vec![
            ("CF_INSTANCE_INDEX".to_owned(), "2".to_owned()),
            ("INSTANCE_GUID".to_owned(), "guid".to_owned()),
        ]
        .into();
        world.garden.run(&handle(name), spec).await.unwrap();
        world.until_output(name, &process("app"), "listening").await;
        get(SocketAddr::from((info.address, 8080)), path)
    };

    let answer = ask("root", "/").await;
    assert!(answer.contains("index=2 instance=guid host=host-root"), "{answer}");
    ask("log", "/log/a-line").await;
    world.until_output("log", &process("app"), "a-line\nGET /log/a-line 200").await;
    world.garden.signal(&handle("log"), &process("app"), Signal::Terminate).await.unwrap();
    assert_eq!(world.wait("log", &process("app")).await.status, exited(0));
    ask("exit", "/exit/9").await;
    assert_eq!(world.wait("exit", &process("app")).await.status, exited(9));
    ask("kill", "/kill/9").await;
    assert_eq!(world.wait("kill", &process("app")).await.status, signaled(9));
    ask("eat", "/eat/100").await;
    let record = world.wait("eat", &process("app")).await;
    assert_eq!(record.status, signaled(9));
    assert_eq!(record.out_of_memory.unwrap().limit_bytes, 64 << 20);
}
