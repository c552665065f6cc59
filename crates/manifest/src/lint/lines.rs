//! Where the lines of a text begin, so that a place is found without reading the text again.

/// Byte offsets of the lines' beginnings, ascending; the first is 0.
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(crate) fn of(text: &'t str) -> Self {
        let behind = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(behind).collect() }
    }

    /// The offset of a line and a column, both from 1; the end of the text when it is shorter.
    pub(crate) fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum::<usize>()
    }

    /// The whole lines that the bytes from `start` to `end` are on: where they begin, the number of the first
    /// one, and their text.
    pub(crate) fn around(&self, start: usize, end: usize) -> (usize, usize, &'t str) {
        let line = self.starts.partition_point(|&at| at <= start).max(1);
        let from = self.starts.get(line - 1).copied().unwrap_or_default();
        let behind = self.starts.partition_point(|&at| at <= end);
        let to = self.starts.get(behind).copied().unwrap_or(self.text.len());
        (from, line, self.text.get(from..to).unwrap_or_default())
    }
}
