//! Clients that send commands to a bus, each as soon as its last one was acknowledged.

use std::{sync::Arc, time::Duration};

use domain::{
    action::{Action, Run},
    bbs::{
        definition::{Definition, Rootfs},
        desired_lrp,
    },
    command::{Command, Envelope},
    id::{FreshnessDomainName, ProcessGuid},
    labels::Labels,
    log::{Actor, ActorKind},
    units::Mebibytes,
};
use tokio::task::JoinSet;

use super::{Error, measure};
use crate::{
    clock::{self, Stopwatch},
    command_bus::{self, CommandBus},
};

/// How often a client that was told to come again does so.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// What a load came to.
#[derive(Debug)]
pub(super) struct Figures {
    /// Acknowledged commands in a second.
    pub(super) per_second: f64,
    /// The latency that 99 of 100 commands did not exceed.
    pub(super) p99_ms: f64,
}

/// Runs so many clients on each bus for a time; the first quarter of it does not count.
pub(super) async fn drive(
    buses: &[CommandBus],
    clients_on_each: usize,
    whole: Duration,
) -> Result<Figures, Error> {
    let warming = whole / 4;
    let started = Stopwatch::start();
    let mut clients = JoinSet::new();
    for bus in buses {
        for _ in 0..clients_on_each {
            clients.spawn(client(bus.clone(), started, warming, whole + warming));
        }
    }
    let mut latencies_us = Vec::new();
    while let Some(client) = clients.join_next().await {
        let client = client.map_err(|_| Error::Unexpected("a client has panicked".to_owned()))?;
        latencies_us.extend(client?);
    }
    let count = u64::try_from(latencies_us.len()).unwrap_or(u64::MAX);
    let per_second = measure::per_second(count, whole);
    Ok(Figures { per_second, p99_ms: measure::p99_ms(latencies_us) })
}

async fn client(
    bus: CommandBus,
    started: Stopwatch,
    from: Duration,
    until: Duration,
) -> Result<Vec<u32>, command_bus::Error> {
    let mut latencies_us = Vec::new();
    loop {
        let envelope = desire();
        let sent = Stopwatch::start();
        match bus.submit_new(envelope).await {
            Ok(_) => {}
            Err(command_bus::Error::Busy) => {
                tokio::time::sleep(BUSY_PAUSE).await;
                continue;
            }
            Err(failure) => return Err(failure),
        }
        let now = started.elapsed();
        if now > until {
            return Ok(latencies_us);
        }
        if now > from {
            latencies_us.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
}

/// A user's wish for a new LRP: one event of some 400 bytes of payload.
pub(super) fn desire() -> Envelope {
    desire_as(&clock::new_uuid().to_string())
}

/// As [`desire`], under a guid.
pub(super) fn desire_as(guid: &str) -> Envelope {
    let process_guid = ProcessGuid::new(guid).unwrap_or_else(|_| unreachable!("made of a uuid"));
    envelope(Command::DesiredLrp(desired_lrp::Command::Desire {
        process_guid,
        domain: FreshnessDomainName::new("cf-apps").unwrap_or_else(|_| unreachable!("a constant")),
        instances: 1,
        definition: Arc::new(definition()),
        routes: Vec::new(),
        annotation: String::new(),
        restart: None,
        labels: Labels::default(),
        client_routes: None,
    }))
}

/// A user's command under a new id.
pub(super) fn envelope(command: Command) -> Envelope {
    let command_id = clock::new_command_id();
    Envelope {
        correlation: command_id.clone(),
        command_id,
        actor: Actor { kind: ActorKind::User, name: "bench".into(), via: "bench".into() },
        seen: None,
        causation: None,
        command,
    }
}

pub(super) fn definition() -> Definition {
    let run = Run { args: vec!["web".to_owned()], ..Run::new("/app/bin/start", "vcap") };
    let rootfs = Rootfs::new("preloaded:cflinuxfs4").unwrap_or_else(|_| unreachable!("a constant"));
    Definition {
        cpu_weight: 50,
        ports: vec![8080],
        ..Definition::new(rootfs, Action::Run(run), Mebibytes(256), Mebibytes(1024))
    }
}

/// The JSON of the event that [`desire`] causes.
pub(super) fn payload() -> String {
    let desired = desired_lrp::Desired {
        client_routes: None,
        domain: FreshnessDomainName::new("cf-apps").unwrap_or_else(|_| unreachable!("a constant")),
        instances: 1,
        definition: Arc::new(definition()),
        routes: Vec::new(),
        annotation: "".into(),
        restart: None,
        labels: Arc::default(),
    };
    let event = domain::event::Event::from(desired_lrp::Event::Desired(desired));
    let bytes = event.payload().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}
