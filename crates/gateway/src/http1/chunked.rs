//! The chunked transfer coding of a body, taken apart piece by piece (RFC 9112, section 7.1).

/// Bytes that all extensions and trailers of one body may have: nobody here has a use for any.
const MAX_ASIDE: u32 = 16 << 10;

/// What of a body comes next.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of the chunk that are still to come, or its length as far as it was read.
    left: u64,
    /// Bytes of extensions and trailers so far.
    aside: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a length.
    #[default]
    Start,
    Length,
    /// Blanks after a length.
    Blank,
    Extension,
    LengthLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer, or of the empty line that ends it all.
    TrailerStart,
    TrailerName,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// A body that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadChunk {
    /// Something else where a length of hexadecimal digits has to be.
    #[error("the length of a chunk is no hexadecimal number")]
    Length,
    /// More than 2⁶⁴ bytes.
    #[error("a chunk is too long")]
    TooLong,
    /// A line that does not end with both of its characters, or data that is longer than its length.
    #[error("a chunk does not end where it should")]
    End,
    /// A line behind the last chunk that is no header.
    #[error("what follows the last chunk is neither a header nor the end")]
    Trailer,
    /// Extensions and trailers without end.
    #[error("more than {MAX_ASIDE} bytes of chunk extensions and trailers")]
    Aside,
}

impl Chunked {
    /// Whether all of it was there.
    pub(super) fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// The next piece of data in `bytes`, which is moved behind it; `None` when there is no more in them.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BadChunk> {
        while let Some((&byte, rest)) = bytes.split_first()
            && !self.is_end()
        {
            if self.state != State::Data {
                self.state = self.framing(byte)?;
                *bytes = rest;
                continue;
            }
            let here = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (data, rest) = bytes.split_at(here);
            *bytes = rest;
            self.left -= here as u64;
            if self.left == 0 {
                self.state = State::DataCr;
            }
            return Ok(Some(data));
        }
        Ok(None)
    }

    /// What comes after a byte that is no data.
    fn framing(&mut self, byte: u8) -> Result<State, BadChunk> {
        Ok(match (self.state, byte) {
            (State::Start | State::Length, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let left = self.left.checked_mul(16).ok_or(BadChunk::TooLong)?;
                self.left = left + u64::from(digit);
                State::Length
            }
            (State::Length | State::Blank, b' ' | b'\t') => self.aside(State::Blank)?,
            (State::Length | State::Blank, b';') => self.aside(State::Extension)?,
            (State::Length | State::Blank | State::Extension, b'\r') => State::LengthLf,
            (State::Extension, b'\n') => return Err(BadChunk::End),
            (State::Extension, _) => self.aside(State::Extension)?,
            (State::Start | State::Length | State::Blank, _) => return Err(BadChunk::Length),
            (State::LengthLf, b'\n') if self.left == 0 => State::TrailerStart,
            (State::LengthLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Start,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::TrailerName, _) if is_name(byte) => {
                self.aside(State::TrailerName)?
            }
            (State::TrailerName, b':') => self.aside(State::Trailer)?,
            (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => self.aside(State::Trailer)?,
            (State::TrailerStart | State::TrailerName | State::Trailer, _) => return Err(BadChunk::Trailer),
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::End,
            _ => return Err(BadChunk::End),
        })
    }

    fn aside(&mut self, next: State) -> Result<State, BadChunk> {
        self.aside += 1;
        if self.aside > MAX_ASIDE { Err(BadChunk::Aside) } else { Ok(next) }
    }
}

/// Whether a header's name may have it (RFC 9110, section 5.6.2).
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, and whether that was all of it.
    type Decoded<T> = Result<(T, bool), BadChunk>;

    /// What is in a body that comes in pieces of this size.
    fn decoded(body: &[u8], size: usize) -> Decoded<Vec<u8>> {
        let (mut chunked, mut data) = (Chunked::default(), Vec::new());
        for mut piece in body.chunks(size) {
            while let Some(found) = chunked.next(&mut piece)? {
                data.extend_from_slice(found);
            }
        }
        Ok((data, chunked.is_end()))
    }

    #[test]
    fn what_is_in_a_body_is_the_same_however_it_comes() {
        let long = format!("0;{}\r\n\r\n", "x".repeat(MAX_ASIDE as usize));
        let cases: &[(&str, Decoded<&str>)] = &[
            ("0\r\n\r\n", Ok(("", true))),
            ("5\r\nhello\r\n0\r\n\r\n", Ok(("hello", true))),
            ("2\r\nhe\r\n0003\r\nllo\r\n0\r\n\r\n", Ok(("hello", true))),
            ("a;name=\"v\"\r\n0123456789\r\n0 ; last\r\n\r\n", Ok(("0123456789", true))),
            ("A \t\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", Ok(("\r\n\r\n\r\n\r\n\r\n", true))),
            ("1\r\nx\r\n0\r\nDigest: y\r\nMore: z\r\n\r\n", Ok(("x", true))),
            ("1\r\nx\r\n0\r\n\r\nHTTP/1.1 200 OK", Ok(("x", true))),
            ("5\r\nhel", Ok(("hel", false))),
            ("1\r\nx\r\n0\r\nDigest: y\r\n", Ok(("x", false))),
            ("\r\n", Err(BadChunk::Length)),
            (";x\r\n", Err(BadChunk::Length)),
            ("-1\r\n", Err(BadChunk::Length)),
            ("0x5\r\nhello\r\n", Err(BadChunk::Length)),
            ("5 5\r\nhello\r\n", Err(BadChunk::Length)),
            ("5\nhello\r\n", Err(BadChunk::Length)),
            ("5;a\nhello\r\n", Err(BadChunk::End)),
            ("5\rhello\r\n", Err(BadChunk::End)),
            ("5\r\nhello0\r\n\r\n", Err(BadChunk::End)),
            ("5\r\nhello\n0\r\n\r\n", Err(BadChunk::End)),
            ("0\r\nDigest: y\n\r\n", Err(BadChunk::Trailer)),
            ("0\r\nDigest\r\n\r\n", Err(BadChunk::Trailer)),
            ("0\r\n: y\r\n\r\n", Err(BadChunk::Trailer)),
            ("0\r\n y\r\n\r\n", Err(BadChunk::Trailer)),
            ("0\r\na b: y\r\n\r\n", Err(BadChunk::Trailer)),
            ("0\r\nx: y\0\r\n\r\n", Err(BadChunk::Trailer)),
            ("0\r\n\n", Err(BadChunk::Trailer)),
            ("10000000000000000\r\n", Err(BadChunk::TooLong)),
            (&long, Err(BadChunk::Aside)),
        ];
        for (body, expected) in cases {
            let expected = expected.map(|(data, is_end)| (data.as_bytes().to_vec(), is_end));
            for size in [1, 2, 3, 7, body.len()] {
                assert_eq!(decoded(body.as_bytes(), size), expected, "{body:.40?} by {size}");
            }
        }
    }

    #[test]
    fn a_body_ends_before_what_follows_it() {
        let mut chunked = Chunked::default();
        let mut bytes = b"1\r\nx\r\n0\r\n\r\nmore".as_slice();
        assert_eq!(chunked.next(&mut bytes), Ok(Some(b"x".as_slice())));
        assert_eq!(chunked.next(&mut bytes), Ok(None));
        assert_eq!(bytes, b"more");
    }
}
