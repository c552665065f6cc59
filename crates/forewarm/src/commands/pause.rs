//! `forewarm pause` and `forewarm resume`: the kill switch, over the admin port.

use clap::Args;
use serde_json::json;

use crate::{
    exit::{Failure, say},
    lifecycle::runtime,
};

/// Holds a number of replicas, whatever the policy says, until it expires.
#[derive(Args)]
#[command(after_help = "Examples:\n  forewarm pause llama3 --replicas 4 --for 30m\n  \
    forewarm pause llama3 --replicas 0 --until 2026-12-01T00:00:00Z")]
pub(crate) struct PauseArgs {
    /// The scaler.
    scaler: String,
    /// How many replicas to hold.
    #[arg(long)]
    replicas: u32,
    /// For how long.
    #[arg(
        long = "for",
        value_name = "DURATION",
        conflicts_with = "until",
        required_unless_present = "until"
    )]
    span: Option<String>,
    /// Until when, as RFC 3339.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Lets the policy decide again.
#[derive(Args)]
pub(crate) struct ResumeArgs {
    /// The scaler.
    scaler: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Args)]
struct AdminArgs {
    /// The admin port of `forewarm run`.
    #[arg(long, default_value = "127.0.0.1:9180", value_name = "ADDRESS")]
    admin: String,
    /// The token that `forewarm run` was given, if any.
    #[arg(long, env = "FOREWARM_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

pub(crate) fn pause(args: PauseArgs) -> Result<(), Failure> {
    let body = match (&args.span, &args.until) {
        (Some(span), _) => json!({"replicas": args.replicas, "for": span}),
        (None, until) => json!({"replicas": args.replicas, "until": until}),
    };
    ask(&args.admin, reqwest::Method::PUT, &args.scaler, Some(body))?;
    say(format!("{} is held at {} replicas", args.scaler, args.replicas));
    Ok(())
}

pub(crate) fn resume(args: ResumeArgs) -> Result<(), Failure> {
    ask(&args.admin, reqwest::Method::DELETE, &args.scaler, None)?;
    say(format!("the policy decides about {} again", args.scaler));
    Ok(())
}

fn ask(
    admin: &AdminArgs,
    method: reqwest::Method,
    scaler: &str,
    body: Option<serde_json::Value>,
) -> Result<(), Failure> {
    let url = format!("http://{}/api/v1/scalers/{scaler}/pause", admin.admin);
    runtime(1)?.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut request = client.request(method, &url);
        if let Some(token) = &admin.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| {
            anyhow::anyhow!("no forewarm answers at {} ({error}); is `--admin` its admin port?", admin.admin)
        })?;
        if response.status().is_success() {
            return Ok(());
        }
        let text = response.text().await?;
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let message = answer["error"]["message"].as_str().unwrap_or(text.trim()).to_owned();
        Err(Failure::usage(anyhow::anyhow!(message)))
    })
}
