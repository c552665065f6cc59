//! Tables of numbers for a terminal.

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Row, Table, presets};

/// A table without frames: words to the left, numbers to the right, some lines in bold where `styled`.
pub(crate) fn table(
    titles: &[&str],
    words: &[bool],
    lines: Vec<(Vec<String>, bool)>,
    styled: bool,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if styled {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let aligned = |text: &str, word: bool| {
        Cell::new(text).set_alignment(if word { CellAlignment::Left } else { CellAlignment::Right })
    };
    table.set_header(titles.iter().zip(words).map(|(title, &word)| aligned(title, word)));
    for (cells, bold) in lines {
        let cells = cells.iter().zip(words).map(|(text, &word)| aligned(text, word));
        let line = cells.map(|cell| if bold { cell.add_attribute(Attribute::Bold) } else { cell });
        table.add_row(Row::from(line.collect::<Vec<_>>()));
    }
    let text = table.trim_fmt();
    // Frames have nothing to hold at the left edge.
    text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Never rounded up to 100 %: one miss in a million is a miss.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2}%", (share * 10_000.0).floor() / 100.0)
}

/// Seconds as people write them.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 100.0 => format!("{seconds:.1} s"),
        seconds => format!("{seconds:.0} s"),
    }
}
