//! Whether somebody may ask for something: what the cluster's roles say.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use tokio::time::Instant;

use crate::{attributes::Attributes, authenticate::User};

/// How long the API server's word counts: as long as other servers behind it take it for.
const REMEMBER: Duration = Duration::from_secs(10);
/// Answers remembered at most: some autoscalers with some metrics each.
const MAX_REMEMBERED: usize = 10_000;

/// Asks the API server who may what.
pub(crate) struct Authoriser {
    client: Client,
    answers: Mutex<BTreeMap<String, (Instant, bool)>>,
}

impl Authoriser {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, answers: Mutex::default() }
    }

    /// Whether they may.
    ///
    /// # Errors
    /// When the API server cannot be asked; then they may not.
    pub(crate) async fn may(&self, user: &User, attributes: Attributes) -> Result<bool, kube::Error> {
        let question = format!("{user:?} {attributes:?}");
        if let Some((at, allowed)) = self.lock().get(&question)
            && at.elapsed() < REMEMBER
        {
            return Ok(*allowed);
        }
        let mut spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            ..SubjectAccessReviewSpec::default()
        };
        match attributes {
            Attributes::Resource(resource) => spec.resource_attributes = Some(*resource),
            Attributes::Path(path) => spec.non_resource_attributes = Some(path),
        }
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let review = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        let allowed = review.status.is_some_and(|status| status.allowed);
        let mut answers = self.lock();
        if answers.len() >= MAX_REMEMBERED {
            answers.clear();
        }
        answers.insert(question, (Instant::now(), allowed));
        Ok(allowed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Instant, bool)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
