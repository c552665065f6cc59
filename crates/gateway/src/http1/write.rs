//! The heads of requests and of answers as they are written.

use http::{HeaderValue, Method};

use crate::{decimal::Decimal, message::ResponseHead, outgoing::Outgoing};

/// Bytes of a head beside its headers, as a rule.
const REST: usize = 128;

/// Writes the head of a request, with room for so many bytes behind it.
pub(super) fn request(request: &Outgoing, host: Option<&HeaderValue>, room: usize) -> Vec<u8> {
    let path = request.path();
    let mut head = Vec::with_capacity(path.len() + request.headers().most_bytes() + REST + room);
    for word in [request.method().as_str().as_bytes(), b" ", path.as_bytes(), b" HTTP/1.1\r\n"] {
        head.extend_from_slice(word);
    }
    if let Some(host) = host {
        line(&mut head, b"host", host.as_bytes());
    }
    request.headers().write(&mut head);
    // Without a body these methods mean an empty one, and the others none (RFC 9110, section 8.6).
    let length = request.body().len();
    if length > 0 || matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
        line(&mut head, b"content-length", Decimal::whole(length as u64).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// How a client learns where an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// It has no body, whatever its headers say.
    None,
    /// So many bytes are still to be sent.
    Length(u64),
    Chunked,
    /// The connection ends with it.
    Close,
}

/// Writes the head of an answer behind what is there, with room for so many bytes more.
pub(super) fn response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    framing: Framing,
    connection: Option<&'static str>,
    room: usize,
) {
    out.reserve(head.headers.most_bytes() + REST + room);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
    head.headers.write(out);
    match framing {
        Framing::Chunked => line(out, b"transfer-encoding", b"chunked"),
        // The headers say the length.
        Framing::Length(_) | Framing::None | Framing::Close => {}
    }
    if let Some(connection) = connection {
        line(out, b"connection", connection.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a piece of a body that comes in chunks.
pub(super) fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // To the last chunk, nothing would be the end.
    if data.is_empty() {
        return;
    }
    let mut length = [0; 2 * size_of::<usize>()];
    let (mut start, mut rest) = (length.len(), data.len());
    while rest > 0 {
        start -= 1;
        length[start] = DIGITS[rest % 16];
        rest /= 16;
    }
    out.reserve(data.len() + length.len() + 2 * LAST_CHUNK.len());
    out.extend_from_slice(&length[start..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// What ends a body that comes in chunks.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn line(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.extend_from_slice(name);
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}
