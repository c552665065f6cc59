//! Answers as vLLM writes them. What is the same for every token of a request is serialised once per request.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::{CompletionRequest, Kind};
use crate::metrics::FinishReason;

/// The text of every token: there is no model to write better.
const TOKEN_TEXT: &str = " token";

/// How one request is answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    request: CompletionRequest,
    finish_reason: FinishReason,
    id: String,
    model: String,
    created: u64,
}

/// The pieces of a streamed answer.
#[derive(Clone, Debug)]
pub(crate) struct StreamPieces {
    /// Comes once, before the first token.
    pub(crate) opening: Bytes,
    /// Comes once per token.
    pub(crate) token: Bytes,
    /// Comes in place of the last token's piece.
    pub(crate) last_token: Bytes,
    /// Ends the stream if the last token's piece went out before the request was known to be done.
    pub(crate) stop: Bytes,
    /// Comes at the very end.
    pub(crate) closing: Bytes,
}

impl Answer {
    /// `number` makes the id unique; `created` is in Unix seconds.
    pub(crate) fn new(request: CompletionRequest, model: &str, number: u128, created: u64) -> Self {
        let prefix = match request.kind {
            Kind::Chat => "chatcmpl",
            Kind::Text => "cmpl",
        };
        let finish_reason = if request.limited { FinishReason::Length } else { FinishReason::Stop };
        Self { request, finish_reason, id: format!("{prefix}-{number:032x}"), model: model.into(), created }
    }

    pub(crate) fn finish_reason(&self) -> FinishReason {
        self.finish_reason
    }

    /// Returns the pieces of the answer as server-sent events.
    pub(crate) fn stream_pieces(&self) -> StreamPieces {
        let finish = Value::from(self.finish_reason.label());
        let opening = match self.request.kind {
            Kind::Chat => self.event(&json!([{
                "index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null,
            }])),
            Kind::Text => String::new(),
        };
        let mut closing = String::new();
        if self.request.include_usage {
            let mut chunk = self.head(self.chunk_object(), &json!([]));
            chunk["usage"] = self.usage();
            closing = event(&chunk);
        }
        closing.push_str("data: [DONE]\n\n");
        StreamPieces {
            opening: opening.into(),
            token: self.event(&self.choice(TOKEN_TEXT, &Value::Null)).into(),
            last_token: self.event(&self.choice(TOKEN_TEXT, &finish)).into(),
            stop: self.event(&self.choice("", &finish)).into(),
            closing: closing.into(),
        }
    }

    /// Returns the whole answer as one JSON document.
    pub(crate) fn document(&self) -> String {
        let text = TOKEN_TEXT.repeat(self.request.output_tokens as usize);
        let finish = self.finish_reason.label();
        let (object, choice) = match self.request.kind {
            Kind::Chat => (
                "chat.completion",
                json!({
                    "index": 0,
                    "message": {
                        "role": "assistant", "content": text, "refusal": null, "annotations": null, "audio": null,
                        "function_call": null, "tool_calls": [], "reasoning": null,
                    },
                    "logprobs": null, "finish_reason": finish, "stop_reason": null, "token_ids": null,
                }),
            ),
            Kind::Text => (
                "text_completion",
                json!({
                    "index": 0, "text": text, "logprobs": null, "finish_reason": finish, "stop_reason": null,
                    "token_ids": null, "prompt_logprobs": null, "prompt_token_ids": null,
                }),
            ),
        };
        let mut document = self.head(object, &json!([choice]));
        document["service_tier"] = Value::Null;
        document["system_fingerprint"] = Value::Null;
        document["usage"] = self.usage();
        document["kv_transfer_params"] = Value::Null;
        document.to_string()
    }

    fn chunk_object(&self) -> &'static str {
        match self.request.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Text => "text_completion",
        }
    }

    fn choice(&self, text: &str, finish_reason: &Value) -> Value {
        let mut choice = match self.request.kind {
            Kind::Chat => json!({"index": 0, "delta": {"content": text}}),
            Kind::Text => json!({"index": 0, "text": text}),
        };
        choice["logprobs"] = Value::Null;
        choice["finish_reason"] = finish_reason.clone();
        if self.request.kind == Kind::Text || !finish_reason.is_null() {
            choice["stop_reason"] = Value::Null;
        }
        choice["token_ids"] = Value::Null;
        json!([choice])
    }

    fn event(&self, choices: &Value) -> String {
        event(&self.head(self.chunk_object(), choices))
    }

    fn head(&self, object: &str, choices: &Value) -> Value {
        json!({"id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices})
    }

    fn usage(&self) -> Value {
        let (prompt, output) = (self.request.prompt_tokens, self.request.output_tokens);
        json!({
            "prompt_tokens": prompt,
            "total_tokens": u64::from(prompt) + u64::from(output),
            "completion_tokens": output,
        })
    }
}

impl StreamPieces {
    /// Returns what to send next, given how many tokens were sent, how many there are, and whether that is all.
    pub(crate) fn next(&self, sent: u32, tokens: u32, finished: bool) -> Bytes {
        let fresh = tokens - sent;
        if sent > 0 && fresh == 1 && !finished {
            return self.token.clone(); // the common case costs nothing
        }
        let plain = if finished { fresh.saturating_sub(1) } else { fresh };
        let mut out = BytesMut::with_capacity(
            self.opening.len()
                + self.token.len() * plain as usize
                + self.last_token.len().max(self.stop.len())
                + self.closing.len(),
        );
        if sent == 0 {
            out.extend_from_slice(&self.opening);
        }
        for _ in 0..plain {
            out.extend_from_slice(&self.token);
        }
        if finished {
            out.extend_from_slice(if fresh > 0 { &self.last_token } else { &self.stop });
            out.extend_from_slice(&self.closing);
        }
        out.freeze()
    }
}

fn event(chunk: &Value) -> String {
    format!("data: {chunk}\n\n")
}

/// Returns the answer to `GET /v1/models`.
pub(crate) fn model_list(model: &str, max_model_len: u32, created: u64) -> String {
    json!({
        "object": "list",
        "data": [{
            "id": model, "object": "model", "created": created, "owned_by": "vllm", "root": model, "parent": null,
            "max_model_len": max_model_len, "permission": [],
        }],
    })
    .to_string()
}
