//! A replica that fails on command and by lot: an engine behind a proxy that breaks connections.
//!
//! It is a process of its own, so that `kill -9` ends both at once.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use forewarm_engine::{ColdStart, Engine, EngineConfig, EngineProfile};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ledger::{Deed, Ledger},
    lot,
    wire::{Framing, Head, Reader},
};

/// Header with a request's number.
pub(crate) const NUMBER: &str = "x-chaos-number";
/// Where commands come in, before the name of a [`Mode`].
pub(crate) const COMMANDS: &str = "/chaos/";
/// Slowness before each piece of an answer.
const SLOW: Duration = Duration::from_millis(40);
const LOADING: &str = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
const DONE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// How to run a replica.
#[derive(Args)]
pub(crate) struct ReplicaArgs {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    slots: u32,
    #[arg(long)]
    speed: f64,
    /// Requests in 10,000 that meet each of the faults by lot.
    #[arg(long)]
    faults: u64,
}

/// What the whole replica does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// It serves.
    Well,
    /// Every piece of an answer is late.
    Slow,
    /// It accepts connections and reads requests, and never answers: neither these nor its health.
    HalfOpen,
    /// It says that it is loading.
    Busy,
}

impl Mode {
    pub(crate) const ALL: [Mode; 4] = [Mode::Well, Mode::Slow, Mode::HalfOpen, Mode::Busy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Well => "well",
            Mode::Slow => "slow",
            Mode::HalfOpen => "half-open",
            Mode::Busy => "busy",
        }
    }
}

/// What happens to one request at this replica.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A reset once the request was read.
    Reset,
    /// The answer's head, and then the end.
    OnlyHead,
    /// A reset after some of the answer.
    Cut,
}

struct Replica {
    engine: SocketAddr,
    ledger: Ledger,
    mode: AtomicU8,
    seed: u64,
    faults: u64,
    /// Requests that met their fault: it is a whim of this replica, and no request that nobody can bear.
    met: Mutex<HashSet<u64>>,
}

/// As llama.cpp says it while it loads.
fn loading() -> String {
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{LOADING}", LOADING.len())
}

/// Serves until SIGTERM, which ends it at once, as vLLM's default does.
pub(crate) async fn run(args: ReplicaArgs) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let engine = Engine::start(
        EngineConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            model: "m".to_owned(),
            profile: EngineProfile::simple(args.slots),
            speed: args.speed,
            cold_start: ColdStart::constant(Duration::from_secs(10)),
            ..EngineConfig::default()
        },
        CancellationToken::new(),
    )
    .await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await?;
    let replica = Arc::new(Replica {
        engine: engine.address(),
        ledger: Ledger::create(&args.directory.join("ledgers"))?,
        mode: AtomicU8::new(Mode::Well as u8),
        seed: args.seed ^ u64::from(args.port),
        faults: args.faults,
        met: Mutex::default(),
    });
    let alive = args.directory.join("alive").join(std::process::id().to_string());
    std::fs::write(&alive, args.port.to_string())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let replica = Arc::clone(&replica);
                // A connection that breaks is what this is for.
                tokio::spawn(async move { drop(replica.serve(stream).await) });
            }
        }
    }
    std::fs::remove_file(alive).context("the harness counts on it")
}

impl Replica {
    fn mode(&self) -> Mode {
        let mode = self.mode.load(Relaxed);
        Mode::ALL.into_iter().find(|known| *known as u8 == mode).unwrap_or(Mode::Well)
    }

    fn fault(&self, request: u64) -> Fault {
        let fault = match lot(self.seed, request) % 10_000 {
            lot if lot < self.faults => Fault::Reset,
            lot if lot < 2 * self.faults => Fault::OnlyHead,
            lot if lot < 3 * self.faults => Fault::Cut,
            _ => return Fault::None,
        };
        let is_first = self.met.lock().unwrap_or_else(PoisonError::into_inner).insert(request);
        if is_first { fault } else { Fault::None }
    }

    /// One connection, request after request.
    async fn serve(&self, stream: TcpStream) -> Result<()> {
        let mut client = Reader::new(stream);
        let mut engine: Option<Reader<TcpStream>> = None;
        while let Some(head) = client.head().await? {
            let body = client.body(head.framing()).await?;
            if let Some(name) = head.second_word().strip_prefix(COMMANDS) {
                let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name);
                self.mode.store(mode.context("a mode")? as u8, Relaxed);
                client.stream().write_all(DONE).await?;
                continue;
            }
            let number = head.header(NUMBER).and_then(|number| number.parse().ok());
            if let Some(number) = number {
                self.ledger.note(Deed::Took, number)?;
            }
            match self.mode() {
                Mode::HalfOpen => {
                    // Until the other side has enough of it.
                    client.stream().read_to_end(&mut Vec::new()).await?;
                    return Ok(());
                }
                Mode::Busy if number.is_some() => {
                    client.stream().write_all(loading().as_bytes()).await?;
                    continue;
                }
                Mode::Busy | Mode::Slow | Mode::Well => {}
            }
            let fault = number.map_or(Fault::None, |number| self.fault(number));
            if let (Fault::Reset, Some(number)) = (fault, number) {
                self.ledger.note(Deed::Refused, number)?;
                client.into_stream().set_zero_linger()?;
                return Ok(());
            }
            let mut upstream = match engine.take() {
                Some(upstream) => upstream,
                None => {
                    let stream = TcpStream::connect(self.engine).await?;
                    stream.set_nodelay(true)?;
                    Reader::new(stream)
                }
            };
            upstream.stream().write_all(&[head.as_bytes(), &body].concat()).await?;
            let Some(answer) = upstream.head().await? else { return Ok(()) };
            if !self.answer(&mut client, &mut upstream, &answer, number, fault).await? {
                client.into_stream().set_zero_linger()?;
                return Ok(());
            }
            engine = Some(upstream);
        }
        Ok(())
    }

    /// Passes an answer on; `false` where it is to be broken off.
    async fn answer(
        &self,
        client: &mut Reader<TcpStream>,
        engine: &mut Reader<TcpStream>,
        head: &Head,
        number: Option<u64>,
        fault: Fault,
    ) -> Result<bool> {
        let mut framing = head.framing();
        client.stream().write_all(head.as_bytes()).await?;
        if let (Fault::OnlyHead, Some(number)) = (fault, number) {
            self.ledger.note(Deed::Refused, number)?;
            return Ok(false);
        }
        let mut began = false;
        loop {
            let piece = match framing {
                Framing::Length(0) => return Ok(true),
                Framing::Length(_) | Framing::Chunked(_) | Framing::UntilClose => {
                    engine.piece(&mut framing).await?
                }
            };
            if self.mode() == Mode::Slow {
                tokio::time::sleep(SLOW).await;
            }
            if let (Some(number), false) = (number, began) {
                self.ledger.note(Deed::Began, number)?;
            }
            began = true;
            if let (Fault::Cut, Some(number)) = (fault, number) {
                // All but the last byte of the framing: never a whole answer.
                client.stream().write_all(&piece.raw[..piece.raw.len().saturating_sub(1)]).await?;
                self.ledger.note(Deed::Cut, number)?;
                return Ok(false);
            }
            client.stream().write_all(&piece.raw).await?;
            if piece.is_last {
                if let Some(number) = number {
                    self.ledger.note(Deed::Ended, number)?;
                }
                return Ok(true);
            }
        }
    }
}
