//! What a user may command. Never a cell's or a loop's command.
//!
//! A mutation answers once what it caused is durable, and once this node's view shows it, for which
//! it waits two seconds at most. With a `commandId` it may be repeated: an id that has changed
//! something changes nothing more, and is answered as the first time.

use async_graphql::{Context, Object, Result, SimpleObject};
use domain::{
    bbs::{
        actual_lrp, cell,
        desired_lrp::{self, INSTANCES_MAX, RestartSource},
        freshness_domain, task,
    },
    command::Command,
    id::{ActualLrpKey, CommandId},
    invalid::Invalid,
    log::{Cursor, Owner},
    units::Milliseconds,
};

use projections::event_store::keys::KeyLabel;

use super::{
    ControlPlane, caller,
    error::{self, coded, invalid, invalid_field, parse_id, within},
    input::{
        DesiredLrpInput, Faults, HttpRouteInput, TaskInput, of_spec, of_update, restart_of,
        routes_of,
    },
    labels::{MetricTagInput, internal_routes_of, tags_of},
    restart_policy::RestartPolicyInput,
    scalars::{BigInt, CursorText, PositionText},
    state,
};
use crate::{
    clock, command_bus,
    control_plane::{self, Wish},
};

/// The longest freshness that is not for ever: ten years.
const FRESHNESS_SECONDS_MAX: u64 = 10 * 366 * 24 * 3600;

/// How many batches of data keys one request may rewrap: a second or two.
const ROTATE_BATCHES: usize = 10;

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

impl Accepted {
    fn of(
        control_plane: &ControlPlane,
        command_id: String,
        accepted: command_bus::Accepted,
    ) -> Self {
        let position = accepted.position;
        let incarnation = control_plane.incarnation;
        Self {
            position: PositionText(position),
            cursor: CursorText(Cursor { incarnation, position }),
            command_id,
            events: u32::try_from(accepted.events).unwrap_or(u32::MAX),
        }
    }
}

/// How far putting data keys under the active master key came.
#[derive(SimpleObject)]
pub(super) struct KeyRotation {
    /// The active master key.
    label: String,
    /// How many data keys were put under it just now.
    rewrapped: BigInt,
    /// How many are still under another one: ask again until none is.
    remaining: BigInt,
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
        Ok(Accepted::of(self.control_plane, command_id, accepted))
    }

    async fn forget(self, owner: &Owner) -> Result<Accepted> {
        let command_id = self.command_id.to_string();
        let accepted = self.control_plane.forget_secrets(owner, |command| Wish {
            actor: self.actor,
            command_id: Some(self.command_id),
            command: command.into(),
        });
        let accepted = accepted.await.map_err(error::of_wish)?;
        Ok(Accepted::of(self.control_plane, command_id, accepted))
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
        other @ (control_plane::Error::Seal { .. }
        | control_plane::Error::Forget { .. }
        | control_plane::Error::Bus(_)) => error::of_wish(other),
    }
}

/// What a user may command. A `commandId` makes a command safe to repeat; it is drawn when absent.
/// What has changed something changes nothing when it is repeated, at any node and at any time. One
/// that changed nothing is remembered by its node alone: elsewhere, or later, it is judged anew.
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

    /// Changes what may change of a desired LRP; what is absent stays. With `inheritRestart` its own
    /// restart policy is taken back: its freshness domain's holds. Internal routes and metric tags
    /// are told to the cells of running instances, which stay.
    #[expect(clippy::too_many_arguments, reason = "each is one of the mutation's own")]
    async fn update_desired_lrp(
        &self,
        ctx: &Context<'_>,
        process_guid: String,
        instances: Option<i64>,
        routes: Option<Vec<HttpRouteInput>>,
        annotation: Option<String>,
        restart: Option<RestartPolicyInput>,
        #[graphql(default)] inherit_restart: bool,
        internal_routes: Option<Vec<String>>,
        metric_tags: Option<Vec<MetricTagInput>>,
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
        let restart = match (restart, inherit_restart) {
            (Some(_), true) => {
                return Err(invalid_field("inheritRestart", "must not be true with restart"));
            }
            (None, true) => Some(Some(RestartSource::Domain)),
            (own, false) => {
                restart_of(own, "restart", &mut faults).map(|own| own.map(RestartSource::Own))
            }
        };
        let internal_routes = match internal_routes {
            Some(all) => internal_routes_of(all, "internalRoutes", &mut faults).map(Some),
            None => Some(None),
        };
        let metric_tags = match metric_tags {
            Some(all) => tags_of(all, "metricTags", &mut faults).map(Some),
            None => Some(None),
        };
        let update = (|| {
            Some(desired_lrp::Update {
                instances: instances?,
                routes: routes?,
                client_routes: None,
                annotation,
                restart: restart?,
                internal_routes: internal_routes?,
                metric_tags: metric_tags?,
            })
        })();
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

    /// Takes a task for failed, for a reason of the client's; its container is stopped.
    async fn fail_task(
        &self,
        ctx: &Context<'_>,
        task_guid: String,
        reason: String,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let task_guid = parse_id("taskGuid", &task_guid)?;
        sender.send(task::Command::Fail { task_guid, reason }).await
    }

    /// Takes it on to deal with a task's end: only the first who asks may, for 30 seconds. For
    /// clients that ask for results instead of being called back.
    async fn resolve_task(
        &self,
        ctx: &Context<'_>,
        task_guid: String,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let task_guid = parse_id("taskGuid", &task_guid)?;
        sender.send(task::Command::Resolve { task_guid }).await
    }

    /// Forgets a task whose end was dealt with, after resolving it. Its history stays in the log.
    async fn delete_task(
        &self,
        ctx: &Context<'_>,
        task_guid: String,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let task_guid = parse_id("taskGuid", &task_guid)?;
        sender.send(task::Command::Delete { task_guid }).await
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
        let seconds = within("ttlSeconds", ttl_seconds, 0..=FRESHNESS_SECONDS_MAX)?;
        let time_to_live = (seconds > 0).then(|| Milliseconds::from_seconds(seconds));
        sender.send(freshness_domain::Command::Upsert { name, time_to_live }).await
    }

    /// Moves everything off a cell, and places nothing more on it. Of one process guid as many
    /// instances as `instancesAwayMax` (1 when absent) may be away from RUNNING at a time; what is
    /// left after `timeoutSeconds` (600 when absent) is stopped. Tasks run to their end.
    async fn evacuate_cell(
        &self,
        ctx: &Context<'_>,
        cell_id: String,
        timeout_seconds: Option<i64>,
        instances_away_max: Option<i64>,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let cell_id = parse_id("cellId", &cell_id)?;
        let seconds_max = cell::EVACUATION_TIMEOUT_MAX.0 / 1000;
        let timeout = match timeout_seconds {
            None => cell::EVACUATION_TIMEOUT,
            Some(seconds) => {
                Milliseconds::from_seconds(within("timeoutSeconds", seconds, 0..=seconds_max)?)
            }
        };
        let instances_away_max = match instances_away_max {
            None => cell::INSTANCES_AWAY_MAX,
            Some(away_max) => within("instancesAwayMax", away_max, 1..=INSTANCES_MAX)?,
        };
        sender.send(cell::Command::Evacuate { cell_id, timeout, instances_away_max }).await
    }

    /// Uses a cell again: what still runs there stays.
    async fn cancel_evacuation(
        &self,
        ctx: &Context<'_>,
        cell_id: String,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let cell_id = parse_id("cellId", &cell_id)?;
        sender.send(cell::Command::CancelEvacuation { cell_id }).await
    }

    /// Sets what follows the ends of instances of a freshness domain whose wishes do not say so
    /// themselves, from the next end on; absent is Diego's rule. The domain must have been vouched for.
    async fn set_restart_policy(
        &self,
        ctx: &Context<'_>,
        domain: String,
        restart: Option<RestartPolicyInput>,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let name = parse_id("domain", &domain)?;
        let mut faults = Faults::default();
        let restart = restart_of(restart, "restart", &mut faults);
        let restart = faults.or(restart).map_err(|faults| invalid(&faults))?;
        let command = freshness_domain::set_restart(name, restart);
        sender.send(command.map_err(|faults| invalid(&of_update(faults)))?).await
    }

    /// Makes all secrets that an owner, `process/GUID` or `task/GUID`, has now unreadable for ever,
    /// and the evidence of its crashes. What it sends later is sealed under a new key.
    async fn forget_secrets(
        &self,
        ctx: &Context<'_>,
        owner: String,
        command_id: Option<String>,
    ) -> Result<Accepted> {
        let sender = Sender::of(ctx, command_id)?;
        let owner = owner
            .parse()
            .map_err(|_| invalid_field("owner", "must be of the form process/GUID or task/GUID"))?;
        sender.forget(&owner).await
    }

    /// Puts data keys under the active master key, some at a time: ask again until none remains.
    /// With `to`, that master key becomes the active one first. Not an event: the log tells of
    /// secrets, not of how their keys are wrapped.
    async fn rotate_keys(&self, ctx: &Context<'_>, to: Option<String>) -> Result<KeyRotation> {
        let sender = Sender::of(ctx, None)?;
        let keyring = &sender.control_plane.keyring;
        let failed = |failure| error::of_keys("cannot rotate the keys", &failure);
        if let Some(to) = to {
            let label = KeyLabel::new(&to);
            let label = label.map_err(|problem| invalid_field("to", problem.to_string()))?;
            keyring.activate(&label).map_err(failed)?;
        }
        let rotated = keyring.rotate(ROTATE_BATCHES).await.map_err(failed)?;
        Ok(KeyRotation {
            label: rotated.label.to_string(),
            rewrapped: BigInt(rotated.rewrapped),
            remaining: BigInt(rotated.remaining),
        })
    }
}
