//! The heads of requests and of answers as they are read (RFC 9112, sections 3 to 6).

use std::{mem::MaybeUninit, str::from_utf8};

use http::{Method, StatusCode};
use hyper::ext::ReasonPhrase;

use super::chunked::Chunked;
use crate::{
    decimal::Decimal,
    headers::Headers,
    message::{RequestHead, ResponseHead, Target},
};

/// Headers a message may have.
const MAX_HEADERS: usize = 100;

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
pub(super) struct Response {
    pub(super) head: ResponseHead,
    pub(super) framing: Framing,
    /// Whether the connection may be used again.
    pub(super) keeps: bool,
    /// Bytes that it has.
    pub(super) length: usize,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: RequestHead,
    pub(super) framing: Framing,
    /// Whether the client speaks HTTP/1.1, and not 1.0.
    pub(super) is_http_11: bool,
    /// Whether it may send another on this connection.
    pub(super) keeps: bool,
    /// Whether it waits for a word before it sends the body.
    pub(super) expects: bool,
    /// Bytes that it has.
    pub(super) length: usize,
}

/// A head that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    /// It is not HTTP/1.
    #[error("the head is not HTTP: {0}")]
    Syntax(#[from] httparse::Error),
    /// What is asked for is neither a path nor a URI.
    #[error("the target is neither a path nor a URI")]
    Target,
    /// A tunnel leads to a host.
    #[error("CONNECT asks for a path, and not for a host")]
    Tunnel,
    /// Another protocol than was asked for.
    #[error("the answer changes the protocol, which nobody asked for")]
    Upgrade,
    /// A length that is none, or several.
    #[error("the Content-Length is not one number")]
    Length,
    /// HTTP/1.0 knows no coding.
    #[error("a message of HTTP/1.0 has a Transfer-Encoding")]
    Coding,
    /// Nobody knows where such a body ends, or what is in it.
    #[error("the Transfer-Encoding is another than `chunked`")]
    UnknownCoding,
    /// Nobody knows which of them counts.
    #[error("there are several Host headers")]
    Hosts,
}

/// Reads the head of the answer to a request with this method. `None`: it is not all there.
pub(super) fn response(bytes: &[u8], method: &Method) -> Result<Option<Response>, BadHead> {
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
    let mut headers = Headers::parsed(&bytes[..length], parsed.headers);
    let (framing, is_framed_once) = answer_framing(&mut headers, status, method, is_http_11)?;
    let keeps = is_framed_once && !matches!(framing, Framing::Close) && stays(&headers, is_http_11);
    let reason = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason());
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    Ok(Some(Response { head: ResponseHead { status, reason, headers }, framing, keeps, length }))
}

/// Reads the head of a request. `None`: it is not all there.
pub(super) fn request(bytes: &[u8]) -> Result<Option<Request>, BadHead> {
    let mut space = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, &mut space)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let method = parsed.method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let method = method.ok_or(httparse::Error::Token)?;
    let target = parsed.path.and_then(Target::parse).ok_or(BadHead::Target)?;
    // To some servers what follows it is no HTTP any more, and to others another request.
    if method == Method::CONNECT && !target.path().is_empty() {
        return Err(BadHead::Tunnel);
    }
    let is_http_11 = parsed.version == Some(1);
    let headers = Headers::parsed(&bytes[..length], parsed.headers);
    if headers.all("host").nth(1).is_some() {
        return Err(BadHead::Hosts);
    }
    let (framing, is_framed_once) = request_framing(&headers, is_http_11)?;
    let keeps = is_framed_once && stays(&headers, is_http_11);
    let says_continue = |said: &[u8]| said.eq_ignore_ascii_case(b"100-continue");
    let expects = is_http_11 && headers.get("expect").is_some_and(says_continue);
    let head = RequestHead { method, target, headers };
    Ok(Some(Request { head, framing, is_http_11, keeps, expects, length }))
}

/// How the body of an answer ends, and whether only one header says so.
fn answer_framing(
    headers: &mut Headers,
    status: StatusCode,
    method: &Method,
    is_http_11: bool,
) -> Result<(Framing, bool), BadHead> {
    if has_no_body(status, method) {
        return Ok((Framing::Length(0), true));
    }
    let Some(coding) = headers.all("transfer-encoding").last() else {
        return Ok((content_length(headers)?.map_or(Framing::Close, Framing::Length), true));
    };
    if !is_http_11 {
        return Err(BadHead::Coding);
    }
    let last = from_utf8(coding).ok().and_then(|codings| codings.rsplit(',').next());
    let is_chunked = last.is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked"));
    // The coding counts, and who sends both is not to be trusted with another request.
    let is_framed_once = headers.get("content-length").is_none();
    headers.remove("content-length");
    let framing = if is_chunked { Framing::Chunked(Chunked::default()) } else { Framing::Close };
    Ok((framing, is_framed_once))
}

/// The same of a request, which ends without its connection.
fn request_framing(headers: &Headers, is_http_11: bool) -> Result<(Framing, bool), BadHead> {
    let length = content_length(headers)?;
    let mut codings = headers.all("transfer-encoding");
    match (codings.next(), codings.next()) {
        (None, _) => Ok((Framing::Length(length.unwrap_or(0)), true)),
        (Some(_), _) if !is_http_11 => Err(BadHead::Coding),
        (Some(coding), None) if coding.trim_ascii().eq_ignore_ascii_case(b"chunked") => {
            // The coding counts, and whoever sent both may have been talked into it.
            Ok((Framing::Chunked(Chunked::default()), length.is_none()))
        }
        (Some(_), _) => Err(BadHead::UnknownCoding),
    }
}

/// Whether an answer has no body, whatever its headers say of one (RFC 9112, section 6.3).
pub(super) fn has_no_body(status: StatusCode, method: &Method) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// One length, however often it is said.
pub(super) fn content_length(headers: &Headers) -> Result<Option<u64>, BadHead> {
    if let Some(length) = plain_content_length(headers) {
        return Ok(Some(length));
    }
    let mut length = None;
    for value in headers.all("content-length") {
        for said in value.split(|&byte| byte == b',') {
            let said = number(said.trim_ascii()).ok_or(BadHead::Length)?;
            if *length.get_or_insert(said) != said {
                return Err(BadHead::Length);
            }
        }
    }
    Ok(length)
}

/// The length, if it is said once and in digits alone, as it nearly always is.
fn plain_content_length(headers: &Headers) -> Option<u64> {
    let mut lines = headers.all("content-length");
    let length = number(lines.next()?)?;
    lines.next().is_none().then_some(length)
}

/// The length, which is said in one line of digits afterwards; none if what is said is none.
pub(super) fn one_content_length(headers: &mut Headers) -> Option<u64> {
    if let Some(length) = plain_content_length(headers) {
        return Some(length);
    }
    let length = content_length(headers).ok().flatten();
    headers.remove("content-length");
    if let Some(length) = length {
        headers.push("content-length", Decimal::whole(length).as_bytes());
    }
    length
}

/// A number of digits alone: the usual parser would take a sign.
fn number(digits: &[u8]) -> Option<u64> {
    let add = |number: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// Whether the other side keeps the connection.
fn stays(headers: &Headers, is_http_11: bool) -> bool {
    let lists = || headers.all("connection");
    let says = |word: &str| {
        let mut said = lists().flat_map(|list| list.split(|&byte| byte == b','));
        said.any(|said| said.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    // A list that is no text asks for nothing.
    !says("close") && (is_http_11 || says("keep-alive") && lists().all(<[u8]>::is_ascii))
}
