//! HTTP as it is framed, through the gateway: whatever a client sends, a replica gets whole requests to `/v1/` with
//! exactly one length, the client gets whole answers, and no slot is left behind.
#![no_main]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::LazyLock,
    time::{Duration, Instant},
};

use forewarm_core::{
    ReplicaId, ScalerId,
    pool::{Endpoint, PoolPlan, QueueLimits},
};
use forewarm_gateway::{Gateway, GatewayConfig, GatewayHandle};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// After it the gateway gives a request up that does not end.
const READ_TIMEOUT: Duration = Duration::from_millis(20);
/// Beyond it something hangs.
const PATIENCE: Duration = Duration::from_secs(8);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

struct Stage {
    address: SocketAddr,
    handle: GatewayHandle,
    _runtime: Runtime,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let replica = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = Endpoint {
        replica: ReplicaId::from("r"),
        address: replica.local_addr().unwrap().to_string(),
        max_concurrency: 64,
        draining: false,
        kv_tokens: None,
    };
    std::thread::spawn(move || {
        for stream in replica.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (address, handle) = runtime.block_on(async {
        let config = GatewayConfig {
            read_timeout: READ_TIMEOUT,
            ..GatewayConfig::new((Ipv4Addr::LOCALHOST, 0).into())
        };
        let gateway = Gateway::bind(config).await.unwrap();
        let (address, handle) = (gateway.local_addr().unwrap(), gateway.handle());
        tokio::spawn(gateway.run(CancellationToken::new()));
        (address, handle)
    });
    let wait = Duration::from_secs(1);
    assert!(handle.apply(&PoolPlan {
        scaler: ScalerId::from("s"),
        models: Vec::new(),
        endpoints: vec![endpoint],
        ready_in_seconds: None,
        queue: QueueLimits {
            max_requests: 100,
            max_bytes: 1 << 20,
            timeout: wait,
            cold_start_timeout: wait,
            ttft_objective: None,
            tenants: Default::default(),
        },
        concurrency: Default::default(),
        routing: Default::default(),
    }));
    Stage { address, handle, _runtime: runtime }
});

/// A replica that takes HTTP by the letter, and ends everything when it is given anything else.
fn serve(stream: TcpStream) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(head) = head(&mut reader) {
        let (first, headers) = head.split_once("\r\n").unwrap();
        let mut words = first.split(' ');
        let (path, version) = (words.nth(1).unwrap_or_default(), words.next().unwrap_or_default());
        let values = |name: &str| -> Vec<&str> {
            let lines = headers.lines().filter_map(|line| line.split_once(':'));
            lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
        };
        let lengths = values("content-length");
        if !path.starts_with("/v1/")
            || version != "HTTP/1.1"
            || words.next().is_some()
            || lengths.len() > 1
            || !values("transfer-encoding").is_empty()
            || values("host").len() != 1
        {
            eprintln!("a replica was sent {head:?}");
            std::process::abort();
        }
        let length = lengths.first().map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0_u8; length];
        if reader.read_exact(&mut body).is_err() || writer.write_all(ANSWER).is_err() {
            return;
        }
    }
}

/// The next head with its empty line; `None` at the end.
fn head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Every answer up to the end of the connection is whole.
fn check(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    while let Some(head) = head(&mut reader) {
        assert!(head.starts_with("HTTP/1."), "{head}");
        let status = head.split(' ').nth(1).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        // What answers HEAD has a length and no body; what is `100` has neither.
        let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
        if status == "100" {
            continue;
        }
        let mut body = vec![0_u8; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let stage = &*STAGE;
    let began = Instant::now();
    let mut stream = TcpStream::connect(stage.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be cut off while it still writes.
    let whole = stream.write_all(bytes).is_ok();
    // A HEAD makes lengths say nothing.
    if whole && !bytes.windows(5).any(|window| window == b"HEAD ") {
        check(stream);
    }
    assert!(began.elapsed() < PATIENCE, "it hangs");
    let report = || stage.handle.report(&ScalerId::from("s")).unwrap();
    while report().in_flight_sum() + report().queued > 0 {
        assert!(began.elapsed() < PATIENCE, "a slot is left behind: {:?}", report());
        std::thread::sleep(Duration::from_millis(1));
    }
});
