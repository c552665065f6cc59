//! A client's connection.

use std::{
    convert::Infallible,
    future::poll_fn,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::{collection::vec, prelude::*, sample::select};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
};

use super::{super::client::FromClient, harmed, sorted};
use crate::{
    answer::{Body, BodyError, Response, full},
    headers::Headers,
    receive::Source,
};

/// What a server saw of a request: the method, what was asked for, the headers, and the body.
type Seen = (String, String, Vec<(String, Vec<u8>)>, Vec<u8>);

/// Sends these pieces, and takes what is answered until the end.
async fn client(mut stream: DuplexStream, pieces: Vec<Vec<u8>>) -> Vec<u8> {
    for piece in pieces {
        // It may be hung up on.
        drop(stream.write_all(&piece).await);
        tokio::task::yield_now().await;
    }
    drop(stream.shutdown().await);
    let mut answers = Vec::new();
    drop(stream.read_to_end(&mut answers).await);
    answers
}

/// Headers, but for the length of a body: where it is said twice or beside chunks, hyper leaves one or none, and whoever passes a
/// request on says it anew.
fn said(headers: &Headers) -> Vec<(String, Vec<u8>)> {
    let mut headers = sorted(headers);
    headers.retain(|(name, _)| name != "content-length");
    headers
}

/// Serves a connection: whole requests are seen, and answered.
async fn serve(stream: DuplexStream) -> Vec<Seen> {
    let (mut connection, mut seen) = (FromClient::new(stream), Vec::new());
    while let Ok(Some(head)) = poll_fn(|context| connection.poll_head(context)).await {
        let mut body = Vec::new();
        while let Some(piece) = poll_fn(|context| connection.poll_piece(context)).await {
            let Ok(piece) = piece else { return seen };
            body.extend_from_slice(&piece);
        }
        let path = head.target.path().to_owned();
        seen.push((head.method.to_string(), path, said(&head.headers), body));
        let answer = Response::new(StatusCode::OK, full("{}"));
        if connection.send(answer, false).await.is_err() || !connection.keeps() {
            break;
        }
    }
    connection.close().await;
    seen
}

async fn ours(pieces: Vec<Vec<u8>>) -> Vec<Seen> {
    let (far, near) = duplex(1 << 20);
    tokio::join!(serve(near), client(far, pieces)).0
}

async fn hypers(pieces: Vec<Vec<u8>>) -> Vec<Seen> {
    let (far, near) = duplex(1 << 20);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let sees = Arc::clone(&sees);
        async move {
            let (parts, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let path = parts.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
                let headers = said(&(&parts.headers).into());
                let body = body.to_bytes().to_vec();
                sees.lock().unwrap().push((parts.method.to_string(), path, headers, body));
            }
            Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"{}"))))
        }
    });
    let server = async {
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(near), service);
        drop(connection.await);
    };
    tokio::join!(server, client(far, pieces));
    Arc::into_inner(seen).unwrap().into_inner().unwrap()
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let first = select(vec![
        "POST /v1/models HTTP/1.1",
        "POST /v1/x?y=z HTTP/1.1",
        "GET http://elsewhere/v1/x HTTP/1.1",
        "\r\nPUT /v1/{x} HTTP/1.1",
        "POST /v1/x HTTP/1.0",
    ]);
    let other = vec(
        select(vec![
            "Content-Type: application/json",
            "connection: close",
            "connection: keep-alive, x",
            "expect: 100-continue",
            "x-empty:",
            "x:  y  ",
        ]),
        0..4,
    );
    let body = prop_oneof![
        4 => Just("content-length: 11\r\n\r\nhello world"),
        4 => Just("Transfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5;ext=1\r\nworld\r\n0\r\n\r\n"),
        1 => Just("transfer-encoding: Chunked\r\n\r\nb\r\nhello world\r\n0\r\ntrailer: x\r\n\r\n"),
        1 => Just("content-length: 11\r\ncontent-length: 11\r\n\r\nhello world"),
        1 => Just("content-length: 11\r\ntransfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"),
        1 => Just("transfer-encoding: gzip\r\n\r\nhello world"),
        1 => Just("content-length: 99\r\n\r\nhello world"),
        2 => Just("\r\n"),
    ];
    (first, other, body).prop_map(|(first, other, body)| {
        let other: String = other.iter().map(|line| format!("{line}\r\n")).collect();
        format!("{first}\r\nhost: gateway\r\n{other}{body}").into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Of whatever a client sends, no request is seen that hyper would not see as well, and in the same way.
    #[test]
    fn it_sees_no_request_that_hyper_does_not_see(
        pieces in harmed(vec(request(), 1..3).prop_map(|requests| requests.concat()), 1),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ours = runtime.block_on(ours(pieces.clone()));
        let theirs = runtime.block_on(hypers(pieces));
        prop_assert!(theirs.starts_with(&ours), "{ours:?}\n{theirs:?}");
    }
}

/// What is answered to these bytes by a server that does so with this body.
async fn answered(bytes: &str, answer: impl FnOnce() -> Response + Send) -> String {
    let (far, near) = duplex(1 << 20);
    let serve = async {
        let mut connection = FromClient::new(near);
        let head = poll_fn(|context| connection.poll_head(context)).await.unwrap().unwrap();
        drop(head);
        drop(connection.send(answer(), false).await);
        if !connection.keeps() {
            connection.close().await;
        }
    };
    let (answer, ()) = tokio::join!(client(far, vec![bytes.as_bytes().to_vec()]), serve);
    let answer = String::from_utf8(answer).unwrap();
    let is_date = |line: &&str| line.starts_with("date: ");
    answer.split_inclusive("\r\n").filter(|line| !is_date(line)).collect()
}

/// A body of which nobody knows how long it is.
fn stream(pieces: &'static [&'static str]) -> Body {
    let frames = pieces.iter().map(|piece| Ok::<_, BodyError>(http_body::Frame::data(Bytes::from(*piece))));
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_framed_as_its_client_can_read_it() {
    type Answer = fn() -> Response;
    let known: Answer = || Response::new(StatusCode::OK, full("{}"));
    let unknown: Answer = || Response::new(StatusCode::OK, stream(&["a", "", "bc"]));
    let said: Answer = || {
        let mut response = Response::new(StatusCode::OK, stream(&["a", "bc"]));
        response.head.headers.push("content-length", b"3");
        response
    };
    let short: Answer = || {
        let mut response = Response::new(StatusCode::OK, stream(&["a"]));
        response.head.headers.push("content-length", b"3");
        response
    };
    let long: Answer = || {
        let mut response = Response::new(StatusCode::OK, stream(&["abc", "d"]));
        response.head.headers.push("content-length", b"3");
        response
    };
    let none: Answer = || {
        let mut response = Response::new(StatusCode::NO_CONTENT, full(""));
        response.head.headers.push("content-length", b"3");
        response
    };
    let not_one: Answer = || {
        let mut response = Response::new(StatusCode::NOT_MODIFIED, full(""));
        response.head.headers.push("content-length", b"3");
        response.head.headers.push("content-length", b"4");
        response
    };
    let get = "GET / HTTP/1.1\r\nhost: g\r\n\r\n";
    let cases: [(&str, Answer, &str); 14] = [
        (get, known, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
        (get, unknown, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
        (get, said, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
        (get, short, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na"),
        (get, long, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
        (get, none, "HTTP/1.1 204 No Content\r\n\r\n"),
        (get, not_one, "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("HEAD / HTTP/1.1\r\nhost: g\r\n\r\n", known, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"),
        ("HEAD / HTTP/1.1\r\nhost: g\r\n\r\n", said, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"),
        (
            "GET / HTTP/1.0\r\n\r\n",
            known,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        ),
        (
            "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            known,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n{}",
        ),
        (
            "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            unknown,
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc",
        ),
        (
            "GET / HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n",
            known,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        ),
        (
            // Its body is not read, and so nobody knows where the next request begins.
            "PUT / HTTP/1.1\r\nhost: g\r\ncontent-length: 9\r\n\r\n",
            known,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        ),
    ];
    for (request, answer, expected) in cases {
        assert_eq!(answered(request, answer).await, expected, "{request}");
    }
}

#[tokio::test]
async fn it_is_told_to_send_its_body_when_it_asks_and_not_before() {
    let (mut far, near) = duplex(1 << 10);
    let mut connection = FromClient::new(near);
    let head = "POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
    far.write_all(head.as_bytes()).await.unwrap();
    poll_fn(|context| connection.poll_head(context)).await.unwrap().unwrap();
    let read = poll_fn(|context| connection.poll_piece(context));
    let client = async {
        let mut told = [0; 25];
        far.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        far.write_all(b"{}").await.unwrap();
    };
    let (piece, ()) = tokio::join!(read, client);
    assert_eq!(piece.unwrap().unwrap(), "{}");
    assert!(connection.is_end());
}

#[tokio::test]
async fn a_client_that_leaves_is_missed_and_one_that_sends_ahead_is_not_lost() {
    let (mut far, near) = duplex(1 << 10);
    let mut connection = FromClient::new(near);
    far.write_all(b"GET /1 HTTP/1.1\r\nhost: g\r\n\r\n").await.unwrap();
    poll_fn(|context| connection.poll_head(context)).await.unwrap().unwrap();
    let is_gone = |connection: &mut FromClient<DuplexStream>| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        connection.poll_gone(&mut context).is_ready()
    };
    assert!(!is_gone(&mut connection), "it waits");
    far.write_all(b"GET /2 HTTP/1.1\r\nhost: g\r\n\r\n").await.unwrap();
    assert!(!is_gone(&mut connection), "it sends ahead");
    connection.send(Response::new(StatusCode::OK, full("{}")), false).await.unwrap();
    let head = poll_fn(|context| connection.poll_head(context)).await.unwrap().unwrap();
    assert_eq!(head.target.path(), "/2");
    far.write_all(b"GET /3 HTTP/1.1\r\nhost: g\r\n\r\n").await.unwrap();
    assert!(!is_gone(&mut connection), "it sends ahead again");
    drop(far);
    assert!(is_gone(&mut connection), "whatever it has sent ahead");
}

#[tokio::test]
async fn who_is_told_that_a_request_is_none_may_have_sent_more_than_was_read() {
    let (mut far, near) = duplex(1 << 10);
    let serve = async {
        let mut connection = FromClient::new(near);
        poll_fn(|context| connection.poll_head(context)).await.unwrap().unwrap();
        connection.send(Response::new(StatusCode::OK, full("{}")), false).await.unwrap();
        poll_fn(|context| connection.poll_head(context)).await.unwrap_err();
        connection.send(Response::new(StatusCode::BAD_REQUEST, full("no")), false).await.unwrap();
        assert!(!connection.keeps());
        connection.close().await;
    };
    let client = async {
        far.write_all(b"HEAD / HTTP/1.1\r\nhost: g\r\n\r\nno HTTP\r\n\r\n").await.unwrap();
        far.write_all(&[b'x'; 10 << 10]).await.expect("hung up on while it sends, it may lose the answer");
        far.shutdown().await.unwrap();
        let mut answers = String::new();
        far.read_to_string(&mut answers).await.unwrap();
        assert!(answers.ends_with("\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"), "{answers}");
    };
    tokio::join!(serve, client);
}

#[tokio::test]
async fn a_stream_goes_out_event_by_event_and_a_slow_client_holds_it_up() {
    let (mut far, near) = duplex(256 << 10);
    let mut connection = FromClient::new(near);
    far.write_all(b"GET / HTTP/1.1\r\nhost: g\r\n\r\n").await.unwrap();
    poll_fn(|context| connection.poll_head(context)).await.unwrap().unwrap();
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let data = receiver.recv().await?;
        Some((Ok::<_, BodyError>(http_body::Frame::data(data)), receiver))
    });
    let body = StreamBody::new(frames).boxed_unsync();
    let served =
        tokio::spawn(async move { connection.send(Response::new(StatusCode::OK, body), false).await });
    let mut read = vec![0; 1 << 10];
    sender.send(Bytes::from_static(b"first")).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"5\r\nfirst\r\n") {
        let count = far.read(&mut read).await.unwrap();
        seen.extend_from_slice(&read[..count]);
    }
    // Nobody reads: so much fits on the way, and the rest is not asked for.
    let mut sent = 0;
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    while let Ok(Ok(())) =
        tokio::time::timeout(std::time::Duration::from_millis(200), sender.send(piece.clone())).await
    {
        sent += 1;
        assert!(sent < 20, "everything is taken");
    }
    drop(far);
    assert!(served.await.unwrap().is_err());
}
