//! A new gateway takes the place of an old one, and no connection is lost.
//!
//! Closing a listening socket resets the connections that wait in it; so the sockets themselves go from the old process
//! to the new one, over a Unix socket. Both hold them for a while, and no connection can fall between the two:
//!
//! 1. The new one asks for the sockets, gets them, and does not accept yet.
//! 2. It gets plans from the controller, at a control port of its own: for each scaler that the old one serves.
//! 3. It accepts, and says so. (If it ends before, nothing has happened: the old one goes on.)
//! 4. The old one accepts no more, closes its connections when they are idle, and finishes what it has.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use forewarm_core::ScalerId;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use std::os::unix::net::UnixStream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};
use tokio_util::sync::CancellationToken;

use crate::registry::GatewayHandle;

/// What the old one says with the sockets; another version would say something else.
const GREETING: &[u8; 16] = b"forewarm sockets";
/// What the new one says when it accepts.
const READY: &[u8; 1] = b"R";
/// Sockets that can be handed over: one for each core, and the system takes no more in one message.
const MAX_SOCKETS: usize = 250;
/// Longest wait for the old one, which does nothing slow.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The gateway before this one, which waits for it to be ready.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: UnixStream,
    /// Those that it serves.
    pub(crate) scalers: Vec<ScalerId>,
}

impl Predecessor {
    /// Asks the gateway that hands over at this path, if there is one, for its listening sockets.
    ///
    /// # Errors
    /// When there is one, and it does not give them, or they listen elsewhere than they should.
    pub(crate) fn ask(path: &Path, listen: SocketAddr) -> io::Result<Option<(Self, Vec<TcpListener>)>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            // Nobody is there; or somebody was, and left the file.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        stream.set_read_timeout(Some(TIMEOUT))?;
        let (listeners, scalers) = receive(&stream)?;
        for listener in &listeners {
            let address = listener.local_addr()?;
            if listen.port() != 0 && address != listen {
                return Err(io::Error::other(format!(
                    "it listens at {address}, and this one should at {listen}"
                )));
            }
        }
        if listeners.is_empty() {
            return Err(io::Error::other("it has handed over no socket: it is about to end"));
        }
        Ok(Some((Self { stream, scalers }, listeners)))
    }

    /// Tells it that this one accepts: from now on it takes nothing new.
    pub(crate) fn relieve(mut self) -> io::Result<()> {
        self.stream.write_all(READY)
    }
}

fn receive(mut stream: &UnixStream) -> io::Result<(Vec<TcpListener>, Vec<ScalerId>)> {
    let mut greeting = [0; GREETING.len()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut greeting)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    // Taken before anything else: what is not taken would stay open for ever.
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    if received.bytes < greeting.len() {
        stream.read_exact(&mut greeting[received.bytes..])?;
    }
    if &greeting != GREETING {
        return Err(io::Error::other("it is no gateway of this version"));
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut scalers = Vec::new();
    stream.take(u32::from_be_bytes(length).into()).read_to_end(&mut scalers)?;
    Ok((sockets.into_iter().map(TcpListener::from).collect(), serde_json::from_slice(&scalers)?))
}

/// Where the gateway after this one asks for the sockets.
#[derive(Debug)]
pub(crate) struct Handover {
    listener: UnixListener,
    sockets: Vec<TcpListener>,
    handle: GatewayHandle,
}

impl Handover {
    /// Takes the path over, from the gateway before or from nobody.
    ///
    /// # Errors
    /// When the path cannot be had.
    pub(crate) fn open(path: &Path, listeners: &[TcpListener], handle: GatewayHandle) -> io::Result<Self> {
        let sockets = listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        // Made beside it, closed to other users, and then moved: whoever finds it finds it ready.
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let beside: PathBuf = path.with_file_name(name);
        drop(std::fs::remove_file(&beside));
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&beside, path)?;
        Ok(Self { listener, sockets, handle })
    }

    /// Waits for a gateway that takes over and accepts; then this one is told to shut down.
    pub(crate) async fn wait(self, shutdown: CancellationToken) {
        let relieved = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => match self.hand_over(stream).await {
                        Ok(()) => return,
                        Err(error) => tracing::warn!(%error, "another gateway did not take over"),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "nobody can take over");
                        tokio::time::sleep(TIMEOUT).await;
                    }
                }
            }
        };
        // On the way out the sockets are closed here as well, so that nothing comes to them that nobody takes.
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = relieved => {
                tracing::info!("another gateway has taken over; what is here is finished");
                shutdown.cancel();
            }
        }
    }

    async fn hand_over(&self, mut stream: tokio::net::UnixStream) -> io::Result<()> {
        let (peer, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
        if peer != own {
            return Err(io::Error::other(format!("user {peer} asks for the sockets of user {own}")));
        }
        stream.writable().await?;
        stream.try_io(tokio::io::Interest::WRITABLE, || send(stream.as_fd(), &self.sockets))?;
        let scalers = serde_json::to_vec(&self.handle.ids())?;
        let length = u32::try_from(scalers.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&scalers).await?;
        let mut ready = [0; READY.len()];
        // For as long as it takes: it waits for its plan. Its end ends this, too.
        stream.read_exact(&mut ready).await?;
        if &ready == READY {
            Ok(())
        } else {
            Err(io::Error::other("it says something else than that it is ready"))
        }
    }
}

fn send(stream: BorrowedFd<'_>, sockets: &[TcpListener]) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("there are more sockets than can be handed over"));
    }
    // Sixteen bytes fit into an empty socket at once.
    rustix::net::sendmsg(stream, &[IoSlice::new(GREETING)], &mut control, SendFlags::empty())?;
    Ok(())
}
