//! A group with a warm pool.

use std::time::Duration;

use forewarm_control::ports::{Fleet, FleetView};
use forewarm_core::{Phase, Standby, Tier};

use crate::support::{Loop, Stage, cloud, only_allowed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warm_instances_are_counted_told_apart_and_learned_apart() {
    let Some(cloud) = cloud().await else { return };
    cloud.faults(|faults| {
        faults.start_up = Duration::from_secs(2);
        faults.warm_start_up = Duration::from_millis(200);
    });
    let stage = Stage::new(cloud, "warm-pool", 0, 8).await;
    stage.cloud.fill_warm_pool("warm-pool", 3).await.expect("a warm pool");
    let pool = |count| Standby::from([(Tier::Stopped, count)]);
    let view = stage.view("three stand by", |view| view.standby == pool(3)).await;
    assert!(view.replicas.is_empty(), "they are no replicas: {view:?}");

    // Two are wanted, then four: the third one of the pool and a new one.
    let mut decisions = Loop::new(0, 8);
    let first = decisions.step(&stage, 8.0).await;
    assert_eq!(first.placement.start, 2);
    let told = |decision: &forewarm_core::Decision| {
        let starting = decision.steps.iter().find(|step| step.reason.label() == "starting");
        starting.expect("a start").reason.to_string()
    };
    assert!(told(&first).contains("2 from stopped instances that stand by"), "{}", told(&first));
    let view = stage.fleet.observe().await.expect("a view");
    let tiers = |view: &FleetView, tier| view.replicas.iter().filter(|replica| replica.tier == tier).count();
    assert_eq!(
        (tiers(&view, Tier::Stopped), &view.standby),
        (2, &pool(1)),
        "asked for is spoken for: {view:?}"
    );
    let ready = |count: usize| {
        move |view: &FleetView| {
            view.replicas.iter().filter(|replica| replica.phase == Phase::Ready).count() == count
        }
    };
    decisions.until(&stage, 8.0, "two serve", ready(2)).await;
    let second = decisions.step(&stage, 20.0).await;
    assert!(told(&second).contains("1 from stopped instance that stands by"), "{}", told(&second));
    let view = stage.fleet.observe().await.expect("a view");
    assert_eq!((tiers(&view, Tier::Stopped), tiers(&view, Tier::Cold)), (3, 1), "{view:?}");
    let view = decisions.until(&stage, 20.0, "four serve", ready(4)).await;
    assert_eq!((tiers(&view, Tier::Stopped), tiers(&view, Tier::Cold)), (3, 1), "{view:?}");
    assert_eq!(view.standby, Standby::new());
    drop(decisions.step(&stage, 20.0).await);
    let starts = &decisions.state.cold_starts;
    assert_eq!((starts.samples(), starts.warm_samples().collect::<Vec<_>>()), (1, vec![(Tier::Stopped, 3)]));
    let spec = &decisions.spec.cold_start;
    assert!(starts.expected_from(Tier::Stopped, spec) < starts.expected(spec), "{starts:?}");
    only_allowed(&stage.cloud, &[]);
}
