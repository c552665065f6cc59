//! A thread that serves: one runtime and one listener, so that nothing of a request crosses to another core.

use std::{cell::Cell, fmt, io, net::SocketAddr, num::NonZeroUsize, pin::Pin};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::GatewayError;

/// Connections that may wait to be accepted: a burst that comes while its thread is busy.
const BACKLOG: i32 = 1_024;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Which of the threads that serve this is; 0 where there is only the caller's runtime.
pub(crate) fn number() -> usize {
    NUMBER.get()
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A thread with a runtime that waits for its work.
pub(crate) struct Worker {
    job: oneshot::Sender<Job>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worker")
    }
}

impl Worker {
    pub(crate) async fn start(number: usize) -> io::Result<Self> {
        let (job, given) = oneshot::channel::<Job>();
        let (built, is_built) = oneshot::channel();
        let work = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            // Whoever asked for it may have gone in the meantime, and then there is no work either.
            Ok(runtime) => {
                NUMBER.set(number);
                drop(built.send(Ok(())));
                if let Ok(job) = given.blocking_recv() {
                    runtime.block_on(job);
                }
            }
            Err(error) => drop(built.send(Err(error))),
        };
        std::thread::Builder::new().name(format!("gateway-{number}")).spawn(work)?;
        is_built.await.unwrap_or_else(|_| Err(io::Error::other("the thread ended")))?;
        Ok(Self { job })
    }

    /// Does its work on the thread, and returns at its end. What else was spawned there goes on until the token is
    /// cancelled, for other threads may need it.
    pub(crate) async fn run(self, work: impl Future<Output = ()> + Send + 'static, until: CancellationToken) {
        let (done, is_done) = oneshot::channel::<()>();
        let job = Box::pin(async move {
            work.await;
            drop(done);
            until.cancelled().await;
        });
        if self.job.send(job).is_ok() {
            drop(is_done.await);
        }
    }
}

/// Takes a port for so many listeners, among which the system spreads connections; nobody else may have it.
pub(crate) fn bind(
    address: SocketAddr,
    listeners: NonZeroUsize,
) -> Result<Vec<std::net::TcpListener>, GatewayError> {
    listen(address, listeners).map_err(|source| GatewayError::Listen { address, source })
}

fn listen(address: SocketAddr, listeners: NonZeroUsize) -> io::Result<Vec<std::net::TcpListener>> {
    let new = || Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
    let first = new()?;
    first.set_reuse_address(true)?;
    first.bind(&address.into())?;
    // Asked for as port 0, it is another now.
    let taken = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..listeners.get() {
        // Only now: the first one has to fail where another program listens, whatever that one shares.
        sockets[0].set_reuse_port(true)?;
        let next = new()?;
        next.set_reuse_address(true)?;
        next.set_reuse_port(true)?;
        next.bind(&taken)?;
        sockets.push(next);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
    }
    Ok(sockets.into_iter().map(Into::into).collect())
}
