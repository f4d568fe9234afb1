//! The base state: every live aggregate at one position, which stands for the events before it
//! once they were pruned.
//!
//! It lasts as long as the log: JSON with a version per kind of aggregate, so that a newer
//! program can read it, and signed by the checkpoint key, because no hash chain proves it.

use std::io::{BufRead as _, Write as _};

use domain::{
    aggregates::Aggregate,
    log::{Position, Stamp},
    sealed::Digest,
    units::Timestamp,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::{
    checkpoint::{CheckpointKey, PublicKey},
    event_store::{LogId, LogIdentity},
};

const FORMAT_VERSION: u32 = 1;

/// The version of every kind's shape. A change of one is a higher number and an arm in [`read`].
const KIND_VERSION: u32 = 1;

/// Begins the signed message, so that a signature of something else is none of a base state.
const BASE_DOMAIN: &[u8] = b"diario base state 1\0";

/// The state that a pruned log begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseState {
    /// The last event that it stands for.
    pub stamp: Stamp,
    /// That event's batch's link.
    pub link: [u8; 32],
    /// Everything that lived.
    pub aggregates: Vec<Aggregate>,
    /// Who signed it.
    pub key: PublicKey,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format_version: u32,
    log_id: LogId,
    position: Position,
    recorded_at: Timestamp,
    link: Digest,
    aggregates: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    kind: String,
    version: u32,
    state: Box<serde_json::value::RawValue>,
}

#[derive(Serialize, Deserialize)]
struct Seal {
    sha256: Digest,
    key: String,
    signature: String,
}

/// The name of the object that holds a base state up to a position: by its content, as segments
/// are.
pub(super) fn object_of(position: Position, sha256: &Digest) -> String {
    format!("base/{:020}-{}.json.zst", position.0, sha256.short())
}

fn message(digest: &[u8; 32]) -> Vec<u8> {
    [BASE_DOMAIN, digest].concat()
}

fn record<T: Serialize>(kind: &str, state: &T) -> serde_json::Result<Record> {
    let state = serde_json::value::to_raw_value(state)?;
    Ok(Record { kind: kind.to_owned(), version: KIND_VERSION, state })
}

fn record_of(aggregate: &Aggregate) -> serde_json::Result<Record> {
    match aggregate {
        Aggregate::DesiredLrp(state) => record("desired_lrp", state),
        Aggregate::ActualLrp(state) => record("actual_lrp", state),
        Aggregate::Task(state) => record("task", state),
        Aggregate::Cell(state) => record("cell", state),
        Aggregate::FreshnessDomain(state) => record("freshness_domain", state),
        Aggregate::Secrets(state) => record("secrets", state),
    }
}

/// The aggregate of a record of any version that was ever written.
fn read(object: &str, record: &Record) -> Result<Aggregate, Error> {
    fn state<T: DeserializeOwned>(object: &str, record: &Record) -> Result<T, Error> {
        serde_json::from_str(record.state.get()).map_err(|failure| {
            Error::damaged(object, format!("a {} cannot be read: {failure}", record.kind))
        })
    }
    if record.version > KIND_VERSION {
        let (object, found) = (object.to_owned(), record.version);
        return Err(Error::Newer { object, found, known: KIND_VERSION });
    }
    match record.kind.as_str() {
        "desired_lrp" => state(object, record).map(Aggregate::DesiredLrp),
        "actual_lrp" => state(object, record).map(Aggregate::ActualLrp),
        "task" => state(object, record).map(Aggregate::Task),
        "cell" => state(object, record).map(Aggregate::Cell),
        "freshness_domain" => state(object, record).map(Aggregate::FreshnessDomain),
        "secrets" => state(object, record).map(Aggregate::Secrets),
        kind => Err(Error::damaged(object, format!("{kind:?} is no kind of aggregate"))),
    }
}

/// Writes and signs a base state.
pub(super) fn encode(
    log: LogIdentity,
    stamp: Stamp,
    link: [u8; 32],
    aggregates: &[Aggregate],
    key: &CheckpointKey,
) -> Result<Vec<u8>, Error> {
    let header = Header {
        format_version: FORMAT_VERSION,
        log_id: log.log_id,
        position: stamp.position,
        recorded_at: stamp.recorded_at,
        link: Digest(link),
        aggregates: u64::try_from(aggregates.len()).unwrap_or(u64::MAX),
    };
    let mut text = serde_json::to_vec(&header).map_err(Error::Encode)?;
    text.push(b'\n');
    for aggregate in aggregates {
        let record = record_of(aggregate).map_err(Error::Encode)?;
        serde_json::to_writer(&mut text, &record).map_err(Error::Encode)?;
        text.push(b'\n');
    }
    let digest: [u8; 32] = Sha256::digest(&text).into();
    let seal = Seal {
        sha256: Digest(digest),
        key: key.public_key().to_string(),
        signature: hex::encode(key.sign(&message(&digest))),
    };
    serde_json::to_writer(&mut text, &seal).map_err(Error::Encode)?;
    text.push(b'\n');
    let packing = |failure: std::io::Error| Error::damaged("the base state", failure.to_string());
    let mut packed = zstd::stream::Encoder::new(Vec::new(), 9).map_err(packing)?;
    packed.include_checksum(true).map_err(packing)?;
    packed.write_all(&text).map_err(packing)?;
    packed.finish().map_err(packing)
}

/// Reads a base state and checks who signed it.
pub(super) fn decode(object: &str, log_id: LogId, packed: &[u8]) -> Result<BaseState, Error> {
    let damaged = |reason: &str| Error::damaged(object, reason);
    let unpacked = zstd::stream::Decoder::with_buffer(packed)
        .map_err(|_| damaged("it is not packed as it was"))?;
    let mut lines = std::io::BufReader::new(unpacked);
    let mut digest = Sha256::new();
    let mut line = String::new();
    let mut next = |line: &mut String| {
        line.clear();
        lines.read_line(line).map(|read| read > 0).map_err(|_| damaged("it was cut off"))
    };
    next(&mut line)?;
    let header: Header =
        serde_json::from_str(&line).map_err(|_| damaged("its header cannot be read"))?;
    if header.format_version > FORMAT_VERSION {
        let (object, found) = (object.to_owned(), header.format_version);
        return Err(Error::Newer { object, found, known: FORMAT_VERSION });
    }
    if header.log_id != log_id {
        return Err(damaged("it is of another log"));
    }
    digest.update(&line);
    let mut aggregates = Vec::new();
    for _ in 0..header.aggregates {
        if !next(&mut line)? {
            return Err(damaged("it was cut off"));
        }
        digest.update(&line);
        let record = serde_json::from_str(&line).map_err(|_| damaged("a record is malformed"))?;
        aggregates.push(read(object, &record)?);
    }
    next(&mut line)?;
    let seal: Seal = serde_json::from_str(&line).map_err(|_| damaged("its seal is malformed"))?;
    let is_end = !next(&mut line)?;
    let digest: [u8; 32] = digest.finalize().into();
    let key: PublicKey = seal.key.parse().map_err(damaged)?;
    let mut signature = [0; 64];
    let is_hex = hex::decode_to_slice(&seal.signature, &mut signature).is_ok();
    let holds = is_hex && key.has_signed(&message(&digest), &signature);
    if !is_end || seal.sha256.0 != digest || !holds {
        return Err(damaged("its signature does not hold"));
    }
    let stamp = Stamp { position: header.position, recorded_at: header.recorded_at };
    Ok(BaseState { stamp, link: header.link.0, aggregates, key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{
        log::Incarnation,
        testing::{Dice, given},
    };
    use uuid::Uuid;

    #[test]
    fn a_base_state_reads_back_and_shows_any_change() {
        let story = given([]).walk(&mut Dice::new(5), 400);
        let aggregates: Vec<Aggregate> = story.aggregates.all().collect();
        assert!(aggregates.len() > 5, "{}", aggregates.len());
        let log_id = LogId(Uuid::from_u128(1));
        let log = LogIdentity { log_id, incarnation: Incarnation(Uuid::from_u128(2)) };
        let key = CheckpointKey::from_bytes([3; 32]);
        let packed = encode(log, story.head(), [4; 32], &aggregates, &key).unwrap();

        let read = decode("base", log_id, &packed).unwrap();

        let expected =
            BaseState { stamp: story.head(), link: [4; 32], aggregates, key: key.public_key() };
        assert_eq!(read, expected);
        assert!(decode("base", LogId(Uuid::from_u128(9)), &packed).is_err());
        let text = zstd::stream::decode_all(packed.as_slice()).unwrap();
        for place in (0..text.len()).step_by(97) {
            let mut altered = text.clone();
            altered[place] ^= 1;
            let packed = zstd::stream::encode_all(altered.as_slice(), 1).unwrap();
            assert!(decode("base", log_id, &packed).is_err(), "byte {place}");
        }
    }
}
