//! How long a container takes at the rate a cell sees: one every 300 ms. Reports; the bound is
//! generous, for a busy machine.

use std::time::Duration;

use cell::clock;
use cell::garden::Garden;

use crate::harness::{World, container, handle, process, program, tests};

const RUNS: usize = 20;
const BETWEEN: Duration = Duration::from_millis(300);

tests![a_container_starts_in_milliseconds];

async fn a_container_starts_in_milliseconds(world: &mut World) {
    let (mut creates, mut totals, mut destroys) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..RUNS {
        tokio::time::sleep(BETWEEN).await;
        let name = format!("fast-{number}");
        let started = clock::monotonic();
        world.garden.create(container(&name)).await.unwrap();
        creates.push(started.elapsed());
        world.garden.run(&handle(&name), program("app", "inside exit 0")).await.unwrap();
        world.garden.wait(&handle(&name), &process("app")).await.unwrap();
        totals.push(started.elapsed());
        let started = clock::monotonic();
        world.garden.destroy(&handle(&name)).await.unwrap();
        destroys.push(started.elapsed());
    }

    let total = median(&mut totals);
    println!(
        "median ms of {RUNS} at an idle rate: create {:.1}, create to exit {:.1} (min {:.1}), \
         destroy {:.1}",
        milliseconds(median(&mut creates)),
        milliseconds(total),
        milliseconds(totals[0]),
        milliseconds(median(&mut destroys)),
    );
    assert!(total < Duration::from_millis(250));
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
