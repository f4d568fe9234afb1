//! Placing: what one decision costs among many cells, full or empty, and how long many take.
//!
//! Bytes are not counted here: that needs an allocator of the bench's own in the whole program.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use domain::{
    auction::{
        self, Auction, Cells, Change, Constraint, Demand, Input, Offer, PresentCell, Settings,
    },
    bbs::rootfs::{Rootfs, RootfsProviders},
    id::{ActualLrpKey, ProcessGuid, Zone},
    log::{CellEpoch, Position},
    rep::WorkKind,
};

use super::{Effort, amounts, cell_id, malformed, processor_time};
use crate::bench::{
    Error,
    measure::{Goal, Report, Round, Row},
};

/// What one decision may cost, in microseconds of the processor.
const DECISION_US_MAX: f64 = 15.0;
/// What it may cost more when every cell is full of instances, on so many cells. On ten times as
/// many the instances by process lie in memory that no cache holds, which every look-up pays for.
const RUNNING_RATIO_MAX: f64 = 1.2;
const RUNNING_RATIO_CELLS: u32 = 1_000;
/// How many decisions are measured together.
const DECISIONS: u32 = 5_000;
/// How many instances run on a cell, and how many each process has.
const ON_A_CELL: u32 = 250;
const OF_A_PROCESS: u32 = 4;
/// Diego's large cold start: so many of each size in mebibytes, half of them apps of their own, half
/// of them instances of one of four.
const COLD_START: [(u32, u32); 3] = [(1_800, 1), (200, 2), (50, 4)];
/// How many LRPs are placed on how many cells, and within how many seconds.
const ROUNDS: [(&str, u32, u32, f64); 4] = [
    ("place/8200", 8_200, 100, 0.05),
    ("place/20000", 20_000, 250, 0.15),
    ("place/50000", 50_000, 500, 0.4),
    ("place/250000", 250_000, 1_000, 5.0),
];

pub(super) fn all(report: &mut Report, effort: Effort) -> Result<(), Error> {
    for cell_count in [100, 1_000, 10_000] {
        one_decision(report, cell_count / effort.one_in, effort)?;
    }
    for (name, lrps, cell_count, seconds_max) in ROUNDS {
        whole_round(report, name, (lrps / effort.one_in, cell_count), seconds_max, effort)?;
    }
    Ok(())
}

/// One decision, each in a round of its own, as when one app asks for one instance.
fn one_decision(report: &mut Report, cell_count: u32, effort: Effort) -> Result<(), Error> {
    if !report.wants("decision") {
        return Ok(());
    }
    report.progress(format!("decisions among {cell_count} cells"));
    let empty = cells(cell_count, 1_000)?;
    let full = running(cell_count)?;
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let peer = Some(decision_us(&empty)?);
        rounds.push(Round { ours: decision_us(&full)?, peer });
    }
    let on_empty: Vec<Round> = rounds
        .iter()
        .map(|round| Round { ours: round.peer.unwrap_or_default(), peer: None })
        .collect();
    let alone: Vec<Round> = rounds.iter().map(|round| Round { peer: None, ..*round }).collect();
    let lrps = cell_count * ON_A_CELL;
    let row = |name, goal, size| Row { name, size, unit: "us CPU", goal };
    let goal = Goal::AtMost(DECISION_US_MAX);
    let size = format!("cells={cell_count} lrps={lrps}");
    report.add(row("decision/empty", goal, format!("cells={cell_count} lrps=0")), &on_empty);
    report.add(row("decision/running", goal, size.clone()), &alone);
    let alike = match cell_count {
        RUNNING_RATIO_CELLS => Goal::RatioAtMost(RUNNING_RATIO_MAX),
        _ => Goal::None,
    };
    report.add(row("decision/alike", alike, size), &rounds);
    Ok(())
}

fn decision_us(cells: &Cells) -> Result<f64, Error> {
    let mut inputs = Vec::new();
    for number in 0..DECISIONS {
        let app = app(&format!("app-{number}"), OF_A_PROCESS, 1 + number % 4)?;
        inputs.push(input(vec![app], cells));
    }
    let (placed, took) = processor_time(|| {
        let outcomes = inputs.into_iter().map(auction::schedule);
        outcomes.map(|outcome| outcome.placements.len()).sum::<usize>()
    })?;
    check(placed, DECISIONS)?;
    Ok(microseconds(took) / f64::from(DECISIONS))
}

/// Everything in one round.
fn whole_round(
    report: &mut Report,
    name: &'static str,
    (lrps, cell_count): (u32, u32),
    seconds_max: f64,
    effort: Effort,
) -> Result<(), Error> {
    if !report.wants(name) {
        return Ok(());
    }
    report.progress(format!("placing {lrps} LRPs on {cell_count} cells"));
    let cells = cells(cell_count, 1_000)?;
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let auctions = cold_start(lrps)?;
        let waiting = u32::try_from(auctions.len()).unwrap_or(u32::MAX);
        let input = input(auctions, &cells);
        let (outcome, took) = processor_time(|| auction::schedule(input))?;
        check(outcome.placements.len(), waiting)?;
        rounds.push(Round { ours: took.as_secs_f64(), peer: None });
    }
    let size = format!("lrps={lrps} cells={cell_count}");
    report.add(Row { name, size, unit: "s CPU", goal: Goal::AtMost(seconds_max) }, &rounds);
    Ok(())
}

fn check(placed: usize, wanted: u32) -> Result<(), Error> {
    if u32::try_from(placed) == Ok(wanted) {
        return Ok(());
    }
    Err(Error::Unexpected(format!("the bench placed {placed} of {wanted}")))
}

fn input(auctions: Vec<Auction>, cells: &Cells) -> Input<'_> {
    Input { auctions, cells, settings: Settings::default(), seen: Position(1) }
}

fn cold_start(lrps: u32) -> Result<Vec<Auction>, Error> {
    let whole: u32 = COLD_START.iter().map(|(count, _)| count).sum();
    let mut auctions = Vec::new();
    for (count, memory_mb) in COLD_START {
        let count = u32::try_from(u64::from(lrps) * u64::from(count) / u64::from(whole));
        for number in 0..count.unwrap_or(u32::MAX) / 2 {
            auctions.push(app(&format!("unique-{memory_mb}-{number}"), 0, memory_mb)?);
            let color = format!("color-{memory_mb}-{}", number % 4);
            auctions.push(app(&color, number / 4, memory_mb)?);
        }
    }
    Ok(auctions)
}

fn app(process: &str, index: u32, memory_mb: u32) -> Result<Auction, Error> {
    let process_guid = ProcessGuid::new(process).map_err(malformed)?;
    let constraint = Constraint {
        rootfs: Rootfs::new("preloaded:linux").map_err(malformed)?,
        volume_drivers: BTreeSet::new(),
        placement_tags: BTreeSet::new(),
    };
    let demand = Demand { constraint, resources: amounts(memory_mb, 1, 1) };
    Ok(Auction { work: WorkKind::Lrp(ActualLrpKey { process_guid, index }), demand })
}

/// Cells in two zones by turns, with room for so many mebibytes and containers.
fn cells(count: u32, size: u32) -> Result<Cells, Error> {
    let mut cells = Cells::default();
    for number in 0..count {
        let offer = Arc::new(Offer {
            zone: Zone::new(&format!("z{}", number % 2)).map_err(malformed)?,
            rootfs_providers: RootfsProviders::preloaded(["linux"]),
            volume_drivers: BTreeSet::new(),
            placement_tags: BTreeSet::new(),
            optional_placement_tags: BTreeSet::new(),
        });
        let total = amounts(size, size, size);
        let present = PresentCell { cell_epoch: CellEpoch(1), offer, total, free: total };
        let cell = cells.number(&cell_id(number)?);
        cells.put(cell, Some(present));
    }
    Ok(cells)
}

/// Such cells with [`ON_A_CELL`] instances each, no two of them equally full.
fn running(count: u32) -> Result<Cells, Error> {
    let size = 1_000;
    let mut cells = cells(count, size)?;
    for number in 0..count * ON_A_CELL {
        let process = ProcessGuid::new(&format!("app-{}", number / OF_A_PROCESS));
        // A prime spreads the instances of a process.
        let cell = cells.number(&cell_id(number.wrapping_mul(7_919) % count)?);
        cells.count_instance(cell, &process.map_err(malformed)?, Change::OneMore);
    }
    for number in 0..count {
        let cell = cells.number(&cell_id(number)?);
        let left = size - ON_A_CELL;
        cells.set_free(cell, amounts(left - number * 31 % 97, left - number * 17 % 89, left));
    }
    Ok(cells)
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000_000.0
}
