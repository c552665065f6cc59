//! The headers of a message in the order in which they came, names in small letters: one piece of text, and where in it each
//! line stands. A map of them, as `http` has it, costs several times as much to fill and to read, and only HTTP/2 needs one.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::shallow::every;

/// Lines and bytes that the gateway adds, as a rule.
const ADDED_LINES: usize = 12;
const ADDED_BYTES: usize = 512;

/// What a message says beside its body.
#[derive(Clone, Default)]
pub(crate) struct Headers {
    text: Vec<u8>,
    lines: Vec<Line>,
    /// The [marks](mark) of all names that there are or were: most that is looked for is not there.
    marks: u64,
}

/// Where a line stands in the text, as it is sent: a name, a colon and a blank, a value, CR and LF.
#[derive(Clone, Copy)]
struct Line {
    start: u32,
    name_end: u32,
    /// Of the value.
    end: u32,
}

impl Line {
    fn name(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..self.name_end as usize]
    }

    fn value(self, text: &[u8]) -> &[u8] {
        &text[self.name_end as usize + COLON.len()..self.end as usize]
    }

    /// Whether it has this name. Most names are told apart by their lengths.
    fn is(self, name: &[u8], text: &[u8]) -> bool {
        (self.name_end - self.start) as usize == name.len() && self.name(text) == name
    }

    /// Where the next one may begin.
    fn next(self) -> usize {
        self.end as usize + CRLF.len()
    }
}

const COLON: &[u8] = b": ";
const CRLF: &[u8] = b"\r\n";

/// A bit of a name by its length, its first letter and its last one. Few of those that are usual share one.
fn mark(name: &[u8]) -> u64 {
    let letter = |letter: Option<&u8>| letter.copied().map_or(0, usize::from);
    1 << ((name.len() + 5 * letter(name.first()) + 11 * letter(name.last())) % 64)
}

/// Makes the letters small, eight at a time. A loop over each takes several times as long for what is as short as names are.
fn make_small(name: &mut [u8]) {
    let (words, rest) = name.as_chunks_mut();
    let is_short = words.is_empty();
    words.iter_mut().for_each(make_word_small);
    if is_short {
        rest.make_ascii_lowercase();
    } else if let Some(last) = name.last_chunk_mut() {
        make_word_small(last);
    }
}

fn make_word_small(word: &mut [u8; 8]) {
    const HIGH: u64 = every(0x80);
    let bytes = u64::from_ne_bytes(*word);
    let low = bytes & !HIGH;
    // Their high bits say which are at least an A, and beyond a Z.
    let (from_a, beyond_z) = (low + every(0x80 - b'A'), low + every(0x7f - b'Z'));
    *word = (bytes | (from_a & !beyond_z & !bytes & HIGH) >> 2).to_ne_bytes();
}

impl Headers {
    /// Those that were found in this head, of which they are parts.
    pub(crate) fn parsed(head: &[u8], found: &[httparse::Header<'_>]) -> Self {
        let mut headers = Self {
            text: Vec::with_capacity(head.len() + ADDED_BYTES),
            lines: Vec::with_capacity(found.len() + ADDED_LINES),
            marks: 0,
        };
        headers.text.extend_from_slice(head);
        let place = |part: &[u8]| part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        for header in found {
            let (name, value) = (header.name.as_bytes(), header.value);
            let start = place(name);
            let name_end = start.wrapping_add(name.len());
            let end = name_end.wrapping_add(COLON.len() + value.len());
            let is_as_sent = place(value) == name_end.wrapping_add(COLON.len())
                && head.get(name_end..name_end.wrapping_add(COLON.len())) == Some(COLON)
                && head.get(end..end.wrapping_add(CRLF.len())) == Some(CRLF);
            if is_as_sent {
                make_small(&mut headers.text[start..name_end]);
                headers.add(start, name_end, end);
            } else {
                headers.push(&header.name.to_ascii_lowercase(), value);
            }
        }
        headers
    }

    fn add(&mut self, start: usize, name_end: usize, end: usize) {
        self.marks |= mark(&self.text[start..name_end]);
        self.lines.push(Line { start: start as u32, name_end: name_end as u32, end: end as u32 });
    }

    /// Names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (line.name(&self.text), line.value(&self.text)))
    }

    /// Whether there can be a line with this name.
    fn may_have(&self, name: &str) -> bool {
        self.marks & mark(name.as_bytes()) != 0
    }

    /// The values of all lines with this name, which is in small letters.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let lines: &[Line] = if self.may_have(name) { &self.lines } else { &[] };
        lines
            .iter()
            .filter(move |line| line.is(name.as_bytes(), &self.text))
            .map(|line| line.value(&self.text))
    }

    /// The value of the first line with this name, which is in small letters.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        if !self.may_have(name) {
            return None;
        }
        let line = self.lines.iter().find(|line| line.is(name.as_bytes(), &self.text));
        line.map(|line| line.value(&self.text))
    }

    /// The same, if it is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Adds a line. The name is in small letters.
    pub(crate) fn push(&mut self, name: &str, value: &[u8]) {
        self.push_pieces(name, &[value]);
    }

    /// The same, with a value in pieces.
    pub(crate) fn push_pieces(&mut self, name: &str, value: &[&[u8]]) {
        let start = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        let name_end = self.text.len();
        self.text.extend_from_slice(COLON);
        for piece in value {
            // Whoever could end a line could begin another.
            debug_assert!(HeaderValue::from_bytes(piece).is_ok(), "{name}");
            self.text.extend_from_slice(piece);
        }
        self.add(start, name_end, self.text.len());
        self.text.extend_from_slice(CRLF);
    }

    /// Adds the lines of others.
    pub(crate) fn append(&mut self, others: &Self) {
        let before = self.text.len() as u32;
        self.text.extend_from_slice(&others.text);
        self.lines.extend(others.lines.iter().map(|line| Line {
            start: line.start + before,
            name_end: line.name_end + before,
            end: line.end + before,
        }));
        self.marks |= others.marks;
    }

    /// Takes all lines with this name out.
    pub(crate) fn remove(&mut self, name: &str) {
        if self.may_have(name) {
            self.retain(|other| other != name.as_bytes());
        }
    }

    /// Keeps the lines whose names are wanted.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&[u8]) -> bool) {
        let Self { text, lines, .. } = self;
        lines.retain(|line| wanted(line.name(text)));
    }

    /// Bytes that they take in a message, or more.
    pub(crate) fn most_bytes(&self) -> usize {
        self.text.len()
    }

    /// Writes them as they are sent. Lines that stand behind each other are copied at once.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for line in &self.lines {
            if line.start as usize != run.end {
                out.extend_from_slice(&self.text[run]);
                run = line.start as usize..line.start as usize;
            }
            run.end = line.next();
        }
        out.extend_from_slice(&self.text[run]);
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be keys.
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

impl From<&HeaderMap> for Headers {
    fn from(map: &HeaderMap) -> Self {
        let mut headers = Self::default();
        for (name, value) in map {
            headers.push(name.as_str(), value.as_bytes());
        }
        headers
    }
}

impl From<&Headers> for HeaderMap {
    fn from(headers: &Headers) -> Self {
        let mut map = HeaderMap::with_capacity(headers.lines.len());
        for (name, value) in headers.iter() {
            // What was a header once is one again.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> Headers {
        let mut space = [httparse::EMPTY_HEADER; 8];
        let (_, found) = httparse::parse_headers(head.as_bytes(), &mut space).unwrap().unwrap();
        Headers::parsed(head.as_bytes(), found)
    }

    fn lines(headers: &Headers) -> Vec<(String, String)> {
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
        headers.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn however_lines_are_written_they_are_sent_alike() {
        let cases = [
            "Host: a\r\nX: b c\r\n\r\n",
            "hOST:a\r\nx:  b c  \r\n\r\n",
            "host: a\nx: b c\n\n",
            "host:\ta\r\nx: b c\t\r\n\r\n",
        ];
        for head in cases {
            let mut written = Vec::new();
            parsed(head).write(&mut written);
            assert_eq!(String::from_utf8(written).unwrap(), "host: a\r\nx: b c\r\n", "{head:?}");
        }
    }

    #[test]
    fn letters_are_made_small_and_nothing_else_is() {
        for length in 1..20 {
            let text: Vec<u8> = (0..=u8::MAX).cycle().take(256 + length).collect();
            for piece in text.windows(length) {
                let mut small = piece.to_vec();
                make_small(&mut small);
                assert_eq!(small, piece.to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn lines_are_found_changed_and_stay_in_their_order() {
        let mut headers = parsed("Host: a\r\nX-Empty:\r\nx-Twice: 1\r\nAccept:  */* \r\nX-TWICE: 2\r\n\r\n");
        let came = [("host", "a"), ("x-empty", ""), ("x-twice", "1"), ("accept", "*/*"), ("x-twice", "2")];
        assert_eq!(lines(&headers), pairs(&came));
        assert_eq!(headers.all("x-twice").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!((headers.get("host"), headers.get("x-empty")), (Some(&b"a"[..]), Some(&b""[..])));
        assert_eq!((headers.get("hos"), headers.text("accept")), (None, Some("*/*")));
        headers.remove("x-twice");
        let mut more = Headers::default();
        more.push("x-twice", b"3");
        headers.append(&more);
        headers.retain(|name| name != b"x-empty");
        let kept = [("host", "a"), ("accept", "*/*"), ("x-twice", "3")];
        assert_eq!(lines(&headers), pairs(&kept));
        let mut written = Vec::new();
        headers.write(&mut written);
        assert_eq!(String::from_utf8(written).unwrap(), "host: a\r\naccept: */*\r\nx-twice: 3\r\n");
        assert_eq!(lines(&Headers::from(&HeaderMap::from(&headers))), pairs(&kept), "as a map");
        assert_eq!(
            format!("{headers:?}"),
            r#"["host", "accept", "x-twice"]"#,
            "values are nobody's business"
        );
    }
}
