//! An archive as a source of batches for `verify`: whole segments, every digest checked, leaves
//! computed anew.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use domain::log::Position;

use super::{
    Archive, Error, SegmentEntry,
    block::{self, Block},
    reader::decode_block,
    segment::{self, BlockEntry, Footer},
};
use crate::{
    event_store::{self, BatchRow},
    verify::{Content, Piece, Source, stream_hash},
};

/// The batches of an archive, segment by segment.
#[derive(Debug)]
pub struct ArchiveSource {
    archive: Arc<Archive>,
    segments: VecDeque<SegmentEntry>,
    open: Option<(SegmentEntry, Vec<u8>, VecDeque<BlockEntry>)>,
    end: Position,
}

impl ArchiveSource {
    /// Reads the segments from the one that holds `from` to the one that holds `to`.
    #[must_use]
    pub fn new(archive: Arc<Archive>, from: Position, to: Position) -> Self {
        let manifest = archive.manifest();
        let segments = manifest.segments.iter();
        let segments = segments.filter(|it| it.last >= from && it.first <= to).cloned().collect();
        let end = manifest.end().0;
        Self { archive, segments, open: None, end }
    }

    /// The end and link of the batch before the first one that is read.
    #[must_use]
    pub fn begin(&self) -> (Position, [u8; 32]) {
        let before = |segment: &SegmentEntry| {
            (Position(segment.first.0.saturating_sub(1)), segment.link_before.0)
        };
        self.segments.front().map_or_else(|| self.archive.manifest().begin(), before)
    }

    /// The last event that is read.
    #[must_use]
    pub fn last(&self) -> Position {
        self.segments.back().map_or_else(|| self.begin().0, |segment| segment.last)
    }
}

#[async_trait]
impl Source for ArchiveSource {
    async fn next(&mut self) -> Result<Vec<Piece>, event_store::Error> {
        loop {
            if let Some((segment, bytes, blocks)) = &mut self.open {
                if let Some(entry) = blocks.pop_front() {
                    let packed = segment::block_bytes(&segment.object, bytes, &entry)?;
                    let block = decode_block(&segment.object, &entry, packed)?;
                    return Ok(pieces(&block));
                }
                self.open = None;
            }
            let Some(segment) = self.segments.pop_front() else { return Ok(Vec::new()) };
            let (bytes, footer) = self.archive.whole_segment(&segment).await?;
            self.open = Some((segment, bytes, footer.blocks.into()));
        }
    }

    fn end(&self) -> Position {
        self.end
    }
}

/// The batches of a block with leaves computed of its rows.
pub(super) fn pieces(block: &Block) -> Vec<Piece> {
    let mut metadata = Vec::with_capacity(512);
    let mut index = 0;
    let piece = |batch: &BatchRow| {
        let count = usize::try_from(batch.count).unwrap_or(0);
        let rows = (index..index + count).filter_map(|at| block.row(at));
        index += count;
        let checked = rows
            .map(|row| (block::leaf(&row, &mut metadata), (stream_hash(row.stream), row.version)));
        let (leaves, versions) = checked.unzip();
        Piece { batch: batch.clone(), content: Content::Leaves(leaves, versions) }
    };
    block.batches().iter().map(piece).collect()
}

/// A segment file by itself, already read.
#[derive(Debug)]
pub struct SegmentSource {
    name: String,
    bytes: Vec<u8>,
    blocks: VecDeque<BlockEntry>,
    begin: (Position, [u8; 32]),
    end: Position,
}

impl SegmentSource {
    /// Opens a segment's bytes. `name` is told in errors.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let (header, footer) = segment::open_whole(name, &bytes)?;
        let Footer { blocks, .. } = footer;
        let begin = (Position(header.first.0.saturating_sub(1)), header.link_before);
        let end = blocks.last().map_or(begin.0, BlockEntry::last);
        Ok(Self { name: name.to_owned(), bytes, blocks: blocks.into(), begin, end })
    }

    /// The end and link of the batch before its first one.
    #[must_use]
    pub fn begin(&self) -> (Position, [u8; 32]) {
        self.begin
    }
}

#[async_trait]
impl Source for SegmentSource {
    async fn next(&mut self) -> Result<Vec<Piece>, event_store::Error> {
        let Some(entry) = self.blocks.pop_front() else { return Ok(Vec::new()) };
        let packed = segment::block_bytes(&self.name, &self.bytes, &entry)?;
        Ok(pieces(&decode_block(&self.name, &entry, packed)?))
    }

    fn end(&self) -> Position {
        self.end
    }
}
