//! The views by name: their content, a digest of it, and where two contents differ first.
//!
//! Contents can be large: a digest is taken while the content is written, never of a copy.

use std::fmt;

use domain::{aggregates::Aggregates, sealed::Digest};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{changes, fields};
use crate::world::World;

/// How many bytes of a content one piece has.
pub const PIECE_BYTES: usize = 4_096;
/// How many hexadecimal digits stand for a piece in [`ViewDigest::pieces`].
pub const PIECE_DIGITS: usize = 8;
/// How many characters of a content are shown around the first difference.
const HINT_CHARACTERS: usize = 160;

/// What a view holds at a position, told by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDigest {
    /// Which view.
    pub name: String,
    /// The SHA-256 of its content.
    pub digest: Digest,
    /// How long the content is.
    pub bytes: u64,
    /// The beginning of each piece's own hash, [`PIECE_DIGITS`] digits each: they tell where two
    /// contents differ first.
    pub pieces: String,
}

/// A view that differs from another fold of the same log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which view.
    pub view: String,
    /// Where and how, in a line for people.
    pub hint: String,
}

/// The names of all views, in the order in which they are compared.
pub const NAMES: [&str; 7] = [
    "position",
    "aggregates",
    "auction_queue",
    "cell_capacity",
    "cell_assignments",
    "route_table",
    "desired_vs_actual",
];

/// The digests of all views.
#[must_use]
pub fn digests(world: &World) -> Vec<ViewDigest> {
    NAMES
        .iter()
        .map(|name| {
            let mut hasher = Hasher::default();
            // Writing into a hash never fails.
            world.write_content(name, &mut hasher).unwrap_or_default();
            hasher.finish(name)
        })
        .collect()
}

/// The first view of a world that differs from what another fold of the same log came to.
#[must_use]
pub fn first_difference(world: &World, others: &[ViewDigest]) -> Option<Difference> {
    let own = digests(world);
    if let Some(unknown) = others.iter().find(|it| !own.iter().any(|own| own.name == it.name)) {
        let hint = "this program does not know the view: it is of another version".to_owned();
        return Some(Difference { view: unknown.name.clone(), hint });
    }
    own.into_iter().find_map(|own| {
        let Some(other) = others.iter().find(|other| other.name == own.name) else {
            let hint = "the other program does not know the view".to_owned();
            return Some(Difference { view: own.name, hint });
        };
        if own.digest == other.digest && own.bytes == other.bytes {
            return None;
        }
        Some(Difference { hint: hint(world, &own, other), view: own.name })
    })
}

fn hint(world: &World, own: &ViewDigest, other: &ViewDigest) -> String {
    let pieces = |digest: &ViewDigest| -> Vec<Vec<u8>> {
        digest.pieces.as_bytes().chunks(PIECE_DIGITS).map(<[u8]>::to_vec).collect()
    };
    let (ours, theirs) = (pieces(own), pieces(other));
    let same = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
    let mut content = String::new();
    world.write_content(&own.name, &mut content).unwrap_or_default();
    let from = content.floor_char_boundary(same.saturating_mul(PIECE_BYTES));
    let shown: String =
        content.get(from..).unwrap_or_default().chars().take(HINT_CHARACTERS).collect();
    format!(
        "it has {} bytes and should have {}; the first difference is in the {PIECE_BYTES} bytes \
         behind byte {from}, where a fresh fold has: {shown}",
        other.bytes, own.bytes
    )
}

/// Two worlds whose contents are both at hand, compared to the byte.
#[must_use]
pub fn first_difference_between(fresh: &World, other: &World) -> Option<Difference> {
    NAMES.iter().find_map(|name| {
        let (mut ours, mut theirs) = (String::new(), String::new());
        fresh.write_content(name, &mut ours).unwrap_or_default();
        other.write_content(name, &mut theirs).unwrap_or_default();
        if ours == theirs {
            return None;
        }
        let same = ours.bytes().zip(theirs.bytes()).take_while(|(a, b)| a == b).count();
        // A little before it, so that one sees whose field it is.
        let from = same.saturating_sub(HINT_CHARACTERS / 2);
        let around = |text: &str| -> String {
            let from = text.floor_char_boundary(from);
            text.get(from..).unwrap_or_default().chars().take(HINT_CHARACTERS).collect()
        };
        let hint = format!(
            "from byte {same} on: a fresh fold has ...{}... but it holds ...{}...",
            around(&ours),
            around(&theirs)
        );
        Some(Difference { view: (*name).to_owned(), hint })
    })
}

#[derive(Default)]
struct Hasher {
    whole: Sha256,
    piece: Sha256,
    in_piece: usize,
    bytes: u64,
    pieces: String,
}

impl Hasher {
    fn end_piece(&mut self) {
        let digest = hex::encode(std::mem::take(&mut self.piece).finalize());
        self.pieces.extend(digest.chars().take(PIECE_DIGITS));
        self.in_piece = 0;
    }

    fn finish(mut self, name: &str) -> ViewDigest {
        if self.in_piece > 0 {
            self.end_piece();
        }
        let digest = Digest(self.whole.finalize().into());
        ViewDigest { name: name.to_owned(), digest, bytes: self.bytes, pieces: self.pieces }
    }
}

impl fmt::Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        self.whole.update(rest);
        self.bytes = self.bytes.saturating_add(u64::try_from(rest.len()).unwrap_or(u64::MAX));
        while !rest.is_empty() {
            let room = (PIECE_BYTES - self.in_piece).min(rest.len());
            let (now, later) = rest.split_at(room);
            self.piece.update(now);
            self.in_piece += room;
            if self.in_piece == PIECE_BYTES {
                self.end_piece();
            }
            rest = later;
        }
        Ok(())
    }
}

/// A view for people and programs: as a JSON value where its content has a form of its own, else
/// the stable content that digests are taken of. `None` when there is no such view.
#[must_use]
pub fn dump(world: &World, name: &str) -> Option<Value> {
    let aggregates = world.aggregates();
    match name {
        "position" => Some(json!({
            "position": world.position().0, "recordedAtNanoseconds": world.recorded_at().0,
        })),
        "aggregates" => Some(dump_aggregates(aggregates)),
        "auction_queue" => {
            let queue = world.auction_queue();
            let slots: Vec<String> = queue.slots().map(ToString::to_string).collect();
            let tasks: Vec<&str> = queue.tasks().map(domain::id::TaskGuid::as_str).collect();
            Some(json!({ "slots": slots, "tasks": tasks }))
        }
        "cell_assignments" => Some(dump_assignments(world)),
        "route_table" => {
            let routes = world.route_table().routes();
            let told = routes.map(|(hostname, endpoints)| {
                (hostname.to_string(), json!(fields::endpoints(&endpoints)))
            });
            Some(Value::Object(told.collect()))
        }
        _ => {
            let mut content = String::new();
            let known = NAMES.contains(&name);
            world.write_content(name, &mut content).unwrap_or_default();
            known.then(|| json!(content))
        }
    }
}

fn dump_aggregates(aggregates: &Aggregates) -> Value {
    let told = aggregates
        .all()
        .map(|aggregate| (aggregate.stream().to_string(), json!(changes::flat(&aggregate))));
    Value::Object(told.collect::<Map<String, Value>>())
}

fn dump_assignments(world: &World) -> Value {
    let aggregates = world.aggregates();
    let told = aggregates.cells().filter_map(|cell| {
        let assignment = world.cell_assignments().of(aggregates, &cell.cell_id)?;
        // The position of the last change is a hint of the running list, not its content.
        let work = json!({ "cellEpoch": assignment.cell_epoch, "work": assignment.work });
        Some((cell.cell_id.to_string(), work))
    });
    Value::Object(told.collect::<Map<String, Value>>())
}
