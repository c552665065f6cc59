//! What a thousand signals cost that are read each second, on one core.
//!
//! The server is a process of its own, so that its work does not count. Prints one JSON row a line, for
//! `cargo xtask bench signals`.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use forewarm_control::{Clock, ports::SignalSet};
use forewarm_core::{Reading, SignalName};
use forewarm_manifest::{SignalSource, signal::PrometheusSignal};
use forewarm_signals::{PollOptions, Poller, Sources};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const SIGNALS: usize = 1_000;
/// Before it is measured, so that every signal was read and connections are open.
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);
/// How finely the server looks at when it is asked.
const BUCKET: Duration = Duration::from_millis(10);

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match std::env::args().nth(1).as_deref() {
        Some("serve") => runtime.block_on(serve()),
        _ => runtime.block_on(measure()),
    }
}

/// What the server saw.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<Instant>>,
}

/// Answers every request with a sample of now; at a line of input says what it saw since the line before, and ends
/// with its input.
async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let seen = Arc::new(Seen::default());
    let shown = Arc::clone(&seen);
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            let mut requests: Vec<Instant> =
                std::mem::take(&mut *shown.requests.lock().expect("not poisoned"));
            requests.sort();
            let busiest = requests.iter().enumerate().map(|(index, at)| {
                requests[index..].iter().take_while(|other| other.duration_since(*at) < BUCKET).count()
            });
            let busiest = busiest.max().unwrap_or(0);
            let connections = shown.connections.load(Ordering::Relaxed);
            if writeln!(std::io::stdout(), "{connections} {busiest} {}", requests.len()).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    loop {
        let (stream, _) = listener.accept().await?;
        seen.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(answer(stream, Arc::clone(&seen)));
    }
}

async fn answer(mut stream: TcpStream, seen: Arc<Seen>) {
    let mut buffer = vec![0; 16 * 1024];
    let mut asked = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        asked.extend_from_slice(&buffer[..read]);
        while let Some(end) = asked.windows(4).position(|window| window == b"\r\n\r\n") {
            asked.drain(..end + 4);
            seen.requests.lock().expect("not poisoned").push(Instant::now());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
            let body = format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[{now},"7"]}}]}}}}"#
            );
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn measure() -> std::io::Result<()> {
    let mut server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut questions = server.stdin.take().expect("piped");
    let mut told = BufReader::new(server.stdout.take().expect("piped")).lines();
    let address = told.next().expect("an address")?;
    let empty = resident_kib()?;
    let clock = Clock::start(1.0);
    let sources = Sources::new(clock);
    let interval = Duration::from_secs(1);
    let options = PollOptions { interval, ..PollOptions::default() };
    let pollers: Vec<Poller> = (0..SIGNALS)
        .map(|number| {
            let query =
                PrometheusSignal::new(format!("http://{address}"), format!("queue_depth{{n=\"{number}\"}}"));
            let source = sources.source(&SignalSource::Prometheus(query), options.timeout, interval / 2);
            let source = source.expect("a source").expect("not the engines'");
            Poller::spawn((SignalName::from("queue"), source), options, clock)
        })
        .collect();
    tokio::time::sleep(WARM_UP).await;
    writeln!(questions)?;
    told.next().expect("an answer")?;
    let (started, before) = (Instant::now(), cpu_ticks()?);
    tokio::time::sleep(MEASURED).await;
    let wall = started.elapsed().as_secs_f64();
    // The kernel counts in hundredths of a second.
    let share = (cpu_ticks()? - before) as f64 / 100.0 / wall;
    writeln!(questions)?;
    let seen = told.next().expect("an answer")?;
    let mut seen = seen.split(' ').map(|number| number.parse::<f64>().expect("a number"));
    let mut next = || seen.next().expect("three numbers");
    let (connections, busiest, requests) = (next(), next(), next());
    let whole = pollers.iter().filter(|poller| {
        let latest = poller.latest();
        latest.iter().all(|(_, signal)| matches!(signal.reading, Reading::Value { .. }))
    });
    assert_eq!(whole.count(), SIGNALS, "every signal is known");
    row("1,000 signals each second: of one core", share * 100.0, "%")?;
    row("1,000 signals each second: answers a second", requests / wall, "/s")?;
    row("1,000 signals each second: memory", (resident_kib()? - empty) / 1024.0, "MiB")?;
    row("1,000 signals each second: connections to their server", connections, "")?;
    row("1,000 signals each second: most asked within 10 ms (10 if even)", busiest, "")?;
    drop(questions);
    server.wait().map(drop)
}

/// User and system time of this process.
fn cpu_ticks() -> std::io::Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    Ok(fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn resident_kib() -> std::io::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0))
}

fn row(name: &str, figure: f64, unit: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::json!({"name": name, "figure": figure, "unit": unit}))
}
