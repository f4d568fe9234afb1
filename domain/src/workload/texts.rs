//! The ids and definitions of a workload: as long as real ones, from numbers.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use super::Dice;
use crate::{
    action::{Action, EnvironmentVariable, Run},
    bbs::{
        cell::Registration,
        definition::{Definition, Rootfs},
        placement::Resources,
        rootfs::RootfsProviders,
    },
    check::{Check, CheckDefinition, HttpCheck},
    id::{CellId, CommandId, FreshnessDomainName, InstanceGuid, MachineId, ProcessGuid, Zone},
    routes::{Hostname, HttpRoute},
    sealed::Sealed,
    units::{Mebibytes, Milliseconds},
};

macro_rules! constant {
    ($parsed:expr) => {
        $parsed.unwrap_or_else(|_| unreachable!("made of letters, digits and '-'"))
    };
}

fn uuid(dice: &mut Dice) -> uuid::Uuid {
    let (high, low) = (u128::from(dice.next_number()), u128::from(dice.next_number()));
    uuid::Builder::from_random_bytes(((high << 64) | low).to_be_bytes()).into_uuid()
}

pub(super) fn process_guid(dice: &mut Dice) -> ProcessGuid {
    constant!(ProcessGuid::new(&uuid(dice).to_string()))
}

pub(super) fn instance_guid(dice: &mut Dice) -> InstanceGuid {
    constant!(InstanceGuid::new(&uuid(dice).to_string()))
}

pub(super) fn command_id(dice: &mut Dice) -> CommandId {
    CommandId::from_uuid(uuid(dice))
}

pub(super) fn cell_id(number: u32) -> CellId {
    constant!(CellId::new(&format!("cell-z{}-{number}", number % 3 + 1)))
}

pub(super) fn domain() -> FreshnessDomainName {
    constant!(FreshnessDomainName::new("cf-apps"))
}

/// A cell with room for whatever chance puts there.
pub(super) fn registration(number: u32) -> Registration {
    let amount = Mebibytes(4 << 20);
    Registration {
        machine_id: MachineId(uuid::Uuid::from_u128(u128::from(number) + 1)),
        capacity: Resources { memory_mb: amount, disk_mb: amount, containers: 1 << 20 },
        zone: constant!(Zone::new(&format!("z{}", number % 3 + 1))),
        address: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | number)),
        rootfs_providers: RootfsProviders::preloaded(["cflinuxfs4"]),
        volume_drivers: BTreeSet::new(),
        placement_tags: BTreeSet::new(),
        optional_placement_tags: BTreeSet::new(),
    }
}

pub(super) fn routes(dice: &mut Dice) -> Vec<HttpRoute> {
    let number = dice.next_number();
    let names = [
        format!("app-{number:016x}.apps.example.com"),
        format!("www-{:08x}.customers.example.org", number >> 32),
        format!("api-{:08x}.internal.example.net", number & 0xffff_ffff),
    ];
    let count = usize::from(dice.one_in(4)) + 2;
    let hostnames = names.iter().take(count).map(|name| constant!(Hostname::new(name))).collect();
    vec![HttpRoute { hostnames, port: 8080 }]
}

/// What a client that mirrors its own records writes beside an LRP.
pub(super) fn annotation(dice: &mut Dice) -> String {
    let (version, updated) = (uuid(dice), dice.next_number());
    let (space, organisation) = (uuid(dice), uuid(dice));
    format!(
        "{{\"version\":\"{version}\",\"updated\":\"{}.{}\",\"space\":\"{space}\",\
         \"organisation\":\"{organisation}\",\"revision\":{},\"labels\":{{\"team\":\"team-{}\",\
         \"tier\":\"standard\",\"environment\":\"production\"}},\"buildpack\":\
         \"https://buildpacks.example.com/java-offline-v4.{}.zip\",\"droplet\":\"sha256:{:016x}\",\"description\":\
         \"mirrored from the cloud controller; do not edit by hand, it is written anew with every \
         push\",\"stack\":\"cflinuxfs4\"}}",
        updated >> 40,
        updated & 0xf_ffff,
        updated & 0xff,
        (updated >> 8) & 0x3f,
        (updated >> 16) & 0x3f,
        dice.next_number(),
    )
}

fn sealed(dice: &mut Dice, key: uuid::Uuid, bytes: usize) -> Sealed {
    let mut noise = |count: usize| {
        let mut noise = Vec::with_capacity(count + 7);
        while noise.len() < count {
            noise.extend_from_slice(&dice.next_number().to_be_bytes());
        }
        noise.truncate(count);
        noise
    };
    Sealed { key_id: key, nonce: noise(12), ciphertext: noise(bytes), fingerprint: noise(32) }
}

pub(super) fn definition(dice: &mut Dice) -> Definition {
    let key = uuid(dice);
    let mut variable = |name: &str, bytes| EnvironmentVariable {
        name: name.to_owned(),
        value: sealed(dice, key, bytes),
    };
    let env = vec![variable("VCAP_APPLICATION", 160), variable("VCAP_SERVICES", 200)];
    let check = HttpCheck {
        port: 8080,
        path: "/health".to_owned(),
        timeout_ms: Milliseconds(1000),
        interval_ms: Milliseconds(30_000),
        unhealthy_interval_ms: Milliseconds(0),
        failure_threshold: 0,
    };
    let run = Run {
        args: vec!["app".to_owned(), "bundle exec rackup config.ru -p $PORT".to_owned()],
        nofile: Some(16_384),
        ..Run::new("/tmp/lifecycle/launcher", "vcap")
    };
    let rootfs = constant!(Rootfs::new("preloaded:cflinuxfs4"));
    let memory_mb = Mebibytes(dice.pick(&[64, 256, 512, 1024]));
    Definition {
        env,
        check: Some(CheckDefinition { checks: vec![Check::Http(check)], ..Default::default() }),
        ports: vec![8080],
        ..Definition::new(rootfs, Action::Run(run), memory_mb, Mebibytes(1024))
    }
}

pub(super) fn crash_reason(dice: &mut Dice) -> String {
    let number = dice.next_number();
    format!(
        "APP/PROC/WEB: Exited with status {} (out of {} probes, the last one of port 8080 at \
         /health answered nothing within 1 s; the process had run for {} s in container \
         {number:016x})",
        number % 5 + 1,
        number % 90,
        number % 86_400
    )
}
