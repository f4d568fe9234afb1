//! Answers as people read them: aligned columns, instants to the millisecond, positions as `@N`.
//!
//! Pure text; never prints.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};

/// What stands where there is nothing.
pub(super) const NOTHING: &str = "-";

/// Rows under headings.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a row, with as many cells as there are headings.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, headings first; `nothing` instead when there are no rows.
    pub(super) fn lines(self, nothing: &str) -> Vec<String> {
        if self.rows.len() == 1 {
            return vec![nothing.to_owned()];
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| width(row.get(column))).max().unwrap_or(0))
            .collect();
        self.rows.iter().map(|row| aligned(row, &widths)).collect()
    }
}

fn width(cell: Option<&String>) -> usize {
    cell.map_or(0, |text| text.chars().count())
}

fn aligned(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> =
        row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    cells.join("  ").trim_end().to_owned()
}

/// An instant of an answer, in UTC, to the millisecond.
pub(super) fn time(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(instant) => instant.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Millis, true),
        Err(_) => text.to_owned(),
    }
}

/// A text that somebody else wrote, without what would move a terminal's cursor or change its
/// colours.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let is_hidden = |character: char| character.is_control() && character != '\t';
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|character| {
        if is_hidden(character) { character.escape_default().to_string() } else { character.into() }
    });
    Cow::Owned(shown.collect())
}

/// A text, or a dash where there is none.
pub(super) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or(NOTHING).to_owned()
}

/// A name of GraphQL's, such as `RUNNING`, as people write it.
pub(super) fn lower(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_do_not_trail() {
        let mut table = Table::new(&["GUID", "ROUTES"]);
        table.row(["a-long-guid".to_owned(), "x.example".to_owned()]);
        table.row(["wüb".to_owned(), String::new()]);

        let lines = table.lines("nothing");

        assert_eq!(lines, ["GUID         ROUTES", "a-long-guid  x.example", "wüb"]);
    }

    #[test]
    fn a_table_without_rows_says_so() {
        assert_eq!(Table::new(&["GUID"]).lines("no LRPs"), ["no LRPs"]);
    }

    #[test]
    fn instants_are_shown_in_utc_to_the_millisecond() {
        assert_eq!(time("2026-01-31T14:00:00.123456789+02:00"), "2026-01-31T12:00:00.123Z");
        assert_eq!(time("not a time"), "not a time");
    }
}
