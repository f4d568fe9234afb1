//! What the users of a simulation wish for, drawn.

use domain::{
    action::{Action, Run},
    bbs::{
        definition::{Definition, Rootfs, UpdateStrategy},
        freshness_domain,
        restart_policy::{RestartPolicy, RestartWhen},
    },
    command::Command,
    id::{FreshnessDomainName, ProcessGuid},
    labels::{Labels, MetricTag},
    routes::{Hostname, HttpRoute},
    units::{Mebibytes, Milliseconds},
};

use super::chance::Chance;

pub(super) fn domain(chance: &mut Chance) -> FreshnessDomainName {
    let name = if chance.per_mille(500) { "one" } else { "two" };
    FreshnessDomainName::new(name).unwrap_or_else(|_| unreachable!("a constant, well formed"))
}

/// Somebody vouches for a domain, or sets what follows the ends of its instances.
pub(super) fn freshness(chance: &mut Chance) -> Command {
    if chance.per_mille(200) {
        let (name, restart) = (domain(chance), restart(chance));
        return freshness_domain::Command::SetRestart { name, restart }.into();
    }
    let time_to_live = match chance.small(4) {
        0 => None,
        1 => Some(Milliseconds(0)),
        2 => Some(chance.span(0, 5000)),
        _ => Some(Milliseconds::from_seconds(120)),
    };
    freshness_domain::Command::Upsert { name: domain(chance), time_to_live }.into()
}

/// What follows an instance's end: mostly what is usual.
pub(super) fn restart(chance: &mut Chance) -> Option<RestartPolicy> {
    let when = match chance.small(8) {
        0 => RestartWhen::Always,
        1 => RestartWhen::OnFailure,
        2 => RestartWhen::Never,
        _ => return None,
    };
    let back_off_first_ms = chance.span(1000, 20_000);
    Some(RestartPolicy {
        when,
        immediate_restarts: chance.small(3),
        back_off_first_ms,
        back_off_max_ms: Milliseconds(back_off_first_ms.0 * (1 + chance.below(4))),
        crashes_max: 1 + chance.small(6),
    })
}

pub(super) fn labels(chance: &mut Chance) -> Labels {
    let name = Hostname::new(&format!("app-{}.apps.internal", chance.small(3)));
    let internal_routes = name.into_iter().filter(|_| chance.per_mille(300)).collect();
    let tag = MetricTag::Static(chance.small(1000).to_string());
    let metric_tags = chance.per_mille(300).then(|| ("tag".to_owned(), tag));
    Labels { internal_routes, metric_tags: metric_tags.into_iter().collect() }
}

/// Now and then one that no cell can take.
pub(super) fn definition(chance: &mut Chance) -> Option<Definition> {
    let rootfs = if chance.per_mille(30) { "preloaded:other" } else { "preloaded:diario" };
    let rootfs = Rootfs::new(rootfs).ok()?;
    let action = Action::Run(Run::new("/bin/app", "vcap"));
    let placement_tags = match chance.small(20) {
        0 => vec!["gpu".to_owned()],
        1 => vec!["nowhere".to_owned()],
        _ => Vec::new(),
    };
    let memory = chance.pick(&[32, 64, 128, 256, 512]).copied()?;
    Some(Definition {
        graceful_stop_ms: chance.per_mille(300).then(|| chance.span(1000, 20_000)),
        ports: vec![8080],
        placement_tags,
        update_strategy: match chance.small(4) {
            0 => UpdateStrategy::Recreate,
            _ => UpdateStrategy::Rolling,
        },
        ..Definition::new(rootfs, action, Mebibytes(memory), Mebibytes(64))
    })
}

pub(super) fn routes(process_guid: &ProcessGuid, chance: &mut Chance) -> Vec<HttpRoute> {
    let own = Hostname::new(&format!("{process_guid}.example.com"));
    let shared = Hostname::new("shared.example.com");
    let hostnames: Vec<Hostname> = match chance.small(3) {
        0 => Vec::new(),
        1 => own.into_iter().collect(),
        _ => own.into_iter().chain(shared).collect(),
    };
    if hostnames.is_empty() { Vec::new() } else { vec![HttpRoute { hostnames, port: 8080 }] }
}
