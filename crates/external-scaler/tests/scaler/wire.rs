//! The bytes on the wire, written by hand from the protocol's field numbers: no generated code on the client's side.

use forewarm_external_scaler::Reading;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Endpoint,
};

use crate::stage::{Stage, nothing};

/// Messages as they are.
#[derive(Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; bytes::Buf::remaining(buffer)];
        bytes::Buf::copy_to_slice(buffer, &mut message);
        Ok(Some(message))
    }
}

/// A field of bytes: number and wire type 2, length, content.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short enough for one byte of length");
    assert!(length < 0x80, "short enough for one byte of length");
    [&[number << 3 | 2, length], content].concat()
}

/// ScaledObjectRef: name = 1, namespace = 2, scalerMetadata = 3 (a map: entries of key = 1, value = 2).
fn scaled_object(metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = [field(1, b"so"), field(2, b"ns")].concat();
    for (key, value) in metadata {
        bytes.extend(field(3, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat()));
    }
    bytes
}

#[tokio::test]
async fn messages_have_the_fields_of_the_protocol() {
    let stage = Stage::plain().await;
    stage
        .readings
        .publish("m", Reading { desired: Some(3), queued: Some(2.5), in_flight: Some(0.0), ..nothing() });
    let endpoint = Endpoint::from_shared(format!("http://{}", stage.address)).expect("an address");
    let mut grpc = Grpc::new(endpoint.connect().await.expect("a connection"));
    let trigger = scaled_object(&[("scaler", "m"), ("metric", "queued"), ("target", "1.5")]);
    let values = [field(1, &trigger), field(2, b"forewarm-queued-requests")].concat();
    // Written out: what a field's number and type make of it is the protocol.
    let spec = [
        &[0x0a, 0x25, 0x0a, 0x18][..],
        b"forewarm-queued-requests",
        &[0x10, 0x02, 0x19, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f],
    ];
    let value = [
        &[0x0a, 0x25, 0x0a, 0x18][..],
        b"forewarm-queued-requests",
        &[0x10, 0x03, 0x19, 0, 0, 0, 0, 0, 0, 0x04, 0x40],
    ];
    let table = [
        ("IsActive", &trigger, vec![0x08, 0x01]),
        ("GetMetricSpec", &trigger, spec.concat()),
        ("GetMetrics", &values, value.concat()),
    ];
    for (method, request, expected) in table {
        grpc.ready().await.expect("a connection");
        let path = format!("/externalscaler.ExternalScaler/{method}").parse().expect("a path");
        let answer = grpc.unary(Request::new(request.clone()), path, Bytes).await;
        assert_eq!(answer.expect("an answer").into_inner(), expected, "{method}");
    }
    grpc.ready().await.expect("a connection");
    let path = http::uri::PathAndQuery::from_static("/externalscaler.ExternalScaler/StreamIsActive");
    let stream = grpc.server_streaming(Request::new(trigger.clone()), path, Bytes).await;
    let first = stream.expect("a stream").into_inner().message().await.expect("a stream");
    assert_eq!(first, Some(vec![0x08, 0x01]));
    // Which KEDA takes for an older scaler, and asks as ever.
    grpc.ready().await.expect("a connection");
    let path = http::uri::PathAndQuery::from_static("/externalscaler.ExternalScaler/StreamMetricSpec");
    let stream = grpc.server_streaming(Request::new(trigger), path, Bytes).await;
    assert_eq!(stream.err().map(|status| status.code()), Some(Code::Unimplemented));
    stage.end().await;
}
