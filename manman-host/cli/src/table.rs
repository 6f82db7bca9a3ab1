//! Tables that read well without colour and without lines.

use std::fmt::Write as _;

use crate::style::{Colour, paint, printable};

pub(crate) struct Cell {
    text: String,
    colour: Colour,
    right: bool,
}

impl Cell {
    pub(crate) fn coloured(text: impl Into<String>, colour: Colour) -> Self {
        Self { colour, ..Self::from(text.into()) }
    }

    /// Numbers stand right.
    pub(crate) fn number(text: impl ToString) -> Self {
        Self { right: true, ..Self::from(text.to_string()) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        // A line break would tear the table apart.
        let text = printable(&text).replace(['\n', '\t'], " ");
        Self { text: if text.is_empty() { "-".to_owned() } else { text }, colour: Colour::None, right: false }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|title| Cell::coloured(*title, Colour::Bold)).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub(crate) fn render(&self, colour: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        // A column of numbers has its title on their side.
        let right: Vec<bool> =
            (0..columns).map(|column| self.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.right))).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[column].saturating_sub(cell.text.chars().count()));
                let text = paint(&cell.text, cell.colour, colour);
                let gap = if column == 0 { "" } else { "  " };
                // Writing into a String can not fail.
                let _ = if right[column] { write!(line, "{gap}{pad}{text}") } else { write!(line, "{gap}{text}{pad}") };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// The page of one thing: names left, values right.
pub(crate) struct Sheet {
    rows: Vec<(String, Cell)>,
}

impl Sheet {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    pub(crate) fn line(&mut self, name: &str, value: impl Into<Cell>) {
        self.rows.push((name.to_owned(), value.into()));
    }

    /// Only where there is something to say.
    pub(crate) fn maybe(&mut self, name: &str, value: Option<impl Into<Cell>>) {
        if let Some(value) = value {
            self.line(name, value);
        }
    }

    pub(crate) fn render(&self, colour: bool) -> String {
        let width = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for (name, cell) in &self.rows {
            let pad = " ".repeat(width.saturating_sub(name.chars().count()));
            let _ = writeln!(out, "{}{pad}  {}", paint(name, Colour::Bold, colour), paint(&cell.text, cell.colour, colour));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = Table::new(&["NAME", "N", "PHASE"]);
        table.row(vec!["oa".into(), Cell::number(7), Cell::coloured("Ready", Colour::Green)]);
        table.row(vec!["a-long-name".into(), Cell::number(120), "".into()]);
        assert_eq!(table.render(false), "NAME           N  PHASE\noa             7  Ready\na-long-name  120  -\n");
        assert!(table.render(true).contains("\x1b[32mReady\x1b[0m"));
    }

    #[test]
    fn a_value_is_one_line() {
        let mut sheet = Sheet::new();
        sheet.line("why", "a\nb\u{1b}[31m");
        assert_eq!(sheet.render(false), "why  a b\u{fffd}[31m\n");
    }
}
