//! A client that costs as little as can be, so that it is not what is measured.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::Instant,
};

use crate::upstream::{EVENT_GAP, EVENTS};

/// Connections at full load: enough that the proxy never waits for a client.
const BUSY_CONNECTIONS: usize = 64;
/// Connections at a paced load at most: a proxy that stands still for a moment does not use up all there are.
const MOST_CONNECTIONS: usize = 512;
/// Begins each time at a paced load, and does not count: whoever has rested is not in any cache.
const BEGINNING: Duration = Duration::from_millis(10);
/// Longest time that a connection is idle and used again: less than any proxy keeps it.
const KEPT: Duration = Duration::from_secs(10);
/// Clients of streams come one after another over this time, so that their events do not come all at once.
const RAMP: Duration = Duration::from_millis(1_000);

/// How an event begins.
const DATA: &[u8] = b"data: ";

/// A chat request as a client's library sends it.
pub(crate) fn request(stream: bool) -> Arc<[u8]> {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"Say something of the usual length."}}],"temperature":0.7,"max_tokens":256,"stream":{stream}}}"#
    );
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\n\
        content-type: application/json\r\nuser-agent: bench/1.0\r\nauthorization: Bearer sk-bench\r\n\
        content-length: {length}\r\n\r\n{body}"
    );
    Arc::from(request.into_bytes())
}

/// Where the first HTTP message in these bytes ends, if it is all there; of a chunked one, only its last bytes
/// are looked at.
pub(crate) fn message_end(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let end = match content_length(&bytes[..head]) {
        Some(length) => head + length,
        None if bytes[head..].ends_with(b"0\r\n\r\n") => bytes.len(),
        None if is_chunked(&bytes[..head]) => return None,
        None => head,
    };
    (end <= bytes.len()).then_some(end)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let name = b"\ncontent-length:";
    let at = head.windows(name.len()).position(|window| window.eq_ignore_ascii_case(name))?;
    let value = &head[at + name.len()..];
    let end = value.iter().position(|&byte| byte == b'\r')?;
    std::str::from_utf8(&value[..end]).ok()?.trim().parse().ok()
}

fn is_chunked(head: &[u8]) -> bool {
    head.windows(7).any(|window| window.eq_ignore_ascii_case(b"chunked"))
}

/// A connection to what is measured.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(4_096) })
    }

    /// One request, one answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.read.clear();
        while message_end(&self.read).is_none() {
            self.more().await?;
        }
        self.check()
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        let head = self.read.windows(4).position(|window| window == b"\r\n\r\n");
        head.map_or(&[], |head| &self.read[head + 4..])
    }

    /// One request, one stream; returns how late each event was, counted from the first one.
    async fn stream(&mut self, request: &[u8]) -> io::Result<Vec<Duration>> {
        self.stream.write_all(request).await?;
        let mut late = Vec::with_capacity(EVENTS);
        let mut first = None;
        self.read.clear();
        self.more().await?;
        self.check()?;
        loop {
            let events = self.read.windows(DATA.len()).filter(|window| *window == DATA).count();
            for _ in 0..events.min(EVENTS - late.len()) {
                let first = *first.get_or_insert_with(Instant::now);
                let due = first + EVENT_GAP * u32::try_from(late.len()).unwrap_or(u32::MAX);
                late.push(due.elapsed());
            }
            if self.read.ends_with(b"0\r\n\r\n") {
                break;
            }
            // The beginning of an event's name, if it was cut there.
            self.read.drain(..self.read.len().saturating_sub(DATA.len() - 1));
            self.more().await?;
        }
        if late.len() < EVENTS {
            return Err(io::Error::other(format!("a stream of {} events", late.len())));
        }
        Ok(late)
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(()),
        }
    }

    fn check(&self) -> io::Result<()> {
        match self.read.starts_with(b"HTTP/1.1 200") {
            true => Ok(()),
            false => {
                let answer = String::from_utf8_lossy(&self.read[..self.read.len().min(500)]).into_owned();
                Err(io::Error::other(answer))
            }
        }
    }
}

/// Sends one request after another on every connection; returns how many were answered.
pub(crate) async fn saturate(address: SocketAddr, time: Duration) -> io::Result<u64> {
    let (request, end) = (request(false), Instant::now() + time);
    let mut clients = JoinSet::new();
    for _ in 0..BUSY_CONNECTIONS {
        let request = Arc::clone(&request);
        clients.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut answered = 0;
            while Instant::now() < end {
                connection.exchange(&request).await?;
                answered += 1;
            }
            io::Result::Ok(answered)
        });
    }
    let mut answered = 0;
    while let Some(client) = clients.join_next().await {
        answered += client.map_err(io::Error::other)??;
    }
    Ok(answered)
}

/// A client that sends at a paced load, and keeps its connections from one time to the next.
pub(crate) struct Paced {
    address: SocketAddr,
    idle: Arc<Mutex<Vec<Idle>>>,
}

/// A connection, and when it was used last.
type Idle = (Instant, Connection);

/// One of the connections that are open, unless the proxy may be about to close it.
fn take(idle: &Mutex<Vec<Idle>>) -> Option<Connection> {
    let (used, connection) = idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
    (used.elapsed() < KEPT).then_some(connection)
}

impl Paced {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, idle: Arc::default() }
    }

    /// Sends so many requests a second, evenly, whether they are answered or not; returns each one's latency from
    /// the moment it was due, but for those of the beginning.
    pub(crate) async fn send(&self, per_second: f64, time: Duration) -> io::Result<Vec<Duration>> {
        let (address, request) = (self.address, request(false));
        let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let (count, start) = ((per_second * time.as_secs_f64()) as u32, Instant::now());
        let mut clients = JoinSet::new();
        for number in 0..count {
            let due = start + Duration::from_secs_f64(f64::from(number) / per_second);
            // A timer of tokio's ticks once a millisecond, which would make bursts of them.
            while Instant::now() < due {
                tokio::task::yield_now().await;
            }
            let (request, idle) = (Arc::clone(&request), Arc::clone(&self.idle));
            // What waits for one is late, and counts as late.
            let permit = Arc::clone(&connections).acquire_owned().await.map_err(io::Error::other)?;
            clients.spawn(async move {
                let mut connection = match take(&idle) {
                    Some(connection) => connection,
                    None => Connection::open(address).await?,
                };
                connection.exchange(&request).await?;
                let latency = due.elapsed();
                drop(permit);
                idle.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), connection));
                io::Result::Ok((due, latency))
            });
        }
        let mut latencies = Vec::new();
        while let Some(client) = clients.join_next().await {
            let (due, latency) = client.map_err(io::Error::other)??;
            if due - start >= BEGINNING {
                latencies.push(latency);
            }
        }
        Ok(latencies)
    }
}

/// Holds so many streams at once; returns how late their events were. `held` is called when all of them run.
pub(crate) async fn streams(
    address: SocketAddr,
    count: usize,
    held: impl FnOnce(),
) -> io::Result<Vec<Duration>> {
    let request = request(true);
    let mut clients = JoinSet::new();
    let start = Instant::now();
    for number in 0..count {
        let begins = start + RAMP.mul_f64(number as f64 / count as f64);
        let request = Arc::clone(&request);
        clients.spawn(async move {
            tokio::time::sleep_until(begins).await;
            Connection::open(address).await?.stream(&request).await
        });
    }
    tokio::time::sleep_until(start + RAMP * 2).await;
    held();
    let mut late = Vec::new();
    while let Some(client) = clients.join_next().await {
        late.extend(client.map_err(io::Error::other)??);
    }
    Ok(late)
}

/// Sends one request on each of so many connections, all of which wait; returns them to be awaited.
pub(crate) fn wait(address: SocketAddr, count: usize) -> JoinSet<io::Result<()>> {
    let request = request(false);
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let request = Arc::clone(&request);
        clients.spawn(async move { Connection::open(address).await?.exchange(&request).await });
    }
    clients
}
