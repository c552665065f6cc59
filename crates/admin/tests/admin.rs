//! The admin port over real HTTP on loopback.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{collections::BTreeSet, time::Duration};

use forewarm_admin::{
    Action, Admin, AdminConfig, BindError, Command, CommandError, Dashboard, Metrics, PauseEnd, Readiness,
    view::{ReplicaView, ScalerView, SeriesPoint, SignalView},
};
use forewarm_core::{
    Decision, Phase, Placement, Reason, Replica, Replicas, Requests, ScalerId, Stage, Step, Timestamp,
};
use futures_util::StreamExt;
use reqwest::{Client, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Running {
    url: String,
    dashboard: Dashboard,
    metrics: Metrics,
    readiness: Readiness,
    client: Client,
    shutdown: DropGuard,
    task: tokio::task::JoinHandle<()>,
}

async fn start(change: impl FnOnce(&mut AdminConfig)) -> Running {
    let dashboard = Dashboard::new();
    let mut config = AdminConfig::new(dashboard.clone());
    config.address.set_port(0);
    change(&mut config);
    let (metrics, readiness) = (config.metrics.clone(), config.readiness.clone());
    let admin = Admin::bind(config).await.unwrap();
    let url = format!("http://127.0.0.1:{}", admin.local_addr().port());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(admin.run(shutdown.clone()));
    let client = Client::builder().no_proxy().build().unwrap();
    Running { url, dashboard, metrics, readiness, client, shutdown: shutdown.drop_guard(), task }
}

impl Running {
    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    async fn scrape(&self, accept: &str) -> (String, String) {
        let request = self.client.get(format!("{}/metrics", self.url)).header(header::ACCEPT, accept);
        let response = request.send().await.unwrap();
        let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        (content_type, response.text().await.unwrap())
    }

    async fn pause(&self, scaler: &str, body: &str) -> (StatusCode, Value) {
        let url = format!("{}/api/v1/scalers/{scaler}/pause", self.url);
        let response = self.client.put(url).body(body.to_owned()).send().await.unwrap();
        (response.status(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }
}

fn view(scaler: &str, target: u32) -> ScalerView {
    let mut view = ScalerView::new(scaler, Timestamp::from_millis(1_000), Replicas(target));
    view.replicas = vec![ReplicaView::from(&Replica::new("a", Phase::Ready))];
    view.queued = Some(7);
    view.succeeded_total = Some(40);
    view.refused_total = Some(2);
    (view.attained_total, view.missed_total) = (Some(39), Some(3));
    view.busy_seconds_total = Some(81.5);
    view.signals =
        vec![SignalView { name: "waiting".into(), value: Some(7.0), age_seconds: 1.5, missing: None }];
    view
}

fn decision(scaler: &str, from: u32, to: u32) -> Decision {
    let waiting = Requests::new(33.0).unwrap();
    let per_replica = Requests::new(5.0).unwrap();
    Decision {
        scaler: scaler.into(),
        at: Timestamp::from_millis(1_000),
        from: Replicas(from),
        to: Replicas(to),
        steps: vec![Step {
            stage: Stage::Propose,
            replicas: Replicas(to),
            reason: Reason::QueueDepth { waiting, per_replica, at_least: false },
        }],
        placement: Placement::default(),
        wake_at: None,
        ready_at: None,
    }
}

/// Reads server-sent events one by one.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn open(running: &Running) -> Self {
        Self { response: running.get("/api/v1/events").await, text: String::new() }
    }

    /// The next event's name and data; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let field =
                    |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                if let (Some(event), Some(data)) = (field("event:"), field("data:")) {
                    return Some((event.to_owned(), serde_json::from_str(data).unwrap()));
                }
                continue;
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event that is not a sign of life.
    async fn next_change(&mut self) -> (String, Value) {
        loop {
            let (event, data) = self.next().await.expect("the stream goes on");
            if event != "alive" {
                return (event, data);
            }
        }
    }
}

#[tokio::test]
async fn a_live_stream_begins_with_a_snapshot_and_goes_on_with_what_changed() {
    let running = start(|_| {}).await;
    running.dashboard.update(view("chat", 1));
    running.dashboard.update(view("embed", 2));
    running
        .dashboard
        .push_point(&ScalerId::from("chat"), SeriesPoint { target: 1, ..SeriesPoint::default() });
    let mut events = Events::open(&running).await;
    let (name, data) = events.next_change().await;
    assert_eq!(name, "snapshot");
    assert_eq!(data["scalers"].as_array().unwrap().len(), 2);
    assert_eq!(data["points"]["chat"][0]["target"], 1);

    running.dashboard.update(view("chat", 3));
    let (name, data) = events.next_change().await;
    assert_eq!(name, "update");
    assert_eq!(data["scalers"].as_array().unwrap().len(), 1, "only what changed: {data}");
    assert_eq!(data["scalers"][0]["targetReplicas"], 3);
    assert_eq!(data["points"], json!({}));

    running
        .dashboard
        .push_point(&ScalerId::from("chat"), SeriesPoint { target: 3, ..SeriesPoint::default() });
    let (_, data) = events.next_change().await;
    assert_eq!(data["scalers"], json!([]));
    assert_eq!(data["points"]["chat"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn who_reads_slowly_gets_the_newest_state_and_a_bounded_number_of_points() {
    let running = start(|_| {}).await;
    running.dashboard.update(view("chat", 0));
    let mut events = Events::open(&running).await;
    assert_eq!(events.next_change().await.0, "snapshot");
    let many = u32::try_from(Dashboard::MAX_POINTS).unwrap() * 5;
    for target in 1..=many {
        running.dashboard.update(view("chat", target));
        running
            .dashboard
            .push_point(&ScalerId::from("chat"), SeriesPoint { target, ..SeriesPoint::default() });
    }
    let (mut views, mut points, mut last) = (0, 0, 0);
    while last != many {
        let (_, data) = events.next_change().await;
        views += data["scalers"].as_array().unwrap().len();
        let fresh = data["points"]["chat"].as_array().map_or(0, Vec::len);
        assert!(fresh <= Dashboard::MAX_POINTS);
        points += fresh;
        last = data["scalers"][0]["targetReplicas"].as_u64().map_or(last, |n| u32::try_from(n).unwrap());
    }
    assert!(views < many as usize, "{views} views were sent of {many}");
    assert!(points < many as usize, "{points} points were sent of {many}");
}

#[tokio::test]
async fn lists_of_a_view_and_the_number_of_scalers_are_bounded() {
    let dashboard = Dashboard::new();
    let mut full = view("s", 1);
    full.last_decisions = vec![(&decision("s", 1, 2)).into(); Dashboard::MAX_DECISIONS + 5];
    full.notices = vec!["n".to_owned(); Dashboard::MAX_NOTICES + 5];
    dashboard.update(full);
    let shown = dashboard.view("s").unwrap();
    assert_eq!(shown.last_decisions.len(), Dashboard::MAX_DECISIONS);
    assert_eq!(shown.notices.len(), Dashboard::MAX_NOTICES);
    for index in 0..Dashboard::MAX_SCALERS + 5 {
        dashboard.update(view(&format!("scaler-{index}"), 1));
    }
    assert_eq!(dashboard.views().len(), Dashboard::MAX_SCALERS);
}

#[tokio::test]
async fn live_streams_are_counted_and_one_too_many_is_told_so() {
    let running = start(|_| {}).await;
    running.dashboard.update(view("chat", 1));
    let mut open = Vec::new();
    let refused = loop {
        let response = running.get("/api/v1/events").await;
        if response.status() != StatusCode::OK {
            break response;
        }
        open.push(response);
        assert!(open.len() < 1_000, "live streams are not bounded");
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().await.unwrap().contains("live streams are open"));
    assert_eq!(running.get("/healthz").await.status(), StatusCode::OK, "other calls still work");
}

#[tokio::test]
async fn shutdown_ends_live_streams_and_the_server() {
    let running = start(|_| {}).await;
    running.dashboard.update(view("chat", 1));
    let mut events = Events::open(&running).await;
    assert_eq!(events.next_change().await.0, "snapshot");
    let Running { shutdown, task, .. } = running;
    drop(shutdown);
    while events.next().await.is_some() {}
    task.await.unwrap();
}

#[tokio::test]
async fn readiness_names_what_is_pending() {
    let running = start(|_| {}).await;
    let (gateway, first, second) = (
        running.readiness.token("gateway"),
        running.readiness.token("fleet"),
        running.readiness.token("fleet"),
    );
    let check = async |status: StatusCode, body: Value| {
        let response = running.get("/readyz").await;
        assert_eq!(response.status(), status);
        assert_eq!(response.json::<Value>().await.unwrap(), body);
    };
    let unready = StatusCode::SERVICE_UNAVAILABLE;
    check(unready, json!({"status": "starting", "pending": ["fleet", "gateway"]})).await;
    gateway.ready();
    drop(first);
    check(unready, json!({"status": "starting", "pending": ["fleet"]})).await;
    drop(second);
    check(StatusCode::OK, json!({"status": "ready", "pending": []})).await;
    running.readiness.drain();
    check(unready, json!({"status": "draining", "pending": []})).await;
    assert_eq!(running.get("/healthz").await.text().await.unwrap(), "ok\n");
}

#[tokio::test]
async fn a_part_that_panics_on_its_way_up_is_not_ready() {
    let readiness = Readiness::new();
    let token = readiness.token("store");
    let part = tokio::spawn(async move {
        let _token = token;
        panic!("no disk");
    });
    assert!(part.await.is_err());
    assert!(!readiness.is_ready());
}

#[tokio::test]
async fn metrics_come_in_both_formats_and_agree_with_the_view() {
    let running = start(|_| {}).await;
    running.dashboard.update(view("chat", 3));
    running.metrics.decided(&decision("chat", 1, 3));
    running.metrics.cold_start("chat", Duration::from_secs(200));
    running.metrics.evaluated("chat", Duration::from_millis(2));
    let (open_type, open) =
        running.scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await;
    let (plain_type, plain) = running.scrape("text/plain, application/openmetrics-text;q=0").await;
    assert_eq!(open_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(plain_type, "text/plain; version=0.0.4; charset=utf-8");
    assert!(open.ends_with("# EOF\n"));
    assert!(!plain.contains("# EOF"));
    for sample in [
        "forewarm_replicas{scaler=\"chat\",phase=\"ready\"} 1.0",
        "forewarm_replicas{scaler=\"chat\",phase=\"loading\"} 0.0",
        "forewarm_target_replicas{scaler=\"chat\"} 3.0",
        "forewarm_queue_depth{scaler=\"chat\"} 7.0",
        "forewarm_requests_total{scaler=\"chat\",outcome=\"succeeded\"} 40",
        "forewarm_requests_total{scaler=\"chat\",outcome=\"refused\"} 2",
        "forewarm_requests_attained_total{scaler=\"chat\"} 39.0",
        "forewarm_requests_missed_total{scaler=\"chat\"} 3.0",
        "forewarm_busy_seconds_total{scaler=\"chat\"} 81.5",
        "forewarm_decisions_total{scaler=\"chat\",reason=\"queue_depth\"} 1",
        "forewarm_scale_changes_total{scaler=\"chat\",direction=\"up\"} 1",
        "forewarm_cold_start_seconds_bucket{le=\"240.0\",scaler=\"chat\"} 1",
        "forewarm_evaluation_seconds_count{scaler=\"chat\"} 1",
        "forewarm_signal_age_seconds{scaler=\"chat\",signal=\"waiting\"} 1.5",
        "forewarm_build_info{version=\"0.1.0\"} 1",
    ] {
        assert!(open.lines().any(|line| line == sample), "{sample} is not in\n{open}");
        assert!(plain.lines().any(|line| line == sample), "{sample} is not in\n{plain}");
    }
    // What is not known has no sample: these are `None` in the view.
    assert!(!open.contains("forewarm_requests_completed_total{"));
    assert!(!open.contains("forewarm_in_flight_requests{"));
    assert!(!open.contains("outcome=\"failed\""));
    // In 0.0.4 a counter's type names its samples, in OpenMetrics its family.
    assert!(plain.contains("# TYPE forewarm_requests_total counter\n"));
    assert!(open.contains("# TYPE forewarm_requests counter\n"));
    assert!(plain.contains("# TYPE forewarm_cold_start_seconds histogram\n"));
}

#[tokio::test]
async fn what_stands_beside_the_metrics_is_on_the_page_in_its_format() {
    const OTHER: &str = "# HELP gateway_arrivals_total Requests.\n# TYPE gateway_arrivals_total counter\n\
        gateway_arrivals_total 7\n# HELP gateway_depth Waiting.\n# TYPE gateway_depth gauge\ngateway_depth 3\n";
    let running = start(|config| config.metrics = config.metrics.clone().beside(|| OTHER.to_owned())).await;
    let (_, open) = running.scrape("application/openmetrics-text").await;
    let (_, plain) = running.scrape("text/plain").await;
    assert!(plain.ends_with(OTHER), "{plain}");
    let renamed = OTHER.replace("HELP gateway_arrivals_total", "HELP gateway_arrivals");
    let renamed = renamed.replace("TYPE gateway_arrivals_total", "TYPE gateway_arrivals");
    assert!(open.ends_with(&format!("{renamed}# EOF\n")), "{open}");
    assert_eq!(open.matches("# EOF").count(), 1);
}

#[tokio::test]
async fn every_file_of_the_page_is_served_and_asks_for_nothing_from_elsewhere() {
    let running = start(|_| {}).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(files.contains("index.html") && files.contains("app.js"));
    for file in &files {
        let response = running.get(&format!("/{file}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{file}");
        let expected = match file.rsplit_once('.').unwrap().1 {
            "html" => "text/html; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{file}: say what `{other}` is"),
        };
        assert_eq!(response.headers()[header::CONTENT_TYPE], expected, "{file}");
        let text = response.text().await.unwrap().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http://") && !text.contains("https://"), "{file} names another site");
        assert!(!text.contains("style=") && !text.contains("onclick"), "{file} has what the policy forbids");
    }
    let page = running.get("/").await;
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert!(page.text().await.unwrap().starts_with("<!doctype html>"));
    assert_eq!(running.get("/nothing.html").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(running.get("/../Cargo.toml").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn views_are_json_and_an_unknown_scaler_is_told_which_there_are() {
    let running = start(|_| {}).await;
    let mut shown = view("chat", 3);
    shown.last_decisions = vec![(&decision("chat", 1, 3)).into()];
    running.dashboard.update(shown);
    let list: Value = running.get("/api/v1/scalers").await.json().await.unwrap();
    assert_eq!(list["scalers"][0]["scaler"], "chat");
    let one: Value = running.get("/api/v1/scalers/chat").await.json().await.unwrap();
    assert_eq!(one["inFlight"], Value::Null, "not known is not 0");
    assert_eq!(one["replicas"][0]["phase"], "ready");
    let decisions: Value = running.get("/api/v1/scalers/chat/decisions").await.json().await.unwrap();
    let reason = &decisions["decisions"][0]["reasons"][0];
    assert_eq!(reason["label"], "queue_depth");
    assert_eq!(reason["text"], "33 requests wait, a replica is worth 5 of them");
    let unknown = running.get("/api/v1/scalers/chatt").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let unknown = unknown.text().await.unwrap();
    assert!(unknown.contains("`chatt`") && unknown.contains("`chat`"), "{unknown}");
}

/// A controller that refuses more than 8 replicas and reports what it was asked.
fn controller(mut commands: mpsc::Receiver<Command>) -> mpsc::Receiver<(ScalerId, Action)> {
    let (asked, seen) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            let answer = match command.action {
                Action::Pause { replicas: Replicas(9..), .. } => {
                    Err(CommandError::Refused("`replicas` is too large: at most 8".to_owned()))
                }
                Action::Pause { .. } | Action::Resume => Ok(()),
            };
            asked.send((command.scaler, command.action)).await.unwrap();
            command.reply.send(answer).unwrap();
        }
    });
    seen
}

#[tokio::test]
async fn a_pause_reaches_the_controller_and_its_answer_comes_back() {
    let (sender, commands) = mpsc::channel(1);
    let mut seen = controller(commands);
    let running = start(|config| config.commands = Some(sender)).await;
    running.dashboard.update(view("chat", 3));
    let half_an_hour = PauseEnd::After(Duration::from_secs(1_800));
    let noon = PauseEnd::At(Timestamp::from_millis(1_795_521_600_000));
    for (body, replicas, end) in [
        (r#"{"replicas": 4, "for": "30m"}"#, 4, half_an_hour),
        (r#"{"replicas": 0, "until": "2026-11-24T12:00:00Z"}"#, 0, noon),
        (r#"{"replicas": 8, "until": "2026-11-24T13:00:00+01:00"}"#, 8, noon),
    ] {
        assert_eq!(running.pause("chat", body).await.0, StatusCode::NO_CONTENT, "{body}");
        let expected = Action::Pause { replicas: Replicas(replicas), end };
        assert_eq!(seen.recv().await.unwrap(), (ScalerId::from("chat"), expected));
    }
    let (status, answer) = running.pause("chat", r#"{"replicas": 9, "for": "30m"}"#).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer["error"]["message"], "`replicas` is too large: at most 8");
    seen.recv().await.unwrap();
    let url = format!("{}/api/v1/scalers/chat/pause", running.url);
    assert_eq!(running.client.delete(url).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(seen.recv().await.unwrap().1, Action::Resume);
    assert_eq!(running.pause("other", r#"{"replicas": 4, "for": "30m"}"#).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_bad_pause_is_told_the_field_the_value_and_what_is_right() {
    let (sender, _commands) = mpsc::channel(1);
    let running = start(|config| config.commands = Some(sender)).await;
    running.dashboard.update(view("chat", 3));
    for (body, field, value, right) in [
        (r#"{"for": "30m"}"#, "replicas", "missing", "whole number"),
        (r#"{"replicas": -1, "for": "30m"}"#, "replicas", "-1", "whole number"),
        (r#"{"replicas": 2.5, "for": "30m"}"#, "replicas", "2.5", "whole number"),
        (r#"{"replicas": 99999999999, "for": "30m"}"#, "replicas", "99999999999", "4294967295"),
        (r#"{"replicas": 2, "for": "soon"}"#, "for", "\"soon\"", "30m"),
        (r#"{"replicas": 2, "for": "-5m"}"#, "for", "\"-5m\"", "positive"),
        (r#"{"replicas": 2, "until": "12:00"}"#, "until", "\"12:00\"", "RFC 3339"),
        (r#"{"replicas": 2}"#, "for", "missing", "`until`"),
        (r#"{"replicas": 2, "for": "1m", "until": "2026-11-24T12:00:00Z"}"#, "until", "2026", "not both"),
        (r#"{"replicas": 2, "fro": "1m"}"#, "fro", "\"1m\"", "the fields are"),
        ("nonsense", "body", "not readable", "JSON object"),
    ] {
        let (status, answer) = running.pause("chat", body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let error = &answer["error"];
        assert_eq!(error["field"], field, "{body}: {answer}");
        assert!(error["value"].as_str().unwrap().contains(value), "{body}: {answer}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(right) && message.contains(field), "{body}: {message}");
    }
    let (status, _) = running.pause("chat", &" ".repeat(100_000)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_controller_that_is_absent_busy_or_gone_is_named() {
    const PAUSE: &str = r#"{"replicas": 2, "for": "1m"}"#;
    let running = start(|_| {}).await;
    running.dashboard.update(view("chat", 3));
    assert_eq!(running.pause("chat", PAUSE).await.0, StatusCode::NOT_IMPLEMENTED);

    let (sender, commands) = mpsc::channel(1);
    let blocker = sender.clone().reserve_owned().await.unwrap();
    let running = start(|config| config.commands = Some(sender)).await;
    running.dashboard.update(view("chat", 3));
    assert_eq!(running.pause("chat", PAUSE).await.0, StatusCode::SERVICE_UNAVAILABLE, "the channel is full");
    drop((blocker, commands));
    let (status, answer) = running.pause("chat", PAUSE).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
}

#[tokio::test]
async fn changes_are_taken_from_this_page_only() {
    let (sender, commands) = mpsc::channel(1);
    let _seen = controller(commands);
    let running = start(|config| config.commands = Some(sender)).await;
    running.dashboard.update(view("chat", 3));
    let address = running.url.strip_prefix("http://").unwrap();
    let port = address.rsplit_once(':').unwrap().1;
    let local = format!("localhost:{port}");
    for (host, origin, expected) in [
        (address, None, StatusCode::NO_CONTENT),
        (local.as_str(), None, StatusCode::NO_CONTENT),
        (address, Some(running.url.as_str()), StatusCode::NO_CONTENT),
        ("[::1]:9180", None, StatusCode::NO_CONTENT),
        ("rebound.example:9180", None, StatusCode::FORBIDDEN),
        ("localhost.example", None, StatusCode::FORBIDDEN),
        (address, Some("https://elsewhere.example"), StatusCode::FORBIDDEN),
        (address, Some("null"), StatusCode::FORBIDDEN),
    ] {
        let url = format!("{}/api/v1/scalers/chat/pause", running.url);
        let mut request = running.client.delete(url).header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        assert_eq!(request.send().await.unwrap().status(), expected, "{host} {origin:?}");
    }
}

#[tokio::test]
async fn with_a_token_changes_need_it_and_views_do_not() {
    let (sender, commands) = mpsc::channel(1);
    let _seen = controller(commands);
    let running = start(|config| {
        config.commands = Some(sender);
        config.token = Some("secret".to_owned());
    })
    .await;
    running.dashboard.update(view("chat", 3));
    let url = format!("{}/api/v1/scalers/chat/pause", running.url);
    for (token, expected) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("Bearer wrong!"), StatusCode::UNAUTHORIZED),
        (Some("Basic secret"), StatusCode::UNAUTHORIZED),
        (Some("Bearer secret"), StatusCode::NO_CONTENT),
    ] {
        let mut request = running.client.delete(&url);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        assert_eq!(request.send().await.unwrap().status(), expected, "{token:?}");
    }
    assert_eq!(running.get("/api/v1/scalers").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    let running = start(|_| {}).await;
    let mut config = AdminConfig::new(Dashboard::new());
    config.address = running.url.strip_prefix("http://").unwrap().parse().unwrap();
    let Err(error) = Admin::bind(config).await else { panic!("two servers on one port") };
    assert!(matches!(error, BindError::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&running.url["http://".len()..]) && text.contains("--admin"), "{text}");
}

#[tokio::test]
async fn a_closed_stream_gives_its_place_back() {
    let running = start(|_| {}).await;
    running.dashboard.update(view("chat", 1));
    for _ in 0..200 {
        // The server learns of a closed connection a little later.
        let response = loop {
            let response = running.get("/api/v1/events").await;
            if response.status() == StatusCode::OK {
                break response;
            }
        };
        assert!(response.bytes_stream().next().await.is_some());
        running.dashboard.update(view("chat", 1));
    }
}
