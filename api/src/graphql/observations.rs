//! Log lines of containers as clients see them: pages, and the parts that following and metrics
//! share.

use async_graphql::{Enum, Result, SimpleObject};
use domain::{
    log::{Owner, Position},
    observation::{self, ObservationRecord},
    units::Timestamp,
};
use projections::observations::{Kind, Page, Query, RecordNumber, Stored};

use super::{
    ControlPlane,
    error::{invalid_field, of_log, of_observations, parse_id},
    labels::{self, LineTag},
    query::InstantInput,
    scalars::{BigInt, PositionText, Time},
};

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum OutputStream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl From<observation::OutputStream> for OutputStream {
    fn from(stream: observation::OutputStream) -> Self {
        match stream {
            observation::OutputStream::Out => Self::Out,
            observation::OutputStream::Err => Self::Err,
        }
    }
}

/// One line of a container's output.
#[derive(SimpleObject)]
pub(super) struct LogLine {
    /// Where a reader is that has read up to this line: give it as `after`.
    pub(super) cursor: String,
    /// When it was written, by the cell's clock.
    at: Time,
    /// Whose line: `APP`, `HEALTH`, `CELL` and so on.
    source: String,
    /// Where it was written.
    stream: OutputStream,
    /// Without its line end; bytes that are not UTF-8 are replaced.
    text: String,
    /// The bytes as they were written, in hex, where they are not UTF-8.
    raw: Option<String>,
    /// Which slot; absent for a task.
    index: Option<u32>,
    /// Which container.
    instance_guid: String,
    /// On which cell.
    cell_id: String,
    /// The end of the event log as the cell knew it then.
    log_position: PositionText,
    /// The metric tags of its instance then, by name.
    tags: Vec<LineTag>,
}

impl LogLine {
    /// The line of a record; `None` when it is a sample of metrics.
    pub(super) fn of(stored: Stored) -> Option<Self> {
        let Stored { number, cell_id, observation } = stored;
        match observation.record {
            ObservationRecord::Line(line) => Some(Self {
                cursor: number.0.to_string(),
                at: Time(line.at),
                source: line.source,
                stream: line.stream.into(),
                text: line.text,
                raw: line.raw.map(hex::encode),
                index: observation.index,
                instance_guid: observation.instance_guid.to_string(),
                cell_id: cell_id.to_string(),
                log_position: PositionText(observation.log_position),
                tags: labels::of_line(&observation.tags),
            }),
            ObservationRecord::Metrics(_) => None,
        }
    }
}

/// A part of the lines of one process or task, in the order in which they arrived.
#[derive(SimpleObject)]
pub(super) struct LogLineConnection {
    /// The lines.
    lines: Vec<LogLine>,
    /// Where to go on: give it as `after`.
    end_cursor: String,
    /// Whether there are more behind it.
    has_more: bool,
    /// How many records were dropped so far to stay within the store's limits.
    dropped: BigInt,
}

/// Whose records are asked for, and which.
pub(super) struct RecordsOf {
    /// A process with all its slots.
    pub(super) process_guid: Option<String>,
    /// A task.
    pub(super) task_guid: Option<String>,
    /// Only of this slot.
    pub(super) index: Option<u32>,
    /// Only behind this line.
    pub(super) after: Option<String>,
    /// Only what was seen at this instant or later.
    pub(super) since: Option<Timestamp>,
    /// Only what was seen at this instant or earlier.
    pub(super) until: Option<Timestamp>,
}

impl RecordsOf {
    /// The owner and the query that it stands for.
    pub(super) fn checked(self, kind: Kind) -> Result<(Owner, Query)> {
        let owner = match (self.process_guid, self.task_guid) {
            (Some(text), None) => Owner::Process(parse_id("processGuid", &text)?),
            (None, Some(text)) => Owner::Task(parse_id("taskGuid", &text)?),
            (Some(_), Some(_)) | (None, None) => {
                return Err(invalid_field(
                    "processGuid",
                    "must be given, or else taskGuid, not both",
                ));
            }
        };
        let after = match self.after {
            None => RecordNumber::default(),
            Some(text) => text.parse().map(RecordNumber).map_err(|_| {
                invalid_field("after", "must be the cursor of a line given earlier")
            })?,
        };
        let (index, since, until) = (self.index, self.since, self.until);
        let query = Query { after, index, kind: Some(kind), since, until, last: None };
        Ok((owner, query))
    }
}

/// An instant as a time: of a position, that at which it was recorded.
pub(super) async fn time_of(
    control_plane: &ControlPlane,
    field: &str,
    instant: Option<InstantInput>,
) -> Result<Option<Timestamp>> {
    let position = match instant {
        None => return Ok(None),
        Some(InstantInput::Time(Time(time))) => return Ok(Some(time)),
        Some(InstantInput::Position(PositionText(position))) => position,
    };
    let Some(before) = position.0.checked_sub(1) else { return Ok(Some(Timestamp(0))) };
    let found = control_plane.store.read_all(Position(before), 1).await;
    let found = found.map_err(|failure| of_log(&failure))?;
    match found.first() {
        Some(recorded) => Ok(Some(recorded.recorded_at)),
        None => Err(invalid_field(field, "must be a position that the log has")),
    }
}

/// A page of lines: the first behind `after`, or the last.
pub(super) async fn page(
    control_plane: &ControlPlane,
    of: RecordsOf,
    first: usize,
    last: Option<usize>,
) -> Result<LogLineConnection> {
    let (owner, query) = of.checked(Kind::Lines)?;
    let after = query.after;
    let read = control_plane.observations.read(&owner, Query { last, ..query }).await;
    let Page { records, next, dropped } = read.map_err(|failure| of_observations(&failure))?;
    let mut lines: Vec<LogLine> = records.into_iter().filter_map(LogLine::of).collect();
    let has_more = last.is_none() && lines.len() > first;
    if last.is_none() {
        lines.truncate(first);
    }
    let end_cursor = match lines.last() {
        _ if !has_more => next.0.to_string(),
        Some(line) => line.cursor.clone(),
        None => after.0.to_string(),
    };
    Ok(LogLineConnection { lines, end_cursor, has_more, dropped: BigInt(dropped) })
}
