//! Rows of a bench: figures of several rounds, their medians, and the goal that they are held to.

use serde_json::json;

use crate::output;

/// What a row is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// For orientation only.
    None,
    /// Ours at least so many times the peer's.
    RatioAtLeast(f64),
    /// Ours at most so many times the peer's.
    RatioAtMost(f64),
    /// Ours at least this.
    AtLeast(f64),
    /// Ours at most this.
    AtMost(f64),
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::None => "-".to_owned(),
            Self::RatioAtLeast(bound) => format!(">= {bound} x"),
            Self::RatioAtMost(bound) => format!("<= {bound} x"),
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
        }
    }

    fn is_met(self, ours: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::None => None,
            Self::RatioAtLeast(bound) => ratio.map(|ratio| ratio >= bound),
            Self::RatioAtMost(bound) => ratio.map(|ratio| ratio <= bound),
            Self::AtLeast(bound) => Some(ours >= bound),
            Self::AtMost(bound) => Some(ours <= bound),
        }
    }
}

/// What is measured, and how it is named.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Which row.
    pub(super) name: &'static str,
    /// Of which size.
    pub(super) size: String,
    /// What the figures count.
    pub(super) unit: &'static str,
    /// What they are held to.
    pub(super) goal: Goal,
}

/// The figures of one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Round {
    /// Ours.
    pub(super) ours: f64,
    /// The peer's, where one ran beside us.
    pub(super) peer: Option<f64>,
}

/// All rows of a run, printed as they come.
#[derive(Debug)]
pub(super) struct Report {
    is_json: bool,
    only: Vec<String>,
    lines: Vec<[String; 8]>,
    rows: usize,
    missed: usize,
}

const HEADINGS: [&str; 8] = ["name", "size", "ours", "peer", "ratio", "unit", "goal", "pass"];

impl Report {
    /// An empty one of the rows whose names begin with one of `only`, which are parted by commas.
    pub(super) fn new(is_json: bool, only: &str) -> Self {
        let only = only.split(',').map(|name| name.trim().to_owned()).collect();
        Self { is_json, only, lines: Vec::new(), rows: 0, missed: 0 }
    }

    /// Whether any row below a name is wanted.
    pub(super) fn wants(&self, name: &str) -> bool {
        let is_wanted = |only: &String| name.starts_with(only) || only.starts_with(name);
        self.only.iter().any(is_wanted)
    }

    /// Says what is being done now.
    pub(super) fn progress(&self, what: impl std::fmt::Display) {
        output::progress(format!("... {what}"));
    }

    /// Adds a row: the medians of its rounds, the ratio being the median of each round's own.
    pub(super) fn add(&mut self, row: Row, rounds: &[Round]) {
        if !self.only.iter().any(|only| row.name.starts_with(only)) {
            return;
        }
        self.rows += 1;
        let ours = median(rounds.iter().map(|round| round.ours));
        let peers: Vec<f64> = rounds.iter().filter_map(|round| round.peer).collect();
        let peer = (!peers.is_empty()).then(|| median(peers));
        let ratios: Vec<f64> = rounds
            .iter()
            .filter_map(|round| round.peer.filter(|peer| *peer > 0.0).map(|peer| round.ours / peer))
            .collect();
        let ratio = (!ratios.is_empty()).then(|| median(ratios));
        let is_met = row.goal.is_met(ours, ratio);
        if is_met == Some(false) {
            self.missed += 1;
        }
        if self.is_json {
            output::line(json!({
                "name": row.name,
                "size": row.size,
                "ours": rounded(ours),
                "peer": peer.map(rounded),
                "ratio": ratio.map(rounded),
                "unit": row.unit,
                "goal": row.goal.text(),
                "pass": is_met,
                "runs": rounds.len(),
            }));
            return;
        }
        let or_dash = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), shown);
        let line = [
            row.name.to_owned(),
            row.size,
            shown(ours),
            or_dash(peer),
            or_dash(ratio),
            row.unit.to_owned(),
            row.goal.text(),
            is_met.map_or("-", |is_met| if is_met { "yes" } else { "NO" }).to_owned(),
        ];
        output::progress(line.join("  "));
        self.lines.push(line);
    }

    /// How many rows were added.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Whether no goal was missed.
    pub(super) fn is_met(&self) -> bool {
        self.missed == 0
    }

    /// Prints the table for people.
    pub(super) fn finish(&self) {
        if self.is_json {
            return;
        }
        let headings = HEADINGS.map(str::to_owned);
        let rows: Vec<&[String; 8]> = std::iter::once(&headings).chain(&self.lines).collect();
        let mut widths = [0; 8];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row.iter()) {
                *width = (*width).max(cell.len());
            }
        }
        for row in rows {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            output::line(cells.join("  ").trim_end());
        }
    }
}

/// The middle one; 0 of none.
pub(super) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Adds two rows: the middle one of some latencies, and the one that 99 of 100 do not exceed.
pub(super) fn add_latencies(
    report: &mut Report,
    names: [&'static str; 2],
    size: &str,
    latencies_ms: Vec<f64>,
    goals: [Goal; 2],
) {
    let figures = [median(latencies_ms.iter().copied()), p99(latencies_ms)];
    for ((name, ours), goal) in names.into_iter().zip(figures).zip(goals) {
        let row = Row { name, size: size.to_owned(), unit: "ms", goal };
        report.add(row, &[Round { ours, peer: None }]);
    }
}

/// The figure that 99 of 100 do not exceed; 0 of none.
fn p99(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() * 99 / 100).or_else(|| figures.last()).copied().unwrap_or_default()
}

/// The figure that 99 of 100 do not exceed, in milliseconds; 0 of none.
pub(super) fn p99_ms(mut latencies_us: Vec<u32>) -> f64 {
    latencies_us.sort_unstable();
    let index = latencies_us.len() * 99 / 100;
    latencies_us
        .get(index)
        .or_else(|| latencies_us.last())
        .map_or(0.0, |us| f64::from(*us) / 1000.0)
}

/// A count per second.
#[expect(clippy::cast_precision_loss, reason = "a figure of a bench")]
pub(super) fn per_second(count: u64, elapsed: std::time::Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(f64::EPSILON)
}

fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

fn shown(figure: f64) -> String {
    if figure.abs() >= 100.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}
