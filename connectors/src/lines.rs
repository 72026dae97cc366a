//! Which line of its file each record stands on.
//!
//! Rows count records from 0, lines count the lines of the file from 1, whatever stands on them: a header, a
//! blank line, a text of several lines. People are told lines, and name them. In nearly all files the two
//! are apart by the same distance all along, so only where it changes is remembered.

use millrace_operators::domain::FileId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

/// Changes remembered of a file, at most; behind them its lines are not known.
const STEPS_MAX: usize = 4096;

/// The lines of all files, shared with whoever tells people of records. Formats without lines have none.
pub type FileLines = Arc<RwLock<BTreeMap<FileId, LineMap>>>;

/// The lines of a file's records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineMap {
    /// Rows, and the lines that they and the rows behind them stand on, one by one.
    steps: Vec<(u64, u64)>,
    /// The row from which on nothing is known.
    end: u64,
    full: bool,
}

impl LineMap {
    /// Adds records that follow, in order, by their rows and lines.
    pub fn add(&mut self, rows: &[u64], lines: &[u64]) {
        let Some(row) = rows.last() else {
            return;
        };
        if self.full || rows.len() != lines.len() {
            return;
        }
        for (row, line) in rows.iter().zip(lines) {
            if self.expected(*row) == Some(*line) {
                continue;
            }
            if self.steps.len() == STEPS_MAX {
                (self.full, self.end) = (true, *row);
                return;
            }
            self.steps.push((*row, *line));
        }
        self.end = row.saturating_add(1);
    }

    /// Whether more lines are known than in another map of the same file.
    #[must_use]
    pub fn reaches_behind(&self, other: &Self) -> bool {
        self.end > other.end
    }

    fn expected(&self, row: u64) -> Option<u64> {
        let (first, line) = self.steps.last()?;
        line.checked_add(row.checked_sub(*first)?)
    }

    /// The line that a row begins on.
    #[must_use]
    pub fn line(&self, row: u64) -> Option<u64> {
        let at = self.steps.partition_point(|(first, _)| *first <= row);
        let (first, line) = self.steps.get(at.checked_sub(1)?)?;
        (row < self.end).then(|| line.saturating_add(row - first))
    }

    /// The row that stands on a line, or goes on over it.
    #[must_use]
    pub fn row(&self, line: u64) -> Option<u64> {
        let at = self.steps.partition_point(|(_, first)| *first <= line);
        let (first, begin) = self.steps.get(at.checked_sub(1)?)?;
        let row = first.saturating_add(line - begin);
        let row = match self.steps.get(at) {
            // The record before a step goes on up to it.
            Some((next, _)) => row.min(next.saturating_sub(1)),
            None => row,
        };
        (row < self.end).then_some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_rows_find_each_other() {
        let mut map = LineMap::default();
        assert_eq!((map.line(0), map.row(1)), (None, None));
        // A header, a blank line, a record of three lines.
        let rows: Vec<u64> = (0..7).collect();
        let lines = [2, 3, 5, 6, 9, 10, 11];
        map.add(&rows[..3], &lines[..3]);
        map.add(&rows[3..], &lines[3..]);
        for (row, line) in rows.iter().zip(lines) {
            assert_eq!(map.line(*row), Some(line), "{row}");
            assert_eq!(map.row(line), Some(*row), "{line}");
        }
        assert_eq!(
            (map.row(1), map.row(7), map.row(8)),
            (None, Some(3), Some(3))
        );
        assert_eq!((map.line(7), map.row(12)), (None, None));
        // Rows that were no records leave gaps, and stand one behind the other.
        let mut map = LineMap::default();
        map.add(&[0, 2], &[2, 4]);
        assert_eq!((map.line(1), map.row(3)), (Some(3), Some(1)));
    }

    #[test]
    fn a_file_of_odd_lines_is_known_as_far_as_it_is_remembered() {
        let rows: Vec<u64> = (0..10_000).collect();
        let lines: Vec<u64> = rows.iter().map(|row| 2 * row + 1).collect();
        let mut map = LineMap::default();
        map.add(&rows, &lines);
        assert_eq!(map.line(4_000), Some(8_001));
        assert_eq!((map.line(9_999), map.row(19_999)), (None, None));
    }
}
