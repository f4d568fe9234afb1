//! Reading an archive in place: any page, filter or look-up, a block at a time.
//!
//! A part that is missing or damaged is named; nothing is ever answered around it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use domain::{
    event::Event,
    id::CommandId,
    log::{Position, Recorded, StreamId, StreamVersion},
    units::Timestamp,
};

use super::{
    Error, Manifest, Place, SegmentEntry,
    block::{self, Block},
    segment::{self, BlockEntry, Footer, TRAILER_BYTES},
};
use crate::event_store::{self, BatchId, BatchRow, Filter, Leaf, LogIdentity, Order, Row};

/// How many footers and blocks are kept decoded.
const FOOTERS_MAX: usize = 256;
const BLOCKS_MAX: usize = 8;

/// How much of a segment's end is read at first: most footers are shorter.
const END_BYTES: u64 = 512 << 10;

/// The last few things that were asked for, the newest last.
#[derive(Debug)]
struct Recent<K, V>(Mutex<VecDeque<(K, Arc<V>)>>, usize);

impl<K: PartialEq, V> Recent<K, V> {
    fn new(max: usize) -> Self {
        Self(Mutex::default(), max)
    }

    fn get(&self, key: &K) -> Option<Arc<V>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().rposition(|(known, _)| known == key)?;
        let found = kept.remove(place)?;
        let value = Arc::clone(&found.1);
        kept.push_back(found);
        Some(value)
    }

    fn put(&self, key: K, value: &Arc<V>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= self.1 {
            kept.pop_front();
        }
        kept.push_back((key, Arc::clone(value)));
    }
}

/// An open archive.
#[derive(Debug)]
pub struct Archive {
    place: Place,
    manifest: RwLock<Arc<Manifest>>,
    footers: Recent<Position, Footer>,
    blocks: Recent<Position, Block>,
}

impl Archive {
    /// Opens the archive at a place.
    ///
    /// # Errors
    /// [`Error::NoArchive`], or what is wrong with its list of segments.
    pub async fn open(place: Place) -> Result<Self, Error> {
        let location = place.to_string();
        let manifest = Manifest::read(&place).await?.ok_or(Error::NoArchive { location })?;
        Ok(Self::of(place, manifest))
    }

    /// Opens the archive of a log, which may hold nothing yet.
    ///
    /// # Errors
    /// [`Error::OtherLog`], or as [`Archive::open`].
    pub async fn of_log(place: Place, log: LogIdentity) -> Result<Self, Error> {
        let manifest = Manifest::read(&place).await?.unwrap_or_else(|| Manifest::new(log));
        if manifest.log_id != log.log_id {
            let (found, known) = (manifest.log_id, log.log_id);
            return Err(Error::OtherLog { location: place.to_string(), found, known });
        }
        Ok(Self::of(place, manifest))
    }

    fn of(place: Place, manifest: Manifest) -> Self {
        Self {
            place,
            manifest: RwLock::new(Arc::new(manifest)),
            footers: Recent::new(FOOTERS_MAX),
            blocks: Recent::new(BLOCKS_MAX),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What it holds, as far as is known here.
    #[must_use]
    pub fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.manifest.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_manifest(&self, manifest: Manifest) {
        *self.manifest.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(manifest);
    }

    /// Looks again at what it holds: another node may have archived more.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub async fn refresh(&self) -> Result<(), Error> {
        let manifest = Manifest::read(&self.place).await?;
        let known = self.manifest();
        match manifest {
            Some(manifest) if manifest.log_id == known.log_id => self.set_manifest(manifest),
            Some(manifest) => {
                let (found, known) = (manifest.log_id, known.log_id);
                return Err(Error::OtherLog { location: self.place.to_string(), found, known });
            }
            None if known.segments.is_empty() => {}
            None => return Err(Error::NoArchive { location: self.place.to_string() }),
        }
        Ok(())
    }

    fn hole(&self, from: Position, to: Position) -> Error {
        Error::Hole { location: self.place.to_string(), from, to }
    }

    /// Makes sure that everything up to a position is here.
    pub(super) async fn reach(&self, until: Position) -> Result<(), Error> {
        if self.manifest().end().0 < until {
            self.refresh().await?;
        }
        let end = self.manifest().end().0;
        if end < until { Err(self.hole(end.next(), until)) } else { Ok(()) }
    }

    /// The segment that holds a position.
    fn segment_of(&self, position: Position) -> Option<SegmentEntry> {
        let manifest = self.manifest();
        let place = manifest.segments.partition_point(|segment| segment.last < position);
        manifest.segments.get(place).filter(|segment| segment.first <= position).cloned()
    }

    async fn footer(&self, segment: &SegmentEntry) -> Result<Arc<Footer>, Error> {
        if let Some(footer) = self.footers.get(&segment.first) {
            return Ok(footer);
        }
        let object = &segment.object;
        let start = segment.bytes.saturating_sub(END_BYTES);
        let end = self.place.get_range(object, start..segment.bytes).await?;
        let cut = || Error::damaged(object, "it was cut off");
        let (before, trailer) = end
            .len()
            .checked_sub(TRAILER_BYTES)
            .and_then(|at| end.split_at_checked(at))
            .ok_or_else(cut)?;
        let (length, digest) = segment::trailer(object, trailer)?;
        let footer = match before.len().checked_sub(length).and_then(|at| before.get(at..)) {
            Some(packed) => segment::footer(object, packed, digest)?,
            None => {
                let behind = u64::try_from(TRAILER_BYTES).unwrap_or(u64::MAX);
                let end = segment.bytes.saturating_sub(behind);
                let length = u64::try_from(length).unwrap_or(u64::MAX);
                let start = end.checked_sub(length).ok_or_else(cut)?;
                let packed = self.place.get_range(object, start..end).await?;
                segment::footer(object, &packed, digest)?
            }
        };
        check_footer(segment, &footer)?;
        let footer = Arc::new(footer);
        self.footers.put(segment.first, &footer);
        Ok(footer)
    }

    async fn block(&self, segment: &SegmentEntry, entry: &BlockEntry) -> Result<Arc<Block>, Error> {
        if let Some(block) = self.blocks.get(&entry.first) {
            return Ok(block);
        }
        let range = entry.offset..entry.offset.saturating_add(entry.length);
        let bytes = self.place.get_range(&segment.object, range).await?;
        segment::check_block(&segment.object, &bytes, entry)?;
        let block = Arc::new(decode_block(&segment.object, entry, &bytes)?);
        self.blocks.put(entry.first, &block);
        Ok(block)
    }

    /// The block that holds a position.
    async fn block_of(&self, position: Position) -> Result<Arc<Block>, Error> {
        let segment = self.segment_of(position).ok_or_else(|| self.hole(position, position))?;
        let footer = self.footer(&segment).await?;
        let place = footer.blocks.partition_point(|block| block.last() < position);
        let entry = footer.blocks.get(place).ok_or_else(|| self.hole(position, position))?;
        self.block(&segment, entry).await
    }

    /// Visits the events behind `after` up to `until` in order, until `visit` says that it has
    /// enough by giving `false`.
    async fn visit(
        &self,
        after: Position,
        until: Position,
        mut visit: impl FnMut(&Block, usize) -> Result<bool, event_store::Error> + Send,
    ) -> Result<(), event_store::Error> {
        let mut position = after;
        while position < until {
            let block = self.block_of(position.next()).await?;
            for index in block.behind(position) {
                let at = Position(block.first().0 + u64::try_from(index).unwrap_or(u64::MAX));
                if at > until || !visit(&block, index)? {
                    return Ok(());
                }
            }
            position = block.last();
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The events behind a position up to another, in order.
    ///
    /// # Errors
    /// As all reading here: [`event_store::Error::Archive`] names what is missing or damaged.
    pub async fn read_all(
        &self,
        after: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, event_store::Error> {
        let count = usize::try_from(until.0.saturating_sub(after.0)).unwrap_or(usize::MAX);
        let mut events = Vec::with_capacity(count.min(limit));
        self.visit(after, until, |block, index| {
            if events.len() == limit {
                return Ok(false);
            }
            events.push(block.event(index)?);
            Ok(true)
        })
        .await?;
        Ok(events)
    }

    /// The rows behind a position up to another, with their leaves as they must be.
    ///
    /// # Errors
    /// See [`Archive::read_all`].
    pub async fn rows(
        &self,
        after: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<(Row, Leaf)>, event_store::Error> {
        let mut rows = Vec::new();
        let mut metadata = Vec::new();
        self.visit(after, until, |block, index| {
            if rows.len() == limit {
                return Ok(false);
            }
            if let Some(row) = block.row(index) {
                rows.push((row.to_row(), block::leaf(&row, &mut metadata)));
            }
            Ok(true)
        })
        .await?;
        Ok(rows)
    }

    /// The batches that begin behind a position and not behind another.
    ///
    /// # Errors
    /// See [`Archive::read_all`].
    pub async fn batches(
        &self,
        after: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<BatchRow>, event_store::Error> {
        let mut found = Vec::new();
        let mut position = after;
        while position < until && found.len() < limit {
            let block = self.block_of(position.next()).await?;
            let behind = |batch: &&BatchRow| batch.first > after && batch.first <= until;
            let rest = limit.saturating_sub(found.len());
            found.extend(block.batches().iter().filter(behind).take(rest).cloned());
            position = block.last();
        }
        Ok(found)
    }

    /// The events up to `until` that a filter lets through; see
    /// [`event_store::EventStore::read_filtered`].
    ///
    /// # Errors
    /// See [`Archive::read_all`].
    pub async fn filtered(
        &self,
        filter: &Filter,
        after: Position,
        until: Position,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Recorded<Event>>, event_store::Error> {
        let until = filter.until.map_or(until, |it| it.min(until));
        let (low, high) = match order {
            Order::OldestFirst => (after, until),
            Order::NewestFirst if after == Position(0) => (Position(0), until),
            Order::NewestFirst => (Position(0), until.min(Position(after.0.saturating_sub(1)))),
        };
        let owner = filter.owner.as_ref().map(ToString::to_string);
        let manifest = self.manifest();
        let mut segments: Vec<&SegmentEntry> = manifest
            .segments
            .iter()
            .filter(|segment| segment.last > low && segment.first <= high)
            .collect();
        if order == Order::NewestFirst {
            segments.reverse();
        }
        let mut events = Vec::new();
        for segment in segments {
            let footer = self.footer(segment).await?;
            for place in candidates(&footer, filter, owner.as_deref(), order) {
                let Some(entry) = footer.blocks.get(place) else { continue };
                if entry.last() <= low || entry.first > high {
                    continue;
                }
                let block = self.block(segment, entry).await?;
                collect(
                    &block,
                    filter,
                    owner.as_deref(),
                    (low, high),
                    (limit, order),
                    &mut events,
                )?;
                if events.len() >= limit {
                    return Ok(events);
                }
            }
        }
        Ok(events)
    }

    /// The events of a stream up to a position, behind a version.
    ///
    /// # Errors
    /// See [`Archive::read_all`].
    pub async fn stream(
        &self,
        stream: &StreamId,
        after: StreamVersion,
        until: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, event_store::Error> {
        let owner = stream.owner().to_string();
        let pick = |block: &Block, index| {
            block.stream(index) == Some(stream)
                && block.version(index).is_some_and(|version| version > after)
        };
        self.look_up(|footer| footer.owners.blocks_of(owner.as_bytes()), pick, until, limit).await
    }

    /// The events that a command caused.
    ///
    /// # Errors
    /// See [`Archive::read_all`].
    pub async fn command(
        &self,
        id: &CommandId,
        until: Position,
    ) -> Result<Vec<Recorded<Event>>, event_store::Error> {
        let pick = |block: &Block, index| block.command(index) == Some(id);
        let blocks = |footer: &Footer| footer.commands.blocks_of(id.as_str().as_bytes());
        self.look_up(blocks, pick, until, usize::MAX).await
    }

    /// The events of a batch.
    ///
    /// # Errors
    /// See [`Archive::read_all`].
    pub async fn batch(
        &self,
        id: BatchId,
        until: Position,
    ) -> Result<Vec<Recorded<Event>>, event_store::Error> {
        let is_it = |block: &Block, index| {
            let place = u64::try_from(index).unwrap_or(u64::MAX);
            let position = Position(block.first().0.saturating_add(place));
            let after = block.batches().partition_point(|batch| batch.first <= position);
            let batch = after.checked_sub(1).and_then(|it| block.batches().get(it));
            batch.is_some_and(|batch| batch.id == id)
        };
        let blocks = |footer: &Footer| footer.batches.blocks_of(id.0.as_bytes());
        self.look_up(blocks, is_it, until, usize::MAX).await
    }

    async fn look_up(
        &self,
        blocks: impl Fn(&Footer) -> Vec<usize> + Send + Sync,
        pick: impl Fn(&Block, usize) -> bool + Send + Sync,
        until: Position,
        limit: usize,
    ) -> Result<Vec<Recorded<Event>>, event_store::Error> {
        let mut events = Vec::new();
        let manifest = self.manifest();
        for segment in manifest.segments.iter().filter(|segment| segment.first <= until) {
            let footer = self.footer(segment).await?;
            for entry in blocks(&footer).into_iter().filter_map(|place| footer.blocks.get(place)) {
                let block = self.block(segment, entry).await?;
                for index in block.behind(Position(0)) {
                    if events.len() == limit {
                        return Ok(events);
                    }
                    if pick(&block, index) {
                        let event = block.event(index)?;
                        if event.position <= until {
                            events.push(event);
                        }
                    }
                }
            }
        }
        Ok(events)
    }

    /// The last position up to `until` whose time is not later; `None` before all.
    ///
    /// # Errors
    /// See [`Archive::read_all`].
    pub async fn position_at(
        &self,
        time: Timestamp,
        until: Position,
    ) -> Result<Option<Position>, event_store::Error> {
        let manifest = self.manifest();
        let begun = manifest.segments.partition_point(|segment| segment.first_time <= time);
        let before = manifest.base.as_ref().filter(|base| base.recorded_at <= time);
        let Some(segment) = begun.checked_sub(1).and_then(|at| manifest.segments.get(at)) else {
            return Ok(before.map(|base| base.position));
        };
        let footer = self.footer(segment).await?;
        let begun = footer.blocks.partition_point(|block| block.first_time <= time);
        let Some(entry) = begun.checked_sub(1).and_then(|at| footer.blocks.get(at)) else {
            return Ok(before.map(|base| base.position));
        };
        let block = self.block(segment, entry).await?;
        let last = block.batches().iter().rfind(|batch| batch.recorded_at <= time);
        Ok(last.map(|batch| batch.last().min(until)))
    }

    /// A whole segment, checked against the list and its own digests.
    pub(super) async fn whole_segment(
        &self,
        segment: &SegmentEntry,
    ) -> Result<(Vec<u8>, Footer), Error> {
        let bytes = self.place.get_whole(&segment.object).await?;
        let (header, footer) = segment::open_whole(&segment.object, &bytes)?;
        check_footer(segment, &footer)?;
        let is_listed = domain::sealed::Digest::of(&bytes) == segment.sha256
            && header.first == segment.first
            && header.link_before == segment.link_before.0
            && header.log.log_id == self.manifest().log_id;
        if !is_listed {
            return Err(Error::damaged(&segment.object, "it is not the one that was listed"));
        }
        Ok((bytes, footer))
    }
}

pub(super) fn decode_block(object: &str, entry: &BlockEntry, bytes: &[u8]) -> Result<Block, Error> {
    let malformed =
        || Error::damaged(object, format!("the block at position {} cannot be read", entry.first));
    let block = block::decode(entry.first, bytes).ok_or_else(malformed)?;
    if block.last() == entry.last() { Ok(block) } else { Err(malformed()) }
}

/// The blocks must cover just what the segment is listed with.
fn check_footer(segment: &SegmentEntry, footer: &Footer) -> Result<(), Error> {
    let mut next = segment.first;
    for block in &footer.blocks {
        if block.first != next || block.count == 0 {
            return Err(Error::damaged(&segment.object, format!("it lacks position {next}")));
        }
        next = block.last().next();
    }
    let ends = next == segment.last.next() && footer.link_after == segment.link_after.0;
    if ends {
        return Ok(());
    }
    Err(Error::damaged(&segment.object, "it is not the one that was listed"))
}

/// The blocks of a segment that may hold what a filter lets through, in its order.
fn candidates(footer: &Footer, filter: &Filter, owner: Option<&str>, order: Order) -> Vec<usize> {
    let mut places = match owner {
        Some(owner) => footer.owners.blocks_of(owner.as_bytes()),
        None => (0..footer.blocks.len()).collect(),
    };
    if !filter.types.is_empty() {
        let has_type = |kind: &u16| {
            let name = footer.types.get(usize::from(*kind));
            name.is_some_and(|name| filter.types.contains(name))
        };
        places.retain(|place| {
            footer.blocks.get(*place).is_some_and(|block| block.types.iter().any(has_type))
        });
    }
    if order == Order::NewestFirst {
        places.reverse();
    }
    places
}

fn collect(
    block: &Block,
    filter: &Filter,
    owner: Option<&str>,
    (low, high): (Position, Position),
    (limit, order): (usize, Order),
    events: &mut Vec<Recorded<Event>>,
) -> Result<(), event_store::Error> {
    let passes = |index: &usize| {
        let place = u64::try_from(*index).unwrap_or(u64::MAX);
        let position = Position(block.first().0.saturating_add(place));
        (position > low && position <= high)
            && owner.is_none_or(|owner| block.owner(*index) == Some(owner))
            && (filter.types.is_empty()
                || block
                    .type_name(*index)
                    .is_some_and(|name| filter.types.iter().any(|known| known == name)))
            && filter.actor.as_ref().is_none_or(|actor| block.actor(*index) == Some(actor))
    };
    let mut indexes: Vec<usize> = block.behind(Position(0)).filter(passes).collect();
    if order == Order::NewestFirst {
        indexes.reverse();
    }
    for index in indexes {
        if events.len() == limit {
            return Ok(());
        }
        events.push(block.event(index)?);
    }
    Ok(())
}
