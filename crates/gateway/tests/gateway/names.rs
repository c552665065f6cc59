//! Models by their names: several scalers, other names, adapters.

use std::collections::BTreeMap;

use forewarm_core::{
    ScalerId,
    pool::{PoolPlan, Routing},
};
use http::StatusCode;

use crate::support::{CHAT, Rig, Upstream, get, plan};

fn of(scaler: &str, models: &[&str], aliases: &[(&str, &str)], upstream: &Upstream) -> PoolPlan {
    let owned = |&(alias, model): &(&str, &str)| (alias.to_owned(), model.to_owned());
    PoolPlan {
        scaler: ScalerId::from(scaler),
        models: models.iter().map(|&model| model.to_owned()).collect(),
        routing: Routing { aliases: aliases.iter().map(owned).collect(), ..Routing::default() },
        ..plan(vec![upstream.endpoint(scaler, 4)])
    }
}

#[tokio::test]
async fn three_models_and_their_other_names_each_reach_their_replicas() {
    let rig = Rig::start().await;
    let (mut llama, mut qwen, mut rest) =
        (Upstream::start().await, Upstream::start().await, Upstream::start().await);
    let plans = [
        of("llama", &["llama3", "llama3-sql"], &[("gpt-4o", "llama3")], &llama),
        of("qwen", &["qwen3"], &[("gpt-4o-mini", "qwen3"), ("o3", "qwen3")], &qwen),
        of("rest", &[], &[("any", "some-model")], &rest),
    ];
    for plan in &plans {
        assert!(rig.handle.apply(plan));
    }
    let cases = [
        ("llama3", "llama", "llama3"),
        ("llama3-sql", "llama", "llama3-sql"),
        ("gpt-4o", "llama", "llama3"),
        ("gpt-4o-mini", "qwen", "qwen3"),
        ("o3", "qwen", "qwen3"),
        ("any", "rest", "some-model"),
        ("never-heard-of", "rest", "never-heard-of"),
    ];
    for (asked, scaler, sent) in cases {
        let body = |model: &str| format!(r#"{{ "messages": [], "n" :1.0,"model" : "{model}" }}"#);
        let reply = rig.post(CHAT, body(asked), &[]);
        let upstream = match scaler {
            "llama" => &mut llama,
            "qwen" => &mut qwen,
            _ => &mut rest,
        };
        let call = upstream.call().await;
        assert_eq!(call.body, body(sent), "{asked}: nothing but the model changes");
        call.answer("200 OK", r#"{"model":"as the engine says"}"#).await;
        let reply = reply.await.unwrap();
        assert_eq!((reply.status, reply.header("x-forewarm-replica")), (StatusCode::OK, scaler), "{asked}");
        assert_eq!(reply.text().await, r#"{"model":"as the engine says"}"#);
    }
    let listed: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&get(rig.address, "/v1/models").await.text().await).unwrap();
    let listed = listed["data"].to_string();
    for (name, ..) in &cases[..6] {
        assert!(listed.contains(&format!("\"{name}\"")), "{name} is listed: {listed}");
    }
    let page = get(rig.control, "/metrics").await.text().await;
    for (name, scaler, _) in cases {
        let line =
            format!("forewarm_gateway_model_requests_total{{scaler=\"{scaler}\",model=\"{name}\"}} 1\n");
        assert!(page.contains(&line), "{line} is missing in {page}");
    }
    // A new plan without the name, and it is gone.
    assert!(rig.handle.apply(&of("llama", &["llama3"], &[], &llama)));
    let reply = rig.post(CHAT, r#"{"model":"gpt-4o"}"#, &[]);
    assert_eq!(rest.call().await.body, r#"{"model":"gpt-4o"}"#);
    drop(reply);
}
