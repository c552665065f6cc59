//! Tells a replica where a request came from: `X-Forwarded-For`, `-Proto` and `-Host`, and `Forwarded` (RFC 7239).
//!
//! What a request says itself is kept only if a trusted proxy sent it; anybody else could say anything.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

use crate::{headers::Headers, message::RequestHead};

const FORWARDED: &str = "forwarded";
const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";

/// Addresses of proxies whose word is taken: `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// That is no network.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no network; it takes one such as 10.0.0.0/8, 2001:db8::/32, or one address")]
pub struct BadNetwork(String);

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(|net: IpNet| Self(net.trunc())).map_err(|_| BadNetwork(text.to_owned()))
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

/// Where a connection comes from, as all of its requests will say it.
#[derive(Debug)]
pub(crate) struct Origin {
    peer: IpAddr,
    /// The same in letters.
    address: String,
    proto: &'static str,
    /// What an element of `Forwarded` begins with.
    element: String,
}

impl Origin {
    pub(crate) fn new(peer: SocketAddr, is_tls: bool) -> Self {
        // A socket that takes both kinds shows IPv4 addresses inside of IPv6 ones.
        let peer = peer.ip().to_canonical();
        let (address, proto) = (peer.to_string(), if is_tls { "https" } else { "http" });
        // Whatever is no token is quoted.
        let element = match peer {
            IpAddr::V4(_) => format!("for={address};proto={proto}"),
            IpAddr::V6(_) => format!("for=\"[{address}]\";proto={proto}"),
        };
        Self { peer, address, proto, element }
    }
}

/// Whether the gateway says this itself.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    matches!(name, b"forwarded" | b"x-forwarded-for" | b"x-forwarded-host" | b"x-forwarded-proto")
}

/// Whether this is said about the client by one proxy or another, and never by us.
pub(crate) fn is_others(name: &[u8]) -> bool {
    matches!(
        name,
        b"x-forwarded-port"
            | b"x-forwarded-prefix"
            | b"x-forwarded-server"
            | b"x-real-ip"
            | b"true-client-ip"
    )
}

/// Whether somebody is believed who connects from there.
pub(crate) fn is_trusted(origin: &Origin, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(origin.peer))
}

/// What a request says about that before it is taken out of its headers.
pub(crate) struct Said {
    host: Option<Vec<u8>>,
    /// Elements of lists in front of ours.
    addresses: Vec<u8>,
    elements: Vec<u8>,
    /// What the first proxy saw, which is what the client did.
    proto: Option<Vec<u8>>,
    first_host: Option<Vec<u8>>,
}

impl Said {
    /// Of what it says itself, nothing is believed unless it is trusted.
    pub(crate) fn of(request: &RequestHead, is_trusted: bool) -> Self {
        let headers = &request.headers;
        let said = |name| if is_trusted { listed(headers, name) } else { Vec::new() };
        let first = |name| headers.get(name).filter(|_| is_trusted).map(<[u8]>::to_vec);
        Self {
            host: request.host().map(<[u8]>::to_vec),
            addresses: said(FOR),
            elements: said(FORWARDED),
            proto: first(PROTO),
            first_host: first(HOST),
        }
    }

    /// Adds the headers in which a replica is told where a request came from.
    pub(crate) fn say(&self, origin: &Origin, headers: &mut Headers) {
        let Self { host, addresses, elements, proto, first_host } = self;
        headers.push_pieces(FOR, &[addresses, origin.address.as_bytes()]);
        // It is quoted, for it may have a port.
        let host = host.as_deref();
        let quoted = host.filter(|host| !host.is_empty() && host.iter().all(u8::is_ascii)).map(unquoted);
        match &quoted {
            Some(host) => {
                let element = [elements, origin.element.as_bytes(), b";host=\"", host, b"\""];
                headers.push_pieces(FORWARDED, &element);
            }
            None => headers.push_pieces(FORWARDED, &[elements, origin.element.as_bytes()]),
        }
        headers.push(PROTO, proto.as_deref().unwrap_or(origin.proto.as_bytes()));
        if let Some(host) = first_host.as_deref().or(host) {
            headers.push(HOST, host);
        }
    }
}

/// The elements of a list, whose lines become one, in front of one more.
fn listed(headers: &Headers, name: &str) -> Vec<u8> {
    let mut list = Vec::new();
    for line in headers.all(name) {
        list.extend_from_slice(line);
        list.extend_from_slice(b", ");
    }
    list
}

/// What may stand between quotes.
fn unquoted(host: &[u8]) -> Cow<'_, [u8]> {
    let is_plain = |letter: &u8| !matches!(letter, b'"' | b'\\');
    match host.iter().all(is_plain) {
        true => Cow::Borrowed(host),
        false => Cow::Owned(host.iter().copied().filter(is_plain).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::Request;

    use super::*;
    use crate::outgoing::{Outgoing, Provenance, Withheld};

    #[test]
    fn only_a_trusted_proxys_word_is_kept() {
        struct Case {
            peer: &'static str,
            tls: bool,
            said: &'static [(&'static str, &'static str)],
            expected: &'static [(&'static str, &'static str)],
        }
        let cases = [
            Case {
                peer: "192.0.2.1:9",
                tls: false,
                said: &[("host", "api:8080")],
                expected: &[
                    ("forwarded", "for=192.0.2.1;proto=http;host=\"api:8080\""),
                    ("x-forwarded-for", "192.0.2.1"),
                    ("x-forwarded-host", "api:8080"),
                    ("x-forwarded-proto", "http"),
                ],
            },
            Case {
                peer: "192.0.2.1:9",
                tls: true,
                said: &[
                    ("x-forwarded-for", "10.9.9.9"),
                    ("x-forwarded-proto", "gopher"),
                    ("x-forwarded-host", "evil"),
                    ("forwarded", "for=evil"),
                    ("x-real-ip", "10.9.9.9"),
                ],
                expected: &[
                    ("forwarded", "for=192.0.2.1;proto=https"),
                    ("x-forwarded-for", "192.0.2.1"),
                    ("x-forwarded-proto", "https"),
                ],
            },
            Case {
                peer: "[::ffff:10.1.2.3]:9",
                tls: false,
                said: &[
                    ("host", "inner"),
                    ("x-forwarded-for", "198.51.100.7"),
                    ("x-forwarded-for", "10.0.0.2"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", "api.example"),
                    ("forwarded", "for=198.51.100.7"),
                ],
                expected: &[
                    ("forwarded", "for=198.51.100.7, for=10.1.2.3;proto=http;host=\"inner\""),
                    ("x-forwarded-for", "198.51.100.7, 10.0.0.2, 10.1.2.3"),
                    ("x-forwarded-host", "api.example"),
                    ("x-forwarded-proto", "https"),
                ],
            },
            Case {
                peer: "[2001:db8::1]:9",
                tls: false,
                said: &[("host", "a\"b\\c")],
                expected: &[
                    ("forwarded", "for=\"[2001:db8::1]\";proto=http;host=\"abc\""),
                    ("x-forwarded-for", "2001:db8::1"),
                    ("x-forwarded-host", "a\"b\\c"),
                    ("x-forwarded-proto", "http"),
                ],
            },
        ];
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for Case { peer, tls, said, expected } in cases {
            let mut request = Request::get("/v1/models");
            for (name, value) in said {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let origin = Origin::new(peer.parse().unwrap(), tls);
            let from = Provenance { is_trusted: is_trusted(&origin, &trusted), origin: Arc::new(origin) };
            let outgoing = Outgoing::new(parts.into(), Bytes::new(), Withheld::default(), Some(from), None);
            let mut found = Vec::new();
            for (name, value) in outgoing.headers().iter() {
                let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
                found.push((text(name), text(value)));
            }
            let expected: Vec<_> =
                expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{peer} {said:?}");
        }
    }

    #[test]
    fn networks_are_read_or_said_to_be_wrong() {
        let in_it = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(in_it("10.0.0.0/8", "10.255.0.1") && !in_it("10.0.0.0/8", "11.0.0.1"));
        assert!(in_it("192.0.2.1", "192.0.2.1") && !in_it("192.0.2.1", "192.0.2.2"));
        assert!(in_it("2001:db8::/32", "2001:db8:1::9") && !in_it("2001:db8::/32", "10.0.0.1"));
        for wrong in ["", "10.0.0.0/33", "proxy", "10.0.0"] {
            assert!(wrong.parse::<Network>().unwrap_err().to_string().contains("10.0.0.0/8"), "{wrong}");
        }
    }
}
