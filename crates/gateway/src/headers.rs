//! The headers of a message in the order in which they came, names in small letters: one piece of text, and where in it each
//! line stands. A map of them, as `http` has it, costs several times as much to fill and to read, and only HTTP/2 needs one.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Lines and bytes that the gateway adds, as a rule.
const ADDED_LINES: usize = 8;
const ADDED_BYTES: usize = 256;

/// What a message says beside its body.
#[derive(Clone, Default)]
pub(crate) struct Headers {
    text: Vec<u8>,
    lines: Vec<Line>,
}

/// Where a line stands in the text: its name, and its value.
#[derive(Clone, Copy)]
struct Line {
    name: (u32, u32),
    value: (u32, u32),
}

impl Headers {
    /// Those that were found in this head, of which they are parts.
    pub(crate) fn parsed(head: &[u8], found: &[httparse::Header<'_>]) -> Self {
        let place = |part: &[u8]| {
            // A value without bytes need not be a part of anything.
            let start = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
            let start = if start <= head.len() { start as u32 } else { 0 };
            (start, start + part.len() as u32)
        };
        let mut text = Vec::with_capacity(head.len() + ADDED_BYTES);
        text.extend_from_slice(head);
        let mut lines = Vec::with_capacity(found.len() + ADDED_LINES);
        for header in found {
            let line = Line { name: place(header.name.as_bytes()), value: place(header.value) };
            text[line.name.0 as usize..line.name.1 as usize].make_ascii_lowercase();
            lines.push(line);
        }
        Self { text, lines }
    }

    fn part(&self, (start, end): (u32, u32)) -> &[u8] {
        &self.text[start as usize..end as usize]
    }

    /// Names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (self.part(line.name), self.part(line.value)))
    }

    /// The values of all lines with this name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let is_it = move |line: &&Line| self.part(line.name).eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(is_it).map(|line| self.part(line.value))
    }

    /// The value of the first line with this name.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The same, if it is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Adds a line. The name is in small letters.
    pub(crate) fn push(&mut self, name: &str, value: &[u8]) {
        // Whoever could end a line could begin another.
        debug_assert!(HeaderValue::from_bytes(value).is_ok(), "{name}");
        let start = self.text.len() as u32;
        self.text.extend_from_slice(name.as_bytes());
        let middle = self.text.len() as u32;
        self.text.extend_from_slice(value);
        self.lines.push(Line { name: (start, middle), value: (middle, self.text.len() as u32) });
    }

    /// Says this, and nothing else under this name.
    pub(crate) fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.push(name, value);
    }

    /// Takes all lines with this name out.
    pub(crate) fn remove(&mut self, name: &str) {
        if self.get(name).is_some() {
            self.retain(|other| !other.eq_ignore_ascii_case(name.as_bytes()));
        }
    }

    /// Keeps the lines whose names are wanted.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&[u8]) -> bool) {
        let Self { text, lines } = self;
        lines.retain(|line| wanted(&text[line.name.0 as usize..line.name.1 as usize]));
    }

    /// Bytes that they take in a message.
    pub(crate) fn length(&self) -> usize {
        let length = |(start, end): (u32, u32)| (end - start) as usize;
        self.lines.iter().map(|line| length(line.name) + length(line.value) + ": \r\n".len()).sum()
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
    fn lines_are_found_changed_and_stay_in_their_order() {
        let mut headers = parsed("Host: a\r\nX-Empty:\r\nx-Twice: 1\r\nAccept:  */* \r\nX-TWICE: 2\r\n\r\n");
        let came = [("host", "a"), ("x-empty", ""), ("x-twice", "1"), ("accept", "*/*"), ("x-twice", "2")];
        assert_eq!(lines(&headers), pairs(&came));
        assert_eq!(headers.all("X-Twice").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!((headers.get("host"), headers.get("x-empty")), (Some(&b"a"[..]), Some(&b""[..])));
        assert_eq!((headers.get("hos"), headers.text("accept")), (None, Some("*/*")));
        headers.set("x-twice", b"3");
        headers.retain(|name| name != b"x-empty");
        let kept = [("host", "a"), ("accept", "*/*"), ("x-twice", "3")];
        assert_eq!(lines(&headers), pairs(&kept));
        assert_eq!(headers.length(), "host: a\r\naccept: */*\r\nx-twice: 3\r\n".len());
        assert_eq!(lines(&Headers::from(&HeaderMap::from(&headers))), pairs(&kept), "as a map");
        assert_eq!(format!("{headers:?}"), r#"["host", "accept", "x-twice"]"#, "values are nobody's business");
    }
}
