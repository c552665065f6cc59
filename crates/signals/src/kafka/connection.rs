//! One connection to a broker, which all that ask that broker share: each answer finds its question by number.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiVersionsRequest, RequestHeader, ResponseHeader},
    protocol::{
        Decodable, HeaderVersion, Request, StrBytes, VersionRange, encode_request_header_into_buffer,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{Mutex as AsyncMutex, oneshot},
    task::AbortHandle,
};

use super::{Security, sasl};
use crate::tls::Stream;

/// Largest answer that is read: some hundred thousand partitions.
const MAX_ANSWER_BYTES: u32 = 16 << 20;
/// How a server of TLS begins to say that this was none.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// Questions without an answer yet, or why none can come any more.
#[derive(Debug)]
struct Waiting {
    closed: Option<String>,
    by_number: BTreeMap<i32, oneshot::Sender<Bytes>>,
}

#[derive(Debug)]
struct Shared(Mutex<Waiting>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing comes any more: whoever waits learns why.
    fn close(&self, why: &str) {
        let mut waiting = self.lock();
        waiting.closed.get_or_insert_with(|| why.to_owned());
        waiting.by_number.clear();
    }
}

/// A connection that is ready for questions.
pub(super) struct Connection {
    writer: AsyncMutex<WriteHalf<Stream>>,
    shared: Arc<Shared>,
    versions: BTreeMap<i16, VersionRange>,
    numbers: AtomicI32,
    reader: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A question that is given up: its answer is late, and so would be all behind it.
struct Asked<'a> {
    shared: &'a Shared,
    is_answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.shared.close("the broker does not answer in time");
        }
    }
}

impl Connection {
    /// Connects, learns what the broker understands, and proves who asks.
    pub(super) async fn open(address: &str, security: &Security) -> Result<Self, String> {
        let tls = security.tls.as_ref().map(|(config, tls)| (Arc::clone(config), tls));
        let stream = Stream::connect(address, tls)
            .await
            .map_err(|error| format!("no connection to {address}: {error}"))?;
        let (reader, writer) = tokio::io::split(stream);
        let shared = Arc::new(Shared(Mutex::new(Waiting { closed: None, by_number: BTreeMap::new() })));
        let task = tokio::spawn(read(reader, Arc::clone(&shared)));
        let mut connection = Self {
            writer: AsyncMutex::new(writer),
            shared,
            versions: BTreeMap::new(),
            numbers: AtomicI32::new(0),
            reader: task.abort_handle(),
        };
        // Every broker understands this version of the question.
        let known = connection.send(0, &ApiVersionsRequest::default()).await?;
        connection.versions = known
            .api_keys
            .iter()
            .map(|api| (api.api_key, VersionRange { min: api.min_version, max: api.max_version }))
            .collect();
        if let Some(sasl) = &security.sasl {
            sasl::authenticate(&connection, sasl).await?;
        }
        Ok(connection)
    }

    /// Why nothing can be asked any more, if so.
    pub(super) fn closed(&self) -> Option<String> {
        self.shared.lock().closed.clone()
    }

    /// The newest version that both sides understand.
    pub(super) fn version<R: Request>(&self) -> Result<i16, String> {
        let ours = R::VERSIONS;
        let theirs =
            self.versions.get(&R::KEY).ok_or_else(|| format!("the broker does not know API {}", R::KEY))?;
        let newest = ours.max.min(theirs.max);
        if newest < ours.min.max(theirs.min) {
            return Err(format!(
                "the broker understands versions {} to {} of API {}, and {} to {} are understood here",
                theirs.min,
                theirs.max,
                R::KEY,
                ours.min,
                ours.max
            ));
        }
        Ok(newest)
    }

    /// Asks in a version, and waits for the answer.
    pub(super) async fn send<R: Request>(&self, version: i16, request: &R) -> Result<R::Response, String> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let frame = frame(number, version, request).map_err(|error| format!("cannot ask: {error}"))?;
        let (reply, answer) = oneshot::channel();
        let mut asked = Asked { shared: &self.shared, is_answered: false };
        {
            let mut waiting = self.shared.lock();
            if let Some(why) = waiting.closed.clone() {
                return Err(why);
            }
            waiting.by_number.insert(number, reply);
        }
        if let Err(error) = self.writer.lock().await.write_all(&frame).await {
            self.shared.close(&error.to_string());
        }
        let Ok(mut answer) = answer.await else {
            asked.is_answered = true;
            return Err(self.closed().unwrap_or_else(|| "the connection is closed".to_owned()));
        };
        asked.is_answered = true;
        let decoded = ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .and_then(|_| R::Response::decode(&mut answer, version));
        decoded.map_err(|error| format!("the broker's answer cannot be read: {error}"))
    }
}

fn frame<R: Request>(number: i32, version: i16, request: &R) -> Result<BytesMut, String> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(number)
        .with_client_id(Some(StrBytes::from_static_str("forewarm")));
    let mut frame = BytesMut::new();
    frame.put_u32(0);
    encode_request_header_into_buffer(&mut frame, &header).map_err(|error| error.to_string())?;
    request.encode(&mut frame, version).map_err(|error| error.to_string())?;
    let length = u32::try_from(frame.len() - 4).map_err(|error| error.to_string())?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Hands each answer to whoever waits for it, until the connection ends.
async fn read(mut reader: ReadHalf<Stream>, shared: Arc<Shared>) {
    for answers in 0_u64.. {
        let answer = match answer(&mut reader).await {
            Ok(answer) => answer,
            Err(error) => {
                let why = match (error.kind(), answers) {
                    // What it understands, a broker tells everybody, and more only to whom it knows.
                    (std::io::ErrorKind::UnexpectedEof, 1) => {
                        "the broker closed the connection at the first question, as one does that wants `sasl`, \
                         `username` and `password`"
                            .to_owned()
                    }
                    (std::io::ErrorKind::UnexpectedEof, _) => "the broker closed the connection".to_owned(),
                    _ => error.to_string(),
                };
                return shared.close(&why);
            }
        };
        let number = answer.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        let reply = number.and_then(|number| shared.lock().by_number.remove(&number));
        if let Some(reply) = reply {
            // Whoever asked may have given up.
            drop(reply.send(answer));
        }
    }
}

async fn answer(reader: &mut ReadHalf<Stream>) -> std::io::Result<Bytes> {
    let length = reader.read_u32().await?;
    if length.to_be_bytes().starts_with(&TLS_ALERT) {
        return Err(std::io::Error::other("the broker speaks TLS at this address: `tls: enable`"));
    }
    if length > MAX_ANSWER_BYTES {
        return Err(std::io::Error::other(format!("an answer of {length} bytes is no broker's")));
    }
    let mut answer = vec![0; length as usize];
    reader.read_exact(&mut answer).await?;
    Ok(answer.into())
}
