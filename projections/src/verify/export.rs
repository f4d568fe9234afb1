//! Checks an export by itself: its form, the order of its events, its hash chain, and the signed
//! checkpoints of whoever knows some.
//!
//! An export proves where it begins only from position 1 on, or by a checkpoint: the link before a
//! later part stands in the file itself.

use std::path::Path;

use domain::log::Position;

use super::{Check, Content, LogOptions, Piece, Report, Trust};
use crate::{
    event_store::{
        StoredBatch,
        chain::{self, FaultKind, fault},
    },
    transfer::{self, Export, Fault, Header},
};

/// Checks an export. Of `trust` only what was signed is looked at: the start stands in the file.
/// See [`super::run`] for `progress`.
///
/// # Errors
/// When the file cannot be read at all, is something else, or does not hold what was asked for.
pub fn export(
    path: &Path,
    options: &LogOptions,
    trust: Trust,
    progress: &(dyn Fn(Position) + Sync),
) -> Result<(Header, Report), transfer::Error> {
    let mut export = Export::open(path)?;
    let header = export.header().clone();
    check_range(options, &header)?;
    let mut before = (header.before(), header.link_before.0);
    let mut next = export.next();
    while let Some(Ok(StoredBatch { batch, .. })) = &next
        && options.from.is_some_and(|from| batch.last() < from)
    {
        before = (batch.last(), batch.link);
        next = export.next();
    }
    let (position, link) = before;
    let mut check = Check::new(Trust { position, link, ..trust });
    if let Err(found) = check.signatures() {
        check.report.add(Some(found));
    }
    let is_all = batches(next, &mut export, &mut check, options.to, progress)?;
    if is_all && check.report.fault.is_none() {
        let found = check.cut_off();
        check.report.add(found);
    }
    if let Some(missing) = check.report.fault.as_mut()
        && missing.kind == FaultKind::Missing
        && Export::holds(path, missing.position)?
    {
        missing.kind = FaultKind::Misplaced;
    }
    Ok((header, check.report))
}

fn check_range(options: &LogOptions, header: &Header) -> Result<(), transfer::Error> {
    let ends = [options.from, options.to].into_iter().flatten();
    if let Some(asked) = ends.max().filter(|asked| *asked > header.last) {
        return Err(transfer::Error::Future { asked, head: header.last });
    }
    match (options.from, options.to) {
        (Some(from), Some(to)) if to < from => Err(transfer::Error::Backwards { from, to }),
        _ => Ok(()),
    }
}

/// Checks a batch and those that follow, up to the one that holds `to`. Whether it has seen the
/// end.
fn batches(
    mut next: Option<Result<StoredBatch, transfer::Error>>,
    export: &mut Export,
    check: &mut Check,
    to: Option<Position>,
    progress: &(dyn Fn(Position) + Sync),
) -> Result<bool, transfer::Error> {
    let end = export.header().last;
    loop {
        let StoredBatch { batch, rows } = match next {
            None => return Ok(true),
            Some(Ok(stored)) => stored,
            Some(Err(failure)) => {
                let (found, place) = fault_of(failure, export)?;
                check.report.add_at(found, place);
                return Ok(false);
            }
        };
        let last = batch.last();
        let piece = Piece { batch, content: Content::Rows(rows) };
        if let Err(found) = check.piece(piece, end) {
            let place = export.place_of(found.position);
            check.report.add_at(found, place);
            return Ok(false);
        }
        progress(last);
        if to.is_some_and(|to| last >= to) {
            return Ok(false);
        }
        next = export.next();
    }
}

/// What is wrong with the log, where the file is not as it was written; any other failure is none
/// of the log's.
fn fault_of(
    failure: transfer::Error,
    export: &Export,
) -> Result<(chain::Fault, transfer::Place), transfer::Error> {
    let transfer::Error::File { path, place, fault: found } = failure else { return Err(failure) };
    let (at, last) = (export.looked_for(), export.header().last);
    let around = |reason: String| fault(last, FaultKind::FileAltered { reason });
    let is_behind = at > last;
    let found = match *found {
        Fault::Chain(found) => found,
        Fault::Hole { position } => fault(position, FaultKind::Missing),
        Fault::CutOff if is_behind => around("its end is cut off".to_owned()),
        Fault::CutOff => fault(at, FaultKind::CutOff),
        Fault::Malformed { reason } if is_behind => around(reason),
        Fault::Malformed { reason } => fault(at, FaultKind::Malformed { reason }),
        Fault::Digest => around("its digest does not fit".to_owned()),
        Fault::Trailing => around("something follows its end".to_owned()),
        Fault::NotAnExport | Fault::NewerFormat { .. } | Fault::NewerEvent { .. } => {
            return Err(transfer::Error::File { path, place, fault: found });
        }
    };
    Ok((found, place))
}
