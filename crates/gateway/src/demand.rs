//! What a request wants of the queue: for whom, how urgently, and how much.

use std::{num::NonZeroU32, time::Duration};

use forewarm_core::pool::{Priority, Tenants};

use crate::{
    ask::{Ask, prompt_tokens},
    message::RequestHead,
    pool::{Arrival, Prefers},
    tenant::{Tenant, TenantId},
};

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

impl Demand {
    /// Reads it off a request with a body of so many bytes, whose tenant is known by its key or not.
    pub(crate) fn of(
        ask: &Ask<'_>,
        asked: Option<Priority>,
        head: &RequestHead,
        bytes: usize,
        known: Option<&Tenant>,
        tenants: &Tenants,
    ) -> Self {
        let (tenant, weight, allowed) = match known {
            Some(Tenant { id, weight, priority }) => (Some(id.clone()), *weight, Some(*priority)),
            None => {
                let name = named(ask, head, tenants);
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
        let path = head.target.route();
        let answers =
            if NO_ANSWER.iter().any(|end| path.ends_with(end)) { 0 } else { ask.n.unwrap_or(1).max(1) };
        Self {
            priority,
            tenant,
            weight,
            bytes: bytes as u64,
            prompt_tokens: prompt_tokens(bytes),
            answers,
            max_answer: ask.max_tokens,
            prefers: None,
        }
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

/// The tenant's name where no key says it.
fn named<'a>(ask: &'a Ask<'_>, head: &'a RequestHead, tenants: &Tenants) -> Option<&'a str> {
    let header = tenants.header.as_deref().and_then(|name| head.headers.text(name));
    let user = || ask.user.as_deref().filter(|_| tenants.user);
    let name = header.or_else(user).map(str::trim).filter(|name| !name.is_empty())?;
    Some(&name[..name.floor_char_boundary(MAX_NAME_BYTES)])
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn demand(request: Request<()>, body: &str, tenants: &Tenants) -> Demand {
        let (parts, ()) = request.into_parts();
        Demand::of(&Ask::of(body.as_bytes()), None, &parts.into(), body.len(), None, tenants)
    }

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let chat = Request::post("/v1/chat/completions");
        headers.iter().fold(chat, |chat, (name, value)| chat.header(*name, *value)).body(()).unwrap()
    }

    #[test]
    fn a_key_says_whose_it_is_and_how_urgent_it_may_be() {
        use Priority::{High, Low, Normal};
        let all = Tenants { header: Some("x-tenant".into()), user: true, weights: [].into() };
        let cases = [
            (Normal, None, Normal),
            (Normal, Some(High), Normal),
            (Normal, Some(Low), Low),
            (High, None, High),
            (High, Some(Normal), Normal),
            (Low, None, Low),
            (Low, Some(High), Low),
        ];
        for (priority, asked, expected) in cases {
            let (parts, ()) = request(&[("x-tenant", "another")]).into_parts();
            let weight = NonZeroU32::new(3).unwrap();
            let tenant = Tenant { id: TenantId::from("t"), weight, priority };
            let ask = Ask::of(br#"{"user":"yet another"}"#);
            let demand = Demand::of(&ask, asked, &parts.into(), 0, Some(&tenant), &all);
            assert_eq!(demand.priority, expected, "{priority:?} asks for {asked:?}");
            assert_eq!((demand.tenant, demand.weight), (Some(TenantId::from("t")), weight));
        }
    }

    #[test]
    fn without_a_key_a_header_or_the_body_names_the_tenant_if_the_plan_says_so() {
        let weights = [("search".to_owned(), NonZeroU32::new(4).unwrap())].into();
        let header = Some("x-tenant".to_owned());
        let by_header = Tenants { header: header.clone(), user: false, weights };
        let by_user = Tenants { header: None, user: true, weights: [].into() };
        let by_both = Tenants { header, user: true, weights: [].into() };
        let long = "x".repeat(300);
        let cases = [
            (&Tenants::default(), "search", "u", None, 1),
            (&by_header, "search", "u", Some("search"), 4),
            (&by_header, " ", "u", None, 1),
            (&by_user, "search", "u", Some("u"), 1),
            (&by_both, "search", "u", Some("search"), 1),
            (&by_user, "search", long.as_str(), Some(&long[..256]), 1),
        ];
        for (tenants, header, user, expected, weight) in cases {
            let body = format!(r#"{{"user":"{user}"}}"#);
            let demand = demand(request(&[("x-tenant", header)]), &body, tenants);
            assert_eq!(demand.tenant.as_ref().map(TenantId::as_str), expected, "{tenants:?}");
            assert_eq!(demand.weight.get(), weight);
        }
    }

    #[test]
    fn every_answer_counts_and_an_embedding_has_none() {
        let tenants = Tenants::default();
        let three = demand(request(&[]), r#"{"n":3,"max_tokens":50}"#, &tenants);
        let arrival = three.arrival(50, Duration::ZERO);
        assert_eq!((arrival.answer_tokens, three.max_answer), (150, Some(50)));
        let embeddings = Request::post("/v1/embeddings").body(()).unwrap();
        assert_eq!(demand(embeddings, "{}", &tenants).arrival(50, Duration::ZERO).answer_tokens, 0);
    }
}
