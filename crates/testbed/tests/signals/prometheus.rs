//! Queries of a real Prometheus, and its JSON as anybody's.

use std::time::Duration;

use forewarm_core::{Missing, Reading};
use forewarm_manifest::{
    SignalSource,
    signal::{HttpAccess, MetricsApiSignal, PrometheusSignal, Tls},
};
use forewarm_testbed::{
    Page,
    prometheus::{Access, PASSWORD, Prometheus, USER},
};

use crate::{failure, read, started, total, until, who};

#[tokio::test]
async fn a_query_means_what_prometheus_answers() {
    let page = Page::start("llm_queue_depth{pod=\"a\"} 7\nllm_queue_depth{pod=\"b\"} 5\n").await.unwrap();
    let Some(server) = started(Prometheus::start(Access::Guarded, &[page.address()]).await) else { return };
    let folder = tempfile::tempdir().unwrap();
    let access = |password: &str| HttpAccess {
        basic: Some(who(folder.path(), USER, password)),
        tls: Tls { ca_file: Some(server.certificates.ca.clone()), ..Tls::default() },
        timeout: Some(Duration::from_secs(5)),
        ..HttpAccess::default()
    };
    let address = format!("https://{}", server.address);
    let query = |text: &str| {
        let query = PrometheusSignal::new(&address, text);
        SignalSource::Prometheus(PrometheusSignal { access: access(PASSWORD), ..query })
    };
    until(&query("sum(llm_queue_depth)"), 12.0).await;
    let SignalSource::Prometheus(by_pod) = query("llm_queue_depth") else { return };
    let by_pod = PrometheusSignal { per_replica_label: Some("pod".into()), ..by_pod };
    let Reading::Value { total: sum, per_replica } = read(&SignalSource::Prometheus(by_pod)).await.reading
    else {
        panic!("no value");
    };
    assert_eq!((sum, per_replica.len(), per_replica.get("a").copied()), (12.0, 2, Some(7.0)));
    assert_eq!(total(&read(&query("scalar(vector(7))")).await), 7.0);
    assert_eq!(read(&query("llm_queue_dpeth")).await.reading, Reading::Missing(Missing::Absent));
    let why = failure(&read(&query("llm_queue_depth")).await);
    assert!(why.contains("2 series") && why.contains("`sum(llm_queue_depth)`"), "{why}");
    assert!(failure(&read(&query("sum(")).await).contains("bad_data"));
    assert!(failure(&read(&query("vector(0) / vector(0)")).await).contains("NaN"));

    let refused = |access| {
        SignalSource::Prometheus(PrometheusSignal { access, ..PrometheusSignal::new(&address, "up") })
    };
    let why = failure(&read(&refused(access("wrong"))).await);
    assert!(
        why.contains("401") && why.contains("`username` and `password`") && !why.contains("wrong"),
        "{why}"
    );
    let why = failure(&read(&refused(HttpAccess::default())).await);
    assert!(why.contains("certificate"), "a certificate that nobody signed: {why}");

    // The same answer as JSON of somebody's.
    let json = |location: &str| {
        SignalSource::MetricsApi(MetricsApiSignal {
            url: format!("{address}/api/v1/query?query=sum(llm_queue_depth)"),
            value_location: location.parse().unwrap(),
            api_key: None,
            access: access(PASSWORD),
        })
    };
    assert_eq!(total(&read(&json("data.result.0.value.1")).await), 12.0, "a number in text");
    assert_eq!(total(&read(&json("data.result.#")).await), 1.0);
    let why = failure(&read(&json("data.result.1.value.1")).await);
    assert_eq!(
        why,
        "there is nothing at `data.result.1.value.1` in the answer: `data.result` is a list of 1"
    );
    let why = failure(&read(&json("data.result")).await);
    assert_eq!(why, "at `data.result` is a list (`#` behind it gives how many), and a number is needed");
}
