//! A connection to a replica.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use proptest::{collection::vec, option, prelude::*, sample::select};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{super::replica::ToReplica, harmed, sorted};
use crate::outgoing::Outgoing;

/// What a client saw of an answer that came to an honest end: the status, the headers, and the body.
type Seen = Option<(u16, Vec<(String, Vec<u8>)>, Vec<u8>)>;

/// A replica that reads the head of one request, answers with these pieces, and hangs up.
async fn replica(pieces: Vec<Vec<u8>>) -> (TcpStream, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let answers = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        for piece in pieces {
            // Who has seen enough may have hung up.
            drop(stream.write_all(&piece).await);
            tokio::task::yield_now().await;
        }
    });
    (stream, answers)
}

fn request(method: Method) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = method;
    *request.uri_mut() = "/v1/models".parse().unwrap();
    request.headers_mut().insert(http::header::HOST, "replica".parse().unwrap());
    request
}

async fn ours(method: Method, pieces: Vec<Vec<u8>>) -> (Seen, bool) {
    let (stream, answers) = replica(pieces).await;
    let mut connection = ToReplica::plain(stream);
    let Ok(head) = connection.send(&request(method).into(), None).await else { return (None, false) };
    let mut body = Vec::new();
    while let Some(data) = poll_fn(|context| connection.poll_data(context)).await {
        let Ok(data) = data else { return (None, connection.answer.may_be_followed()) };
        body.extend_from_slice(&data);
    }
    answers.await.unwrap();
    (Some((head.status.as_u16(), sorted(&head.headers), body)), connection.answer.may_be_followed())
}

async fn hypers(method: Method, pieces: Vec<Vec<u8>>) -> Seen {
    let (stream, answers) = replica(pieces).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request(method).map(Full::new)).await.ok()?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes().to_vec();
    answers.await.unwrap();
    Some((parts.status.as_u16(), sorted(&(&parts.headers).into()), body))
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    let status = select(vec!["200 OK", "200 Fine", "204 No Content", "304 Not Modified", "503 ", "500"]);
    let version = prop_oneof![9 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0")];
    let announced = option::weighted(0.1, Just("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"));
    let other = vec(
        select(vec![
            "content-type: text/event-stream",
            "Connection: close",
            "connection: keep-alive",
            "x-empty:",
            "x:  y  ",
        ]),
        0..3,
    );
    let framing = prop_oneof![
        4 => Just("content-length: 11"),
        4 => Just("Transfer-Encoding: chunked"),
        1 => Just("transfer-encoding: gzip, chunked"),
        1 => Just("transfer-encoding: gzip"),
        1 => Just("content-length: 11, 11"),
        1 => Just("content-length: 11\r\ncontent-length: 12"),
        1 => Just("content-length: +11"),
        1 => Just("x-no: framing"),
    ];
    let body = prop_oneof![
        Just("hello world".to_owned()),
        Just("6\r\nhello \r\n5;ext=1\r\nworld\r\n0\r\n\r\n".to_owned()),
        Just("b\r\nhello world\r\n0\r\n\r\n".to_owned()),
        Just("hello world, and more than was said".to_owned()),
        Just(format!("8000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x8000))),
        Just(String::new()),
    ];
    (announced, version, status, other, framing, body).prop_map(
        |(announced, version, status, other, framing, body)| {
            let announced = announced.unwrap_or_default();
            let other: String = other.iter().map(|line| format!("{line}\r\n")).collect();
            format!("{announced}{version} {status}\r\n{other}{framing}\r\n\r\n{body}").into_bytes()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a replica sends, clients get what hyper's client would give them.
    #[test]
    fn it_sees_what_hyper_sees(pieces in harmed(answer(), 1), is_head in prop::bool::weighted(0.1)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let method = if is_head { Method::HEAD } else { Method::GET };
        let (ours, _) = runtime.block_on(ours(method.clone(), pieces.clone()));
        let theirs = runtime.block_on(hypers(method, pieces));
        prop_assert_eq!(ours, theirs);
    }
}

#[tokio::test]
async fn it_is_used_again_only_where_nothing_is_left_to_be_mistaken_for_the_next_answer() {
    let cases = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Some("{}"), true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", Some("{}"), true),
        ("HTTP/1.1 204 No Content\r\n\r\n", Some(""), true),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: Keep-Alive\r\n\r\n{}", Some("{}"), true),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Some(""), true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x, Close\r\n\r\n{}", Some("{}"), false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", Some("{}"), false),
        ("HTTP/1.1 200 OK\r\n\r\n{}", Some("{}"), false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n{}", Some("{}"), false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n", Some("{}"), false),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n{}", Some(""), false),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            Some("{}"),
            false,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", None, false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", None, false),
    ];
    for (answer, expected, is_kept) in cases {
        for size in [1, 7, answer.len()] {
            let pieces = answer.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
            let (seen, keeps) = ours(Method::POST, pieces).await;
            let body = seen.map(|(_, headers, body)| {
                let both = headers
                    .iter()
                    .filter(|(name, _)| name == "content-length" || name == "transfer-encoding");
                assert!(both.count() < 2, "one says how it ends: {answer}");
                body
            });
            let expected = expected.map(|body| body.as_bytes().to_vec());
            assert_eq!(body, expected, "{answer} by {size}");
            // What comes later is noticed when the connection is to be used.
            assert!(keeps == is_kept || size < answer.len(), "{answer}");
        }
    }
}

#[tokio::test]
async fn what_was_sent_is_not_kept_while_a_stream_goes_on() {
    let sent: Arc<[u8]> = Arc::from(*b"{}");
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let (stream, _answers) = replica(vec![head]).await;
    let mut connection = ToReplica::plain(stream);
    let request = request(Method::POST).map(|_| Bytes::from_owner(Arc::clone(&sent)));
    let request = Outgoing::from(request);
    connection.send(&request, None).await.unwrap();
    assert_eq!(Arc::strong_count(&sent), 2, "whoever may send it again has it");
    drop(request);
    assert_eq!(Arc::strong_count(&sent), 1);
}

#[tokio::test]
async fn what_is_no_answer_is_named() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(64 << 10));
    let cases = [
        ("", "the connection was closed before the end of the message"),
        ("HTTP/1.1 200", "the connection was closed before the end of the message"),
        ("SSH-2.0-OpenSSH\r\n", "the head is not HTTP: invalid HTTP version"),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "the answer changes the protocol, which nobody asked for",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "the Content-Length is not one number",
        ),
        (
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "a message of HTTP/1.0 has a Transfer-Encoding",
        ),
        (&long, "the head has more than 65536 bytes"),
    ];
    for (answer, expected) in cases {
        let (stream, _answers) = replica(vec![answer.as_bytes().to_vec()]).await;
        let error = ToReplica::plain(stream).send(&request(Method::GET).into(), None).await.unwrap_err();
        assert_eq!(error.to_string(), expected, "{answer:.60}");
    }
}

#[tokio::test]
async fn a_request_is_written_with_one_host_and_one_length_and_an_answer_before_its_end_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let replica = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = vec![0; 1024];
        let count = stream.read(&mut read).await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        read.truncate(count);
        // It reads no more, and does not hang up.
        (stream, read)
    });
    let mut request = request(Method::POST).map(|_| Bytes::from(vec![b'x'; 64 << 20]));
    request.headers_mut().insert(http::header::CONTENT_LENGTH, 7.into());
    request.headers_mut().append("x-twice", "1".parse().unwrap());
    request.headers_mut().append("x-twice", "2".parse().unwrap());
    let mut connection = ToReplica::plain(stream);
    let host = HeaderValue::from_static("replica:8000");
    let response = connection.send(&request.into(), Some(&host)).await.unwrap();
    assert_eq!(response.status, 413);
    let data = poll_fn(|context| connection.poll_data(context)).await.unwrap().unwrap();
    assert_eq!(data, "{}");
    assert!(connection.is_end() && !connection.is_free(), "most of the request was never sent");
    let (_stream, read) = replica.await.unwrap();
    let head = String::from_utf8(read).unwrap();
    let head = head.split_once("\r\n\r\n").unwrap().0;
    assert_eq!(
        head,
        "POST /v1/models HTTP/1.1\r\nhost: replica:8000\r\nx-twice: 1\r\nx-twice: 2\r\ncontent-length: 67108864"
    );
}
