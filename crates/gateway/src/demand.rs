//! What a request wants of the queue: for whom, how urgently, and how much.

use std::{num::NonZeroU32, time::Duration};

use forewarm_core::pool::{Priority, Tenants};
use http::{HeaderName, request::Parts};

use crate::{
    ask::{Ask, prompt_tokens},
    pool::{Arrival, Prefers},
    tenant::{Tenant, TenantId},
};

/// The header in which a client says how urgent its request is, and the gateway how urgent it took it to be.
pub(crate) const PRIORITY: HeaderName = HeaderName::from_static("x-forewarm-priority");
/// Bytes of a tenant's name that count, where clients write it.
const MAX_NAME_BYTES: usize = 256;
/// Ends of paths whose answers have no tokens of their own.
const NO_ANSWER: [&str; 5] = ["/embeddings", "/rerank", "/score", "/classify", "/pooling"];

/// What a request wants.
#[derive(Debug)]
pub(crate) struct Demand {
    pub(crate) priority: Priority,
    pub(crate) tenant: Option<TenantId>,
    weight: NonZeroU32,
    pub(crate) bytes: u64,
    prompt_tokens: u64,
    /// How many answers.
    answers: u64,
    /// Tokens that each may have.
    pub(crate) max_answer: Option<u64>,
    pub(crate) prefers: Option<Prefers>,
}

/// A priority that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{PRIORITY}` is `{0}`; it takes high, normal or low")]
pub(crate) struct BadPriority(String);

impl Demand {
    /// Reads it off a request with a body of so many bytes.
    ///
    /// # Errors
    /// When it names a priority that there is not.
    pub(crate) fn of(
        ask: &Ask<'_>,
        parts: &Parts,
        bytes: usize,
        tenants: &Tenants,
    ) -> Result<Self, BadPriority> {
        let known = parts.extensions.get::<Tenant>();
        let asked = asked(parts)?;
        let (tenant, weight, allowed) = match known {
            Some(Tenant { id, weight, priority }) => (Some(id.clone()), *weight, Some(allowed(*priority))),
            None => {
                let name = named(ask, parts, tenants);
                let weight = name.and_then(|name| tenants.weights.get(name).copied());
                (name.map(TenantId::from), weight.unwrap_or(NonZeroU32::MIN), None)
            }
        };
        // The highest that its key allows is also what it has when it asks for none.
        let priority = match (asked, allowed) {
            (Some(asked), Some(allowed)) => asked.max(allowed),
            (Some(priority), None) | (None, Some(priority)) => priority,
            (None, None) => Priority::default(),
        };
        let path = parts.uri.path();
        let answers =
            if NO_ANSWER.iter().any(|end| path.ends_with(end)) { 0 } else { ask.n.unwrap_or(1).max(1) };
        Ok(Self {
            priority,
            tenant,
            weight,
            bytes: bytes as u64,
            prompt_tokens: prompt_tokens(bytes),
            answers,
            max_answer: ask.max_tokens,
            prefers: None,
        })
    }

    /// The same to the pool, where an answer is expected to have so many tokens.
    pub(crate) fn arrival(&self, answer_tokens: u64, patience: Duration) -> Arrival {
        Arrival {
            priority: self.priority,
            tenant: self.tenant.clone(),
            weight: self.weight,
            bytes: self.bytes,
            prompt_tokens: self.prompt_tokens,
            answer_tokens: answer_tokens.saturating_mul(self.answers),
            patience,
            prefers: self.prefers,
        }
    }
}

fn asked(parts: &Parts) -> Result<Option<Priority>, BadPriority> {
    let Some(value) = parts.headers.get(PRIORITY) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let found = Priority::ALL.into_iter().find(|priority| priority.label().eq_ignore_ascii_case(text.trim()));
    found.map(Some).ok_or_else(|| BadPriority(text.into_owned()))
}

/// The highest class of a key: its priority is a number, of which 0 is usual.
fn allowed(priority: i32) -> Priority {
    match priority {
        ..0 => Priority::Low,
        0 => Priority::Normal,
        1.. => Priority::High,
    }
}

/// The tenant's name where no key says it.
fn named<'a>(ask: &'a Ask<'_>, parts: &'a Parts, tenants: &Tenants) -> Option<&'a str> {
    let header = tenants.header.as_deref().and_then(|name| parts.headers.get(name)?.to_str().ok());
    let user = || ask.user.as_deref().filter(|_| tenants.user);
    let name = header.or_else(user).map(str::trim).filter(|name| !name.is_empty())?;
    Some(&name[..name.floor_char_boundary(MAX_NAME_BYTES)])
}
