//! Tells a replica where a request came from: `X-Forwarded-For`, `-Proto` and `-Host`, and `Forwarded` (RFC 7239).
//!
//! What a request says itself is kept only if a trusted proxy sent it; anybody else could say anything.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use ipnet::IpNet;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What we say.
const OURS: [HeaderName; 4] = [FOR, PROTO, HOST, header::FORWARDED];
/// What else is said about the client, by one proxy or another; never by us.
const OTHERS: [HeaderName; 5] = [
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("true-client-ip"),
];

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
    /// The same as a header.
    address: HeaderValue,
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
        let address = HeaderValue::try_from(address).unwrap_or(HeaderValue::from_static("unknown"));
        Self { peer, address, proto, element }
    }
}

/// Writes the headers of a request that is passed on.
pub(crate) fn stamp(headers: &mut HeaderMap, uri: &Uri, origin: &Origin, trusted: &[Network]) {
    // HTTP/2 has the host in its URI.
    let host = uri.authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
    let host = host.or_else(|| headers.get(header::HOST).cloned());
    let is_said = |name: &HeaderName| OURS.contains(name) || OTHERS.contains(name);
    // One look at all names costs less than a search for each.
    if headers.keys().any(is_said) && !trusted.iter().any(|network| network.contains(origin.peer)) {
        for name in OURS.iter().chain(&OTHERS) {
            headers.remove(name);
        }
    }
    append(headers, FOR, origin.address.clone());
    if let Ok(element) = HeaderValue::from_maybe_shared(Bytes::from(forwarded(origin, host.as_ref()))) {
        append(headers, header::FORWARDED, element);
    }
    // What the first proxy saw is what the client did.
    headers.entry(PROTO).or_insert(HeaderValue::from_static(origin.proto));
    if let Some(host) = host {
        headers.entry(HOST).or_insert(host);
    }
}

/// Adds an element to a list, whose lines become one.
fn append(headers: &mut HeaderMap, name: HeaderName, element: HeaderValue) {
    let mut list = Vec::new();
    for line in headers.get_all(&name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    if list.is_empty() {
        headers.insert(name, element);
        return;
    }
    list.extend_from_slice(element.as_bytes());
    if let Ok(list) = HeaderValue::try_from(list) {
        headers.insert(name, list);
    }
}

/// One element of `Forwarded`. The host is quoted, for it may have a port.
fn forwarded(origin: &Origin, host: Option<&HeaderValue>) -> Vec<u8> {
    let host = host.map_or(&[][..], HeaderValue::as_bytes);
    let mut element = Vec::with_capacity(origin.element.len() + host.len() + 8);
    element.extend_from_slice(origin.element.as_bytes());
    if host.iter().all(u8::is_ascii) && !host.is_empty() {
        element.extend_from_slice(b";host=\"");
        element.extend(host.iter().filter(|letter| !matches!(letter, b'"' | b'\\')));
        element.push(b'"');
    }
    element
}

#[cfg(test)]
mod tests {
    use super::*;

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
                    ("host", "api:8080"),
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
                    ("host", "inner"),
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
                    ("host", "a\"b\\c"),
                    ("x-forwarded-for", "2001:db8::1"),
                    ("x-forwarded-host", "a\"b\\c"),
                    ("x-forwarded-proto", "http"),
                ],
            },
        ];
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for Case { peer, tls, said, expected } in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in said {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let origin = Origin::new(peer.parse().unwrap(), tls);
            stamp(&mut headers, &Uri::from_static("/v1/models"), &origin, &trusted);
            let mut found: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
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
