//! What a user may command. Never a cell's or a loop's command.
//!
//! A mutation answers once what it caused is durable, and once this node's view shows it. With a
//! `commandId` it may be repeated: a repeated id changes nothing, and is answered as the first.

use async_graphql::{Context, Object, Result, SimpleObject};
use domain::{
    bbs::{actual_lrp, desired_lrp, freshness_domain, task},
    command::Command,
    id::{ActualLrpKey, CommandId},
    invalid::Invalid,
    log::Cursor,
    units::Milliseconds,
};

use super::{
    ControlPlane, caller,
    error::{self, coded, invalid, invalid_field, parse_id},
    input::{DesiredLrpInput, Faults, HttpRouteInput, TaskInput, of_spec, of_update, routes_of},
    scalars::{CursorText, PositionText},
    state,
};
use crate::{
    clock,
    control_plane::{self, Wish},
};

/// The longest freshness that is not for ever: ten years.
const FRESHNESS_SECONDS_MAX: u64 = 10 * 366 * 24 * 3600;

/// The commands of users.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mutation;

/// A command was accepted, and what it caused is durable.
#[derive(SimpleObject)]
pub(super) struct Accepted {
    /// The last event that it caused, or the head it was judged at when it changed nothing.
    position: PositionText,
    /// Where a reader is that has read up to that event.
    cursor: CursorText,
    /// Its id.
    command_id: String,
    /// How many events it caused.
    events: u32,
}

/// A user who may command, and what the command is sent with.
struct Sender<'c> {
    control_plane: &'c ControlPlane,
    actor: domain::log::Actor,
    command_id: CommandId,
}

impl<'c> Sender<'c> {
    fn of(ctx: &Context<'c>, command_id: Option<String>) -> Result<Self> {
        let caller = caller(ctx)?;
        if !caller.may_write {
            return Err(coded("FORBIDDEN", "this token may read, but not command"));
        }
        let command_id = match command_id {
            Some(text) => read_command_id(&text)?,
            None => clock::new_command_id(),
        };
        let control_plane = &state(ctx)?.control_plane;
        Ok(Self { control_plane, actor: caller.actor.clone(), command_id })
    }

    async fn send(self, command: impl Into<Command>) -> Result<Accepted> {
        let command_id = self.command_id.to_string();
        let wish =
            Wish { actor: self.actor, command_id: Some(self.command_id), command: command.into() };
        let accepted = self.control_plane.submit(wish).await;
        let accepted = accepted.map_err(|failure| error::of_bus(&failure))?;
        let position = accepted.position;
        let incarnation = self.control_plane.incarnation;
        Ok(Accepted {
            position: PositionText(position),
            cursor: CursorText(Cursor { incarnation, position }),
            command_id,
            events: u32::try_from(accepted.events).unwrap_or(u32::MAX),
        })
    }
}

/// A user may not take the id of a cell's report: it would be counted as one.
fn read_command_id(text: &str) -> Result<CommandId> {
    let command_id =
        CommandId::new(text).map_err(|problem| invalid_field("commandId", problem.to_string()))?;
    if domain::command::ReportNumber::of(&command_id).is_some() {
        return Err(invalid_field("commandId", "must not be of the form of a cell's report"));
    }
    Ok(command_id)
}

fn of_spec_wish(failure: control_plane::Error) -> async_graphql::Error {
    match failure {
        control_plane::Error::Invalid(faults) => invalid(&of_spec(faults)),
        other @ (control_plane::Error::Seal { .. } | control_plane::Error::Bus(_)) => {
            error::of_wish(other)
        }
    }
}

/// What a user may command. A `commandId` makes a command safe to repeat; it is drawn when absent.
#[Object]
impl Mutation {
    /// Wishes for a process that is not yet desired.
    async fn desire_lrp(
        &self,
        ctx: &Context<'_>,
        spec: DesiredLrpInput,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let mut faults = Faults::default();
        let spec = spec.read(&mut faults);
        let spec = faults.or(spec).map_err(|faults| invalid(&faults))?;
        let command = sender.control_plane.desire_command(spec).await.map_err(of_spec_wish)?;
        sender.send(command).await
    }

    /// Changes what may change of a desired LRP; what is absent stays.
    async fn update_desired_lrp(
        &self,
        ctx: &Context<'_>,
        process_guid: String,
        instances: Option<i64>,
        routes: Option<Vec<HttpRouteInput>>,
        annotation: Option<String>,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let process_guid = parse_id("processGuid", &process_guid)?;
        let mut faults = Faults::default();
        let instances = match instances {
            Some(instances) => faults.number("instances", instances).map(Some),
            None => Some(None),
        };
        let routes = match routes {
            Some(routes) => routes_of(routes, "routes", &mut faults).map(Some),
            None => Some(None),
        };
        let update = instances.zip(routes).map(|(instances, routes)| desired_lrp::Update {
            instances,
            routes,
            annotation,
        });
        let update = faults.or(update).map_err(|faults| invalid(&faults))?;
        let command = update.into_command(process_guid);
        let command = command.map_err(|faults: Invalid| invalid(&of_update(faults)))?;
        sender.send(command).await
    }

    /// Wishes for a process no longer: every slot is stopped.
    async fn remove_desired_lrp(
        &self,
        ctx: &Context<'_>,
        process_guid: String,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let process_guid = parse_id("processGuid", &process_guid)?;
        sender.send(desired_lrp::Command::Remove { process_guid }).await
    }

    /// Stops the instance of one slot. If it is still desired, a new one takes its place.
    async fn retire_actual_lrp(
        &self,
        ctx: &Context<'_>,
        process_guid: String,
        index: i64,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let mut faults = Faults::default();
        let index = faults.number("index", index);
        let index = faults.or(index).map_err(|faults| invalid(&faults))?;
        let key = ActualLrpKey { process_guid: parse_id("processGuid", &process_guid)?, index };
        sender.send(actual_lrp::Command::Retire { key }).await
    }

    /// Runs a task, once.
    async fn run_task(
        &self,
        ctx: &Context<'_>,
        spec: TaskInput,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let mut faults = Faults::default();
        let spec = spec.read(&mut faults);
        let spec = faults.or(spec).map_err(|faults| invalid(&faults))?;
        let command = sender.control_plane.task_command(spec).await.map_err(of_spec_wish)?;
        sender.send(command).await
    }

    /// Stops a task, or never starts it.
    async fn cancel_task(
        &self,
        ctx: &Context<'_>,
        task_guid: String,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let task_guid = parse_id("taskGuid", &task_guid)?;
        sender.send(task::Command::Cancel { task_guid }).await
    }

    /// Vouches that the desired state under a name is complete, for a span from now on; 0 seconds
    /// is for ever.
    async fn upsert_freshness_domain(
        &self,
        ctx: &Context<'_>,
        name: String,
        ttl_seconds: i64,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let name = parse_id("name", &name)?;
        let seconds = u64::try_from(ttl_seconds).ok().filter(|it| *it <= FRESHNESS_SECONDS_MAX);
        let Some(seconds) = seconds else {
            let problem = format!("must be from 0 to {FRESHNESS_SECONDS_MAX}");
            return Err(invalid_field("ttlSeconds", problem));
        };
        let time_to_live = (seconds > 0).then(|| Milliseconds::from_seconds(seconds));
        sender.send(freshness_domain::Command::Upsert { name, time_to_live }).await
    }
}
