//! The head of a request as it is written, and that of an answer as it is read (RFC 9112, sections 3 to 6).

use std::{mem::MaybeUninit, str::from_utf8};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;

use super::chunked::Chunked;
use crate::outgoing::Outgoing;

/// Headers an answer may have.
const MAX_HEADERS: usize = 100;
/// Headers that the gateway adds to an answer: a map that grows for them has to be made anew.
const ADDED: usize = 6;

/// Writes the head of a request, with room for so many bytes behind it.
pub(super) fn write(request: &Outgoing, host: Option<&HeaderValue>, room: usize) -> Vec<u8> {
    let path = request.path();
    let mut head = Vec::with_capacity(path.len() + request.header_bytes() + 96 + room);
    for word in [request.method().as_str().as_bytes(), b" ", path.as_bytes(), b" HTTP/1.1\r\n"] {
        head.extend_from_slice(word);
    }
    if let Some(host) = host {
        line(&mut head, &header::HOST, &[host.as_bytes()]);
    }
    request.headers(|name, value| line(&mut head, name, value));
    // Without a body these methods mean an empty one, and the others none (RFC 9110, section 8.6).
    let length = request.body().len();
    if length > 0 || matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
        line(&mut head, &header::CONTENT_LENGTH, &[HeaderValue::from(length).as_bytes()]);
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn line(head: &mut Vec<u8>, name: &HeaderName, value: &[&[u8]]) {
    head.extend_from_slice(name.as_str().as_bytes());
    head.extend_from_slice(b": ");
    for piece in value {
        head.extend_from_slice(piece);
    }
    head.extend_from_slice(b"\r\n");
}

/// How the end of a body is known.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunked),
    /// When the connection ends.
    Close,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// Whether the connection may be used again.
    pub(super) keeps: bool,
    /// Bytes that it has.
    pub(super) length: usize,
}

/// The head of an answer that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    /// It is not HTTP/1.
    #[error("the head of the answer is not HTTP: {0}")]
    Syntax(#[from] httparse::Error),
    /// Another protocol than was asked for.
    #[error("the answer changes the protocol, which nobody asked for")]
    Upgrade,
    /// A length that is none, or several.
    #[error("the Content-Length of the answer is not one number")]
    Length,
    /// HTTP/1.0 knows no coding.
    #[error("an answer of HTTP/1.0 has a Transfer-Encoding")]
    Coding,
}

/// Reads the head of the answer to a request with this method. `None`: it is not all there.
pub(super) fn read(bytes: &Bytes, method: &Method) -> Result<Option<Head>, BadHead> {
    let mut space = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let status =
        StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| httparse::Error::Status)?;
    let is_http_11 = parsed.version == Some(1);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(BadHead::Upgrade);
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(parsed.headers.len() + ADDED);
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| httparse::Error::HeaderName)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value))
            .map_err(|_| httparse::Error::HeaderValue)?;
        headers.append(name, value);
    }
    let (framing, is_framed_once) = framing(headers, status, method, is_http_11)?;
    let keeps = is_framed_once && !matches!(framing, Framing::Close) && stays(headers, is_http_11);
    if let Some(reason) = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason())
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        response.extensions_mut().insert(reason);
    }
    Ok(Some(Head { response, framing, keeps, length }))
}

/// How the body ends, and whether only one header says so.
fn framing(
    headers: &mut HeaderMap,
    status: StatusCode,
    method: &Method,
    is_http_11: bool,
) -> Result<(Framing, bool), BadHead> {
    if *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Ok((Framing::Length(0), true));
    }
    let Some(coding) = headers.get_all(header::TRANSFER_ENCODING).iter().next_back() else {
        return match content_length(headers)? {
            Some(length) => Ok((Framing::Length(length), true)),
            None => Ok((Framing::Close, true)),
        };
    };
    if !is_http_11 {
        return Err(BadHead::Coding);
    }
    let last = coding.to_str().ok().and_then(|codings| codings.rsplit(',').next());
    let is_chunked = last.is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked"));
    // The coding counts, and who sends both is not to be trusted with another request.
    let is_framed_once = headers.remove(header::CONTENT_LENGTH).is_none();
    let framing = if is_chunked { Framing::Chunked(Chunked::default()) } else { Framing::Close };
    Ok((framing, is_framed_once))
}

/// One length, however often it is said.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, BadHead> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for said in value.as_bytes().split(|&byte| byte == b',') {
            let digits = said.trim_ascii();
            // The parser of numbers would take a sign.
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let said = from_utf8(digits).ok().filter(|_| is_number).and_then(|digits| digits.parse().ok());
            let said: u64 = said.ok_or(BadHead::Length)?;
            if *length.get_or_insert(said) != said {
                return Err(BadHead::Length);
            }
        }
    }
    Ok(length)
}

/// Whether the replica keeps the connection.
fn stays(headers: &HeaderMap, is_http_11: bool) -> bool {
    let says = |word: &str| {
        let mut values = headers.get_all(header::CONNECTION).iter();
        values.any(|value| {
            value
                .as_bytes()
                .split(|&byte| byte == b',')
                .any(|said| said.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        })
    };
    if is_http_11 { !says("close") } else { says("keep-alive") && !says("close") }
}
