//! The users of a simulation: what they ask, and the ledger of what they were promised.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    bbs::{
        actual_lrp, cell,
        desired_lrp::{self, RestartSource, Update},
        task,
    },
    command::{Command, Envelope},
    id::{ActualLrpKey, CellId, CommandId, ProcessGuid, TaskGuid},
    labels::Labels,
    log::{Actor, ActorKind},
    rejection::Rejection,
};
use projections::event_store::memory::MemoryLog;

use super::{
    Config, Manifest,
    chance::Chance,
    manifest::nothing,
    message::Asked,
    wishes,
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
    /// What they want, where it is not drawn.
    manifest: Option<Arc<Manifest>>,
    /// The newest commands, to be repeated.
    sent: Vec<Envelope>,
    promised: BTreeMap<CommandId, (Envelope, Accepted)>,
}

impl Users {
    pub(super) fn new(config: &Config) -> Self {
        let Config { lrps, tasks, cells, manifest, .. } = config;
        let (lrps, tasks, cells) = (*lrps, *tasks, *cells);
        let drawn =
            || (0..lrps).filter_map(|number| ProcessGuid::new(&format!("app-{number}")).ok());
        Self {
            processes: match manifest {
                Some(manifest) => manifest.process_guids(),
                None => drawn().collect(),
            },
            manifest: manifest.clone(),
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

    /// What they ask for before anything else: all apps of a manifest.
    pub(super) fn first(&mut self, chance: &mut Chance) -> Vec<Envelope> {
        let Some(manifest) = &self.manifest else { return Vec::new() };
        let commands = manifest.lrps.iter().cloned().map(Command::from);
        let envelopes: Vec<Envelope> = commands.map(|command| user(command, chance)).collect();
        self.sent.extend(envelopes.iter().cloned());
        envelopes
    }

    fn draw(&mut self, chance: &mut Chance) -> Envelope {
        let drawn = match self.manifest.clone() {
            Some(manifest) => self.draw_of(&manifest, chance),
            None => self.draw_any(chance),
        };
        let command = drawn.unwrap_or_else(|| wishes::freshness(chance));
        user(command, chance)
    }

    /// Of what a manifest wants nothing is changed: tasks run, instances and cells are emptied.
    fn draw_of(&mut self, manifest: &Manifest, chance: &mut Chance) -> Option<Command> {
        match chance.small(10) {
            0..5 => chance.pick(&manifest.tasks).cloned().map(Command::from),
            5..7 => self.retire(chance).map(Command::from),
            7 => self.evacuate(chance).map(Command::from),
            _ => None,
        }
    }

    fn draw_any(&mut self, chance: &mut Chance) -> Option<Command> {
        match chance.small(20) {
            0..6 => self.desire(chance).map(Command::from),
            6..10 => self.update(chance).map(Command::from),
            10..12 => self.remove(chance).map(Command::from),
            12 => self.retire(chance).map(Command::from),
            13..17 => self.run(chance).map(Command::from),
            17 => self.end_task(chance).map(Command::from),
            18 => self.evacuate(chance).map(Command::from),
            _ => None,
        }
    }

    fn desire(&self, chance: &mut Chance) -> Option<desired_lrp::Command> {
        let process_guid = chance.pick(&self.processes)?.clone();
        Some(desired_lrp::Command::Desire {
            domain: wishes::domain(chance),
            instances: chance.small(INSTANCES_MAX + 1),
            definition: Arc::new(wishes::definition(chance)?),
            routes: wishes::routes(&process_guid, chance),
            annotation: String::new(),
            restart: wishes::restart(chance),
            labels: wishes::labels(chance),
            client_routes: None,
            process_guid,
        })
    }

    fn update(&self, chance: &mut Chance) -> Option<desired_lrp::Command> {
        let process_guid = chance.pick(&self.processes)?.clone();
        let routes = chance.per_mille(300).then(|| wishes::routes(&process_guid, chance));
        let instances = chance.per_mille(700).then(|| chance.small(INSTANCES_MAX + 1));
        let annotation = chance.per_mille(200).then(|| chance.uuid().to_string());
        let restart = chance
            .per_mille(150)
            .then(|| wishes::restart(chance).map_or(RestartSource::Domain, RestartSource::Own));
        let Labels { internal_routes, metric_tags } = wishes::labels(chance);
        let internal_routes = chance.per_mille(300).then_some(internal_routes);
        let metric_tags = chance.per_mille(300).then_some(metric_tags);
        let update = Update {
            instances,
            routes,
            annotation,
            restart,
            internal_routes,
            metric_tags,
            client_routes: None,
        };
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
            domain: wishes::domain(chance),
            definition: Arc::new(wishes::definition(chance)?),
            annotation: String::new(),
            completion_callback_url: chance.per_mille(600).then(nothing),
        })
    }

    /// Stops a task, or deals with its end by hand.
    fn end_task(&self, chance: &mut Chance) -> Option<task::Command> {
        let task_guid = chance.pick(&self.tasks)?.clone();
        Some(match chance.small(8) {
            0 => task::Command::Resolve { task_guid },
            1 => task::Command::Delete { task_guid },
            2 => task::Command::Fail { task_guid, reason: "a client's".to_owned() },
            _ => task::Command::Cancel { task_guid },
        })
    }

    /// Whether a user was answered that a command changed something.
    pub(super) fn is_promised(&self, command_id: &CommandId) -> bool {
        self.promised.contains_key(command_id)
    }

    /// A user is answered: what is promised is in the log, and the same as before. A command that
    /// was sent twice before the first answer may have been refused first and taken then, though
    /// its user hears it the other way round.
    pub(super) fn answered(
        &mut self,
        asked: &Asked,
        outcome: &Outcome,
        log: &MemoryLog,
    ) -> Result<(), Violation> {
        let Asked { envelope, is_repeated, .. } = asked;
        let promised = self.promised.get(&envelope.command_id);
        match (outcome, promised) {
            (Ok(accepted), None) if accepted.events > 0 => {
                let command_id = envelope.command_id.clone();
                self.promised.insert(command_id, (envelope.as_ref().clone(), *accepted));
                self.check_promise(&envelope.command_id, log)
            }
            (Ok(accepted), Some((before, then))) if *is_repeated || accepted.events > 0 => {
                let is_same =
                    accepted == then && before.command.stream() == envelope.command.stream();
                ensure(is_same, "a repeated command changes nothing", || {
                    format!("{} was answered {then:?}, then {accepted:?}", envelope.command_id)
                })
            }
            (Err(rejection), Some((before, _))) if *is_repeated => {
                let is_other = before.command.stream() != envelope.command.stream();
                let is_reuse = matches!(rejection, Rejection::CommandIdReused { .. });
                ensure(is_other && is_reuse, "a repeated command is answered as before", || {
                    format!("{}: {rejection}", envelope.command_id)
                })
            }
            (Ok(_) | Err(_), None | Some(_)) => Ok(()),
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

fn user(command: Command, chance: &mut Chance) -> Envelope {
    let command_id = CommandId::from_uuid(chance.uuid());
    Envelope {
        correlation: command_id.clone(),
        command_id,
        actor: Actor { kind: ActorKind::User, name: "user".into(), via: "simulation".into() },
        seen: None,
        causation: None,
        command,
    }
}
