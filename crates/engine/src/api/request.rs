//! What a completion request asks for, as far as an engine without a model cares: how long, and how to answer.

use serde_json::{Map, Value};

use super::ApiError;

/// Bytes of text taken for one token when nobody says better: the common rule of thumb for English.
const BYTES_PER_TOKEN: usize = 4;

/// Output of a chat request without `max_tokens`, in tokens: where the absent model "decides" to stop.
const UNBOUNDED_CHAT_TOKENS: u32 = 256;

/// Output of a text completion without `max_tokens`, in tokens; OpenAI's default.
const DEFAULT_TEXT_TOKENS: u32 = 16;

/// Which of the two completion interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Text,
}

impl Kind {
    fn prompt_field(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Text => "prompt",
        }
    }
}

/// A request that makes sense for the served model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompletionRequest {
    pub(crate) kind: Kind,
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
    /// The output ends because the limit was reached, not because the model stopped.
    pub(crate) limited: bool,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

/// The side of the engine that a request is checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served<'a> {
    pub(crate) model: &'a str,
    /// Longest prompt plus output in tokens.
    pub(crate) max_tokens: u32,
}

impl CompletionRequest {
    /// Reads a request's body. `input_tokens` is the exact prompt length if the client gave one.
    pub(crate) fn parse(
        kind: Kind,
        body: &[u8],
        input_tokens: Option<u32>,
        model: &str,
        max_tokens: u32,
    ) -> Result<Self, ApiError> {
        let served = Served { model, max_tokens };
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad_request(None, format!("The body is not valid JSON: {error}.")))?;
        let Value::Object(fields) = value else {
            return Err(ApiError::bad_request(None, "The body must be a JSON object."));
        };
        let fields = Fields(&fields);
        let model = fields.text("model")?.unwrap_or(served.model);
        if model != served.model {
            return Err(ApiError::unknown_model(model));
        }
        if fields.positive("n")?.is_some_and(|n| n != 1) {
            return Err(ApiError::bad_request(Some("n"), "n: only 1 is supported."));
        }
        let prompt_tokens = match kind {
            Kind::Chat => fields.messages()?,
            Kind::Text => fields.prompt()?,
        };
        let prompt_tokens = input_tokens.unwrap_or(prompt_tokens).max(1);
        let asked = match fields.positive("max_completion_tokens")? {
            Some(limit) => Some(limit),
            None => fields.positive("max_tokens")?,
        };
        let ignore_eos = fields.flag("ignore_eos")?;
        let (output_tokens, limited) = served.output_tokens(kind, prompt_tokens, asked, ignore_eos)?;
        let include_usage = match fields.get("stream_options") {
            None => false,
            Some(Value::Object(options)) => Fields(options).flag("include_usage")?,
            Some(_) => {
                return Err(ApiError::bad_request(
                    Some("stream_options"),
                    "stream_options: must be an object.",
                ));
            }
        };
        Ok(Self {
            kind,
            prompt_tokens,
            output_tokens,
            limited,
            stream: fields.flag("stream")?,
            include_usage,
        })
    }
}

impl Served<'_> {
    fn output_tokens(
        &self,
        kind: Kind,
        prompt_tokens: u32,
        asked: Option<u32>,
        ignore_eos: bool,
    ) -> Result<(u32, bool), ApiError> {
        let too_long = |param: &'static str, what: &str| {
            let message = format!(
                "This model's maximum context length is {} tokens. However, {what}.",
                self.max_tokens
            );
            ApiError::bad_request(Some(param), message)
        };
        let room = self.max_tokens.saturating_sub(prompt_tokens);
        if room == 0 {
            let what =
                format!("your prompt contains {prompt_tokens} input tokens, which leaves no room for output");
            return Err(too_long(kind.prompt_field(), &what));
        }
        match asked {
            Some(asked) if asked > room => {
                let what = format!(
                    "you requested {asked} output tokens and your prompt contains {prompt_tokens} input tokens"
                );
                Err(too_long("max_tokens", &what))
            }
            Some(asked) => Ok((asked, true)),
            None if ignore_eos => Ok((room, true)),
            None => match kind {
                Kind::Chat => Ok((UNBOUNDED_CHAT_TOKENS.min(room), false)),
                Kind::Text => Ok((DEFAULT_TEXT_TOKENS.min(room), true)),
            },
        }
    }
}

/// A JSON object's fields, read with errors that name the field.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// A field's value; `null` counts as absent.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &'static str) -> Result<Option<&'a str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a string", other)),
        }
    }

    fn flag(&self, name: &'static str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong(name, "a boolean", other)),
        }
    }

    fn positive(&self, name: &'static str) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number =
            value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
        number.map(Some).ok_or_else(|| wrong(name, "an integer of at least 1", value))
    }

    /// Tokens in `messages`.
    fn messages(&self) -> Result<u32, ApiError> {
        match self.get("messages") {
            Some(Value::Array(messages)) if !messages.is_empty() => {
                if let Some(other) = messages.iter().find(|message| !message.is_object()) {
                    return Err(wrong("messages", "a list of objects", other));
                }
                Ok(tokens_of_bytes(messages.iter().map(content_bytes).sum()))
            }
            Some(other) => Err(wrong("messages", "a list with at least one message", other)),
            None => Err(ApiError::bad_request(Some("messages"), "messages: field required.")),
        }
    }

    /// Tokens in `prompt`: text, token ids, or a list with one of either.
    fn prompt(&self) -> Result<u32, ApiError> {
        let Some(mut prompt) = self.get("prompt") else {
            return Err(ApiError::bad_request(Some("prompt"), "prompt: field required."));
        };
        if let Value::Array(items) = prompt
            && let [only @ (Value::String(_) | Value::Array(_))] = items.as_slice()
        {
            prompt = only;
        }
        match prompt {
            Value::String(text) => Ok(tokens_of_bytes(text.len())),
            Value::Array(ids) if !ids.is_empty() && ids.iter().all(Value::is_u64) => {
                Ok(u32::try_from(ids.len()).unwrap_or(u32::MAX))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Err(wrong("prompt", "one string or one list of token ids", prompt))
            }
        }
    }
}

fn wrong(name: &'static str, wanted: &str, found: &Value) -> ApiError {
    /// Enough of the value to recognise it.
    const SHOWN_CHARS: usize = 80;
    let found: String = found.to_string().chars().take(SHOWN_CHARS).collect();
    ApiError::bad_request(Some(name), format!("{name}: must be {wanted}, got {found}."))
}

/// Bytes of a message's text: its `content`, or the `text` of the parts in it.
fn content_bytes(message: &Value) -> usize {
    match message.get("content") {
        Some(Value::String(text)) => text.len(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).map(str::len).sum()
        }
        Some(_) | None => 0,
    }
}

fn tokens_of_bytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u32::MAX)
}
