//! A TCP proxy in front of a server, whose network a test breaks and mends.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::AbortHandle,
};

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    /// Passes everything on.
    Whole,
    /// Closes every connection, old and new.
    Cut,
    /// Keeps connections open and passes nothing on, as a route that lost its way.
    BlackHole,
    /// Passes everything on, this much later.
    Slow(Duration),
}

/// Listens at a port of the loopback interface and passes on to a server, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    server: watch::Sender<SocketAddr>,
    network: watch::Sender<Network>,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Proxy {
    /// A proxy whose network is whole.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        Self::listen(([127, 0, 0, 1], 0).into(), server).await
    }

    /// The same at an address that is known before, for servers that tell clients where they are.
    ///
    /// # Errors
    /// When somebody has the address.
    pub async fn listen(at: SocketAddr, server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let (network, seen) = watch::channel(Network::Whole);
        let (server, behind) = watch::channel(server);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection(client, behind.clone(), seen.clone()));
            }
        });
        Ok(Self { address, server, network, accepted, task: task.abort_handle() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were made to it so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Closes every connection, also those to come.
    pub fn cut(&self) {
        self.network.send_replace(Network::Cut);
    }

    /// Closes every connection; those to come lead to another server.
    pub fn lead_to(&self, server: SocketAddr) {
        self.server.send_replace(server);
    }

    /// Passes nothing on any more, and closes nothing.
    pub fn black_hole(&self) {
        self.network.send_replace(Network::BlackHole);
    }

    /// Passes on what comes, so much later.
    pub fn slow(&self, delay: Duration) {
        self.network.send_replace(Network::Slow(delay));
    }

    /// Passes on again, also what was held back.
    pub fn mend(&self) {
        self.network.send_replace(Network::Whole);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.network.send_replace(Network::Cut);
    }
}

async fn connection(
    client: TcpStream,
    mut behind: watch::Receiver<SocketAddr>,
    mut network: watch::Receiver<Network>,
) {
    // A route that is lost answers no connection attempt either; ours is open already, and stays silent.
    if network.wait_for(|network| *network != Network::BlackHole).await.is_err() {
        return;
    }
    if *network.borrow() == Network::Cut {
        return;
    }
    let address = *behind.borrow_and_update();
    let Ok(server) = TcpStream::connect(address).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut cut = network.clone();
    tokio::select! {
        _ = cut.wait_for(|network| *network == Network::Cut) => {}
        _ = behind.changed() => {}
        () = pass(from_client, to_server, network.clone()) => {}
        () = pass(from_server, to_client, network) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut network: watch::Receiver<Network>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let delay = match network.wait_for(|network| *network != Network::BlackHole).await.as_deref() {
            Ok(Network::Slow(delay)) => *delay,
            Ok(_) => Duration::ZERO,
            Err(_) => return,
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
