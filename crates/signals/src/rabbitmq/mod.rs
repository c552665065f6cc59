//! What waits in a RabbitMQ queue: by the management API, or by a passive declaration over AMQP.

mod amqp;
mod management;
mod transport;

use std::time::Duration;

use forewarm_control::ports::{FleetReplica, SignalSource};
use forewarm_core::{Missing, Signal};
use forewarm_manifest::signal::{Basic, Credential, RabbitMqProtocol, RabbitMqSignal};
use futures_util::future::{BoxFuture, FutureExt};
use reqwest::Url;

pub(crate) use self::amqp::Connections;
use crate::{http::Clients, secret::reveal};

/// Asks one queue, or several.
#[derive(Debug)]
pub(crate) enum RabbitMqSource {
    Management(Box<management::Queues>),
    Amqp(amqp::Queue),
}

/// A broker's address, taken apart.
struct Address {
    url: Url,
    vhost: String,
    /// Who asks; read anew for each connection, as secrets change.
    who: Basic,
}

impl RabbitMqSource {
    pub(crate) fn new(
        clients: &Clients,
        connections: &Connections,
        signal: RabbitMqSignal,
        timeout: Duration,
    ) -> Result<Self, String> {
        let host = reveal(&signal.host)?;
        let is_amqp = signal.speaks_amqp(Some(&host));
        let address = address(&signal, &host, is_amqp)?;
        let timeout = signal.timeout.unwrap_or(timeout);
        if !is_amqp {
            let queues = management::Queues::new(clients, address, signal, timeout)?;
            return Ok(Self::Management(Box::new(queues)));
        }
        if let Some(why) = signal.needs_management() {
            return Err(format!("{why} cannot be asked for over AMQP: `host` must begin with http://"));
        }
        Ok(Self::Amqp(amqp::Queue::new(connections, address, &signal, timeout)?))
    }
}

/// The address with who asks and the vhost, as the settings or the address itself have them.
fn address(signal: &RabbitMqSignal, host: &str, is_amqp: bool) -> Result<Address, String> {
    // The address may hold a password: it is not repeated.
    let mut url = Url::parse(host).map_err(|error| format!("`host` is no address: {error}"))?;
    let fits = match url.scheme() {
        "amqp" | "amqps" => is_amqp,
        "http" | "https" => !is_amqp,
        _ => false,
    };
    if !fits {
        let wanted = if is_amqp { "amqp:// or amqps://" } else { "http:// or https://" };
        let because = if signal.protocol == RabbitMqProtocol::Auto { "" } else { ", as `protocol` says" };
        return Err(format!("`host` must begin with {wanted}{because}"));
    }
    let decoded = |text: &str| percent_decoded(text);
    let in_address = || match url.username() {
        "" => ("guest".to_owned(), "guest".to_owned()),
        username => (decoded(username), decoded(url.password().unwrap_or(""))),
    };
    let who = signal.basic.clone().unwrap_or_else(|| {
        let (username, password) = in_address();
        Basic { username: Credential::Plain(username), password: Credential::Plain(password) }
    });
    let in_path = url.path().trim_start_matches('/').to_owned();
    let vhost = match &signal.vhost_name {
        Some(vhost) => vhost.clone(),
        // A management API may lie below a path, which is no vhost then.
        None if in_path.is_empty() || !is_amqp => "/".to_owned(),
        None => decoded(&in_path),
    };
    if url.set_username("").and(url.set_password(None)).is_err() {
        return Err("`host` has no host name".to_owned());
    }
    Ok(Address { url, vhost, who })
}

/// `%2F` and the like.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl SignalSource for RabbitMqSource {
    fn read<'a>(&'a self, _replicas: &'a [FleetReplica]) -> BoxFuture<'a, Signal> {
        async move {
            let value = match self {
                Self::Management(queues) => queues.ask().await,
                Self::Amqp(queue) => queue.ask().await,
            };
            value.map_or_else(|error| Signal::missing(Missing::Failed(error)), Signal::value)
        }
        .boxed()
    }
}
