//! A request as it goes to a replica: without what was for the gateway or for one connection alone, with what the gateway
//! adds, and with its body at hand, so that it can be sent again.
//!
//! Its headers stay as they came, and what does not go on is left out where they are written: to take a header out of a map
//! costs more than to pass over it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};

use crate::{
    forwarded::{self, Origin},
    hop_by_hop, keys,
    message::RequestHead,
};

/// Bytes of headers that the gateway adds, as a rule.
const ADDED_BYTES: usize = 256;

/// A request for a replica.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head: RequestHead,
    body: Bytes,
    withheld: Withheld,
    from: Option<Provenance>,
    /// What the replica is shown.
    key: Option<HeaderValue>,
    /// What it says itself to be for one connection.
    named: Vec<Vec<u8>>,
}

/// Where it came from.
#[derive(Debug)]
pub(crate) struct Provenance {
    pub(crate) origin: Arc<Origin>,
    /// Whether what it says about that itself is believed.
    pub(crate) is_trusted: bool,
}

/// What does not go on beside what belongs to one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Withheld {
    /// What a client shows to the gateway.
    pub(crate) keys: bool,
    /// Which codings of an answer it takes: one that is compressed cannot be looked into.
    pub(crate) codings: bool,
}

impl Outgoing {
    pub(crate) fn new(
        head: RequestHead,
        body: Bytes,
        withheld: Withheld,
        from: Option<Provenance>,
        key: Option<HeaderValue>,
    ) -> Self {
        let named = hop_by_hop::named(&head.headers);
        Self { head, body, withheld, from, key, named }
    }

    pub(crate) fn method(&self) -> &Method {
        &self.head.method
    }

    /// Path and query.
    pub(crate) fn path(&self) -> &str {
        match self.head.target.path() {
            "" => "/",
            path => path,
        }
    }

    /// The path alone.
    pub(crate) fn route(&self) -> &str {
        self.head.target.route()
    }

    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Calls `line` with the headers that go on, but for those that belong to a connection: the host, and how long the body
    /// is. A value comes in pieces.
    pub(crate) fn headers(&self, mut line: impl FnMut(&[u8], &[&[u8]])) {
        for (name, value) in self.head.headers.iter() {
            if !self.withholds(name) {
                line(name, &[value]);
            }
        }
        if let Some(key) = &self.key {
            line(b"authorization", &[key.as_bytes()]);
        }
        if let Some(Provenance { origin, is_trusted }) = &self.from {
            forwarded::lines(&self.head, origin, *is_trusted, line);
        }
    }

    fn withholds(&self, name: &[u8]) -> bool {
        match name {
            // The host and the length are said anew; what is expected of whoever reads the body was answered.
            b"host" | b"content-length" | b"expect" => true,
            // For the gateway.
            b"x-forewarm-keepalive" => true,
            _ if hop_by_hop::is_hop_by_hop(name) || self.named.iter().any(|other| other == name) => true,
            b"accept-encoding" => self.withheld.codings,
            name if keys::may_be_in(name) => self.withheld.keys,
            name if forwarded::is_ours(name) => self.from.is_some(),
            name if forwarded::is_others(name) => self.from.as_ref().is_some_and(|from| !from.is_trusted),
            _ => false,
        }
    }

    /// About so many bytes of headers.
    pub(crate) fn header_bytes(&self) -> usize {
        self.head.headers.length() + ADDED_BYTES
    }
}

/// A request of our own.
impl From<Request<Bytes>> for Outgoing {
    fn from(request: Request<Bytes>) -> Self {
        let (parts, body) = request.into_parts();
        let head = parts.into();
        Self { head, body, withheld: Withheld::default(), from: None, key: None, named: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_for_a_replica_does_not_reach_it() {
        let said = [
            ("host", "gateway"),
            ("connection", "keep-alive, X-Mine, accept-encoding"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("expect", "100-continue"),
            ("x-mine", "1"),
            ("accept-encoding", "gzip"),
            ("authorization", "Bearer client"),
            ("api-key", "client"),
            ("x-api-key", "client"),
            ("x-forewarm-keepalive", "15"),
            ("x-request-timeout", "30"),
            ("accept", "*/*"),
        ];
        let key = Some(HeaderValue::from_static("Bearer replicas"));
        let shown = ["authorization: Bearer client", "api-key: client", "x-api-key: client"];
        let always = ["x-request-timeout: 30", "accept: */*"];
        let cases = [
            (Withheld::default(), None, [&shown[..], &always].concat()),
            (Withheld { keys: true, codings: true }, None, always.to_vec()),
            (
                Withheld { keys: true, codings: false },
                key,
                [&always[..], &["authorization: Bearer replicas"]].concat(),
            ),
        ];
        for (withheld, key, expected) in cases {
            let request =
                said.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let mut lines = Vec::new();
            Outgoing::new(parts.into(), Bytes::new(), withheld, None, key).headers(|name, value| {
                lines.push(String::from_utf8([name, b": ", &value.concat()].concat()).unwrap());
            });
            assert_eq!(lines, expected, "{withheld:?}");
        }
    }
}
