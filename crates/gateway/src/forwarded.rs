//! Tells a replica where a request came from: `X-Forwarded-For`, `-Proto` and `-Host`, and `Forwarded` (RFC 7239).
//!
//! What a request says itself is kept only if a trusted proxy sent it; anybody else could say anything.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::OnceLock,
};

use ipnet::IpNet;

use crate::{headers::Headers, message::RequestHead};

const FORWARDED: &str = "forwarded";
const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";
/// Bytes of a host that is kept for as long as its connection: no name in DNS is longer, with a port.
const MOST_KEPT: usize = 260;

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
    /// The host that its first request named, as most that follow do, and what a replica is told then.
    usual: OnceLock<(Option<Vec<u8>>, Headers)>,
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
        Self { peer, address, proto, element, usual: OnceLock::new() }
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

/// The headers in which a replica is told where a request came from.
pub(crate) fn lines<'a>(request: &RequestHead, origin: &'a Origin, is_trusted: bool) -> Cow<'a, Headers> {
    let host = request.host();
    if is_trusted && request.headers.iter().any(|(name, _)| is_ours(name)) {
        return Cow::Owned(said(host, origin, Some(&request.headers)));
    }
    if host.is_some_and(|host| host.len() > MOST_KEPT) {
        return Cow::Owned(said(host, origin, None));
    }
    let (named, lines) = origin.usual.get_or_init(|| (host.map(<[u8]>::to_vec), said(host, origin, None)));
    match named.as_deref() == host {
        true => Cow::Borrowed(lines),
        false => Cow::Owned(said(host, origin, None)),
    }
}

/// The same to a request for this host, behind what it says itself where it is believed.
fn said(host: Option<&[u8]>, origin: &Origin, believed: Option<&Headers>) -> Headers {
    let before = |name| believed.map_or_else(Vec::new, |headers| listed(headers, name));
    let first = |name| believed.and_then(|headers| headers.get(name));
    let mut lines = Headers::default();
    lines.push_pieces(FOR, &[&before(FOR), origin.address.as_bytes()]);
    // It is quoted, for it may have a port.
    let quoted = host.filter(|host| !host.is_empty() && host.iter().all(u8::is_ascii)).map(unquoted);
    let (elements, element) = (before(FORWARDED), origin.element.as_bytes());
    match &quoted {
        Some(host) => lines.push_pieces(FORWARDED, &[&elements, element, b";host=\"", host, b"\""]),
        None => lines.push_pieces(FORWARDED, &[&elements, element]),
    }
    // What the first proxy saw is what the client did.
    lines.push(PROTO, first(PROTO).unwrap_or(origin.proto.as_bytes()));
    if let Some(host) = first(HOST).or(host) {
        lines.push(HOST, host);
    }
    lines
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
    fn each_request_of_a_connection_is_told_by_the_host_that_it_names() {
        let origin = Origin::new("192.0.2.1:9".parse().unwrap(), false);
        let long = "x".repeat(MOST_KEPT + 1);
        for host in [Some("a"), Some("b"), None, Some(&*long), Some("a"), Some("b")] {
            let request = host.map_or(Request::get("/"), |host| Request::get("/").header("host", host));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let told = lines(&parts.into(), &origin, false);
            assert_eq!(told.text(HOST), host);
            let element = host.map_or(String::new(), |host| format!(";host=\"{host}\""));
            assert_eq!(told.text(FORWARDED), Some(&*format!("for=192.0.2.1;proto=http{element}")));
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
