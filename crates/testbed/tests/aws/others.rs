//! What others do to a group: take instances away, set its desired capacity.

use std::time::{Duration, SystemTime};

use forewarm_aws::InterruptionQueue;
use forewarm_control::ports::FleetView;
use forewarm_core::{Phase, Reason, ReplicaId};
use jiff::Timestamp;

use crate::support::{Loop, Stage, cloud, only_allowed, sdk};

/// A queue of its own, which the fleet hears.
struct Announcer {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Announcer {
    async fn heard_by(stage: &mut Stage) -> Self {
        let client = aws_sdk_sqs::Client::new(&sdk(&stage.cloud.url()).await);
        let created = client.create_queue().queue_name(&stage.group).send().await.expect("a queue");
        let url = created.queue_url().expect("its URL").to_owned();
        stage.fleet.hear(InterruptionQueue::start(stage.groups.account(), &url));
        Self { client, url }
    }

    /// Says it as EventBridge does, as if it had been `ago`.
    async fn say(&self, kind: &str, instance: &ReplicaId, ago: Duration) {
        let time = Timestamp::try_from(SystemTime::now() - ago).expect("a time");
        let event = format!(
            r#"{{"version":"0","detail-type":"{kind}","source":"aws.ec2","time":"{time}",
                "detail":{{"instance-id":"{instance}","instance-action":"terminate"}}}}"#
        );
        self.client.send_message().queue_url(&self.url).message_body(event).send().await.expect("a message");
    }
}

const WARNING: &str = "EC2 Spot Instance Interruption Warning";
const RECOMMENDATION: &str = "EC2 Instance Rebalance Recommendation";

fn serving(view: &FleetView) -> usize {
    view.replicas.iter().filter(|replica| replica.phase == Phase::Ready).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_announced_to_go_is_replaced_before_it_drains() {
    let Some(cloud) = cloud().await else { return };
    cloud.faults(|faults| faults.start_up = Duration::from_millis(500));
    let mut stage = Stage::new(cloud, "replaced-first", 2, 5).await;
    stage.cloud.put_hook("replaced-first", true).await.expect("a hook");
    let announcer = Announcer::heard_by(&mut stage).await;
    let mut decisions = Loop::new(2, 5);
    for (kind, why) in [(RECOMMENDATION, "rebalance recommendation"), (WARNING, "spot interruption")] {
        decisions
            .until(&stage, 0.0, "two serve", |view| serving(view) == 2 && view.replicas.len() == 2)
            .await;
        let spot = stage.ready(2).await[0].id.clone();
        announcer.say(kind, &spot, Duration::ZERO).await;
        let noticed = |view: &FleetView| {
            let replica = view.replicas.iter().find(|replica| replica.id == spot);
            replica.is_some_and(|replica| replica.phase == Phase::Ready && replica.notice.is_some())
        };
        stage.view("it serves, and is known to go", noticed).await;
        // From here on, as many serve as are wanted at every look until it is gone.
        decisions.reasons.clear();
        let mut fewest = usize::MAX;
        let gone = |view: &FleetView| {
            fewest = fewest.min(serving(view));
            view.replicas.len() == 2 && view.replicas.iter().all(|replica| replica.id != spot)
        };
        decisions.until(&stage, 0.0, "it is gone", gone).await;
        assert_eq!(fewest, 2, "{kind}");
        let first = decisions
            .reasons
            .iter()
            .position(|it| matches!(it, Reason::ReplacedFirst { notice, .. } if notice.why.starts_with(why)));
        let starting =
            decisions.reasons.iter().position(|it| matches!(it, Reason::Starting { count: 1, .. }));
        let drains =
            decisions.reasons.iter().position(|it| matches!(it, Reason::NoticeDrains { replaced: true, .. }));
        assert!(first.is_some() && starting.is_some() && starting < drains, "{:#?}", decisions.reasons);
    }
    assert_eq!(stage.shown("DesiredCapacity").await, ["2"]);
    only_allowed(&stage.cloud, &["sqs:CreateQueue", "sqs:SendMessage"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_time_left_drains_although_nobody_is_there_yet() {
    let Some(cloud) = cloud().await else { return };
    let mut stage = Stage::new(cloud, "time-is-up", 2, 5).await;
    let announcer = Announcer::heard_by(&mut stage).await;
    let mut decisions = Loop::new(2, 5);
    let spot = stage.ready(2).await[0].id.clone();
    stage.cloud.run_out_of_capacity();
    // Three seconds of the two minutes are left: a minute of the time that runs twenty times as fast.
    announcer.say(WARNING, &spot, Duration::from_millis(117_500)).await;
    let gone = |view: &FleetView| view.replicas.iter().all(|replica| replica.id != spot);
    decisions.until(&stage, 0.0, "it is gone", gone).await;
    let is_late = |reason: &Reason| matches!(reason, Reason::NoticeDrains { replaced: false, .. });
    assert!(decisions.reasons.iter().any(is_late), "{:#?}", decisions.reasons);
    stage.cloud.find_capacity().await.expect("capacity");
    decisions.until(&stage, 0.0, "two serve again", |view| serving(view) == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sets_the_desired_capacity_by_hand_is_named() {
    let Some(cloud) = cloud().await else { return };
    let stage = Stage::new(cloud, "contested", 1, 5).await;
    let mut decisions = Loop::new(1, 5);
    stage.ready(1).await;
    let before = decisions.step(&stage, 0.0).await;
    assert!(before.steps.iter().all(|step| step.reason.label() != "contested"));
    stage.cloud.set_by_hand("contested", 2).await.expect("taken");
    let named = |view: &FleetView| {
        view.contested
            .as_ref()
            .is_some_and(|it| (it.from, it.to) == (1, 2) && it.by.contains("a user request"))
    };
    stage.view("who did it", named).await;
    let decision = decisions.step(&stage, 0.0).await;
    let step = decision.steps.iter().find(|step| step.reason.label() == "contested").expect("a reason");
    let words = step.reason.to_string();
    assert!(words.starts_with("somebody else set the number of replicas from 1 to 2: At "), "{words}");
    // One is wanted, so the other goes again, and the word stays for a while.
    decisions.until(&stage, 0.0, "one is left", |view| view.replicas.len() == 1 && named(view)).await;
}
