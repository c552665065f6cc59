//! KEDA's own operator and adapter, with the real HPA controller, follow forewarm's decisions. Where they were not built
//! (`cargo xtask testbed keda`), each test says so and passes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

mod rig;

use rig::Rig;

#[tokio::test]
async fn keda_follows_decisions_from_zero_and_back() {
    let Some(rig) = Rig::set("follows").await else { return };
    // One by one is what KEDA's HPA would not do by itself: 4 → 12 → 11 crosses its speed limit and its tolerance.
    for desired in [1, 4, 12, 11] {
        rig.decided(Some(desired));
        rig.replicas(desired).await;
    }
    rig.decided(None);
    rig.held(11).await;
    rig.decided(Some(2));
    rig.replicas(2).await;
    // Down to zero is KEDA's own doing, at a poll.
    rig.decided(Some(0));
    rig.poll_every(1).await;
    rig.replicas(0).await;
    rig.decided(Some(3));
    rig.replicas(3).await;
    rig.end().await;
}

#[tokio::test]
async fn a_scaler_that_restarts_is_followed_again() {
    let Some(mut rig) = Rig::set("scaler-restarts").await else { return };
    // The new one pushes: KEDA came back to it without having been asked for anything.
    rig.stop_scaler().await;
    rig.start_scaler(3).await;
    rig.replicas(3).await;
    rig.stop_scaler().await;
    rig.held(3).await;
    rig.start_scaler(5).await;
    rig.replicas(5).await;
    rig.end().await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let Some(rig) = Rig::set("connection-breaks").await else { return };
    rig.cut().await;
    rig.decided(Some(2));
    rig.mend();
    rig.replicas(2).await;
    rig.cut().await;
    rig.held(2).await;
    rig.decided(Some(4));
    rig.mend();
    rig.replicas(4).await;
    rig.end().await;
}

#[tokio::test]
async fn an_operator_that_restarts_follows_again() {
    let Some(rig) = Rig::set("operator-restarts").await else { return };
    rig.decided(Some(2));
    rig.replicas(2).await;
    rig.keda.stop_operator().await;
    rig.decided(Some(7));
    rig.held(2).await;
    rig.keda.start_operator().await.unwrap();
    rig.replicas(7).await;
    // The new one is pushed to as well.
    rig.decided(Some(0));
    rig.poll_every(1).await;
    rig.replicas(0).await;
    rig.decided(Some(1));
    rig.replicas(1).await;
    rig.end().await;
}
