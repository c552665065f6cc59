//! lapin over a connection of ours, so that AMQP has the TLS that everything here has: lapin's own would bring PKCS #12,
//! with DES and RC2, into every build.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_compat::Compat;
use async_rs::{
    Runtime, Tokio,
    traits::{Executor, Reactor, RuntimeKit},
    util::Task,
};
use forewarm_manifest::signal::Tls;
use futures_util::{AsyncRead, AsyncWrite, Stream as Ticks, TryFutureExt as _};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, uri::AMQPUri};
use rustls::ClientConfig;
use tokio::net::TcpStream;

use crate::tls::{CONNECT_TIMEOUT, Stream};

/// Connects, in the clear or over TLS.
pub(super) async fn dial(uri: AMQPUri, tls: Option<(Arc<ClientConfig>, Tls)>) -> lapin::Result<Connection> {
    let open = async move |uri: AMQPUri, _: Runtime<OurStreams>| {
        let address = format!("{}:{}", uri.authority.host, uri.authority.port);
        let tls = tls.as_ref().map(|(config, tls)| (Arc::clone(config), tls));
        let stream = Stream::connect(&address, tls).await?;
        Ok(AsyncTcpStream::Plain(Compat::new(stream)))
    };
    let runtime = Runtime::new(OurStreams(Tokio::current()));
    let connect = Connection::connector(uri, runtime, open, ConnectionProperties::default());
    // A port that is no broker's takes the connection and waits for more.
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "nobody speaks AMQP there in time").into();
    tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(late).flatten()
}

/// tokio, whose connections are [`Stream`]s.
#[derive(Clone, Debug)]
struct OurStreams(Tokio);

impl RuntimeKit for OurStreams {}

impl Executor for OurStreams {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for OurStreams {
    type TcpStream = Compat<Stream>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        // lapin opens its connections by `dial` alone.
        Err::<Compat<Stream>, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, span: Duration) -> Self::Sleep {
        self.0.sleep(span)
    }

    fn interval(&self, span: Duration) -> impl Ticks<Item = Instant> + Send + 'static {
        self.0.interval(span)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        TcpStream::connect(address).map_ok(|stream| Compat::new(Stream::Plain(stream)))
    }
}
