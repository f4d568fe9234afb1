//! The users of a simulation: what they ask, and the ledger of what they were promised.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    action::{Action, Run},
    bbs::{
        actual_lrp, cell,
        definition::{Definition, Rootfs, UpdateStrategy},
        desired_lrp::{self, Update},
        freshness_domain, task,
    },
    check::CheckDefinition,
    command::{Command, Envelope},
    id::{ActualLrpKey, CellId, CommandId, FreshnessDomainName, ProcessGuid, TaskGuid},
    log::{Actor, ActorKind},
    rejection::Rejection,
    routes::{Hostname, HttpRoute},
    units::{Mebibytes, Milliseconds},
};
use projections::event_store::memory::MemoryLog;

use super::{
    chance::Chance,
    witness::{Violation, ensure},
};
use crate::command_bus::{Accepted, Outcome};

const INSTANCES_MAX: u32 = 5;

/// What users ask, and what they were promised.
#[derive(Debug)]
pub(super) struct Users {
    processes: Vec<ProcessGuid>,
    tasks: Vec<TaskGuid>,
    cells: Vec<CellId>,
    /// The newest commands, to be repeated.
    sent: Vec<Envelope>,
    promised: BTreeMap<CommandId, (Envelope, Accepted)>,
}

impl Users {
    pub(super) fn new(lrps: u32, tasks: u32, cells: u32) -> Self {
        Self {
            processes: (0..lrps)
                .filter_map(|number| ProcessGuid::new(&format!("app-{number}")).ok())
                .collect(),
            tasks: (0..tasks)
                .filter_map(|number| TaskGuid::new(&format!("task-{number}")).ok())
                .collect(),
            cells: (0..cells)
                .filter_map(|number| CellId::new(&format!("cell-{number}")).ok())
                .collect(),
            sent: Vec::new(),
            promised: BTreeMap::new(),
        }
    }

    /// A user's next command: mostly a new one, sometimes an old one again, sometimes another one
    /// under an id that was used.
    pub(super) fn next(&mut self, chance: &mut Chance) -> Envelope {
        if chance.per_mille(80)
            && let Some(repeated) = chance.pick(&self.sent)
        {
            return repeated.clone();
        }
        let mut envelope = self.draw(chance);
        if chance.per_mille(20)
            && let Some(used) = chance.pick(&self.sent)
        {
            envelope.command_id = used.command_id.clone();
            return envelope;
        }
        self.sent.push(envelope.clone());
        envelope
    }

    fn draw(&mut self, chance: &mut Chance) -> Envelope {
        let command_id = CommandId::from_uuid(chance.uuid());
        let drawn: Option<Command> = match chance.small(20) {
            0..6 => self.desire(chance).map(Command::from),
            6..10 => self.update(chance).map(Command::from),
            10..12 => self.remove(chance).map(Command::from),
            12 => self.retire(chance).map(Command::from),
            13..17 => self.run(chance).map(Command::from),
            17 => self.cancel(chance).map(Command::from),
            18 => self.evacuate(chance).map(Command::from),
            _ => None,
        };
        Envelope {
            correlation: command_id.clone(),
            command_id,
            actor: Actor { kind: ActorKind::User, name: "user".into(), via: "simulation".into() },
            seen: None,
            causation: None,
            command: drawn.unwrap_or_else(|| freshness(chance)),
        }
    }

    fn desire(&self, chance: &mut Chance) -> Option<desired_lrp::Command> {
        let process_guid = chance.pick(&self.processes)?.clone();
        Some(desired_lrp::Command::Desire {
            domain: domain(chance),
            instances: chance.small(INSTANCES_MAX + 1),
            definition: Arc::new(definition(chance)?),
            routes: routes(&process_guid, chance),
            annotation: String::new(),
            restart: None,
            process_guid,
        })
    }

    fn update(&self, chance: &mut Chance) -> Option<desired_lrp::Command> {
        let process_guid = chance.pick(&self.processes)?.clone();
        let routes = chance.per_mille(300).then(|| routes(&process_guid, chance));
        let instances = Some(chance.small(INSTANCES_MAX + 1));
        let annotation = chance.per_mille(200).then(|| chance.uuid().to_string());
        let update = Update { instances, routes, annotation, restart: None };
        Some(desired_lrp::Command::Update { process_guid, update })
    }

    fn remove(&self, chance: &mut Chance) -> Option<desired_lrp::Command> {
        let process_guid = chance.pick(&self.processes)?.clone();
        Some(desired_lrp::Command::Remove { process_guid })
    }

    fn retire(&self, chance: &mut Chance) -> Option<actual_lrp::Command> {
        let process_guid = chance.pick(&self.processes)?.clone();
        let key = ActualLrpKey { process_guid, index: chance.small(INSTANCES_MAX) };
        Some(actual_lrp::Command::Retire { key })
    }

    fn evacuate(&self, chance: &mut Chance) -> Option<cell::Command> {
        let cell_id = chance.pick(&self.cells)?.clone();
        if chance.per_mille(500) {
            return Some(cell::Command::CancelEvacuation { cell_id });
        }
        let timeout = chance.span(0, 600_000);
        let instances_away_max = 1 + chance.small(2);
        Some(cell::Command::Evacuate { cell_id, timeout, instances_away_max })
    }

    fn run(&self, chance: &mut Chance) -> Option<task::Command> {
        Some(task::Command::Desire {
            task_guid: chance.pick(&self.tasks)?.clone(),
            domain: domain(chance),
            definition: Arc::new(definition(chance)?),
            annotation: String::new(),
            completion_callback_url: None,
        })
    }

    fn cancel(&self, chance: &mut Chance) -> Option<task::Command> {
        let task_guid = chance.pick(&self.tasks)?.clone();
        Some(task::Command::Cancel { task_guid })
    }

    /// A user is answered: what is promised is in the log, and the same as before.
    pub(super) fn answered(
        &mut self,
        envelope: &Envelope,
        outcome: &Outcome,
        log: &MemoryLog,
    ) -> Result<(), Violation> {
        let promised = self.promised.get(&envelope.command_id);
        match (outcome, promised) {
            (Ok(accepted), None) if accepted.events > 0 => {
                let command_id = envelope.command_id.clone();
                self.promised.insert(command_id, (envelope.clone(), *accepted));
                self.check_promise(&envelope.command_id, log)
            }
            (Ok(accepted), Some((before, then))) => {
                let is_same =
                    accepted == then && before.command.stream() == envelope.command.stream();
                ensure(is_same, "a repeated command changes nothing", || {
                    format!("{} was answered {then:?}, then {accepted:?}", envelope.command_id)
                })
            }
            (Err(rejection), Some((before, _))) => {
                let is_other = before.command.stream() != envelope.command.stream();
                let is_reuse = matches!(rejection, Rejection::CommandIdReused { .. });
                ensure(is_other && is_reuse, "a repeated command is answered as before", || {
                    format!("{}: {rejection}", envelope.command_id)
                })
            }
            (Ok(_) | Err(_), None) => Ok(()),
        }
    }

    /// No acknowledged command is lost.
    pub(super) fn check_promises(&self, log: &MemoryLog) -> Result<(), Violation> {
        self.promised.keys().try_for_each(|command_id| self.check_promise(command_id, log))
    }

    fn check_promise(&self, command_id: &CommandId, log: &MemoryLog) -> Result<(), Violation> {
        let Some((envelope, accepted)) = self.promised.get(command_id) else { return Ok(()) };
        let events = log.find_command(command_id).unwrap_or_default();
        let is_kept = events.len() == accepted.events
            && events.last().is_some_and(|last| last.position == accepted.position);
        ensure(is_kept, "no acknowledged command is lost", || {
            format!("{:?} was answered {accepted:?}, and left {events:?}", envelope.command)
        })
    }

    /// How many commands were promised.
    pub(super) fn promises(&self) -> usize {
        self.promised.len()
    }
}

fn domain(chance: &mut Chance) -> FreshnessDomainName {
    let name = if chance.per_mille(500) { "one" } else { "two" };
    FreshnessDomainName::new(name).unwrap_or_else(|_| unreachable!("a constant, well formed"))
}

fn freshness(chance: &mut Chance) -> Command {
    let time_to_live = match chance.small(4) {
        0 => None,
        1 => Some(Milliseconds(0)),
        2 => Some(chance.span(0, 5000)),
        _ => Some(Milliseconds::from_seconds(120)),
    };
    freshness_domain::Command::Upsert { name: domain(chance), time_to_live }.into()
}

/// Now and then one that no cell can take.
fn definition(chance: &mut Chance) -> Option<Definition> {
    let rootfs = if chance.per_mille(30) { "preloaded:other" } else { "preloaded:diario" };
    let placement_tags = match chance.small(20) {
        0 => vec!["gpu".to_owned()],
        1 => vec!["nowhere".to_owned()],
        _ => Vec::new(),
    };
    let memory = chance.pick(&[32, 64, 128, 256, 512]).copied()?;
    Some(Definition {
        rootfs: Rootfs::new(rootfs).ok()?,
        env: Vec::new(),
        setup: None,
        action: Action::Run(Run {
            path: "/bin/app".to_owned(),
            args: Vec::new(),
            dir: None,
            env: Vec::new(),
            user: "vcap".to_owned(),
            log_source: None,
            nofile: None,
        }),
        check: CheckDefinition::default(),
        start_timeout_ms: Milliseconds::from_seconds(60),
        memory_mb: Mebibytes(memory),
        disk_mb: Mebibytes(64),
        max_pids: 0,
        cpu_weight: 100,
        ports: vec![8080],
        log_source: "APP".to_owned(),
        placement_tags,
        volume_drivers: Vec::new(),
        update_strategy: match chance.small(4) {
            0 => UpdateStrategy::Recreate,
            _ => UpdateStrategy::Rolling,
        },
    })
}

fn routes(process_guid: &ProcessGuid, chance: &mut Chance) -> Vec<HttpRoute> {
    let own = Hostname::new(&format!("{process_guid}.example.com"));
    let shared = Hostname::new("shared.example.com");
    let hostnames: Vec<Hostname> = match chance.small(3) {
        0 => Vec::new(),
        1 => own.into_iter().collect(),
        _ => own.into_iter().chain(shared).collect(),
    };
    if hostnames.is_empty() { Vec::new() } else { vec![HttpRoute { hostnames, port: 8080 }] }
}
