//! Who may ask, and how much: API keys with a tenant, and its quotas.
//!
//! The file has hashes of keys only. It is read again when it changes; one that cannot be read changes nothing, and
//! the keys before it stay. Quotas are each gateway's own: gateways share nothing.

mod bucket;
mod file;
mod meter;
mod usage;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use forewarm_core::ScalerId;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

pub(crate) use self::meter::Metered;
use self::{
    bucket::Bucket,
    file::{Digest, Quota},
};
use crate::{
    answer::{Response, error, set_retry_after},
    ask::prompt_tokens,
    clock,
    decimal::Decimal,
    headers::Headers,
    tenant::{Tenant, TenantId},
};

/// Where clients of other APIs than OpenAI's put their key: Azure's, and Anthropic's.
const KEY_HEADERS: [&str; 2] = ["api-key", "x-api-key"];
/// What is left of a tenant's quotas, as OpenAI's API says it: the quota, what remains, and when it is full again.
const REQUESTS_LEFT: [&str; 3] =
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
const TOKENS_LEFT: [&str; 3] =
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
/// Longest key that is looked up; ours have 67 bytes.
const MAX_KEY_BYTES: usize = 1 << 10;
/// What a client is told that has as many requests under way as it may: nobody knows when the first ends.
const CONCURRENCY_RETRY: Duration = Duration::from_secs(1);

/// The keys file is wrong.
#[derive(Debug, thiserror::Error)]
#[error("the keys file {} {reason}", path.display())]
pub struct KeysError {
    path: PathBuf,
    reason: String,
}

/// A new key, and what the keys file has to say of it: `(key, hash)`. The key is not kept anywhere.
///
/// # Errors
/// When the system has no random bytes.
pub fn new_key() -> Result<(String, String), aws_lc_rs::error::Unspecified> {
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random)?;
    let key = random.iter().fold("fw-".to_owned(), |key, byte| format!("{key}{byte:02x}"));
    let hash = Digest::of(key.as_bytes()).to_string();
    Ok((key, hash))
}

/// The keys of a gateway.
#[derive(Debug)]
pub(crate) struct Keys {
    path: PathBuf,
    members: RwLock<Arc<Members>>,
}

#[derive(Default)]
struct Members {
    by_key: HashMap<Digest, Arc<Member>>,
    by_name: BTreeMap<TenantId, Arc<Member>>,
    upstream: BTreeMap<ScalerId, HeaderValue>,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.by_name.keys()).finish()
    }
}

/// A tenant, with what it uses.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) tenant: Tenant,
    quota: Quota,
    used: Arc<Used>,
}

/// What a tenant has used; outlives a change of the file.
#[derive(Debug, Default)]
struct Used {
    buckets: Mutex<Buckets>,
    under_way: AtomicU32,
    accepted: AtomicU64,
    tokens: AtomicU64,
    refused: [AtomicU64; 3],
}

#[derive(Debug, Default)]
struct Buckets {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// Which quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Requests,
    Tokens,
    Concurrency,
}

impl Over {
    const ALL: [Over; 3] = [Over::Requests, Over::Tokens, Over::Concurrency];

    const fn name(self) -> &'static str {
        match self {
            Over::Requests => "requests",
            Over::Tokens => "tokens",
            Over::Concurrency => "concurrency",
        }
    }
}

/// What one tenant has used so far, for the metrics.
pub(crate) struct Shown {
    pub(crate) tenant: TenantId,
    /// By outcome: accepted, or the quota that was used up.
    pub(crate) requests: Vec<(&'static str, u64)>,
    pub(crate) tokens: u64,
    pub(crate) under_way: u32,
}

impl Keys {
    /// Reads a keys file.
    ///
    /// # Errors
    /// When it cannot be read; says where, and what would be right.
    pub(crate) fn open(path: &Path) -> Result<Self, KeysError> {
        let keys = Self { path: path.to_owned(), members: RwLock::default() };
        keys.reload()?;
        Ok(keys)
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// When it cannot be read: nothing has changed then.
    pub(crate) fn reload(&self) -> Result<(), KeysError> {
        let book = file::read(&self.path).map_err(|reason| KeysError { path: self.path.clone(), reason })?;
        let (before, now) = (self.members(), clock::now());
        let mut members = Members { upstream: book.upstream, ..Members::default() };
        for entry in book.entries {
            let used = before.by_name.get(&entry.tenant.id).map(|member| Arc::clone(&member.used));
            let used = used.unwrap_or_default();
            used.retune(entry.quota, now);
            let member = Arc::new(Member { tenant: entry.tenant, quota: entry.quota, used });
            members.by_name.insert(member.tenant.id.clone(), Arc::clone(&member));
            members.by_key.extend(entry.keys.into_iter().map(|key| (key, Arc::clone(&member))));
        }
        tracing::info!(tenants = members.by_name.len(), keys = members.by_key.len(), "the keys were read");
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(members);
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn members(&self) -> Arc<Members> {
        Arc::clone(&self.members.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whose key a request shows.
    pub(crate) fn authenticate(&self, headers: &Headers) -> Result<Arc<Member>, Box<Response>> {
        let Some(key) = shown(headers) else {
            let message = "no API key was shown; it belongs into `Authorization: Bearer KEY`";
            return Err(unauthorized("missing_api_key", message));
        };
        let known =
            (key.len() <= MAX_KEY_BYTES).then(|| self.members().by_key.get(&Digest::of(key)).cloned());
        known
            .flatten()
            .ok_or_else(|| unauthorized("invalid_api_key", "the API key that was shown is not known"))
    }

    /// What the scaler's replicas are to be shown, in the place of the client's key.
    pub(crate) fn for_replicas(&self, scaler: &ScalerId) -> Option<HeaderValue> {
        self.members().upstream.get(scaler).cloned()
    }

    /// What all tenants have used.
    pub(crate) fn show(&self) -> Vec<Shown> {
        let members = self.members();
        let shown = members.by_name.values().map(|member| {
            let refused =
                Over::ALL.map(|over| (over.name(), member.used.refused[over as usize].load(Relaxed)));
            Shown {
                tenant: member.tenant.id.clone(),
                requests: [("accepted", member.used.accepted.load(Relaxed))]
                    .into_iter()
                    .chain(refused)
                    .collect(),
                tokens: member.used.tokens.load(Relaxed),
                under_way: member.used.under_way.load(Relaxed),
            }
        });
        shown.collect()
    }
}

/// Whether a client's key may be in a header of this name: wherever one is looked for.
pub(crate) fn may_be_in(name: &[u8]) -> bool {
    name == b"authorization" || KEY_HEADERS.iter().any(|header| header.as_bytes() == name)
}

fn shown(headers: &Headers) -> Option<&[u8]> {
    let bearer = headers.get("authorization").and_then(|value| {
        let (scheme, key) = value.split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
    });
    let other = || KEY_HEADERS.iter().find_map(|name| headers.get(name)).map(<[u8]>::trim_ascii);
    bearer.or_else(other).filter(|key| !key.is_empty())
}

fn unauthorized(code: &str, message: &str) -> Box<Response> {
    let mut response = error(StatusCode::UNAUTHORIZED, "invalid_request_error", code, message);
    response.head.headers.push("www-authenticate", b"Bearer");
    Box::new(response)
}

impl Used {
    fn lock(&self) -> MutexGuard<'_, Buckets> {
        // Nothing in here panics half-way.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retune(&self, quota: Quota, now: Instant) {
        let tuned =
            |bucket: Option<Bucket>, per_minute: Option<std::num::NonZeroU32>| match (bucket, per_minute) {
                (_, None) => None,
                (None, Some(per_minute)) => Some(Bucket::new(per_minute.get(), now)),
                (Some(mut bucket), Some(per_minute)) => {
                    bucket.retune(per_minute.get(), now);
                    Some(bucket)
                }
            };
        let mut buckets = self.lock();
        buckets.requests = tuned(buckets.requests.take(), quota.requests_per_minute);
        buckets.tokens = tuned(buckets.tokens.take(), quota.tokens_per_minute);
    }
}

impl Member {
    /// Lets a request begin, if its tenant may have one more.
    pub(crate) fn begin(self: Arc<Self>) -> Result<Pass, Box<Response>> {
        let before = self.used.under_way.fetch_add(1, Relaxed);
        // From here on, dropping it gives the place back.
        let pass = Pass { member: self, estimated: 0.0 };
        if pass.member.quota.max_concurrent.is_some_and(|most| before >= most.get()) {
            return Err(pass.refuse(Over::Concurrency, CONCURRENCY_RETRY));
        }
        let taken = match &mut pass.member.used.lock().requests {
            Some(requests) => requests.take(1.0, clock::now()),
            None => Ok(()),
        };
        taken.map_err(|wait| pass.refuse(Over::Requests, wait))?;
        Ok(pass)
    }

    fn label(&self, headers: &mut Headers) {
        let now = clock::now();
        let (requests, tokens) = {
            let mut buckets = self.used.lock();
            (
                buckets.requests.as_mut().map(|bucket| bucket.show(now)),
                buckets.tokens.as_mut().map(|bucket| bucket.show(now)),
            )
        };
        for (names, shown) in [(&REQUESTS_LEFT, requests), (&TOKENS_LEFT, tokens)] {
            let Some((limit, remaining, reset)) = shown else { continue };
            let values = [Decimal::whole(limit), Decimal::whole(remaining), span(reset)];
            for (name, value) in names.iter().zip(values) {
                headers.remove(name);
                headers.push(name, value.as_bytes());
            }
        }
    }
}

/// A span as OpenAI's API writes it in these headers: `17ms`, `8.5s`, `6m0s`.
fn span(span: Duration) -> Decimal {
    // Rounded up: who comes earlier comes in vain.
    let millis = u64::try_from(span.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
    match millis {
        0..1_000 => Decimal::new(millis, 0, "ms"),
        1_000..60_000 => {
            let (mut number, mut decimals) = (millis, 3);
            while decimals > 0 && number % 10 == 0 {
                (number, decimals) = (number / 10, decimals - 1);
            }
            Decimal::new(number, decimals, "s")
        }
        _ => Decimal::minutes(millis.div_ceil(1_000)),
    }
}

/// A request that its tenant may have. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Pass {
    member: Arc<Member>,
    /// Tokens taken for the prompt; given back unless there is an answer.
    estimated: f64,
}

impl Pass {
    /// Takes the tokens of a prompt, by the length of its body, until the answer says how many they were.
    pub(crate) fn take_prompt(&mut self, bytes: usize) -> Result<(), Box<Response>> {
        let estimate = prompt_tokens(bytes) as f64;
        let taken = match &mut self.member.used.lock().tokens {
            Some(tokens) => tokens.take(estimate, clock::now()).map(|()| estimate),
            None => Ok(0.0),
        };
        self.estimated = taken.map_err(|wait| self.refuse(Over::Tokens, wait))?;
        self.member.used.accepted.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Whose request it is.
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.member.tenant
    }

    /// Whether the tokens of its answer are counted.
    pub(crate) fn counts_tokens(&self) -> bool {
        self.member.quota.tokens_per_minute.is_some()
    }

    /// Tells a client what is left of its quotas, and follows its answer to the end.
    pub(crate) fn follow(self, response: Response) -> Response {
        let Response { mut head, body } = response;
        self.member.label(&mut head.headers);
        let body = Metered::new(self, &head, body).boxed();
        Response { head, body }
    }

    /// Takes tokens that were used, or gives back those that were not.
    fn charge(&self, tokens: f64) {
        if let Some(bucket) = &mut self.member.used.lock().tokens {
            bucket.charge(tokens, clock::now());
        }
    }

    fn count(&self, tokens: u64) {
        self.member.used.tokens.fetch_add(tokens, Relaxed);
    }

    fn refuse(&self, over: Over, wait: Duration) -> Box<Response> {
        let (member, quota) = (&self.member, self.member.quota);
        member.used.refused[over as usize].fetch_add(1, Relaxed);
        let (limit, unit) = match over {
            Over::Requests => (quota.requests_per_minute, "requests a minute"),
            Over::Tokens => (quota.tokens_per_minute, "tokens a minute"),
            Over::Concurrency => (quota.max_concurrent, "requests at a time"),
        };
        let limit = limit.map_or(0, std::num::NonZeroU32::get);
        let soon = span(wait);
        let message = format!("`{}` has used its {limit} {unit}; try again in {soon}", member.tenant.id);
        let mut response = error(StatusCode::TOO_MANY_REQUESTS, over.name(), "rate_limit_exceeded", &message);
        set_retry_after(&mut response, wait);
        member.label(&mut response.head.headers);
        Box::new(response)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.member.used.under_way.fetch_sub(1, Relaxed);
        if self.estimated > 0.0 {
            self.charge(-self.estimated);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_does() {
        let cases = [
            (0, "0ms"),
            (17_000, "17ms"),
            (999_001, "1s"),
            (8_500_000, "8.5s"),
            (59_999_500, "1m0s"),
            (60_000_000, "1m0s"),
            (360_000_000, "6m0s"),
            (90_500_000, "1m31s"),
        ];
        for (micros, text) in cases {
            assert_eq!(span(Duration::from_micros(micros)).to_string(), text, "{micros}");
        }
    }

    #[test]
    fn a_key_is_found_wherever_it_is_shown() {
        type Lines<'a> = &'a [(&'static str, &'static str)];
        let cases: [(Lines<'_>, Option<&str>); 8] = [
            (&[("authorization", "Bearer k")], Some("k")),
            (&[("authorization", "bearer  k ")], Some("k")),
            (&[("api-key", "k")], Some("k")),
            (&[("x-api-key", "k")], Some("k")),
            (&[("authorization", "Basic abc"), ("x-api-key", "k")], Some("k")),
            (&[("authorization", "Bearer a"), ("x-api-key", "b")], Some("a")),
            (&[("authorization", "Bearer ")], None),
            (&[], None),
        ];
        for (pairs, expected) in cases {
            let mut headers = Headers::default();
            for (name, value) in pairs {
                headers.push(name, value.as_bytes());
            }
            assert_eq!(shown(&headers), expected.map(str::as_bytes), "{pairs:?}");
        }
    }
}
