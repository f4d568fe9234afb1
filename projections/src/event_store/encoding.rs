//! An event as a row of the log: every column, as stored and as hashed.
//!
//! A row may have been altered by hand, so its columns are plain text and numbers; only
//! [`Row::decode`] turns them into typed values, and it never guesses.

use domain::{
    event::Event,
    id::CommandId,
    log::{Actor, ActorKind, Position, Recorded, StreamVersion},
    units::Timestamp,
};

use super::Error;

/// One event with its columns as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the log.
    pub position: Position,
    /// The stream's text.
    pub stream: String,
    /// Its number in the stream.
    pub version: StreamVersion,
    /// The owner's text.
    pub owner: String,
    /// The event's stored type name.
    pub type_name: String,
    /// The payload's shape.
    pub schema_version: u16,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// `user`, `loop` or `cell`.
    pub actor_kind: String,
    /// The actor's name.
    pub actor_name: String,
    /// The edge it came in by.
    pub actor_via: String,
    /// The command that it answers.
    pub command_id: String,
    /// The event that made the sender act.
    pub causation: Option<Position>,
    /// The first command of the chain.
    pub correlation: String,
    /// JSON bytes, exactly as hashed.
    pub payload: Vec<u8>,
}

pub(crate) fn actor_kind_text(kind: ActorKind) -> &'static str {
    match kind {
        ActorKind::User => "user",
        ActorKind::Loop => "loop",
        ActorKind::Cell => "cell",
    }
}

pub(crate) fn actor_kind(text: &str) -> Option<ActorKind> {
    match text {
        "user" => Some(ActorKind::User),
        "loop" => Some(ActorKind::Loop),
        "cell" => Some(ActorKind::Cell),
        _ => None,
    }
}

impl Row {
    /// The row of an event.
    ///
    /// # Errors
    /// [`Error::Encode`] when the event has no JSON, which is a defect.
    pub fn encode(recorded: &Recorded<Event>) -> Result<Self, Error> {
        let payload = recorded.event.payload().map_err(|source| Error::Encode { source })?;
        Ok(Self::with_payload(recorded, payload))
    }

    /// The row of an event whose payload is known.
    pub(super) fn with_payload(recorded: &Recorded<Event>, payload: Vec<u8>) -> Self {
        Self {
            position: recorded.position,
            stream: recorded.stream.to_string(),
            version: recorded.version,
            owner: recorded.stream.owner().to_string(),
            type_name: recorded.event.type_name().to_owned(),
            schema_version: recorded.event.schema_version(),
            recorded_at: recorded.recorded_at,
            actor_kind: actor_kind_text(recorded.actor.kind).to_owned(),
            actor_name: recorded.actor.name.as_ref().to_owned(),
            actor_via: recorded.actor.via.as_ref().to_owned(),
            command_id: recorded.command_id.as_str().to_owned(),
            causation: recorded.causation,
            correlation: recorded.correlation.as_str().to_owned(),
            payload,
        }
    }

    /// The event of a row.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when its type or schema is newer than this program or the payload
    /// does not fit it, [`Error::Malformed`] when another column is not what it must be.
    pub fn decode(self) -> Result<Recorded<Event>, Error> {
        let position = self.position;
        let malformed = |column| Error::Malformed { position, column };
        let event = Event::from_payload(&self.type_name, self.schema_version, &self.payload)
            .map_err(|source| Error::Unreadable { position, source })?;
        Ok(Recorded {
            position,
            stream: self.stream.parse().map_err(|_| malformed("stream"))?,
            version: self.version,
            recorded_at: self.recorded_at,
            actor: Actor {
                kind: actor_kind(&self.actor_kind).ok_or_else(|| malformed("actor_kind"))?,
                name: self.actor_name.into(),
                via: self.actor_via.into(),
            },
            command_id: CommandId::new(&self.command_id).map_err(|_| malformed("command_id"))?,
            causation: self.causation,
            correlation: CommandId::new(&self.correlation).map_err(|_| malformed("correlation"))?,
            event,
        })
    }

    /// Every column but the payload, as hashed: each length-prefixed, numbers big-endian.
    #[must_use]
    pub fn metadata(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        self.borrowed().metadata_into(&mut bytes);
        bytes
    }

    /// The same row with its texts borrowed.
    #[must_use]
    pub fn borrowed(&self) -> RowRef<'_> {
        RowRef {
            position: self.position,
            stream: &self.stream,
            version: self.version,
            owner: &self.owner,
            type_name: &self.type_name,
            schema_version: self.schema_version,
            recorded_at: self.recorded_at,
            actor_kind: &self.actor_kind,
            actor_name: &self.actor_name,
            actor_via: &self.actor_via,
            command_id: &self.command_id,
            causation: self.causation,
            correlation: &self.correlation,
            payload: &self.payload,
        }
    }
}

/// A [`Row`] whose texts are somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of Row")]
pub struct RowRef<'a> {
    pub position: Position,
    pub stream: &'a str,
    pub version: StreamVersion,
    pub owner: &'a str,
    pub type_name: &'a str,
    pub schema_version: u16,
    pub recorded_at: Timestamp,
    pub actor_kind: &'a str,
    pub actor_name: &'a str,
    pub actor_via: &'a str,
    pub command_id: &'a str,
    pub causation: Option<Position>,
    pub correlation: &'a str,
    pub payload: &'a [u8],
}

impl RowRef<'_> {
    /// The row with texts of its own.
    #[must_use]
    pub fn to_row(self) -> Row {
        Row {
            position: self.position,
            stream: self.stream.to_owned(),
            version: self.version,
            owner: self.owner.to_owned(),
            type_name: self.type_name.to_owned(),
            schema_version: self.schema_version,
            recorded_at: self.recorded_at,
            actor_kind: self.actor_kind.to_owned(),
            actor_name: self.actor_name.to_owned(),
            actor_via: self.actor_via.to_owned(),
            command_id: self.command_id.to_owned(),
            causation: self.causation,
            correlation: self.correlation.to_owned(),
            payload: self.payload.to_vec(),
        }
    }

    /// Adds what [`Row::metadata`] gives.
    pub fn metadata_into(&self, bytes: &mut Vec<u8>) {
        let mut text = |text: &str| {
            bytes.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        for column in [
            self.stream,
            self.owner,
            self.type_name,
            self.actor_kind,
            self.actor_name,
            self.actor_via,
            self.command_id,
            self.correlation,
        ] {
            text(column);
        }
        bytes.extend_from_slice(&self.position.0.to_be_bytes());
        bytes.extend_from_slice(&self.version.0.to_be_bytes());
        bytes.extend_from_slice(&self.schema_version.to_be_bytes());
        bytes.extend_from_slice(&self.recorded_at.0.to_be_bytes());
        match self.causation {
            None => bytes.push(0),
            Some(position) => {
                bytes.push(1);
                bytes.extend_from_slice(&position.0.to_be_bytes());
            }
        }
    }
}
