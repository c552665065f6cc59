//! One gateway takes the place of another, under load.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use forewarm_core::{ScalerId, pool::PoolPlan};
use forewarm_gateway::{Gateway, GatewayConfig, GatewayError};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::{BODY, CHAT, EVENTS, PATIENCE, Rig, Upstream, config, plan};

fn handed(path: PathBuf, listen: SocketAddr) -> GatewayConfig {
    GatewayConfig { listen, handover: Some(path), ..config() }
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(address: SocketAddr) -> Sender {
    let stream = TcpStream::connect(address).await.expect("somebody listens");
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

/// A client that keeps its connection as long as it is told that it may, and never tries anything twice.
async fn client(address: SocketAddr, enough: Arc<AtomicBool>, served: Arc<AtomicU64>, keeps: bool) {
    let mut sender = None;
    while !enough.load(Relaxed) {
        let mut open = match sender.take() {
            Some(open) => open,
            None => connect(address).await,
        };
        let request = Request::post(CHAT).header("host", "g").body(Full::from(BODY)).unwrap();
        let answered = tokio::time::timeout(PATIENCE, open.send_request(request)).await;
        let response = answered.expect("an answer in time").expect("no request may fail");
        assert_eq!(response.status(), StatusCode::OK);
        let goes_on = response.headers().get("connection").is_none_or(|value| value != "close");
        let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
        assert_eq!(body, "data: {}\n\ndata: [DONE]\n\n");
        served.fetch_add(1, Relaxed);
        if keeps && goes_on && open.ready().await.is_ok() {
            sender = Some(open);
        }
    }
}

/// A replica that answers everything at once.
fn answer_all(mut replica: Upstream) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let call = replica.next().await;
            tokio::spawn(call.stream());
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_follow_one_another_under_load_and_no_request_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let replica = Upstream::start().await;
    let endpoints = vec![replica.endpoint("a", 16)];
    let _answering = answer_all(replica);
    let threads = Some(NonZeroUsize::new(2).unwrap());
    let first = GatewayConfig { threads, ..handed(path.clone(), config().listen) };
    let mut rig = Rig::with(first).await;
    let address = rig.address;
    rig.apply(endpoints.clone());
    let (enough, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..6)
        .map(|number| {
            let (enough, served) = (Arc::clone(&enough), Arc::clone(&served));
            tokio::spawn(client(address, enough, served, number % 2 == 0))
        })
        .collect();
    for _ in 0..5 {
        // Some load at each of them.
        let before = served.load(Relaxed);
        let loaded = async {
            while served.load(Relaxed) < before + 50 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, loaded).await.expect("requests are served");
        let next = Rig::with(GatewayConfig { threads, ..handed(path.clone(), address) }).await;
        assert_eq!(next.address, address);
        assert!(!rig.stop.is_cancelled(), "nothing changes without a plan");
        next.apply(endpoints.clone());
        let old = std::mem::replace(&mut rig, next);
        tokio::time::timeout(PATIENCE, old.running).await.expect("the old one ends").unwrap();
        let mut report = old.handle.report(&crate::support::scaler()).unwrap();
        report.failed_total.remove("client_left");
        assert_eq!((report.failed_total.len(), report.refused_total), (0, 0), "{report:?}");
    }
    enough.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn what_the_old_one_has_begun_it_finishes_and_idle_connections_are_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let mut replica = Upstream::start().await;
    let old = Rig::with(handed(path.clone(), config().listen)).await;
    old.apply(vec![replica.endpoint("a", 1)]);
    let streaming = old.chat();
    let mut call = replica.call().await;
    call.write(EVENTS).await;
    call.chunk("data: {}\n\n").await;
    let mut streaming = streaming.await.unwrap();
    assert_eq!(streaming.next().await.unwrap(), "data: {}\n\n");
    let waiting = old.chat();
    old.until("it waits", |report| report.queued == 1).await;
    let mut idle = connect(old.address).await;
    let new = Rig::with(handed(path, old.address)).await;
    new.apply(vec![replica.endpoint("a", 1)]);
    // The old one is told; a request that was on its way on an idle connection is served, and is its last.
    tokio::time::timeout(PATIENCE, old.stop.cancelled()).await.expect("the old one is told");
    let request = Request::get("/health").header("host", "g").body(Full::default()).unwrap();
    let last = idle.send_request(request).await.expect("the last one");
    assert_eq!(last.headers()["connection"], "close");
    call.done().await;
    assert_eq!(streaming.text().await, "data: [DONE]\n\n");
    replica.call().await.stream().await;
    assert!(waiting.await.unwrap().text().await.ends_with("data: [DONE]\n\n"));
    tokio::time::timeout(PATIENCE, old.running).await.expect("the old one ends").unwrap();
    let reply = new.chat();
    replica.call().await.stream().await;
    assert_eq!(reply.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn it_is_not_replaced_before_the_new_one_knows_every_scaler() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let old = Rig::with(handed(path.clone(), config().listen)).await;
    let other = PoolPlan { scaler: ScalerId::from("t"), models: vec!["n".to_owned()], ..plan(Vec::new()) };
    old.apply(Vec::new());
    assert!(old.handle.apply(&other));
    let new = Rig::with(handed(path, old.address)).await;
    new.apply(Vec::new());
    // A model of which it knows nothing yet is still served by the old one, which alone accepts.
    for _ in 0..20 {
        let request = Request::get("/v1/models/n").header("host", "g").body(Full::default()).unwrap();
        assert_eq!(crate::support::send(new.address, request).await.status, StatusCode::OK);
        assert!(!old.stop.is_cancelled());
    }
    assert!(new.handle.apply(&other));
    tokio::time::timeout(PATIENCE, old.running).await.expect("the old one ends").unwrap();
}

#[tokio::test]
async fn a_new_one_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    // What another left behind is no gateway.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut replica = Upstream::start().await;
    let old = Rig::with(handed(path.clone(), config().listen)).await;
    old.apply(vec![replica.endpoint("a", 1)]);
    let elsewhere = Gateway::bind(handed(path.clone(), "127.0.0.1:1".parse().unwrap())).await.unwrap_err();
    assert!(
        matches!(&elsewhere, GatewayError::Handover { path: named, .. } if *named == path),
        "{elsewhere}"
    );
    // It got the sockets, and ends before it has a plan.
    let next = Gateway::bind(handed(path.clone(), old.address)).await.unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    next.run(stop).await;
    let reply = old.chat();
    replica.call().await.stream().await;
    assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    assert!(!old.stop.is_cancelled());
    // The next one still can.
    let next = Rig::with(handed(path, old.address)).await;
    next.apply(vec![replica.endpoint("a", 1)]);
    tokio::time::timeout(PATIENCE, old.running).await.expect("the old one ends").unwrap();
}

#[tokio::test]
async fn sockets_of_a_service_manager_are_served() {
    let sockets = vec![std::net::TcpListener::bind("127.0.0.1:0").unwrap()];
    let address = sockets[0].local_addr().unwrap();
    let gateway = Gateway::bind_to(config(), sockets).await.unwrap();
    assert_eq!(gateway.local_addr().unwrap(), address);
    let stop = CancellationToken::new();
    let running = tokio::spawn(gateway.run(stop.clone()));
    assert_eq!(crate::support::get(address, "/health").await.status, StatusCode::OK);
    stop.cancel();
    tokio::time::timeout(PATIENCE, running).await.expect("it ends").unwrap();
}
