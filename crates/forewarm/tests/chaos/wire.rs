//! HTTP/1.1 messages as they are framed, so that a fault can be placed to the byte.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest head or chunk size line; a longer one is no HTTP of ours.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// The bytes of a connection, read message by message.
pub(crate) struct Reader<S> {
    stream: S,
    /// Read, and not taken yet.
    buffer: Vec<u8>,
}

/// The start line and headers of a message, with the empty line at their end.
pub(crate) struct Head(String);

/// How the body of a message is framed, and how much of it is to come.
pub(crate) enum Framing {
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

/// Where in a chunked body the reader is.
#[derive(Clone, Copy)]
pub(crate) enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    LastEnd,
}

/// Some bytes of a message's body.
pub(crate) struct Piece {
    /// As they came.
    pub(crate) raw: Vec<u8>,
    /// Without the framing.
    pub(crate) data: Vec<u8>,
    /// Whether the body ends with them.
    pub(crate) is_last: bool,
}

impl Head {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The path of a request, or the status of an answer.
    pub(crate) fn second_word(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    /// A header by its name in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.0.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// How the body of a request or of an answer is framed.
    pub(crate) fn framing(&self) -> Framing {
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked(Chunk::Size);
        }
        match self.header("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => Framing::Length(length),
            None if self.0.starts_with("HTTP/") => Framing::UntilClose,
            None => Framing::Length(0),
        }
    }
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    /// The next message's head; `None` where the connection ended before it.
    pub(crate) async fn head(&mut self) -> Result<Option<Head>> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.buffer.drain(..at + 4).collect();
                let head =
                    String::from_utf8(head).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
                return Ok(Some(Head(head)));
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(ErrorKind::InvalidData.into());
            }
            if !self.fill().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next bytes of the body.
    pub(crate) async fn piece(&mut self, framing: &mut Framing) -> Result<Piece> {
        loop {
            let (taken, data, is_last) = framing.take(&self.buffer)?;
            if taken > 0 || is_last {
                let raw = self.buffer.drain(..taken).collect();
                return Ok(Piece { raw, data, is_last });
            }
            if !self.fill().await? {
                return match framing {
                    Framing::UntilClose => Ok(Piece { raw: Vec::new(), data: Vec::new(), is_last: true }),
                    Framing::Length(_) | Framing::Chunked(_) => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// The whole body, as it came.
    pub(crate) async fn body(&mut self, mut framing: Framing) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let piece = self.piece(&mut framing).await?;
            body.extend_from_slice(&piece.raw);
            if piece.is_last {
                return Ok(body);
            }
        }
    }

    /// Reads more; `false` at the end.
    async fn fill(&mut self) -> Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

impl Framing {
    /// How many of these bytes belong to the body, its data among them, and whether it ends there.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, Vec<u8>, bool)> {
        match self {
            Framing::UntilClose => Ok((bytes.len(), bytes.to_vec(), false)),
            Framing::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok((taken, bytes[..taken].to_vec(), *left == 0))
            }
            Framing::Chunked(chunk) => chunk.take(bytes),
        }
    }
}

impl Chunk {
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, Vec<u8>, bool)> {
        let (mut at, mut data) = (0, Vec::new());
        loop {
            let rest = &bytes[at..];
            match *self {
                Chunk::Size => {
                    let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else { break };
                    let size = std::str::from_utf8(&rest[..end]).ok();
                    let size = size.and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
                    *self = match size.ok_or(ErrorKind::InvalidData)? {
                        0 => Chunk::LastEnd,
                        size => Chunk::Data(size),
                    };
                    at += end + 2;
                }
                Chunk::Data(left) => {
                    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    if taken == 0 {
                        break;
                    }
                    data.extend_from_slice(&rest[..taken]);
                    at += taken;
                    let left = left - taken as u64;
                    *self = if left == 0 { Chunk::DataEnd } else { Chunk::Data(left) };
                }
                Chunk::DataEnd | Chunk::LastEnd if rest.len() < 2 => break,
                Chunk::DataEnd => {
                    at += 2;
                    *self = Chunk::Size;
                }
                Chunk::LastEnd => return Ok((at + 2, data, true)),
            }
        }
        Ok((at, data, false))
    }
}
