//! A page of headings, tables and lists, in two styles. Beneath [`super::text`]; it knows no plan.

use std::fmt::Write as _;

/// How a page looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// For a terminal: tables are cut to so many columns beside their first.
    Text,
    /// Markdown with pipe tables.
    Markdown,
}

/// Columns of figures that fit into a terminal.
const COLUMNS: usize = 3;
/// Characters that do.
const WIDTH: usize = 100;

/// A page in the making.
pub(super) struct Page {
    style: Style,
    out: String,
}

impl Page {
    pub(super) fn new(style: Style) -> Self {
        let out = String::new();
        Self { style, out }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    pub(super) fn is_markdown(&self) -> bool {
        self.style == Style::Markdown
    }

    pub(super) fn break_line(&mut self) {
        self.line("");
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    pub(super) fn title(&mut self, text: &str) {
        let mark = match self.style {
            Style::Text => "",
            Style::Markdown => "# ",
        };
        self.line(&format!("{mark}{text}"));
    }

    pub(super) fn heading(&mut self, text: &str) {
        let mark = match self.style {
            Style::Text => "",
            Style::Markdown => "## ",
        };
        self.line(&format!("\n{mark}{text}"));
        if self.style == Style::Markdown {
            self.line("");
        }
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        match self.style {
            Style::Text => self.wrapped("  ", text),
            Style::Markdown => self.line(&format!("{text}\n")),
        }
    }

    /// An entry of a list; `level` is 0 for the outermost.
    pub(super) fn item(&mut self, level: usize, text: &str) {
        match self.style {
            Style::Text => self.wrapped(&"  ".repeat(level + 1), text),
            Style::Markdown => self.line(&format!("{}- {text}", "  ".repeat(level))),
        }
    }

    /// The same of a line that is to be copied: it stays one.
    pub(super) fn whole_item(&mut self, text: &str) {
        match self.style {
            Style::Text => self.line(&format!("  {text}")),
            Style::Markdown => self.item(0, text),
        }
    }

    /// Lines of a terminal's width, the further ones indented more than the first.
    fn wrapped(&mut self, indent: &str, text: &str) {
        let mut line = indent.to_owned();
        let mut is_begun = false;
        for word in text.split(' ') {
            let columns = line.chars().count() + 1 + word.chars().count();
            if is_begun && columns > WIDTH {
                self.line(&line);
                line = format!("{indent}  {word}");
            } else {
                if is_begun {
                    line.push(' ');
                }
                line.push_str(word);
            }
            is_begun = true;
        }
        self.line(&line);
    }

    /// The end of a list.
    pub(super) fn list_end(&mut self) {
        if self.style == Style::Markdown {
            self.line("");
        }
    }

    /// What is to be read letter by letter: a name, a command.
    pub(super) fn code(&self, text: &str) -> String {
        match self.style {
            Style::Text => text.to_owned(),
            Style::Markdown => format!("`{text}`"),
        }
    }

    /// Rows as long as `head`, whose first column are names.
    pub(super) fn table(&mut self, head: &[String], rows: &[Vec<String>]) {
        match self.style {
            Style::Markdown => self.pipes(head, rows),
            Style::Text => {
                let columns: Vec<usize> = (1..head.len()).collect();
                for (index, shown) in columns.chunks(COLUMNS).enumerate() {
                    if index > 0 {
                        self.line("");
                    }
                    self.aligned(head, rows, shown);
                }
            }
        }
    }

    /// The same, not cut.
    pub(super) fn wide_table(&mut self, head: &[String], rows: &[Vec<String>]) {
        match self.style {
            Style::Markdown => self.pipes(head, rows),
            Style::Text => {
                let columns: Vec<usize> = (1..head.len()).collect();
                self.aligned(head, rows, &columns);
            }
        }
    }

    fn pipes(&mut self, head: &[String], rows: &[Vec<String>]) {
        let row = |cells: &[String]| {
            let cells = cells.iter().map(|cell| cell.replace('|', "\\|"));
            format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
        };
        self.line(&row(head));
        self.line(&format!("|---|{}", "--:|".repeat(head.len() - 1)));
        for cells in rows {
            self.line(&row(cells));
        }
        self.line("");
    }

    fn aligned(&mut self, head: &[String], rows: &[Vec<String>], shown: &[usize]) {
        let all = || std::iter::once(head).chain(rows.iter().map(Vec::as_slice));
        let width = |column: usize| {
            let widths = all().map(|cells| cells[column].chars().count());
            widths.max().unwrap_or_default()
        };
        let first = width(0);
        let widths: Vec<usize> = shown.iter().map(|column| width(*column)).collect();
        let mut lines = Vec::new();
        for cells in all() {
            let mut line = format!("  {:<first$}", cells[0]);
            for (column, width) in shown.iter().zip(&widths) {
                let _ = write!(line, "  {:>width$}", cells[*column]);
            }
            lines.push(line);
        }
        for line in lines {
            self.line(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_words_and_what_is_to_be_copied_is_not() {
        let words = "word ".repeat(30);
        let mut page = Page::new(Style::Text);
        page.item(1, words.trim());
        page.whole_item(words.trim());
        let out = page.finish();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 3, "{out}");
        assert!(
            lines[0].starts_with("    word") && lines[1].starts_with("      word"),
            "{out}"
        );
        assert!(
            lines[..2].iter().all(|line| line.chars().count() <= WIDTH),
            "{out}"
        );
        let read: Vec<&str> = lines[..2]
            .iter()
            .flat_map(|line| line.split_whitespace())
            .collect();
        assert_eq!(read.len(), 30);
        assert_eq!(lines[2].trim(), words.trim());

        let mut page = Page::new(Style::Markdown);
        page.item(1, words.trim());
        assert_eq!(page.finish(), format!("  - {}\n", words.trim()));
    }
}
