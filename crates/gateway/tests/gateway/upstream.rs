//! Replicas that speak TLS and HTTP/2.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use forewarm_core::{ReplicaId, pool::Endpoint};
use forewarm_gateway::{ControlAccess, ControlToken, GatewayConfig, RemoteGateway, TlsFiles, UpstreamTls};
use http::{Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    support::{PATIENCE, Rig, config, scaler},
    tls::{Authority, server},
};

type Body = BoxBody<Bytes, Infallible>;
type Pieces = mpsc::UnboundedReceiver<Bytes>;

/// A request at a replica: its head, its body, and where the answer's stream is given.
struct Asked {
    head: http::request::Parts,
    body: Bytes,
    answer: oneshot::Sender<Pieces>,
}

/// A replica that speaks HTTP/2 only: in clear text, or over TLS. Counts its connections.
async fn replica(
    tls: Option<TlsAcceptor>,
) -> (SocketAddr, mpsc::UnboundedReceiver<Asked>, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, calls) = mpsc::unbounded_channel();
    let (connected, connections) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connected.send(()).ok();
            let (asked, tls) = (asked.clone(), tls.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| respond(request, asked.clone()));
                let server = http2::Builder::new(TokioExecutor::new());
                match tls {
                    None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            drop(server.serve_connection(TokioIo::new(stream), service).await);
                        }
                    }
                }
            });
        }
    });
    (address, calls, connections)
}

async fn respond(
    request: Request<Incoming>,
    asked: mpsc::UnboundedSender<Asked>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (answer, pieces) = oneshot::channel();
    asked.send(Asked { head, body, answer }).ok();
    // A test that has ended answers nothing.
    let Ok(pieces) = pieces.await else { return std::future::pending().await };
    let frames = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok(Frame::data(piece)), pieces))
    });
    let response = Response::builder().header("content-type", "text/event-stream");
    Ok(response.body(StreamBody::new(frames).boxed()).unwrap())
}

fn endpoint(address: String) -> Endpoint {
    Endpoint { replica: ReplicaId::from("a"), address, max_concurrency: 4, kv_tokens: None, draining: false }
}

#[tokio::test]
async fn http2_replicas_are_spoken_to_over_one_connection() {
    let authority = Authority::new();
    let acceptor =
        TlsAcceptor::from(Arc::new(server(&authority.sign("replica", "replica.internal"), &["h2"])));
    let upstream_tls = UpstreamTls {
        ca: Some(authority.ca()),
        server_name: Some("replica.internal".to_owned()),
        identity: None,
    };
    let rig = Rig::with(GatewayConfig { upstream_tls, ..config() }).await;
    for (scheme, tls) in [("https", Some(acceptor)), ("h2c", None)] {
        let (address, mut calls, mut connections) = replica(tls).await;
        rig.apply(vec![endpoint(format!("{scheme}://{address}"))]);
        let mut open = Vec::new();
        for _ in 0..3 {
            let reply = rig.chat();
            let asked =
                tokio::time::timeout(PATIENCE, calls.recv()).await.expect("a request in time").unwrap();
            assert_eq!((asked.head.version, asked.head.uri.path()), (Version::HTTP_2, crate::support::CHAT));
            assert_eq!(asked.head.uri.authority().map(ToString::to_string), Some(address.to_string()));
            assert_eq!(asked.head.headers["x-forwarded-for"], "127.0.0.1");
            assert_eq!(asked.body, crate::support::BODY);
            let (pieces, stream) = mpsc::unbounded_channel();
            asked.answer.send(stream).unwrap();
            pieces.send(Bytes::from("data: {}\n\n")).unwrap();
            let mut reply = reply.await.unwrap();
            assert_eq!(reply.status, StatusCode::OK);
            assert_eq!(reply.next().await.unwrap(), "data: {}\n\n");
            open.push((pieces, reply));
        }
        // A client leaves: its stream ends at the replica, the others go on.
        let (pieces, reply) = open.pop().unwrap();
        drop(reply);
        tokio::time::timeout(PATIENCE, pieces.closed()).await.expect("the generation is stopped");
        for (pieces, mut reply) in open {
            pieces.send(Bytes::from("data: [DONE]\n\n")).unwrap();
            drop(pieces);
            assert_eq!(reply.next().await.unwrap(), "data: [DONE]\n\n");
            assert_eq!(reply.next().await, None);
        }
        connections.recv().await.unwrap();
        assert!(connections.is_empty(), "one is enough");
    }
}

#[tokio::test]
async fn a_replica_that_is_not_who_it_says_gets_no_request() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let cases = [
        ("signed by a stranger", stranger.sign("replica", "127.0.0.1")),
        ("another name", authority.sign("other", "other.internal")),
    ];
    for (what, files) in cases {
        let upstream_tls = UpstreamTls { ca: Some(authority.ca()), ..UpstreamTls::default() };
        let rig = Rig::with(GatewayConfig { upstream_tls, ..config() }).await;
        let acceptor = TlsAcceptor::from(Arc::new(server(&files, &["h2"])));
        let (address, calls, mut connections) = replica(Some(acceptor)).await;
        rig.apply(vec![endpoint(format!("https://{address}"))]);
        let reply = rig.chat();
        connections.recv().await.unwrap();
        rig.until("it has to be tried again", |report| report.retried_total > 0).await;
        assert!(calls.is_empty(), "{what}");
        reply.abort();
    }
}

#[tokio::test]
async fn a_controller_and_a_gateway_know_each_other_by_certificates() {
    let authority = Authority::new();
    let files = TlsFiles { client_ca: Some(authority.ca()), ..authority.sign("gateway", "localhost") };
    let token = ControlToken::new("secret");
    let rig =
        Rig::with(GatewayConfig { control_tls: Some(files), control_token: Some(token.clone()), ..config() })
            .await;
    rig.apply(Vec::new());
    let TlsFiles { cert, key, .. } = authority.sign("controller", "controller");
    let mut tls = UpstreamTls {
        ca: Some(authority.ca()),
        server_name: Some("localhost".to_owned()),
        identity: Some((cert, key)),
    };
    let address = format!("https://{}", rig.control);
    let access = ControlAccess::new(Some(token.clone()), &tls).unwrap();
    let remote = RemoteGateway::new(scaler(), &address, &access);
    assert_eq!(remote.report().await.unwrap(), rig.report());
    // Without a certificate a token is not enough.
    tls.identity = None;
    let access = ControlAccess::new(Some(token), &tls).unwrap();
    RemoteGateway::new(scaler(), &address, &access).report().await.unwrap_err();
    tls.ca = Some("/no/ca.pem".into());
    assert!(ControlAccess::new(None, &tls).unwrap_err().to_string().contains("/no/ca.pem"));
}
