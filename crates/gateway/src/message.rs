//! The heads of requests and answers, whichever version of HTTP they come by.

use http::{Method, StatusCode, Uri, request, response};
use hyper::ext::ReasonPhrase;

use crate::headers::Headers;

/// What a client wants.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: Headers,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Target {
    /// Path and query.
    path: String,
    /// Bytes of the path alone.
    route: usize,
    /// Whom it names itself: in HTTP/2, or as a whole URI.
    authority: Option<String>,
}

/// What may stand in a path and a query, whoever reads them.
const PLAIN: [bool; 256] = {
    let (mut plain, mut byte) = ([false; 256], 0);
    while byte < plain.len() {
        plain[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"/-_.~%?=&:+,";
    let mut mark = 0;
    while mark < marks.len() {
        plain[marks[mark] as usize] = true;
        mark += 1;
    }
    plain
};

impl Target {
    /// Reads it off the first line of a request. `None`: it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') && text.bytes().all(|byte| PLAIN[usize::from(byte)]) {
            let route = text.bytes().position(|byte| byte == b'?').unwrap_or(text.len());
            return Some(Self { path: text.to_owned(), route, authority: None });
        }
        text.parse().ok().as_ref().map(Self::from)
    }

    /// Path and query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The path alone.
    pub(crate) fn route(&self) -> &str {
        &self.path[..self.route]
    }
}

impl From<&Uri> for Target {
    fn from(uri: &Uri) -> Self {
        Self {
            path: uri.path_and_query().map_or("", |path| path.as_str()).to_owned(),
            route: uri.path().len(),
            authority: uri.authority().map(|host| host.as_str().to_owned()),
        }
    }
}

impl RequestHead {
    /// Whom the client wanted to reach.
    pub(crate) fn host(&self) -> Option<&[u8]> {
        self.target.authority.as_deref().map(str::as_bytes).or_else(|| self.headers.get("host"))
    }
}

impl From<request::Parts> for RequestHead {
    fn from(parts: request::Parts) -> Self {
        Self { target: (&parts.uri).into(), headers: (&parts.headers).into(), method: parts.method }
    }
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    /// Other words for the status than the usual ones.
    pub(crate) reason: Option<ReasonPhrase>,
    pub(crate) headers: Headers,
}

impl ResponseHead {
    pub(crate) fn new(status: StatusCode) -> Self {
        Self { status, reason: None, headers: Headers::default() }
    }

    /// The words for its status.
    pub(crate) fn reason(&self) -> &[u8] {
        match &self.reason {
            Some(reason) => reason.as_bytes(),
            None => self.status.canonical_reason().unwrap_or("").as_bytes(),
        }
    }
}

impl From<response::Parts> for ResponseHead {
    fn from(parts: response::Parts) -> Self {
        Self { status: parts.status, reason: None, headers: (&parts.headers).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_however_it_is_written() {
        let cases = [
            ("/v1/models", Some(("/v1/models", "/v1/models", None))),
            ("/v1/models?a=b?c", Some(("/v1/models?a=b?c", "/v1/models", None))),
            ("/v1/models#part", Some(("/v1/models", "/v1/models", None))),
            ("/v1/{x}", Some(("/v1/{x}", "/v1/{x}", None))),
            ("http://host:1/v1/x?y", Some(("/v1/x?y", "/v1/x", Some("host:1")))),
            ("http://host", Some(("/", "/", Some("host")))),
            ("host:443", Some(("", "", Some("host:443")))),
            ("*", Some(("*", "*", None))),
            ("/<", None),
            ("http://", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let target = Target::parse(text);
            let found =
                target.as_ref().map(|target| (target.path(), target.route(), target.authority.as_deref()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
