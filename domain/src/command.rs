//! Every command there is, in the envelope that all senders use.

use crate::{
    bbs::{actual_lrp, cell, desired_lrp, freshness_domain, task},
    id::CommandId,
    log::{Actor, LeaseEpoch, Position, StreamId},
    secrets,
};

/// Anything that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Of a desired LRP.
    DesiredLrp(desired_lrp::Command),
    /// Of one slot of a desired LRP.
    ActualLrp(actual_lrp::Command),
    /// Of a task.
    Task(task::Command),
    /// Of a cell's record.
    Cell(cell::Command),
    /// Of a freshness domain.
    FreshnessDomain(freshness_domain::Command),
    /// Of an owner's secrets.
    Secrets(secrets::Command),
}

impl Command {
    /// The stream that it is about; it may write others beside it.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        match self {
            Self::DesiredLrp(command) => StreamId::DesiredLrp(command.process_guid().clone()),
            Self::ActualLrp(command) => StreamId::ActualLrp(command.key().clone()),
            Self::Task(command) => StreamId::Task(command.task_guid().clone()),
            Self::Cell(command) => StreamId::Cell(command.cell_id().clone()),
            Self::FreshnessDomain(command) => StreamId::FreshnessDomain(command.name().clone()),
            Self::Secrets(command) => StreamId::Secrets(command.owner().clone()),
        }
    }

    /// A stable name of what is asked, for metrics and traces: `aggregate.command`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::DesiredLrp(command) => match command {
                desired_lrp::Command::Desire { .. } => "desired_lrp.desire",
                desired_lrp::Command::Update { .. } => "desired_lrp.update",
                desired_lrp::Command::Remove { .. } => "desired_lrp.remove",
            },
            Self::ActualLrp(command) => actual_lrp_kind(command),
            Self::Task(command) => task_kind(command),
            Self::Cell(command) => match command {
                cell::Command::Register { .. } => "cell.register",
                cell::Command::Lose { .. } => "cell.lose",
                cell::Command::Return { .. } => "cell.return",
                cell::Command::Evacuate { .. } => "cell.evacuate",
                cell::Command::CancelEvacuation { .. } => "cell.cancel_evacuation",
                cell::Command::EndEvacuation { .. } => "cell.end_evacuation",
                cell::Command::NoteHealth { .. } => "cell.note_health",
            },
            Self::FreshnessDomain(command) => match command {
                freshness_domain::Command::Upsert { .. } => "freshness_domain.upsert",
                freshness_domain::Command::SetRestart { .. } => "freshness_domain.set_restart",
            },
            Self::Secrets(secrets::Command::Forget { .. }) => "secrets.forget",
        }
    }
}

fn actual_lrp_kind(command: &actual_lrp::Command) -> &'static str {
    match command {
        actual_lrp::Command::Create { .. } => "actual_lrp.create",
        actual_lrp::Command::Place { .. } => "actual_lrp.place",
        actual_lrp::Command::FailPlacement { .. } => "actual_lrp.fail_placement",
        actual_lrp::Command::Refuse { .. } => "actual_lrp.refuse",
        actual_lrp::Command::Claim { .. } => "actual_lrp.claim",
        actual_lrp::Command::Start { .. } => "actual_lrp.start",
        actual_lrp::Command::SetReadiness { .. } => "actual_lrp.set_readiness",
        actual_lrp::Command::Evacuate { .. } => "actual_lrp.evacuate",
        actual_lrp::Command::SettleTwins { .. } => "actual_lrp.settle_twins",
        actual_lrp::Command::Crash { .. } => "actual_lrp.crash",
        actual_lrp::Command::Remove { .. } => "actual_lrp.remove",
        actual_lrp::Command::RemoveKilled { .. } => "actual_lrp.remove_killed",
        actual_lrp::Command::EndWithdrawal { .. } => "actual_lrp.end_withdrawal",
        actual_lrp::Command::Unclaim { .. } => "actual_lrp.unclaim",
        actual_lrp::Command::Retire { .. } => "actual_lrp.retire",
    }
}

fn task_kind(command: &task::Command) -> &'static str {
    match command {
        task::Command::Desire { .. } => "task.desire",
        task::Command::Cancel { .. } => "task.cancel",
        task::Command::Fail { .. } => "task.fail",
        task::Command::Resolve { .. } => "task.resolve",
        task::Command::NoteCallback { .. } => "task.note_callback",
        task::Command::Delete { .. } => "task.delete",
        task::Command::Demote { .. } => "task.demote",
        task::Command::Place { .. } => "task.place",
        task::Command::FailPlacement { .. } => "task.fail_placement",
        task::Command::Refuse { .. } => "task.refuse",
        task::Command::Start { .. } => "task.start",
        task::Command::Complete { .. } => "task.complete",
        task::Command::Release { .. } => "task.release",
        task::Command::LoseCell { .. } => "task.lose_cell",
        task::Command::Expire { .. } => "task.expire",
    }
}

/// What a loop looked at before it decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The position its view was at: refused when the command's stream has moved since.
    pub position: Position,
    /// Under which lease it acts.
    pub lease_epoch: LeaseEpoch,
}

/// A command with who sends it and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its id: a second command with the same one changes nothing.
    pub command_id: CommandId,
    /// Who sends it.
    pub actor: Actor,
    /// What a loop looked at; absent from users and cells.
    pub seen: Option<Seen>,
    /// The event that made its sender act.
    pub causation: Option<Position>,
    /// The first command of the chain; its own id when it begins one.
    pub correlation: CommandId,
    /// What is asked.
    pub command: Command,
}

/// The id of a cell's report, from which its sequence can be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportNumber {
    /// Which registration of the cell.
    pub cell_epoch: crate::log::CellEpoch,
    /// The report's number in that registration, from 1.
    pub sequence: u64,
}

const REPORT: &str = "report";

impl ReportNumber {
    /// The command id of this report of a cell.
    ///
    /// # Errors
    /// When cell id and numbers together are longer than a command id may be.
    pub fn command_id(
        self,
        cell_id: &crate::id::CellId,
    ) -> Result<CommandId, crate::id::InvalidId> {
        CommandId::new(&format!("{REPORT}/{cell_id}/{}/{}", self.cell_epoch.0, self.sequence))
    }

    /// Reads the number back; `None` when the id is not a report's.
    #[must_use]
    pub fn of(command_id: &CommandId) -> Option<(crate::id::CellId, Self)> {
        let (cell_id, number) = Self::with_cell(command_id)?;
        Some((cell_id.parse().ok()?, number))
    }

    /// As [`ReportNumber::of`], with the cell's id as text.
    pub(crate) fn with_cell(command_id: &CommandId) -> Option<(&str, Self)> {
        let rest = command_id.as_str().strip_prefix(REPORT)?.strip_prefix('/')?;
        let mut parts = rest.split('/');
        let cell_id = parts.next()?;
        let cell_epoch = crate::log::CellEpoch(parts.next()?.parse().ok()?);
        let sequence = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some((cell_id, Self { cell_epoch, sequence }))
    }
}

macro_rules! from_aggregate {
    ($($variant:ident($aggregate:ident)),+) => {
        $( impl From<$aggregate::Command> for Command {
            fn from(command: $aggregate::Command) -> Self { Self::$variant(command) }
        } )+
    };
}
from_aggregate!(
    DesiredLrp(desired_lrp),
    ActualLrp(actual_lrp),
    Task(task),
    Cell(cell),
    FreshnessDomain(freshness_domain),
    Secrets(secrets)
);
