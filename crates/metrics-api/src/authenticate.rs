//! Who asks: the aggregator on somebody's behalf, a user with a certificate, or one with a token.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, header::AUTHORIZATION};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use crate::trust::{HeaderNames, Shown, Trust};

/// How long the API server's word about a token counts: as long as other servers behind it take it for.
const REMEMBER: Duration = Duration::from_secs(10);
/// Tokens remembered at most; a cluster has a few callers.
const MAX_REMEMBERED: usize = 1024;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// In the group of everybody who is known, as each API server puts them: an aggregator leaves it out, and
    /// roles for discovery are given to it.
    fn authenticated(mut self) -> Self {
        let known = "system:authenticated";
        if !self.groups.iter().any(|group| group == known || group == "system:unauthenticated") {
            self.groups.push(known.to_owned());
        }
        self
    }
}

/// Asks the API server about tokens.
pub(crate) struct Authenticator {
    client: Client,
    tokens: Mutex<BTreeMap<String, (Instant, Option<User>)>>,
}

impl Authenticator {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, tokens: Mutex::default() }
    }

    /// Who asks; `None` when nobody can tell.
    ///
    /// # Errors
    /// When the API server cannot be asked about a token.
    pub(crate) async fn who(
        &self,
        trust: &Trust,
        chain: &[CertificateDer<'_>],
        headers: &HeaderMap,
    ) -> Result<Option<User>, kube::Error> {
        match trust.who(chain) {
            Shown::Aggregator(names) => return Ok(on_behalf(names, headers).map(User::authenticated)),
            Shown::User { name, groups } => {
                return Ok(Some(User { name, groups, ..User::default() }.authenticated()));
            }
            Shown::Nobody => {}
        }
        let shown = headers.get(AUTHORIZATION).and_then(|shown| shown.to_str().ok());
        let Some((scheme, token)) = shown.and_then(|shown| shown.split_once(' ')) else { return Ok(None) };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(None);
        }
        self.bearer(token.trim()).await
    }

    async fn bearer(&self, token: &str) -> Result<Option<User>, kube::Error> {
        if let Some((at, user)) = self.lock().get(token)
            && at.elapsed() < REMEMBER
        {
            return Ok(user.clone());
        }
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        let status = review.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        let mut tokens = self.lock();
        if tokens.len() >= MAX_REMEMBERED {
            tokens.clear();
        }
        tokens.insert(token.to_owned(), (Instant::now(), user.clone()));
        Ok(user)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Instant, Option<User>)>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom an aggregator asks for; `None` when it does not say.
fn on_behalf(names: &HeaderNames, headers: &HeaderMap) -> Option<User> {
    let all = |wanted: &[String]| -> Vec<String> {
        let values = wanted.iter().flat_map(|name| headers.get_all(name.as_str()));
        values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let prefixes = names.extra_prefixes.iter().map(|prefix| prefix.to_ascii_lowercase());
        let key = prefixes.filter_map(|prefix| name.as_str().strip_prefix(&prefix)).next();
        if let (Some(key), Ok(value)) = (key, value.to_str()) {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    let name = all(&names.user).into_iter().find(|name| !name.is_empty())?;
    Some(User { name, uid: None, groups: all(&names.groups), extra })
}
