//! AMQP 0-9-1: a passive declaration says how many messages are ready, and makes nothing.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forewarm_manifest::signal::{Basic, RabbitMqSignal, Tls};
use lapin::{
    Channel, Connection, ErrorKind,
    options::QueueDeclareOptions,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    types::FieldTable,
    uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use rustls::ClientConfig;
use tokio::sync::Mutex as AsyncMutex;

use super::{Address, transport::dial};
use crate::{
    secret::reveal,
    tls::{client_config, explained},
};

/// The connections of all sources: those that ask the same vhost of the same broker as the same user share one.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<BTreeMap<Key, Arc<Vhost>>>);

/// Host, port, vhost, who asks, and over which TLS.
type Key = (String, u16, String, Basic, Option<Tls>);

/// A vhost of a broker.
struct Vhost {
    uri: AMQPUri,
    who: Basic,
    tls: Option<(Arc<ClientConfig>, Tls)>,
    open: AsyncMutex<Option<(Connection, Channel)>>,
}

impl fmt::Debug for Vhost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vhost").field("name", &self.uri.vhost).finish_non_exhaustive()
    }
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    vhost: Arc<Vhost>,
    name: String,
    timeout: Duration,
}

impl Queue {
    pub(super) fn new(
        connections: &Connections,
        address: Address,
        signal: &RabbitMqSignal,
        timeout: Duration,
    ) -> Result<Self, String> {
        let Address { url, vhost, who } = address;
        let is_encrypted = url.scheme() == "amqps";
        let tls = match is_encrypted {
            true => Some((Arc::new(client_config(&signal.tls)?), signal.tls.clone())),
            false => None,
        };
        let (scheme, port) = if is_encrypted { (AMQPScheme::AMQPS, 5671) } else { (AMQPScheme::AMQP, 5672) };
        let host = url.host_str().ok_or("`host` has no host name")?.to_owned();
        let uri = AMQPUri {
            scheme,
            authority: AMQPAuthority {
                // Filled in for each connection.
                userinfo: AMQPUserInfo { username: String::new(), password: String::new() },
                host,
                port: url.port().unwrap_or(port),
            },
            vhost,
            query: Default::default(),
        };
        let AMQPAuthority { host, port, .. } = uri.authority.clone();
        let key = (host, port, uri.vhost.clone(), who.clone(), is_encrypted.then(|| signal.tls.clone()));
        let vhost = Vhost { open: AsyncMutex::default(), uri, who, tls };
        let mut connections = connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        let vhost = Arc::clone(connections.entry(key).or_insert_with(|| Arc::new(vhost)));
        Ok(Self { vhost, name: signal.queue_name.clone(), timeout })
    }

    pub(super) async fn ask(&self) -> Result<f64, String> {
        match tokio::time::timeout(self.timeout, self.vhost.ready(&self.name)).await {
            Ok(answer) => answer,
            Err(_) => {
                // What is late now would be late again.
                *self.vhost.open.lock().await = None;
                Err(format!("no answer from RabbitMQ within {} s", self.timeout.as_secs_f64()))
            }
        }
    }
}

impl Vhost {
    /// How many messages are ready in a queue.
    async fn ready(&self, queue: &str) -> Result<f64, String> {
        let mut open = self.open.lock().await;
        if !open.as_ref().is_some_and(|(connection, channel)| {
            connection.status().connected() && channel.status().connected()
        }) {
            *open = Some(self.connect(open.take()).await?);
        }
        let Some((_, channel)) = open.as_ref() else { return Err("there is no channel".to_owned()) };
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare(queue.into(), passive, FieldTable::default()).await {
            Ok(declared) => Ok(declared.message_count().into()),
            // The broker closes the channel, and the connection goes on.
            Err(error) if is_not_found(&error) => {
                Err(format!("there is no queue `{queue}` in vhost `{}`", self.uri.vhost))
            }
            Err(error) => {
                *open = None;
                Err(format!("RabbitMQ: {error}"))
            }
        }
    }

    /// Why there is none, in words.
    fn no_connection(&self, error: &lapin::Error) -> String {
        let vhost = &self.uri.vhost;
        if let ErrorKind::ProtocolError(refusal) = error.kind() {
            if refusal.kind() == &AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) {
                return format!("RabbitMQ refuses this `username` and `password` at vhost `{vhost}`");
            }
            let said = refusal.get_message().as_str();
            if refusal.kind() == &AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) {
                return if said.contains("not found") {
                    format!("there is no vhost `{vhost}`; `vhostName`, or the path of `host`, names one")
                } else {
                    format!("RabbitMQ does not let this user into vhost `{vhost}`: {said}")
                };
            }
        }
        // What kind of error it is, is said already.
        let cause =
            if let ErrorKind::IOError(cause) = error.kind() { cause.to_string() } else { error.to_string() };
        let why = format!("no connection to RabbitMQ: {cause}");
        self.tls.as_ref().map_or(why.clone(), |(_, tls)| explained(why, tls))
    }

    /// A channel, of the connection that is still open if there is one.
    async fn connect(&self, before: Option<(Connection, Channel)>) -> Result<(Connection, Channel), String> {
        let failed = |error: lapin::Error| self.no_connection(&error);
        let connection = match before {
            Some((connection, _)) if connection.status().connected() => connection,
            Some(_) | None => {
                let mut uri = self.uri.clone();
                let (username, password) = (reveal(&self.who.username)?, reveal(&self.who.password)?);
                uri.authority.userinfo = AMQPUserInfo { username, password };
                dial(uri, self.tls.clone()).await.map_err(failed)?
            }
        };
        let channel = connection.create_channel().await.map_err(failed)?;
        Ok((connection, channel))
    }
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.kind() == &AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}
