//! Which engine serves, where it answers, and how much it is given at a time.

use super::signal::{Credential, Tls, where_it_is};
use crate::cursor::{Cursor, Fields};

/// An inference engine that forewarm knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// vLLM, or something that speaks its API and metrics, such as `forewarm engine`.
    #[default]
    Vllm,
    /// SGLang.
    Sglang,
    /// Text Generation Inference.
    Tgi,
    /// Triton Inference Server.
    Triton,
    /// llama.cpp's `llama-server`.
    LlamaCpp,
}

impl EngineKind {
    /// Every kind with the word for it in manifests.
    pub const ALL: [(&'static str, EngineKind); 5] = [
        ("vllm", EngineKind::Vllm),
        ("sglang", EngineKind::Sglang),
        ("tgi", EngineKind::Tgi),
        ("triton", EngineKind::Triton),
        ("llamacpp", EngineKind::LlamaCpp),
    ];

    /// The word for it in manifests.
    pub fn label(self) -> &'static str {
        match self {
            EngineKind::Vllm => "vllm",
            EngineKind::Sglang => "sglang",
            EngineKind::Tgi => "tgi",
            EngineKind::Triton => "triton",
            EngineKind::LlamaCpp => "llamacpp",
        }
    }

    /// The most requests at a time that `maxConcurrency: auto` means, from which the gateway learns down: what the
    /// engine itself runs at a time by default. One more would wait inside the engine, where no replica that becomes
    /// ready can take it.
    ///
    /// - vLLM, SGLang: 256, vLLM's `--max-num-seqs` for its API server on GPUs below 70 GiB
    ///   (`EngineArgs.get_batch_defaults`); SGLang derives its limit from the memory left and is at
    ///   least as large there.
    /// - TGI: 128, its `--max-concurrent-requests`.
    /// - Triton: 8, [`forewarm_core::ScalerSpec::new`]'s default: its limit is the model configuration's.
    /// - llama.cpp: 1, `--parallel` of `llama-server` as documented.
    pub fn auto_concurrency(self) -> u32 {
        match self {
            EngineKind::Vllm | EngineKind::Sglang => 256,
            EngineKind::Tgi => 128,
            EngineKind::Triton => 8,
            EngineKind::LlamaCpp => 1,
        }
    }

    /// Where it says that it serves.
    pub fn default_health_path(self) -> &'static str {
        match self {
            EngineKind::Vllm | EngineKind::Sglang | EngineKind::Tgi | EngineKind::LlamaCpp => "/health",
            EngineKind::Triton => "/v2/health/ready",
        }
    }
}

/// The size of a replica's KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvTokens {
    /// What each engine says of its own.
    Auto,
    /// So many tokens.
    Tokens(u64),
}

/// What serves the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSpec {
    /// Which engine.
    pub kind: EngineKind,
    /// How TLS is spoken with it; `None`: it speaks plain HTTP.
    pub tls: Option<Tls>,
    /// What is shown to it where it is asked for its metrics.
    pub bearer_token: Option<Credential>,
    /// Path of its metrics.
    pub metrics_path: String,
    /// Path that answers 200 once it serves.
    pub health_path: String,
    /// Requests that one replica is given at a time.
    pub max_concurrency: u32,
    /// Whether that is `auto`: nobody has measured it, and the gateway learns how many of them are too many.
    pub learns_concurrency: bool,
    /// Whether a replica that is new begins with a part of it.
    pub slow_start: bool,
    /// Tokens that one replica's requests may need together; `None`: nobody counts them.
    pub kv_tokens: Option<KvTokens>,
}

impl EngineSpec {
    /// The words for whether it speaks TLS.
    const SCHEMES: [(&str, bool); 2] = [("HTTP", false), ("HTTPS", true)];
    /// Path of the metrics of every engine that is known.
    pub const DEFAULT_METRICS_PATH: &str = "/metrics";
    /// Far above any engine's batch; what is above it is a slip of the hand.
    pub const MAX_CONCURRENCY: u32 = 65_536;

    pub(super) fn of_kind(kind: EngineKind) -> Self {
        Self {
            kind,
            tls: None,
            bearer_token: None,
            metrics_path: Self::DEFAULT_METRICS_PATH.into(),
            health_path: kind.default_health_path().into(),
            max_concurrency: kind.auto_concurrency(),
            learns_concurrency: true,
            slow_start: false,
            kv_tokens: None,
        }
    }

    pub(super) fn read(at: Option<&Cursor<'_>>) -> Self {
        let Some(fields) = at.and_then(Cursor::fields) else { return Self::of_kind(EngineKind::default()) };
        let kind = fields.get("kind").and_then(|kind| kind.one_of(&EngineKind::ALL));
        let mut engine = Self::of_kind(kind.unwrap_or_default());
        engine.tls = tls(&fields);
        engine.bearer_token = fields.get("bearerToken").and_then(|at| where_it_is(&at));
        if let Some(path) = fields.get("metricsPath").and_then(|path| url_path(&path)) {
            engine.metrics_path = path;
        }
        if let Some(path) = fields.get("healthPath").and_then(|path| url_path(&path)) {
            engine.health_path = path;
        }
        if let Some(concurrency) = fields.get("maxConcurrency")
            && concurrency.node.text() != Some("auto")
        {
            match concurrency.node.integer().and_then(|n| u32::try_from(n).ok()) {
                Some(n @ 1..=Self::MAX_CONCURRENCY) => {
                    (engine.max_concurrency, engine.learns_concurrency) = (n, false);
                }
                Some(_) | None => {
                    concurrency
                        .wanted(format!("auto, or a whole number from 1 to {}", Self::MAX_CONCURRENCY));
                }
            }
        }
        engine.slow_start = fields.get("slowStart").and_then(|at| at.bool()).unwrap_or(false);
        engine.kv_tokens = fields.get("kvTokens").and_then(|at| kv_tokens(&at));
        fields.finish();
        engine
    }
}

/// `scheme` as probes of Kubernetes have it, and what it takes.
fn tls(fields: &Fields<'_>) -> Option<Tls> {
    let is_https = match fields.get("scheme") {
        Some(scheme) => scheme.one_of(&EngineSpec::SCHEMES),
        None => Some(false),
    };
    let tls_at = fields.get("tls");
    let tls = tls_at.as_ref().map_or_else(|| Some(Tls::default()), Tls::at);
    if let (Some(false), Some(at)) = (is_https, tls_at) {
        at.problem("`tls` of an engine that speaks HTTP", "`scheme: HTTPS` as well");
    }
    tls.filter(|_| is_https == Some(true))
}

fn kv_tokens(at: &Cursor<'_>) -> Option<KvTokens> {
    if at.node.text() == Some("auto") {
        return Some(KvTokens::Auto);
    }
    let tokens = at.node.integer().and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
    if tokens.is_none() {
        at.wanted("auto, or a whole number of tokens of at least 1");
    }
    tokens.map(KvTokens::Tokens)
}

fn url_path(at: &Cursor<'_>) -> Option<String> {
    let path = at.text()?;
    if path.starts_with('/') {
        return Some(path);
    }
    at.wanted("a path that begins with `/`");
    None
}
