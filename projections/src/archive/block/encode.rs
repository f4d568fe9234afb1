//! Writes a block.

use std::collections::HashMap;

use uuid::Uuid;

use super::{AS_TEXT, AS_UUID, Batches};
use crate::bytes::{put, put_count, put_signed, put_text};

/// Of zstd: beyond it compressing takes much longer and gains little.
const LEVEL: i32 = 9;

/// Texts in the order in which they first came, each with its place.
#[derive(Default)]
struct Dictionary<'a, T>(HashMap<T, usize>, Vec<T>, std::marker::PhantomData<&'a ()>);

impl<T: std::hash::Hash + Eq + Copy> Dictionary<'_, T> {
    /// The place of a text, and whether it is new.
    fn place(&mut self, text: T) -> (usize, bool) {
        let next = self.1.len();
        let place = *self.0.entry(text).or_insert(next);
        if place == next {
            self.1.push(text);
        }
        (place, place == next)
    }
}

#[derive(Default)]
struct Columns {
    types: Vec<u8>,
    actors: Vec<u8>,
    streams: Vec<u8>,
    versions: Vec<u8>,
    commands: Vec<u8>,
    correlations: Vec<u8>,
    causations: Vec<u8>,
    lengths: Vec<u8>,
}

/// Writes a block.
pub(in crate::archive) fn encode(batches: &Batches) -> std::io::Result<Vec<u8>> {
    let rows = || batches.iter().flat_map(|(_, rows)| rows);
    let mut types = Dictionary::default();
    let mut actors = Dictionary::default();
    let mut streams = Dictionary::default();
    let mut commands = Dictionary::default();
    let mut columns = Columns::default();
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    let mut first_versions = Vec::new();
    let mut versions: Vec<u64> = Vec::new();
    let mut last_command = usize::MAX;
    let mut last_correlation = usize::MAX;
    for row in rows() {
        let (type_place, is_new) = types.place((row.type_name.as_str(), row.schema_version));
        if is_new {
            payloads.push(Vec::new());
        }
        put_count(&mut columns.types, type_place);
        let actor = (&*row.actor_kind, &*row.actor_name, &*row.actor_via);
        put_count(&mut columns.actors, actors.place(actor).0);
        let (stream, is_new) = streams.place(row.stream.as_str());
        // The distance from the newest one: what was used lately is used again.
        put_count(&mut columns.streams, if is_new { 0 } else { streams.1.len() - stream });
        if is_new {
            first_versions.push(row.version.0);
            versions.push(row.version.0);
        } else if let Some(version) = versions.get_mut(stream) {
            let expected = version.wrapping_add(1);
            put_signed(&mut columns.versions, signed(row.version.0.wrapping_sub(expected)));
            *version = row.version.0;
        }
        let (command, is_new) = commands.place(row.command_id.as_str());
        put_count(&mut columns.commands, code(command, is_new, last_command, commands.1.len()));
        last_command = command;
        let (correlation, is_new) = commands.place(row.correlation.as_str());
        let coded = if correlation == command {
            0
        } else {
            1 + code(correlation, is_new, last_correlation, commands.1.len())
        };
        put_count(&mut columns.correlations, coded);
        last_correlation = correlation;
        let behind = row.causation.map(|causation| row.position.0.wrapping_sub(causation.0));
        put_signed(&mut columns.causations, behind.map_or(0, cause_code));
        put_count(&mut columns.lengths, row.payload.len());
        if let Some(of_type) = payloads.get_mut(type_place) {
            of_type.extend_from_slice(&row.payload);
        }
    }
    let mut plain = Vec::new();
    let mut table = Vec::new();
    put_count(&mut table, batches.len());
    let mut time = 0;
    for (batch, _) in batches {
        put(&mut table, batch.count);
        put_signed(&mut table, batch.recorded_at.0.wrapping_sub(time));
        time = batch.recorded_at.0;
        plain.extend_from_slice(batch.id.0.as_bytes());
        plain.extend_from_slice(&batch.link);
    }
    put_count(&mut table, types.1.len());
    for (name, schema_version) in &types.1 {
        put_text(&mut table, name);
        put(&mut table, u64::from(*schema_version));
    }
    put_count(&mut table, actors.1.len());
    for (kind, name, via) in &actors.1 {
        [kind, name, via].into_iter().for_each(|text| put_text(&mut table, text));
    }
    put_count(&mut table, streams.1.len());
    streams.1.iter().for_each(|stream| put_text(&mut table, stream));
    first_versions.iter().for_each(|version| put(&mut table, *version));
    put_count(&mut table, commands.1.len());
    for command in &commands.1 {
        match canonical_uuid(command) {
            Some(uuid) => {
                table.push(AS_UUID);
                plain.extend_from_slice(uuid.as_bytes());
            }
            None => {
                table.push(AS_TEXT);
                put_text(&mut table, command);
            }
        }
    }
    for column in [
        columns.types,
        columns.actors,
        columns.streams,
        columns.versions,
        columns.commands,
        columns.correlations,
        columns.causations,
        columns.lengths,
    ] {
        table.extend_from_slice(&column);
    }
    let mut block = Vec::new();
    put_part(&mut block, &table)?;
    // Ids and hashes are random: nothing to gain.
    put_count(&mut block, plain.len());
    block.extend_from_slice(&plain);
    put_part(&mut block, &payloads.concat())?;
    Ok(block)
}

/// The same as the last one, a new one, or how far back.
fn code(place: usize, is_new: bool, last: usize, count: usize) -> usize {
    match () {
        () if place == last => 0,
        () if is_new => 1,
        () => 1 + count - place,
    }
}

fn signed(number: u64) -> i64 {
    i64::from_ne_bytes(number.to_ne_bytes())
}
/// 0 says none, so that all others move up by one, whatever their sign.
fn cause_code(behind: u64) -> i64 {
    let behind = signed(behind);
    if behind >= 0 { behind.saturating_add(1) } else { behind }
}
/// The uuid of a text that is exactly how the uuid is printed.
fn canonical_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 {
        return None;
    }
    let uuid = Uuid::try_parse(text).ok()?;
    let mut printed = [0; 36];
    (uuid.hyphenated().encode_lower(&mut printed) == text).then_some(uuid)
}

fn put_part(block: &mut Vec<u8>, part: &[u8]) -> std::io::Result<()> {
    let packed = zstd::bulk::compress(part, LEVEL)?;
    put_count(block, part.len());
    put_count(block, packed.len());
    block.extend_from_slice(&packed);
    Ok(())
}
