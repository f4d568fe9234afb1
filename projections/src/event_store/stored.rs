//! An event's row where a database's library left it: every column borrowed, ids still packed.
//!
//! A replay decodes every event there is, so that nothing is copied here before it is known what it
//! becomes. Both databases read whole pages into these.

use std::sync::Arc;

use domain::{
    event::Event,
    log::{Actor, ActorKind, Position, Recorded, StreamVersion},
    units::Timestamp,
};

use foldhash::HashMap;

use super::{Error, Leaf, Row, columns, encoding::actor_kind, packed};

/// The columns of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) position: i64,
    pub(super) version: i64,
    pub(super) recorded_at: i64,
    pub(super) causation: Option<i64>,
    /// Of the owner and of the command, where a database keeps them beside each event.
    pub(super) hashes: Option<(i64, i64)>,
    pub(super) schema_version: i64,
    pub(super) stream: &'a str,
    pub(super) type_name: &'a str,
    pub(super) actor_kind: &'a str,
    pub(super) actor_name: &'a str,
    pub(super) actor_via: &'a str,
    pub(super) command_id: &'a [u8],
    pub(super) correlation: Option<&'a [u8]>,
    pub(super) leaf: &'a [u8],
    pub(super) payload: &'a [u8],
}

/// What is said of a column that a database holds in another form than written.
pub(super) fn malformed(position: i64, column: usize) -> Error {
    let column = columns::NAMES.get(column).copied().unwrap_or("row");
    Error::Malformed { position: Position(columns::number(position)), column }
}

/// Who sent the commands of a page, by name: a few send nearly all of them, and share their texts.
#[derive(Debug, Default)]
pub(super) struct Actors(HashMap<Arc<str>, Actor>);

impl Actors {
    fn get(&mut self, kind: ActorKind, name: &str, via: &str) -> Actor {
        if let Some(known) = self.0.get(name)
            && known.kind == kind
            && *known.via == *via
        {
            return known.clone();
        }
        let actor = Actor { kind, name: name.into(), via: via.into() };
        self.0.insert(Arc::clone(&actor.name), actor.clone());
        actor
    }
}

impl Stored<'_> {
    fn place(&self) -> Position {
        Position(columns::number(self.position))
    }

    fn shape(&self) -> u16 {
        u16::try_from(self.schema_version).unwrap_or(u16::MAX)
    }

    fn cause(&self) -> Option<Position> {
        self.causation.map(|position| Position(columns::number(position)))
    }

    /// The event; as [`Row::decode`] answers it.
    pub(super) fn event(&self) -> Result<Recorded<Event>, Error> {
        self.event_by(&mut Actors::default())
    }

    /// As [`Stored::event`], one of a page.
    pub(super) fn event_by(&self, actors: &mut Actors) -> Result<Recorded<Event>, Error> {
        let position = self.place();
        let malformed = |column| Error::Malformed { position, column };
        let event = Event::from_payload(self.type_name, self.shape(), self.payload)
            .map_err(|source| Error::Unreadable { position, source })?;
        let id = |packed, column| packed::command_id(packed).ok_or_else(|| malformed(column));
        let command_id = id(self.command_id, "command_id")?;
        let correlation = match self.correlation {
            None => command_id.clone(),
            Some(packed) => id(packed, "correlation")?,
        };
        Ok(Recorded {
            position,
            stream: self.stream.parse().map_err(|_| malformed("stream"))?,
            version: StreamVersion(columns::number(self.version)),
            recorded_at: Timestamp(self.recorded_at),
            actor: actors.get(
                actor_kind(self.actor_kind).ok_or_else(|| malformed("actor_kind"))?,
                self.actor_name,
                self.actor_via,
            ),
            command_id,
            causation: self.cause(),
            correlation,
            event,
        })
    }

    /// The row with its leaf, undecoded. The leaf of a row whose packed columns are not what they
    /// must be reads as zeros, which `verify` finds.
    pub(super) fn row(&self) -> (Row, Leaf) {
        let row = self.row_with(self.payload.to_owned());
        let leaf = if self.is_packed_of(&row) { columns::bytes(self.leaf) } else { [0; 32] };
        (row, leaf)
    }

    /// The row, for one who does not look at the payload.
    pub(super) fn without_payload(&self) -> Row {
        self.row_with(Vec::new())
    }

    fn row_with(&self, payload: Vec<u8>) -> Row {
        Row {
            position: self.place(),
            owner: packed::owner_text(self.stream),
            stream: self.stream.to_owned(),
            version: StreamVersion(columns::number(self.version)),
            type_name: self.type_name.to_owned(),
            schema_version: self.shape(),
            recorded_at: Timestamp(self.recorded_at),
            actor_kind: self.actor_kind.to_owned(),
            actor_name: self.actor_name.to_owned(),
            actor_via: self.actor_via.to_owned(),
            command_id: packed::unpacked(self.command_id),
            causation: self.cause(),
            correlation: packed::unpacked(self.correlation.unwrap_or(self.command_id)),
            payload,
        }
    }

    /// Whether a row packs to these columns.
    fn is_packed_of(&self, row: &Row) -> bool {
        let (command_id, correlation) = packed::ids(row);
        let hashes = |_| (packed::hash(&row.owner), packed::hash(&row.command_id));
        command_id == self.command_id
            && correlation.as_deref() == self.correlation
            && self.hashes == self.hashes.map(hashes)
    }
}
