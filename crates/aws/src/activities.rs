//! What a group says about its own attempts: launches that failed, and who changed the desired capacity.

use std::collections::BTreeSet;

use aws_sdk_autoscaling::{
    Client,
    types::{Activity, ScalingActivityStatusCode},
};

use crate::error::CallError;

/// Activities in one answer: more than a group has in the time between two looks.
const LATEST: i32 = 20;

/// Something that a group tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) id: String,
    /// Why the group tried, in AWS' words.
    pub(crate) cause: String,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
}

/// The activities of one group that were seen already.
#[derive(Debug, Default)]
pub(crate) struct Activities {
    /// `None` before the first look: what was there then is not news.
    seen: Option<BTreeSet<String>>,
}

impl Activities {
    /// The activities that are new since the last look, newest first; failed ones when they have failed.
    pub(crate) async fn new_ones(&mut self, client: &Client, group: &str) -> Result<Vec<Attempt>, CallError> {
        const ACTION: &str = "autoscaling:DescribeScalingActivities";
        let call = client.describe_scaling_activities().auto_scaling_group_name(group);
        let answer = call.max_records(LATEST).send().await;
        let answer = answer.map_err(|error| CallError::of(ACTION, &error))?;
        let over = answer.activities().iter().filter(|activity| is_over(activity));
        Ok(self.take(over.filter_map(attempt).collect()))
    }

    fn take(&mut self, attempts: Vec<Attempt>) -> Vec<Attempt> {
        let before = self.seen.replace(attempts.iter().map(|attempt| attempt.id.clone()).collect());
        let Some(before) = before else { return Vec::new() };
        attempts.into_iter().filter(|attempt| !before.contains(&attempt.id)).collect()
    }
}

fn is_over(activity: &Activity) -> bool {
    use ScalingActivityStatusCode::{Cancelled, Failed, Successful};
    matches!(activity.status_code(), Some(Failed | Cancelled | Successful))
}

fn attempt(activity: &Activity) -> Option<Attempt> {
    let failed = matches!(
        activity.status_code(),
        Some(ScalingActivityStatusCode::Failed | ScalingActivityStatusCode::Cancelled)
    );
    let why = || activity.status_message().or(activity.description()).unwrap_or("no reason given").to_owned();
    Some(Attempt {
        id: activity.activity_id()?.to_owned(),
        cause: activity.cause().unwrap_or_default().to_owned(),
        failure: failed.then(why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_not_news_and_nothing_is_told_twice() {
        let attempt =
            |id: &str| Attempt { id: id.into(), cause: String::new(), failure: Some("no capacity".into()) };
        let ids = |attempts: Vec<Attempt>| attempts.into_iter().map(|a| a.id).collect::<Vec<_>>();
        let mut activities = Activities::default();
        assert_eq!(ids(activities.take(vec![attempt("old")])), [""; 0]);
        assert_eq!(ids(activities.take(vec![attempt("new"), attempt("old")])), ["new"]);
        assert_eq!(ids(activities.take(vec![attempt("new")])), [""; 0]);
    }
}
