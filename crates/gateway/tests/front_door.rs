//! The front door over real sockets, with replicas that do what replicas do.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

#[path = "front_door/stage.rs"]
mod stage;

use std::time::Duration;

use forewarm_core::ScalerId;
use forewarm_gateway::RemoteGateway;
use stage::{Answer, DONE, Limits, Replica, STREAM, Stage, TOKEN, request};

#[tokio::test]
async fn a_burst_on_an_idle_fleet_is_held_and_served_in_order_when_a_replica_is_ready() {
    let stage = Stage::start().await;
    stage.plan(&[], Limits::default());
    let mut clients = Vec::new();
    for index in 0..12 {
        clients.push(tokio::spawn(stage.post(request(&format!("burst {index}")))));
        stage.until(|report| report.queued == index + 1).await;
    }
    let replica = Replica::start(Answer::whole_stream(3)).await;
    stage.plan(&[replica.endpoint("r0", 2)], Limits::default());
    for client in clients {
        let answer = client.await.unwrap();
        assert!(answer.contains("x-forewarm-cold-start: true"), "{answer}");
        assert!(answer.ends_with("data: [DONE]\n\n"), "{answer}");
    }
    let (order, most_at_once) = replica.seen();
    let expected: Vec<String> = (0..12).map(|index| format!("burst {index}")).collect();
    // Two at a time may overtake each other on the wire, but nobody overtakes by more than a slot.
    for (place, prompt) in order.iter().enumerate() {
        let wanted = expected.iter().position(|name| name == prompt).unwrap();
        assert!(wanted.abs_diff(place) <= 1, "{order:?}");
    }
    assert!(most_at_once <= 2, "{most_at_once}");
    let report = stage.report();
    assert_eq!((report.arrived_total, report.succeeded_total, report.queued), (12, 12, 0));
}

#[tokio::test]
async fn a_full_queue_refuses_honestly() {
    let stage = Stage::start().await;
    stage.plan(&[], Limits { max_requests: 1, ready_in: Some(42.0), ..Limits::default() });
    let waiting = tokio::spawn(stage.post(request("first")));
    stage.until(|report| report.queued == 1).await;
    let answer = stage.post(request("second")).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    let seconds: u64 =
        answer.split("retry-after: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    assert!((40..=42).contains(&seconds), "{answer}");
    assert!(
        answer.contains("\"code\":\"queue_full\"") && !answer.contains("x-forewarm-accepted"),
        "{answer}"
    );
    waiting.abort();
    assert_eq!(stage.report().refused_total, 1);
}

#[tokio::test]
async fn a_cold_start_does_not_eat_the_deadline_and_a_busy_fleet_does() {
    let stage = Stage::start().await;
    let limits = Limits { timeout: Duration::from_millis(300), ..Limits::default() };
    stage.plan(&[], limits);
    let patient = tokio::spawn(stage.post(request("patient")));
    stage.until(|report| report.queued == 1).await;
    // Longer than the timeout, on the clock of the cold start.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let replica = Replica::start(Answer::whole_stream(1)).await;
    stage.plan(&[replica.endpoint("r0", 1)], limits);
    assert!(patient.await.unwrap().ends_with("data: [DONE]\n\n"));

    let hung = Replica::start(Answer::Hang(String::new())).await;
    stage.plan(&[hung.endpoint("r1", 1)], limits);
    let holder = tokio::spawn(stage.post(request("holder")));
    hung.until_asked().await;
    let late = stage.post(request("late")).await;
    assert!(late.starts_with("HTTP/1.1 504 ") && late.contains("\"code\":\"deadline\""), "{late}");
    assert!(late.contains("x-forewarm-accepted: true"), "{late}");
    holder.abort();
}

#[tokio::test]
async fn what_fails_before_its_first_byte_is_sent_elsewhere() {
    let loading = "{\"error\":{\"message\":\"Loading model\",\"type\":\"unavailable_error\",\"code\":503}}";
    let stopping = "{\"error\":{\"message\":\"cannot schedule new futures after shutdown\"}}";
    let json = |status: &str, body: &str| {
        Answer::Bytes(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    };
    let cases = [
        ("closes without a word", Answer::Bytes(String::new())),
        ("ends its stream before the first event", Answer::Bytes(STREAM.to_owned())),
        ("is loading", json("503 Service Unavailable", loading)),
        ("is stopping", json("500 Internal Server Error", stopping)),
    ];
    for (name, answer) in cases {
        let stage = Stage::start().await;
        let (bad, good) = (Replica::start(answer).await, Replica::start(Answer::whole_stream(2)).await);
        stage.plan(&[bad.endpoint("a-bad", 4), good.endpoint("b-good", 4)], Limits::default());
        let answer = stage.post(request(name)).await;
        assert!(answer.ends_with("data: [DONE]\n\n"), "{name}: {answer}");
        assert!(answer.contains("x-forewarm-replica: b-good"), "{name}: {answer}");
        let report = stage.report();
        assert_eq!((report.retried_total, report.succeeded_total), (1, 1), "{name}");
    }
}

#[tokio::test]
async fn a_replica_that_takes_no_connection_is_left_alone_until_it_does() {
    let stage = Stage::start().await;
    let good = Replica::start(Answer::whole_stream(1)).await;
    let mut closed = good.endpoint("a-closed", 4);
    closed.address = stage::closed_address().await;
    stage.plan(&[closed, good.endpoint("b-good", 4)], Limits::default());
    for index in 0..5 {
        assert!(stage.post(request(&format!("{index}"))).await.contains("x-forewarm-replica: b-good"));
    }
    assert_eq!(stage.report().retried_total, 1, "only the first one had to find out");
}

#[tokio::test]
async fn a_stream_whose_replica_dies_ends_with_an_honest_error() {
    let stage = Stage::start().await;
    let replica = Replica::start(Answer::Bytes(format!("{STREAM}{TOKEN}{TOKEN}"))).await;
    stage.plan(&[replica.endpoint("r0", 1)], Limits::default());
    let answer = stage.post(request("x")).await;
    assert_eq!(answer.matches(TOKEN).count(), 2, "{answer}");
    assert!(answer.contains("data: {\"error\":") && answer.contains("replica_died_mid_stream"), "{answer}");
    let report = stage.report();
    assert_eq!(report.failed_total, [("replica_died_mid_stream".to_owned(), 1)].into());
    assert_eq!(report.in_flight_sum(), 0);
}

#[tokio::test]
async fn a_replica_that_hangs_is_given_up_when_the_plan_drops_it() {
    let stage = Stage::start().await;
    let silent = Replica::start(Answer::Hang(String::new())).await;
    let stuck = Replica::start(Answer::Hang(format!("{STREAM}{TOKEN}"))).await;
    stage.plan(&[silent.endpoint("silent", 1)], Limits::default());
    let unanswered = tokio::spawn(stage.post(request("unanswered")));
    silent.until_asked().await;
    stage.plan(&[silent.endpoint("silent", 1), stuck.endpoint("stuck", 1)], Limits::default());
    let begun = tokio::spawn(stage.post(request("begun")));
    stuck.until_asked().await;
    let good = Replica::start(Answer::whole_stream(1)).await;
    stage.plan(&[good.endpoint("good", 4)], Limits::default());
    let answer = unanswered.await.unwrap();
    assert!(answer.contains("x-forewarm-replica: good") && answer.ends_with("data: [DONE]\n\n"), "{answer}");
    let answer = begun.await.unwrap();
    assert!(answer.contains("replica_died_mid_stream") || answer.ends_with("data: [DONE]\n\n"), "{answer}");
}

#[tokio::test]
async fn a_draining_replica_gets_nothing_new_and_keeps_what_it_has() {
    let stage = Stage::start().await;
    let (old, go_on) = Replica::start_held().await;
    stage.plan(&[old.endpoint("old", 4)], Limits::default());
    let stream = tokio::spawn(stage.post(request("long")));
    old.until_asked().await;
    let new = Replica::start(Answer::whole_stream(1)).await;
    let mut draining = old.endpoint("old", 4);
    draining.draining = true;
    stage.plan(&[draining, new.endpoint("new", 4)], Limits::default());
    for index in 0..4 {
        assert!(stage.post(request(&format!("{index}"))).await.contains("x-forewarm-replica: new"));
    }
    go_on.send(()).unwrap();
    assert!(stream.await.unwrap().ends_with("data: [DONE]\n\n"), "the long stream came to its end");
    assert_eq!(old.seen().0.len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_and_its_slot() {
    let stage = Stage::start().await;
    let replica = Replica::start(Answer::Hang(format!("{STREAM}{TOKEN}"))).await;
    stage.plan(&[replica.endpoint("r0", 1)], Limits::default());
    let served = tokio::spawn(stage.post(request("served")));
    stage.until(|report| report.in_flight_sum() == 1).await;
    let waiting = tokio::spawn(stage.post(request("waiting")));
    stage.until(|report| report.queued == 1).await;
    waiting.abort();
    stage.until(|report| report.queued == 0).await;
    served.abort();
    stage.until(|report| report.in_flight_sum() == 0).await;
    let failed = stage.report().failed_total;
    assert_eq!(failed, [("client_left".to_owned(), 2)].into());
}

#[tokio::test]
async fn bytes_pass_as_they_are() {
    let odd = ": a comment\r\n\r\ndata: {\"text\":\"é\\u0000\"}\n\nevent: x\ndata: 1\ndata: 2\n\n";
    let stage = Stage::start().await;
    let replica = Replica::start(Answer::Bytes(format!("{STREAM}{odd}{DONE}"))).await;
    stage.plan(&[replica.endpoint("r0", 1)], Limits::default());
    let answer = stage.post(request("x")).await;
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, format!("{odd}{DONE}"));

    let wrong = "HTTP/1.1 400 Bad Request\r\nx-engine: yes\r\ncontent-length: 9\r\n\r\n{\"a\":\"b\"}";
    let replica = Replica::start(Answer::Bytes(wrong.to_owned())).await;
    stage.plan(&[replica.endpoint("r1", 1)], Limits::default());
    let answer = stage.post(request("x")).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("x-engine: yes"), "{answer}");
    assert!(answer.ends_with("{\"a\":\"b\"}"), "{answer}");
}

#[tokio::test]
async fn what_cannot_be_served_is_said() {
    let stage = Stage::start().await;
    let answer = stage.post(request("too early")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
    stage.plan(&[], Limits::default());
    let other = request("x").replace("\"model\":\"m\"", "\"model\":\"n\"");
    let answer = stage.post(other).await;
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.contains("`n` does not exist; there are: m"),
        "{answer}"
    );
    let answer = stage.send("GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("\"id\":\"m\""), "{answer}");
    let long = stage
        .send(&format!(
            "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{}",
            2 << 20,
            " ".repeat(2 << 20)
        ))
        .await;
    assert!(long.starts_with("HTTP/1.1 413 "), "{}", &long[..long.len().min(200)]);
}

#[tokio::test]
async fn a_controller_in_another_process_sees_and_says_the_same() {
    let stage = Stage::start().await;
    let remote = RemoteGateway::new(ScalerId::from("s"), &stage.control);
    assert!(remote.report().await.is_err(), "no plan yet is no empty queue");
    let replica = Replica::start(Answer::whole_stream(1)).await;
    remote.apply(&stage::pool_plan(&[replica.endpoint("r0", 1)], Limits::default())).await.unwrap();
    assert!(stage.post(request("x")).await.ends_with("data: [DONE]\n\n"));
    loop {
        let report = remote.report().await.unwrap();
        if report.succeeded_total == 1 {
            assert_eq!(report, stage.report());
            break;
        }
        remote.changed().await;
    }
    let gone = RemoteGateway::new(ScalerId::from("s"), &stage::closed_address().await);
    assert!(gone.report().await.is_err(), "a gateway that is gone is no empty queue");
}
