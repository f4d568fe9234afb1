//! Between the columns of either database and the log's types: neither has unsigned numbers, so a
//! position past their range is cut to the last one, where no event can be. Never fails: what was
//! changed by hand is for `verify` to find.

/// Begins a query for event rows as Postgres keeps them, and SQLite before it packed batches.
macro_rules! select_events {
    ($rest:literal) => {
        concat!(
            "SELECT position, version, recorded_at, causation, owner_hash, command_hash, ",
            "schema_version, stream, type, actor_kind, actor_name, actor_via, command_id, ",
            "correlation, leaf, payload FROM events ",
            $rest
        )
    };
}
pub(super) use select_events;

/// The names of the columns of [`select_events`], in its order.
pub(super) const NAMES: [&str; 16] = [
    "position",
    "version",
    "recorded_at",
    "causation",
    "owner_hash",
    "command_hash",
    "schema_version",
    "stream",
    "type",
    "actor_kind",
    "actor_name",
    "actor_via",
    "command_id",
    "correlation",
    "leaf",
    "payload",
];

pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The log's own positions and versions are never negative; a row changed by hand reads as 0,
/// which `verify` finds.
pub(super) fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

/// A hash or id of another length than written reads as zeros, which `verify` finds.
pub(super) fn bytes<const N: usize>(column: &[u8]) -> [u8; N] {
    column.try_into().unwrap_or([0; N])
}
