//! What hyper costs by itself: a proxy of one thread that passes bytes on and knows nothing.

use std::{cell::RefCell, convert::Infallible, net::SocketAddr, rc::Rc};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::LocalSet,
};

type Idle = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

/// Listens at a port of this machine and passes everything on to another.
pub(crate) fn run(listen: SocketAddr, upstream: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(listen).await.expect("the port is free");
        let idle = Idle::default();
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a connection");
            let idle = Rc::clone(&idle);
            let service = service_fn(move |request| {
                let idle = Rc::clone(&idle);
                async move { Ok::<_, Infallible>(pass(&idle, upstream, request).await) }
            });
            tokio::task::spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

async fn pass(idle: &Idle, upstream: SocketAddr, request: Request<Incoming>) -> Response<Incoming> {
    let kept = idle.borrow_mut().pop();
    let mut sender = match kept {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(upstream).await.expect("the upstream listens");
            stream.set_nodelay(true).expect("a connection");
            let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
            tokio::task::spawn_local(connection);
            sender
        }
    };
    sender.ready().await.expect("the upstream keeps its connections");
    let response = sender.send_request(request).await.expect("the upstream answers");
    // Whoever takes it waits until this answer has passed.
    let idle = Rc::clone(idle);
    tokio::task::spawn_local(async move {
        if sender.ready().await.is_ok() {
            idle.borrow_mut().push(sender);
        }
    });
    response
}
