//! Tables on a terminal: as wide as what they say, and never wider than the terminal.
//!
//! Where a table does not fit, its texts are wrapped, then the columns that matter least go, and say
//! so, and at last each row stands as a list of its own. No number is ever broken over lines, because
//! a broken amount reads as another amount.

mod fit;

use crate::shown::shown;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell as Drawn, CellAlignment, Color, ContentArrangement};
pub use fit::wrap;
use fit::{Layout, Measure};
use std::fmt::{self, Display};
use unicode_width::UnicodeWidthStr as _;

/// How tables are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// In colour.
    pub colour: bool,
    /// No wider than this; as wide as the content where there is no limit.
    pub width: Option<usize>,
}

impl Style {
    /// An empty table.
    #[must_use]
    pub fn table(self, columns: impl IntoIterator<Item = Column>) -> Table {
        Table {
            style: self,
            columns: columns.into_iter().collect(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Text with tables in it, whose other lines are wrapped.
    #[must_use]
    pub fn fit(self, text: &str) -> String {
        let limit = self.width.unwrap_or(usize::MAX);
        // What begins with a border fits already.
        let lines =
            text.lines()
                .flat_map(|line| match line.starts_with(['│', '┌', '╞', '└', '─']) {
                    true => vec![line.to_owned()],
                    false => wrap(&shown(line), limit),
                });
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    name: String,
    number: bool,
    spare: u8,
    align: CellAlignment,
}

impl Column {
    /// A column of texts, which may be wrapped.
    #[must_use]
    pub fn text(name: impl Into<String>) -> Self {
        Self {
            name: shown(&name.into()).into_owned(),
            number: false,
            spare: 0,
            align: CellAlignment::Left,
        }
    }

    /// A column of numbers, which are never broken.
    #[must_use]
    pub fn number(name: impl Into<String>) -> Self {
        Self {
            number: true,
            align: CellAlignment::Right,
            ..Self::text(name)
        }
    }

    /// May be left out where there is no room, those of the highest number first. A column that says
    /// nothing of the kind stays.
    #[must_use]
    pub fn spare(self, spare: u8) -> Self {
        Self { spare, ..self }
    }

    /// Its cells stand in the middle.
    #[must_use]
    pub fn centred(self) -> Self {
        Self {
            align: CellAlignment::Center,
            ..self
        }
    }
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    lines: Vec<String>,
    colour: Option<Color>,
    bold: bool,
}

impl Cell {
    /// A cell of several lines, each of them one.
    #[must_use]
    pub fn lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            lines: lines
                .into_iter()
                .map(|line| shown(line).into_owned())
                .collect(),
            ..Self::default()
        }
    }

    /// In a colour, where there are colours.
    #[must_use]
    pub fn colour(self, colour: Color) -> Self {
        Self {
            colour: Some(colour),
            ..self
        }
    }

    /// In bold, where there are colours.
    #[must_use]
    pub fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    fn drawn(&self, text: String) -> Drawn {
        let mut drawn = Drawn::new(text);
        if let Some(colour) = self.colour {
            drawn = drawn.fg(colour);
        }
        if self.bold {
            drawn = drawn.add_attribute(Attribute::Bold);
        }
        drawn
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::lines([text])
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::lines([text.as_str()])
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::lines([text.as_str()])
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Table {
    style: Style,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    notes: Vec<String>,
}

impl Table {
    /// Adds a row; what is missing of it is empty.
    pub fn add_row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let mut row: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        row.resize_with(self.columns.len(), Cell::default);
        self.rows.push(row);
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(shown(&note.into()).into_owned());
    }

    fn measures(&self) -> Vec<Measure> {
        let measure = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| &row[index]);
            let texts = cells.flat_map(|cell| &cell.lines).map(String::as_str);
            Measure::of(&column.name, column.number, column.spare, texts)
        };
        self.columns.iter().enumerate().map(measure).collect()
    }

    fn draw(&self, shown: &[(usize, usize)]) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if self.style.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(shown.iter().map(|(index, width)| {
            let name = wrap(&self.columns[*index].name, *width).join("\n");
            let name = Drawn::new(name).add_attribute(Attribute::Bold);
            name.set_alignment(self.columns[*index].align)
        }));
        for row in &self.rows {
            table.add_row(shown.iter().map(|(index, width)| {
                let cell = &row[*index];
                let lines = cell.lines.iter().flat_map(|line| wrap(line, *width));
                let align = self.columns[*index].align;
                let text = lines.collect::<Vec<String>>().join("\n");
                cell.drawn(text).set_alignment(align)
            }));
        }
        format!("{table}")
    }

    /// Each row as a list of its own, a name and a value a line.
    fn stacked(&self, width: usize) -> String {
        let longest = self.columns.iter().map(|column| column.name.width());
        let names = longest.max().unwrap_or(0).min(width / 2);
        let room = width.saturating_sub(names + 2).max(1);
        let rule = "─".repeat(width);
        let mut text = vec![rule.clone()];
        for row in &self.rows {
            for (column, cell) in self.columns.iter().zip(row) {
                let mut name = wrap(&column.name, names).into_iter();
                let mut lines = cell.lines.iter().flat_map(|line| wrap(line, room));
                loop {
                    let (name, line) = match (name.next(), lines.next()) {
                        (None, None) => break,
                        (name, line) => (name.unwrap_or_default(), line.unwrap_or_default()),
                    };
                    let space = " ".repeat(names.saturating_sub(name.width()) + 2);
                    text.push(format!("{name}{space}{line}").trim_end().to_owned());
                }
            }
            text.push(rule.clone());
        }
        text.join("\n")
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.style.width.unwrap_or(usize::MAX);
        let layout = Layout::of(&self.measures(), limit);
        let mut notes = self.notes.clone();
        match layout {
            Layout::Columns { shown, left_out } => {
                if !left_out.is_empty() {
                    let names = left_out.iter().map(|index| &*self.columns[*index].name);
                    let names = names.collect::<Vec<_>>().join(", ");
                    notes.push(format!("no room for: {names}"));
                }
                f.write_str(&self.draw(&shown))?;
            }
            Layout::Stacked => f.write_str(&self.stacked(limit))?,
        }
        for note in notes {
            for line in wrap(&note, limit) {
                write!(f, "\n{line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
