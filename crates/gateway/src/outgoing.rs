//! A request as it goes to a replica: without what was for the gateway or for one connection alone, with what the gateway
//! adds, and with its body at hand, so that it can be sent again.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};

use crate::{
    forwarded::{self, Origin},
    headers::Headers,
    hop_by_hop, keys,
    message::RequestHead,
};

/// A request for a replica.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head: RequestHead,
    body: Bytes,
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
        mut head: RequestHead,
        body: Bytes,
        withheld: Withheld,
        from: Option<Provenance>,
        key: Option<HeaderValue>,
    ) -> Self {
        let told = from.as_ref().map(|from| forwarded::lines(&head, &from.origin, from.is_trusted));
        let named = hop_by_hop::named(&head.headers);
        head.headers.retain(|name| match name {
            // The host and the length are said anew; what is expected of whoever reads the body was answered.
            b"host" | b"content-length" | b"expect" => false,
            // For the gateway.
            b"x-forewarm-keepalive" => false,
            _ if hop_by_hop::is_hop_by_hop(name) || named.iter().any(|other| other == name) => false,
            b"accept-encoding" => !withheld.codings,
            name if keys::may_be_in(name) => !withheld.keys,
            name if forwarded::is_ours(name) => from.is_none(),
            name if forwarded::is_others(name) => from.as_ref().is_none_or(|from| from.is_trusted),
            _ => true,
        });
        if let Some(key) = &key {
            head.headers.push("authorization", key.as_bytes());
        }
        if let Some(told) = told {
            head.headers.append(&told);
        }
        Self { head, body }
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

    /// Those that go on, but for those that belong to a connection: the host, and how long the body is.
    pub(crate) fn headers(&self) -> &Headers {
        &self.head.headers
    }
}

/// A request of our own.
impl From<Request<Bytes>> for Outgoing {
    fn from(request: Request<Bytes>) -> Self {
        let (parts, body) = request.into_parts();
        Self::new(parts.into(), body, Withheld::default(), None, None)
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
            Outgoing::new(parts.into(), Bytes::new(), withheld, None, key).headers().write(&mut lines);
            let lines = String::from_utf8(lines).unwrap();
            assert_eq!(lines.lines().collect::<Vec<_>>(), expected, "{withheld:?}");
        }
    }
}
