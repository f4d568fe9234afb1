//! Proves that a log is the one that was written: chain, checkpoints, and what stands beside it.
//!
//! - [`log`]: checks a live log and its archive, read-only and beside running nodes
//! - [`export()`], [`backup()`], [`archive()`]: check what lies elsewhere; [`run`]: any other source
//!
//! Never writes, and never calls a log wrong because a node wrote to it meanwhile.

mod archive;
mod backup;
mod beside;
mod export;
#[cfg(test)]
mod file_tests;
mod live;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use domain::log::{Position, StreamVersion};

use crate::{
    checkpoint::{Checkpoint, PublicKey},
    event_store::{
        BatchRow, Error, Leaf, LogIdentity, Row,
        chain::{Fault, FaultKind, GENESIS, Verifier, fault},
    },
    transfer::Place,
};

pub use archive::archive;
pub use backup::backup;
pub use export::export;
pub use live::{Live, LogOptions, log};
pub use source::StoreSource;

/// What a batch is checked by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Its rows with the leaves that are stored beside them; altered ones are named.
    Rows(Vec<(Row, Leaf)>),
    /// Leaves that were just computed from its rows, where none are stored; with the last version
    /// of each stream in it, by [`stream_hash`].
    Leaves(Vec<Leaf>, Vec<(u64, StreamVersion)>),
}

/// A batch as it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its boundary and link.
    pub batch: BatchRow,
    /// What it holds.
    pub content: Content,
}

/// Batches of a log in order.
#[async_trait::async_trait]
pub trait Source: Send {
    /// The next batches; none at the end.
    ///
    /// # Errors
    /// When the source cannot be read at all. What is wrong with the log is for [`run`] to find.
    async fn next(&mut self) -> Result<Vec<Piece>, Error>;

    /// The last position at which the source has any row, where it is known: tells a hole from
    /// a log that is cut off.
    fn end(&self) -> Position;
}

/// What is known before anything is read.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The end of the batch before the first one that is checked.
    pub position: Position,
    /// Its link.
    pub link: [u8; 32],
    /// The checkpoints of the log, in order; those before the first batch are only checked by
    /// their signature.
    pub checkpoints: Vec<Checkpoint>,
    /// Which log the checkpoints must be of. Without it their signatures are not checked.
    pub log: Option<LogIdentity>,
    /// The keys that may have signed; empty trusts those that the checkpoints name.
    pub keys: BTreeSet<PublicKey>,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            position: Position(0),
            link: GENESIS,
            checkpoints: Vec::new(),
            log: None,
            keys: BTreeSet::new(),
        }
    }
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The end of the batch before the first one that was checked.
    pub after: Position,
    /// The last position that was proven.
    pub last: Position,
    /// The link there.
    pub link: [u8; 32],
    /// How many batches were proven.
    pub batches: u64,
    /// How many checkpoints agree with the log.
    pub checkpoints: u64,
    /// The last position that one of them vouches for.
    pub signed: Position,
    /// The keys that signed them, as far as they may.
    pub keys: BTreeSet<PublicKey>,
    /// The first place that is wrong; `None` when all holds.
    pub fault: Option<Fault>,
    /// Where in its file that is.
    pub place: Option<Place>,
}

impl Report {
    /// How many events were proven.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.last.0.saturating_sub(self.after.0)
    }

    fn add(&mut self, found: Option<Fault>) {
        if let Some(found) = found
            && self.fault.as_ref().is_none_or(|known| found.position < known.position)
        {
            self.fault = Some(found);
        }
    }

    fn add_at(&mut self, found: Fault, place: Place) {
        self.add(Some(found.clone()));
        if self.fault.as_ref() == Some(&found) {
            self.place = Some(place);
        }
    }
}

/// The last version of each stream and the end of the batch that wrote it, by [`stream_hash`].
pub(crate) type Streams = HashMap<u64, (StreamVersion, Position)>;

/// A short name of a stream, for comparing many streams without holding their texts.
#[must_use]
pub fn stream_hash(stream: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    stream.hash(&mut hasher);
    hasher.finish()
}

/// Checks batches from a source. `progress` is told the last position that was proven, now and
/// then. Gives what was found; [`Report::fault`] is the first place that is wrong.
///
/// # Errors
/// When the source cannot be read at all.
pub async fn run(
    source: &mut dyn Source,
    trust: Trust,
    progress: &(dyn Fn(Position) + Sync),
) -> Result<Report, Error> {
    let mut check = Check::new(trust);
    check.all(source, progress).await?;
    Ok(check.report)
}

/// A check on its way.
#[derive(Debug)]
struct Check {
    verifier: Verifier,
    trust: Trust,
    /// The first checkpoint that was not reached.
    next_checkpoint: usize,
    /// The last position that a checkpoint, or the start, vouches for.
    trusted: Position,
    /// `None` where nobody will ask.
    streams: Option<Streams>,
    report: Report,
}

impl Check {
    fn new(trust: Trust) -> Self {
        let report = Report {
            after: trust.position,
            last: trust.position,
            link: trust.link,
            batches: 0,
            checkpoints: 0,
            signed: Position(0),
            keys: BTreeSet::new(),
            fault: None,
            place: None,
        };
        let verifier = Verifier::new(trust.position, trust.link);
        let trusted = trust.position;
        Self { verifier, trust, next_checkpoint: 0, trusted, streams: None, report }
    }

    async fn all(
        &mut self,
        source: &mut dyn Source,
        progress: &(dyn Fn(Position) + Sync),
    ) -> Result<(), Error> {
        if let Err(found) = self.signatures() {
            self.report.add(Some(found));
        }
        loop {
            let pieces = source.next().await?;
            if pieces.is_empty() {
                return Ok(());
            }
            for piece in pieces {
                if let Err(found) = self.piece(piece, source.end()) {
                    self.report.add(Some(found));
                    return Ok(());
                }
            }
            progress(self.report.last);
            // A long check of what is in memory would keep everything else waiting.
            tokio::task::yield_now().await;
        }
    }

    /// Whether a key may have signed.
    fn trusts(&self, key: &PublicKey) -> bool {
        self.trust.keys.is_empty() || self.trust.keys.contains(key)
    }

    /// Every checkpoint must be signed in its own life of the log, by a trusted key or before a
    /// later one that is: a link vouches for all that is before it, so whoever takes over a log,
    /// by a restore or as another node, vouches for what was signed by others.
    fn signatures(&mut self) -> Result<(), Fault> {
        let Some(log) = self.trust.log else { return Ok(()) };
        let trusted = self.trust.checkpoints.iter().filter(|it| self.trusts(&it.key));
        let vouched = trusted.map(|it| it.position).max().unwrap_or_default();
        for checkpoint in &self.trust.checkpoints {
            if !checkpoint.holds(log) {
                return Err(fault(checkpoint.position, FaultKind::CheckpointAltered));
            }
            if self.trusts(&checkpoint.key) {
                self.report.keys.insert(checkpoint.key);
            } else if checkpoint.position > vouched {
                return Err(fault(checkpoint.position, FaultKind::CheckpointForeign));
            }
        }
        Ok(())
    }

    fn piece(&mut self, piece: Piece, end: Position) -> Result<(), Fault> {
        let Piece { batch, content } = piece;
        match content {
            Content::Rows(rows) => {
                self.verifier.batch(&batch, &rows, end.max(self.report.last))?;
                if let Some(streams) = &mut self.streams {
                    for (row, _) in &rows {
                        streams.insert(stream_hash(&row.stream), (row.version, batch.last()));
                    }
                }
            }
            Content::Leaves(leaves, versions) => {
                self.verifier.leaves(&batch, leaves)?;
                if let Some(streams) = &mut self.streams {
                    let last = batch.last();
                    let kept = versions.into_iter().map(|(name, version)| (name, (version, last)));
                    streams.extend(kept);
                }
            }
        }
        self.report.last = batch.last();
        self.report.link = batch.link;
        self.report.batches += 1;
        self.meet_checkpoints()
    }

    /// Compares the log with the checkpoints up to where it is proven.
    fn meet_checkpoints(&mut self) -> Result<(), Fault> {
        while let Some(checkpoint) = self.trust.checkpoints.get(self.next_checkpoint) {
            if checkpoint.position > self.report.last {
                break;
            }
            self.next_checkpoint += 1;
            if checkpoint.position <= self.report.after {
                continue;
            }
            // A checkpoint inside of a batch was never signed: batches are written whole.
            if checkpoint.position < self.report.last || checkpoint.link != self.report.link {
                let trusted = self.trusted;
                return Err(fault(checkpoint.position, FaultKind::Rewritten { trusted }));
            }
            self.report.checkpoints += 1;
            if self.trust.keys.is_empty() || self.trust.keys.contains(&checkpoint.key) {
                self.trusted = checkpoint.position;
                self.report.signed = checkpoint.position;
            }
        }
        Ok(())
    }

    /// The checkpoints that the whole log did not reach: it was longer when they were signed.
    fn cut_off(&self) -> Option<Fault> {
        let is_ahead = |checkpoint: &Checkpoint| checkpoint.position > self.report.last;
        let is_cut = self.trust.checkpoints.iter().any(is_ahead);
        is_cut.then(|| fault(self.report.last.next(), FaultKind::CutOff))
    }
}
