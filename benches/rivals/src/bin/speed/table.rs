//! Medians with their spread, and Markdown.

use std::fmt::Display;

/// Several measurements of one thing.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// Of these; not a number where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |n: usize| values.get(n).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => at(middle),
            _ => f64::midpoint(at(middle.saturating_sub(1)), at(middle)),
        };
        Self {
            median,
            least: at(0),
            most: at(values.len().saturating_sub(1)),
        }
    }

    /// `0.45 (0.44–0.46)`
    pub fn ratio(self) -> String {
        format!("{:.2} ({:.2}–{:.2})", self.median, self.least, self.most)
    }

    /// `12.3 (12.1–12.9)`
    pub fn tenths(self) -> String {
        format!("{:.1} ({:.1}–{:.1})", self.median, self.least, self.most)
    }

    /// `1,234 (1,187–1,301)`
    pub fn whole(self) -> String {
        let [median, least, most] = [self.median, self.least, self.most].map(thousands);
        format!("{median} ({least}–{most})")
    }
}

/// A Markdown table.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With this head.
    pub fn new(head: impl IntoIterator<Item = impl Display>) -> Self {
        let mut this = Self { rows: Vec::new() };
        this.row(head);
        this
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Display>) {
        let cells = cells.into_iter().map(|cell| cell.to_string());
        self.rows.push(cells.collect());
    }

    /// Prints it under a title.
    pub fn print(&self, title: &str) {
        println!("\n### {title}\n");
        for (at, row) in self.rows.iter().enumerate() {
            println!("| {} |", row.join(" | "));
            if at == 0 {
                println!("|{}", " --- |".repeat(row.len()));
            }
        }
    }
}

/// A number of requests a second, or of anything else, with commas.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
