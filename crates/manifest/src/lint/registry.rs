//! Every rule, with its code, its severity and its page. A code keeps its meaning for ever.

use super::{
    finding::{Severity, Sink},
    rules::{
        autoscalers, aws, behavior, hpa, keda, keda_zero, knative, metrics, ours, promql, schema, workload,
    },
    world::World,
};

/// A rule: what looks, and what is known about what it finds.
pub(crate) struct Rule {
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    title: &'static str,
    page: &'static str,
    pub(crate) check: fn(&World<'_>, &mut Sink),
}

/// What is known about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Such as `FW020`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// In a few words.
    pub title: &'static str,
    /// What it is, why it hurts, how to fix it, and the source, as Markdown.
    pub page: &'static str,
}

/// Every code, in order.
pub fn codes() -> impl Iterator<Item = Code> {
    let code =
        |rule: &Rule| Code { code: rule.code, severity: rule.severity, title: rule.title, page: rule.page };
    std::iter::once(&UNREADABLE).chain(RULES).map(code)
}

/// The page about a code, `None` when there is no such code.
pub fn explain(code: &str) -> Option<&'static str> {
    codes().find(|known| known.code.eq_ignore_ascii_case(code)).map(|code| code.page)
}

/// The table of all codes in `docs/lint.md`.
pub fn codes_table() -> String {
    let mut table = String::from("| code | severity | finding |\n|---|---|---|\n");
    for Code { code, severity, title, .. } in codes() {
        table += &format!("| {code} | {} | {title} |\n", severity.label());
    }
    table
}

/// A rule whose page is the file of its code.
macro_rules! rule {
    ($code:literal, $severity:ident, $title:literal, $check:expr) => {
        Rule {
            code: $code,
            severity: Severity::$severity,
            title: $title,
            page: include_str!(concat!("codes/", $code, ".md")),
            check: $check,
        }
    };
}

/// Found while files are read, before any rule runs.
pub(crate) static UNREADABLE: Rule = rule!("FW001", Error, "the file cannot be read", |_, _| ());

/// Every other rule, by code.
pub(crate) static RULES: &[Rule] = &[
    rule!("FW002", Warning, "unknown field", schema::unknown_fields),
    rule!("FW003", Error, "invalid InferenceScaler", schema::invalid_scaler),
    rule!("FW004", Warning, "old version of HorizontalPodAutoscaler", schema::old_api_version),
    rule!("FW005", Error, "fewer replicas at most than at least", schema::min_above_max),
    rule!("FW006", Info, "nothing to scale", schema::nothing_to_scale),
    rule!("FW010", Warning, "GPU utilisation as a scaling metric", metrics::gpu_utilisation),
    rule!("FW011", Error, "engine metric without its colon", promql::name_without_colon),
    rule!("FW012", Warning, "GPU metric that no exporter has", metrics::not_a_dcgm_name),
    rule!("FW013", Error, "one series for each pod", promql::several_series),
    rule!("FW014", Warning, "no adapter rule for this metric", metrics::no_adapter_rule),
    rule!("FW015", Info, "a queue per pod does not see the gateway", metrics::queue_at_the_gateway),
    rule!("FW016", Warning, "engine metric that was renamed", promql::renamed_metric),
    rule!("FW017", Warning, "pattern matches the breakdown, too", promql::pattern_takes_breakdown),
    rule!("FW019", Warning, "a missing value becomes 0", promql::missing_becomes_zero),
    rule!("FW020", Error, "two autoscalers on one target", autoscalers::two_on_one_target),
    rule!("FW021", Warning, "rate limit next to a cold start of minutes", behavior::rate_next_to_cold_start),
    rule!("FW022", Info, "stabilization window before scaling up", behavior::slow_to_start),
    rule!("FW023", Warning, "scale-down window shorter than a cold start", behavior::quick_to_stop),
    rule!("FW024", Warning, "CPU or memory of an inference engine", hpa::cpu_or_memory),
    rule!("FW025", Error, "minReplicas 0 without an outside metric", hpa::zero_without_object_metric),
    rule!("FW026", Warning, "`Value` target for a sum", hpa::whole_value_target),
    rule!("FW027", Info, "a direction is switched off", behavior::disabled_direction),
    rule!("FW029", Error, "incomplete prometheus trigger", keda::no_threshold),
    rule!("FW030", Warning, "cooldownPeriod without scale to zero", keda::cooldown_without_zero),
    rule!("FW031", Warning, "metricName is ignored", keda::metric_name_ignored),
    rule!("FW032", Warning, "no answer counts as 0", keda::null_is_zero),
    rule!("FW033", Warning, "no fallback", keda::no_fallback),
    rule!("FW034", Info, "pollingInterval does not do this", keda::polling_interval),
    rule!("FW035", Error, "trigger metadata that is not text", keda::metadata_not_text),
    rule!("FW036", Warning, "to zero by default", keda_zero::zero_by_default),
    rule!("FW037", Warning, "paused by annotation", keda::pause_annotations),
    rule!("FW038", Warning, "straight to zero after a short silence", keda_zero::straight_to_zero),
    rule!("FW039", Error, "nothing can wake it", keda_zero::nothing_wakes_it),
    rule!("FW040", Error, "killed before it has drained", workload::grace_too_short),
    rule!("FW041", Warning, "no preStop, short grace", workload::no_pre_stop),
    rule!("FW042", Warning, "vLLM aborts on SIGTERM", workload::aborts_on_sigterm),
    rule!("FW043", Warning, "ready before the model is", workload::ready_too_early),
    rule!("FW044", Error, "restarted while it loads", workload::killed_while_loading),
    rule!("FW045", Warning, "replicas written beside an autoscaler", autoscalers::replicas_written_by_hand),
    rule!("FW050", Error, "cooldowns of the other API", aws::cooldowns_of_the_other_api),
    rule!("FW051", Warning, "target tracking on the whole queue", aws::whole_queue),
    rule!("FW052", Info, "a cooldown is no reaction time", aws::not_a_reaction_time),
    rule!("FW053", Warning, "no instance warm-up", aws::no_warm_up),
    rule!("FW054", Warning, "CPU of GPU instances", aws::cpu_of_gpu_instances),
    rule!("FW060", Warning, "Knative goes to zero", knative::to_zero),
    rule!("FW061", Warning, "slow loads are given up", knative::progress_deadline),
    rule!("FW062", Info, "100 requests for each replica", knative::no_concurrency),
    rule!("FW063", Warning, "no upper bound", knative::no_upper_bound),
    rule!("FW064", Info, "requests are cut after 300 s", knative::request_timeout),
    rule!("FW070", Warning, "pre-warming comes late", ours::lead_below_cold_start),
    rule!("FW071", Error, "process killed before it has drained", ours::grace_below_shutdown),
    rule!("FW080", Info, "prometheus-adapter retires", metrics::adapter_retires),
];
