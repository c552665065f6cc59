//! Who may change something: rules on the headers of a call, nothing else.

use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode, header, uri::Authority};

/// How calls that change something are protected.
#[derive(Clone)]
pub(crate) enum Guard {
    /// By a bearer token.
    Token(String),
    /// By listening on loopback only; pages of other origins are kept out.
    Loopback,
    /// Not at all, so they are refused.
    Closed,
}

impl Guard {
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        match self {
            Guard::Token(token) => {
                let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                match given.and_then(|value| value.strip_prefix("Bearer ")) {
                    Some(given) if same(given.as_bytes(), token.as_bytes()) => Ok(()),
                    Some(_) | None => Err((
                        StatusCode::UNAUTHORIZED,
                        "`authorization` is missing or wrong: send `Bearer` and the admin token",
                    )),
                }
            }
            Guard::Loopback => same_site(headers),
            Guard::Closed => Err((
                StatusCode::FORBIDDEN,
                "this port is not on loopback and has no admin token: set one to allow changes",
            )),
        }
    }
}

/// A page that a browser got from elsewhere may name this port by a domain of its own (DNS rebinding);
/// then `Host` is that domain. It cannot be an address or `localhost`.
fn same_site(headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    let name = authority.as_ref().map(|authority| authority.host().trim_matches(['[', ']']));
    if !name.is_some_and(|name| name == "localhost" || name.parse::<IpAddr>().is_ok()) {
        return Err((
            StatusCode::FORBIDDEN,
            "`host` is a domain name: call this port by `localhost` or its address",
        ));
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    match (origin, host) {
        (Some(origin), Some(host)) if origin != format!("http://{host}") => {
            Err((StatusCode::FORBIDDEN, "`origin` is another site: changes are taken from this page only"))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// Compares without telling by the time it takes how much was right.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}
