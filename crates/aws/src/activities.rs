//! What a group says about its own attempts: launches that failed, and who changed the desired capacity.

use std::collections::BTreeSet;

use aws_sdk_autoscaling::{
    Client,
    types::{Activity, ScalingActivityStatusCode},
};

use crate::error::CallError;

/// Activities in one answer: more than a group has in the time between two looks.
const LATEST: i32 = 20;

/// Something that a group tried, and that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) id: String,
    /// Why it failed.
    pub(crate) failure: String,
}

/// What a group says of its latest attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latest {
    /// Those that have failed since the last look, newest first.
    pub(crate) failed: Vec<Attempt>,
    /// Why the group tried, in AWS' words, newest first.
    causes: Vec<String>,
}

impl Latest {
    /// Who changed the desired capacity from one number to another.
    pub(crate) fn who_changed(&self, before: u32, after: u32) -> Option<&str> {
        let change = format!("from {before} to {after}");
        self.causes.iter().map(String::as_str).find(|cause| cause.contains(&change))
    }
}

/// The failed activities of one group that were seen already.
#[derive(Debug, Default)]
pub(crate) struct Activities {
    /// `None` before the first look: what was there then is not news.
    seen: Option<BTreeSet<String>>,
}

impl Activities {
    /// Reads the latest ones.
    pub(crate) async fn latest(&mut self, client: &Client, group: &str) -> Result<Latest, CallError> {
        const ACTION: &str = "autoscaling:DescribeScalingActivities";
        let call = client.describe_scaling_activities().auto_scaling_group_name(group);
        let answer = call.max_records(LATEST).send().await;
        let answer = answer.map_err(|error| CallError::of(ACTION, &error))?;
        let causes = answer.activities().iter().filter_map(|activity| activity.cause().map(str::to_owned));
        let failed = answer.activities().iter().filter_map(failed).collect();
        Ok(Latest { causes: causes.collect(), failed: self.new_ones(failed) })
    }

    fn new_ones(&mut self, attempts: Vec<Attempt>) -> Vec<Attempt> {
        let before = self.seen.replace(attempts.iter().map(|attempt| attempt.id.clone()).collect());
        let Some(before) = before else { return Vec::new() };
        attempts.into_iter().filter(|attempt| !before.contains(&attempt.id)).collect()
    }
}

fn failed(activity: &Activity) -> Option<Attempt> {
    use ScalingActivityStatusCode::{Cancelled, Failed};
    if !matches!(activity.status_code(), Some(Failed | Cancelled)) {
        return None;
    }
    let why = activity.status_message().or(activity.description()).unwrap_or("no reason given");
    Some(Attempt { id: activity.activity_id()?.to_owned(), failure: why.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_not_news_and_nothing_is_told_twice() {
        let attempt = |id: &str| Attempt { id: id.into(), failure: "no capacity".into() };
        let ids = |attempts: Vec<Attempt>| attempts.into_iter().map(|a| a.id).collect::<Vec<_>>();
        let mut activities = Activities::default();
        assert_eq!(ids(activities.new_ones(vec![attempt("old")])), [""; 0]);
        assert_eq!(ids(activities.new_ones(vec![attempt("new"), attempt("old")])), ["new"]);
        assert_eq!(ids(activities.new_ones(vec![attempt("new")])), [""; 0]);
    }

    #[test]
    fn who_changed_the_number_is_in_the_causes() {
        let by_hand = "At 2026-11-25T10:00:00Z a user request explicitly set group desired capacity changing the \
                       desired capacity from 1 to 2.";
        let latest = Latest { causes: vec!["another".into(), by_hand.into()], ..Latest::default() };
        assert_eq!(latest.who_changed(1, 2), Some(by_hand));
        assert_eq!(latest.who_changed(2, 3), None);
    }
}
