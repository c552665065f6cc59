//! An answer whose head is there, whatever it comes over.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;

use crate::http1::{Http1Error, ToReplica};

/// The rest of an answer. To drop it before its end stops whoever writes it.
pub(crate) enum Reply {
    Http1(Box<ToReplica>),
    Http2(Incoming),
}

/// Why there is no answer, or no more of one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplyError {
    #[error(transparent)]
    Http1(#[from] Http1Error),
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

impl Reply {
    /// The next bytes; `None` at its end. Trailers are left out: none of these engines sends any.
    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReplyError>>> {
        match self {
            Reply::Http1(connection) => connection.poll_data(context).map_err(ReplyError::from),
            Reply::Http2(body) => loop {
                match ready!(Pin::new(&mut *body).poll_frame(context)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                        Ok(_) | Err(_) => {}
                    },
                }
            },
        }
    }

    /// The same, to wait for.
    pub(crate) async fn data(&mut self) -> Option<Result<Bytes, ReplyError>> {
        poll_fn(|context| self.poll_data(context)).await
    }

    /// Whether it is certain that nothing more comes.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Reply::Http1(connection) => connection.is_end(),
            Reply::Http2(body) => body.is_end_stream(),
        }
    }
}
