//! A small language of conditions on an instant of the log, for `diario replay --until`.
//!
//! A predicate looks at a world and at the event that led to it; it changes nothing and reads no
//! clock. A comparison with a thing that is not there is false, whichever way it compares.

mod parse;
#[cfg(test)]
mod tests;

use domain::{
    bbs::{actual_lrp, task},
    event::Event,
    id::{ActualLrpKey, CellId, ProcessGuid, TaskGuid},
    log::{ActorKind, Recorded},
};

use crate::world::World;

pub use parse::{COMPARISONS_MAX, DEPTH_MAX, InvalidPredicate, TEXT_BYTES_MAX};

/// The language, for help texts.
pub const LANGUAGE: &str = "\
A predicate compares what there is after an event, or the event itself, with a value:
  position, recorded_at               @1000 or 1000; a time in RFC 3339
  event.type                          actual_lrp.crashed (or actual_lrp_crashed)
  event.owner, event.stream           process/GUID, task/GUID, cell/ID; actual/GUID/0 ...
  event.actor, event.actor_kind       a name; user, loop or cell
  event.command_id
  event.payload.FIELD                 any field of the event, as event.payload.crash_count
  lrp.GUID.FIELD                      exists, instances, running, claimed, placed, unclaimed, crashed
  slot.GUID.INDEX.FIELD               exists, state, cell, crash_count, stopping
                                      (states: unclaimed, placed, claimed, running, crashed)
  task.GUID.FIELD                     exists, state, cell, rejection_count
                                      (states: pending, placed, running, completed,
                                       resolving, deleting)
  cell.ID.FIELD                       exists, state, free_memory_mb, free_disk_mb, free_containers
                                      (states: present, lost)
with == != < <= > >=, joined by &&, || and !, grouped by ( ).
A value with blanks or operators stands in double quotes. A comparison with what is not there is
false; ask with lrp.GUID.exists == false.";

/// A condition on an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate(Node);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
    Comparison { subject: Subject, operator: Operator, value: Value },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Position,
    RecordedAt,
    Event(EventField),
    Payload(Vec<String>),
    Lrp(ProcessGuid, LrpField),
    Slot(ActualLrpKey, SlotField),
    Task(TaskGuid, TaskField),
    Cell(CellId, CellField),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventField {
    Type,
    Owner,
    Stream,
    Actor,
    ActorKind,
    CommandId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LrpField {
    Exists,
    Instances,
    InState(SlotState),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Unclaimed,
    Placed,
    Claimed,
    Running,
    Crashed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotField {
    Exists,
    State,
    Cell,
    CrashCount,
    Stopping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskField {
    Exists,
    State,
    Cell,
    RejectionCount,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellField {
    Exists,
    State,
    FreeMemoryMb,
    FreeDiskMb,
    FreeContainers,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    /// Nanoseconds since 1970.
    Time(i64),
    Text(String),
    Bool(bool),
}

impl Value {
    fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }
}

impl Predicate {
    /// Whether it holds in a world, after the event that led to it; before the first event, and
    /// where only a snapshot was read, there is none.
    #[must_use]
    pub fn holds(&self, world: &World, event: Option<&Recorded<Event>>) -> bool {
        holds(&self.0, world, event)
    }
}

fn holds(node: &Node, world: &World, event: Option<&Recorded<Event>>) -> bool {
    match node {
        Node::Not(inner) => !holds(inner, world, event),
        Node::All(parts) => parts.iter().all(|part| holds(part, world, event)),
        Node::Any(parts) => parts.iter().any(|part| holds(part, world, event)),
        Node::Comparison { subject, operator, value } => {
            look(subject, world, event).is_some_and(|found| operator.compares(&found, value))
        }
    }
}

impl Operator {
    fn compares(self, found: &Value, value: &Value) -> bool {
        use std::cmp::Ordering;
        let ordering = match (found, value) {
            (Value::Number(found), Value::Number(value)) => Some(found.cmp(value)),
            (Value::Time(found), Value::Time(value)) => Some(found.cmp(value)),
            (Value::Text(found), Value::Text(value)) => Some(found.cmp(value)),
            (Value::Bool(found), Value::Bool(value)) => Some(found.cmp(value)),
            (Value::Number(_) | Value::Time(_) | Value::Text(_) | Value::Bool(_), _) => None,
        };
        let Some(ordering) = ordering else { return self == Self::NotEqual };
        match self {
            Self::Equal => ordering == Ordering::Equal,
            Self::NotEqual => ordering != Ordering::Equal,
            Self::Less => ordering == Ordering::Less,
            Self::LessOrEqual => ordering != Ordering::Greater,
            Self::Greater => ordering == Ordering::Greater,
            Self::GreaterOrEqual => ordering != Ordering::Less,
        }
    }
}

fn look(subject: &Subject, world: &World, event: Option<&Recorded<Event>>) -> Option<Value> {
    match subject {
        Subject::Position => Some(Value::Number(world.position().0)),
        Subject::RecordedAt => Some(Value::Time(world.recorded_at().0)),
        Subject::Event(field) => event.map(|event| of_event(*field, event)),
        Subject::Payload(path) => of_payload(path, event?),
        Subject::Lrp(process_guid, field) => of_lrp(world, process_guid, *field),
        Subject::Slot(key, field) => of_slot(world, key, *field),
        Subject::Task(task_guid, field) => of_task(world, task_guid, *field),
        Subject::Cell(cell_id, field) => of_cell(world, cell_id, *field),
    }
}

fn of_event(field: EventField, recorded: &Recorded<Event>) -> Value {
    match field {
        EventField::Type => Value::text(recorded.event.type_name()),
        EventField::Owner => Value::text(recorded.stream.owner()),
        EventField::Stream => Value::text(&recorded.stream),
        EventField::Actor => Value::text(&recorded.actor.name),
        EventField::ActorKind => Value::text(match recorded.actor.kind {
            ActorKind::User => "user",
            ActorKind::Loop => "loop",
            ActorKind::Cell => "cell",
        }),
        EventField::CommandId => Value::text(&recorded.command_id),
    }
}

fn of_payload(path: &[String], recorded: &Recorded<Event>) -> Option<Value> {
    let payload = recorded.event.payload().ok()?;
    let mut value: &serde_json::Value = &serde_json::from_slice(&payload).ok()?;
    for name in path {
        value = match value.as_array() {
            Some(items) => items.get(name.parse::<usize>().ok()?)?,
            None => value.get(name)?,
        };
    }
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::Bool(value) => Some(Value::Bool(*value)),
        serde_json::Value::Number(number) => {
            Some(number.as_u64().map_or_else(|| Value::text(number), Value::Number))
        }
        serde_json::Value::String(text) => Some(Value::text(text)),
        // The name of an enum's variant, where it has more to say.
        serde_json::Value::Object(members) => members.keys().next().map(Value::text),
        serde_json::Value::Array(items) => Some(Value::Number(count(items.len()))),
    }
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

fn of_lrp(world: &World, process_guid: &ProcessGuid, field: LrpField) -> Option<Value> {
    let lrp = world.aggregates().desired_lrp(process_guid);
    let in_state = |state| {
        let slots = world.aggregates().slots_of(process_guid);
        Value::Number(count(slots.filter(|slot| slot_state(slot) == Some(state)).count()))
    };
    match field {
        LrpField::Exists => Some(Value::Bool(lrp.is_some())),
        LrpField::Instances => lrp.map(|lrp| Value::Number(lrp.instances.into())),
        LrpField::InState(state) => lrp.map(|_| in_state(state)),
    }
}

/// None of a slot that is gone and whose last instances leave.
fn slot_state(slot: &actual_lrp::ActualLrp) -> Option<SlotState> {
    Some(match slot.state {
        actual_lrp::State::Removed => return None,
        actual_lrp::State::Unclaimed => SlotState::Unclaimed,
        actual_lrp::State::Placed(_) => SlotState::Placed,
        actual_lrp::State::Claimed(_) => SlotState::Claimed,
        actual_lrp::State::Running(_) => SlotState::Running,
        actual_lrp::State::Crashed(_) => SlotState::Crashed,
    })
}

impl SlotState {
    const ALL: [Self; 5] =
        [Self::Unclaimed, Self::Placed, Self::Claimed, Self::Running, Self::Crashed];

    fn name(self) -> &'static str {
        match self {
            Self::Unclaimed => "unclaimed",
            Self::Placed => "placed",
            Self::Claimed => "claimed",
            Self::Running => "running",
            Self::Crashed => "crashed",
        }
    }
}

fn of_slot(world: &World, key: &ActualLrpKey, field: SlotField) -> Option<Value> {
    let slot = world.aggregates().slot(key).filter(|slot| slot_state(slot).is_some());
    match field {
        SlotField::Exists => Some(Value::Bool(slot.is_some())),
        SlotField::State => Some(Value::text(slot_state(slot?)?.name())),
        SlotField::Cell => slot?.placement().map(|placement| Value::text(&placement.cell_id)),
        SlotField::CrashCount => slot.map(|slot| Value::Number(slot.crash_count.into())),
        SlotField::Stopping => slot.map(|slot| Value::Bool(slot.is_stopping)),
    }
}

fn of_task(world: &World, task_guid: &TaskGuid, field: TaskField) -> Option<Value> {
    let task = world.aggregates().task(task_guid);
    match field {
        TaskField::Exists => Some(Value::Bool(task.is_some())),
        TaskField::State => task.map(|task| Value::text(task_state(&task.state))),
        TaskField::Cell => task?.placement().map(|placement| Value::text(&placement.cell_id)),
        TaskField::RejectionCount => task.map(|task| Value::Number(task.rejection_count.into())),
    }
}

const TASK_STATES: [&str; 6] =
    ["pending", "placed", "running", "completed", "resolving", "deleting"];

fn task_state(state: &task::State) -> &'static str {
    match state {
        task::State::Pending => "pending",
        task::State::Placed(_) => "placed",
        task::State::Running(_) => "running",
        task::State::Completed(_) => "completed",
        task::State::Resolving { .. } => "resolving",
        task::State::Deleting(_) => "deleting",
    }
}

fn of_cell(world: &World, cell_id: &CellId, field: CellField) -> Option<Value> {
    let cell = world.aggregates().cell(cell_id);
    let free = || cell.map(|cell| world.aggregates().free_on(cell));
    match field {
        CellField::Exists => Some(Value::Bool(cell.is_some())),
        CellField::State => {
            cell.map(|cell| Value::text(if cell.is_present() { "present" } else { "lost" }))
        }
        CellField::FreeMemoryMb => free().map(|free| Value::Number(free.memory_mb.0.into())),
        CellField::FreeDiskMb => free().map(|free| Value::Number(free.disk_mb.0.into())),
        CellField::FreeContainers => free().map(|free| Value::Number(free.containers.into())),
    }
}
