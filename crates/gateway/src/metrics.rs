//! The gateway's own metrics, in Prometheus' text format 0.0.4.

use std::fmt::{Display, Write};

use forewarm_core::pool::PoolReport;

use crate::{account::WAIT_BUCKETS_SECONDS, keys::Keys, registry::GatewayHandle};

/// The metrics page.
pub(crate) fn page(handle: &GatewayHandle, keys: Option<&Keys>) -> String {
    let scalers: Vec<_> = handle
        .all()
        .into_iter()
        .map(|scaler| (escaped(scaler.id.as_str()), scaler.report().0, scaler.account.waits()))
        .collect();
    let mut page = Page(String::new());

    page.family("forewarm_gateway_queue_depth", "gauge", "Requests that wait for a slot.");
    for (id, report, _) in &scalers {
        page.sample("forewarm_gateway_queue_depth", &format!("scaler=\"{id}\""), report.queued);
    }
    page.family("forewarm_gateway_queue_bytes", "gauge", "Bytes of the bodies of waiting requests.");
    for (id, report, _) in &scalers {
        page.sample("forewarm_gateway_queue_bytes", &format!("scaler=\"{id}\""), report.queued_bytes);
    }
    page.family("forewarm_gateway_in_flight", "gauge", "Requests at a replica.");
    for (id, report, _) in &scalers {
        for (replica, count) in &report.in_flight {
            let replica = escaped(replica.as_str());
            page.sample(
                "forewarm_gateway_in_flight",
                &format!("scaler=\"{id}\",replica=\"{replica}\""),
                count,
            );
        }
    }
    page.family(
        "forewarm_gateway_arrivals_total",
        "counter",
        "Requests that arrived, refused ones included.",
    );
    for (id, report, _) in &scalers {
        page.sample("forewarm_gateway_arrivals_total", &format!("scaler=\"{id}\""), report.arrived_total);
    }
    let models = "forewarm_gateway_model_requests_total";
    page.family(
        models,
        "counter",
        "Requests that arrived, by the model they ask for: adapters and aliases apart.",
    );
    for scaler in handle.all() {
        let id = escaped(scaler.id.as_str());
        for (model, count) in scaler.lock().served.counts() {
            page.sample(models, &format!("scaler=\"{id}\",model=\"{}\"", escaped(model)), count);
        }
    }
    page.family("forewarm_gateway_requests_total", "counter", "Requests by what became of them.");
    for (id, report, _) in &scalers {
        let failed = report.failed_total.iter().map(|(cause, count)| (cause.as_str(), *count));
        let outcomes = [("succeeded", report.succeeded_total), ("refused", report.refused_total)];
        for (outcome, count) in outcomes.into_iter().chain(failed) {
            let labels = format!("scaler=\"{id}\",outcome=\"{outcome}\"");
            page.sample("forewarm_gateway_requests_total", &labels, count);
        }
    }
    page.family("forewarm_gateway_retries_total", "counter", "Requests sent again before their first byte.");
    for (id, report, _) in &scalers {
        page.sample("forewarm_gateway_retries_total", &format!("scaler=\"{id}\""), report.retried_total);
    }
    let denied = "forewarm_gateway_retries_denied_total";
    page.family(denied, "counter", "Requests that failed because the retry budget was used up.");
    for scaler in handle.all() {
        let labels = format!("scaler=\"{}\"", escaped(scaler.id.as_str()));
        page.sample(denied, &labels, scaler.account.retries_denied());
    }
    let aside = "forewarm_gateway_replica_put_aside";
    page.family(aside, "gauge", "1 for each replica that gets no requests though it is in the plan.");
    for (id, report, _) in &scalers {
        for (replica, reason) in &report.put_aside {
            let replica = escaped(replica.as_str());
            let labels = format!("scaler=\"{id}\",replica=\"{replica}\",reason=\"{reason}\"");
            page.sample(aside, &labels, 1);
        }
    }
    let times = "forewarm_gateway_replicas_put_aside_total";
    page.family(times, "counter", "How often replicas were put aside, by reason.");
    for scaler in handle.all() {
        let id = escaped(scaler.id.as_str());
        for (why, count) in scaler.account.times_aside() {
            page.sample(times, &format!("scaler=\"{id}\",reason=\"{}\"", why.code()), count);
        }
    }
    page.family("forewarm_gateway_streamed_events_total", "counter", "Stream events passed on.");
    for (id, report, _) in &scalers {
        let labels = format!("scaler=\"{id}\"");
        page.sample("forewarm_gateway_streamed_events_total", &labels, report.streamed_events_total);
    }
    let totals: [Total; 4] = [
        ("forewarm_gateway_busy_seconds_total", "Modelled seconds of requests at replicas.", |report| {
            report.busy_seconds_total
        }),
        (
            "forewarm_gateway_requests_completed_total",
            "Requests that ended after a replica had them.",
            |report| report.completed_total as f64,
        ),
        ("forewarm_gateway_requests_attained_total", "Requests that attained the objective.", |report| {
            report.attained_total as f64
        }),
        ("forewarm_gateway_requests_missed_total", "Requests that missed the objective.", |report| {
            report.missed_total as f64
        }),
    ];
    for (name, help, total) in totals {
        page.family(name, "counter", help);
        for (id, report, _) in &scalers {
            page.sample(name, &format!("scaler=\"{id}\""), total(report));
        }
    }
    page.family("forewarm_gateway_queue_wait_seconds", "histogram", "Wait for a slot, in modelled seconds.");
    for (id, _, waits) in &scalers {
        let bounds = WAIT_BUCKETS_SECONDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&waits.cumulative) {
            let labels = format!("scaler=\"{id}\",le=\"{bound}\"");
            page.sample("forewarm_gateway_queue_wait_seconds_bucket", &labels, count);
        }
        let (labels, count) = (format!("scaler=\"{id}\""), waits.cumulative.last().copied().unwrap_or(0));
        page.sample("forewarm_gateway_queue_wait_seconds_sum", &labels, waits.sum_seconds);
        page.sample("forewarm_gateway_queue_wait_seconds_count", &labels, count);
    }
    if let Some(keys) = keys {
        quotas(&mut page, keys);
    }
    page.0
}

/// What tenants use of their quotas.
fn quotas(page: &mut Page, keys: &Keys) {
    let shown: Vec<_> =
        keys.show().into_iter().map(|shown| (escaped(shown.tenant.as_str()), shown)).collect();
    let (requests, tokens, under_way) = (
        "forewarm_gateway_quota_requests_total",
        "forewarm_gateway_quota_tokens_total",
        "forewarm_gateway_quota_requests_under_way",
    );
    page.family(requests, "counter", "Requests with a key: accepted, or which quota was used up.");
    for (tenant, shown) in &shown {
        for (outcome, count) in &shown.requests {
            page.sample(requests, &format!("tenant=\"{tenant}\",outcome=\"{outcome}\""), count);
        }
    }
    page.family(tokens, "counter", "Tokens of prompts and answers, of tenants with a quota of them.");
    for (tenant, shown) in &shown {
        page.sample(tokens, &format!("tenant=\"{tenant}\""), shown.tokens);
    }
    page.family(under_way, "gauge", "Requests that wait or are answered.");
    for (tenant, shown) in &shown {
        page.sample(under_way, &format!("tenant=\"{tenant}\""), shown.under_way);
    }
}

/// Name, help and value of a counter.
type Total = (&'static str, &'static str, fn(&PoolReport) -> f64);

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        self.line(format_args!("{name}{{{labels}}} {value}\n"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.0.write_fmt(line).expect("a string takes everything");
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}
