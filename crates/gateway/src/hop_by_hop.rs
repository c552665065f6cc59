//! Headers that belong to one connection, and are not passed on (RFC 9110, section 7.6.1).

use crate::headers::Headers;

/// Whether a header of this name always does.
pub(crate) fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"proxy-connection"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

/// The headers that a message says to do so itself, in small letters.
pub(crate) fn named(headers: &Headers) -> Vec<Vec<u8>> {
    let lists = headers.all("connection").flat_map(|list| list.split(|&byte| byte == b','));
    lists.map(|name| name.trim_ascii().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

/// Leaves those that are passed on, but for others that are not wanted.
pub(crate) fn keep_end_to_end(headers: &mut Headers, is_unwanted: impl Fn(&[u8]) -> bool) {
    if headers.iter().any(|(name, _)| is_hop_by_hop(name) || is_unwanted(name)) {
        let named = named(headers);
        headers.retain(|name| {
            !is_hop_by_hop(name) && !is_unwanted(name) && !named.iter().any(|other| other == name)
        });
    }
}
