//! The gateway's own metrics, in Prometheus' text format 0.0.4.

use std::{
    fmt::{Display, Write},
    sync::Arc,
};

use forewarm_core::{
    ReplicaId,
    pool::{ClassReport, PoolReport, Priority},
};

use crate::{
    account::WAIT_BUCKETS_SECONDS, keys::Keys, registry::GatewayHandle, scaler::Scaler, tenant::TenantId,
};

/// The metrics of a gateway in this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GatewayMetrics {
    pub(crate) handle: GatewayHandle,
    pub(crate) keys: Option<Arc<Keys>>,
}

impl GatewayMetrics {
    /// What they are now, in Prometheus' text format 0.0.4.
    pub fn page(&self) -> String {
        page(&self.handle, self.keys.as_deref())
    }
}

/// The metrics page.
pub(crate) fn page(handle: &GatewayHandle, keys: Option<&Keys>) -> String {
    let scalers: Vec<Seen> = handle
        .all()
        .into_iter()
        .map(|scaler| (escaped(scaler.id.as_str()), scaler.report().0, scaler))
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
            page.sample("forewarm_gateway_in_flight", &of_replica(id, replica), count);
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
    for (id, report, scaler) in &scalers {
        for &priority in report.classes.keys() {
            let (waits, labels) = (scaler.account.waits(priority), of_class(id, priority));
            let bounds = WAIT_BUCKETS_SECONDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(&waits.cumulative) {
                let labels = format!("{labels},le=\"{bound}\"");
                page.sample("forewarm_gateway_queue_wait_seconds_bucket", &labels, count);
            }
            let count = waits.cumulative.last().copied().unwrap_or(0);
            page.sample("forewarm_gateway_queue_wait_seconds_sum", &labels, waits.sum_seconds);
            page.sample("forewarm_gateway_queue_wait_seconds_count", &labels, count);
        }
    }
    classes(&mut page, &scalers);
    replicas(&mut page, &scalers);
    tenants(&mut page, &scalers);
    if let Some(keys) = keys {
        quotas(&mut page, keys);
    }
    page.0
}

/// A scaler with its name as a label, and what it reports.
type Seen = (String, PoolReport, Arc<Scaler>);

fn of_class(id: &str, priority: Priority) -> String {
    format!("scaler=\"{id}\",priority=\"{}\"", priority.label())
}

/// Name, kind, help and value of what is counted by priority.
type ClassFamily = (&'static str, &'static str, &'static str, fn(&ClassReport) -> f64);

/// What is counted by priority.
fn classes(page: &mut Page, scalers: &[Seen]) {
    let families: [ClassFamily; 5] = [
        (
            "forewarm_gateway_class_queue_depth",
            "gauge",
            "Requests that wait for a slot, by priority.",
            |class| class.queued as f64,
        ),
        (
            "forewarm_gateway_class_oldest_wait_seconds",
            "gauge",
            "Wait of the oldest of them, in modelled seconds.",
            |class| class.oldest_wait_seconds,
        ),
        (
            "forewarm_gateway_class_arrivals_total",
            "counter",
            "Requests that arrived, by priority.",
            |class| class.arrived_total as f64,
        ),
        (
            "forewarm_gateway_class_refused_total",
            "counter",
            "Requests that found no place, by priority.",
            |class| class.refused_total as f64,
        ),
        (
            "forewarm_gateway_class_shed_total",
            "counter",
            "Requests that lost their place to others, by priority.",
            |class| class.shed_total as f64,
        ),
    ];
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for (id, report, _) in scalers {
            for (&priority, class) in &report.classes {
                page.sample(name, &of_class(id, priority), value(class));
            }
        }
    }
}

/// What is limited by replica.
fn replicas(page: &mut Page, scalers: &[Seen]) {
    let name = "forewarm_gateway_concurrency_limit";
    page.family(
        name,
        "gauge",
        "Requests that a replica is given at a time, where it starts slowly or that is learned.",
    );
    for (id, report, _) in scalers {
        for (replica, limit) in &report.concurrency {
            page.sample(name, &of_replica(id, replica), limit);
        }
    }
    let name = "forewarm_gateway_tokens_in_flight";
    page.family(name, "gauge", "Tokens that a replica's requests are expected to hold in its KV cache.");
    for (id, report, _) in scalers {
        for (replica, tokens) in &report.tokens_in_flight {
            page.sample(name, &of_replica(id, replica), tokens);
        }
    }
}

fn of_replica(id: &str, replica: &ReplicaId) -> String {
    format!("scaler=\"{id}\",replica=\"{}\"", escaped(replica.as_str()))
}

/// What became of the requests of tenants with a name; those beyond a hundred are one.
fn tenants(page: &mut Page, scalers: &[Seen]) {
    let totals: Vec<_> = scalers.iter().map(|(id, _, scaler)| (id, scaler.account.tenants())).collect();
    let labels =
        |id: &str, tenant: &TenantId| format!("scaler=\"{id}\",tenant=\"{}\"", escaped(tenant.as_str()));
    let name = "forewarm_gateway_tenant_requests_total";
    page.family(name, "counter", "Requests of a tenant by what the queue did with them.");
    for (id, tenants) in &totals {
        for (tenant, totals) in tenants {
            let outcomes =
                [("admitted", totals.admitted), ("refused", totals.refused), ("shed", totals.shed)];
            for (outcome, count) in outcomes {
                page.sample(name, &format!("{},outcome=\"{outcome}\"", labels(id, tenant)), count);
            }
        }
    }
    let name = "forewarm_gateway_tenant_wait_seconds_total";
    page.family(name, "counter", "Modelled seconds that a tenant's admitted requests waited for a slot.");
    for (id, tenants) in &totals {
        for (tenant, totals) in tenants {
            page.sample(name, &labels(id, tenant), totals.wait_seconds);
        }
    }
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
