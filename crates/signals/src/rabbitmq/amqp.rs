//! AMQP 0-9-1: a passive declaration says how many messages are ready, and makes nothing.
//!
//! In the clear: lapin's TLS would bring PKCS #12, with DES and RC2, into every build. The management API has TLS.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forewarm_manifest::signal::{Basic, RabbitMqSignal};
use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind,
    options::QueueDeclareOptions,
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
    uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio::sync::Mutex as AsyncMutex;

use super::Address;
use crate::{secret::reveal, tls::CONNECT_TIMEOUT};

/// The connections of all sources: those that ask the same vhost of the same broker as the same user share one.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<BTreeMap<Key, Arc<Vhost>>>);

/// Host, port, vhost and who asks.
type Key = (String, u16, String, Basic);

/// A vhost of a broker.
struct Vhost {
    uri: AMQPUri,
    who: Basic,
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
        if url.scheme() == "amqps" {
            return Err(
                "AMQP is spoken in the clear only: the management API, `https://…:15671`, has TLS".to_owned()
            );
        }
        let host = url.host_str().ok_or("`host` has no host name")?.to_owned();
        let uri = AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                // Filled in for each connection.
                userinfo: AMQPUserInfo { username: String::new(), password: String::new() },
                host,
                port: url.port().unwrap_or(5672),
            },
            vhost,
            query: Default::default(),
        };
        let key = (uri.authority.host.clone(), uri.authority.port, uri.vhost.clone(), who.clone());
        let vhost = Vhost { open: AsyncMutex::default(), uri, who };
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

    /// A channel, of the connection that is still open if there is one.
    async fn connect(&self, before: Option<(Connection, Channel)>) -> Result<(Connection, Channel), String> {
        let failed = |error: lapin::Error| {
            let refused = matches!(error.kind(), ErrorKind::ProtocolError(error) if error.kind() == &AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED));
            let vhost = &self.uri.vhost;
            if refused {
                format!("RabbitMQ refuses this `username` and `password` at vhost `{vhost}`")
            } else {
                format!("no connection to RabbitMQ: {error}")
            }
        };
        let connection = match before {
            Some((connection, _)) if connection.status().connected() => connection,
            Some(_) | None => {
                let mut uri = self.uri.clone();
                let (username, password) = (reveal(&self.who.username)?, reveal(&self.who.password)?);
                uri.authority.userinfo = AMQPUserInfo { username, password };
                dial(uri).await.map_err(failed)?
            }
        };
        let channel = connection.create_channel().await.map_err(failed)?;
        Ok((connection, channel))
    }
}

async fn dial(uri: AMQPUri) -> lapin::Result<Connection> {
    let connect = Connection::connect_uri(uri, ConnectionProperties::default());
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time").into();
    tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(late).flatten()
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.kind() == &AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}
