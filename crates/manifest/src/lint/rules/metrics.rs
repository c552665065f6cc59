//! Which metric is scaled on.

use crate::lint::{
    finding::{Fix, Sink},
    world::{Kind, Loc, Manifest, World},
};

/// Whether a metric name or query speaks of how busy a GPU is.
fn is_gpu_utilisation(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("duty_cycle")
        || text.contains("dcgm_fi_dev_gpu_util")
        || (text.contains("gpu") && (text.contains("utilization") || text.contains("utilisation")))
        || text.contains("gpu_util")
}

/// Every metric name and query of autoscalers.
fn scaled_on<'w, 'a>(world: &'w World<'a>) -> impl Iterator<Item = (&'w Manifest<'a>, Loc<'a>)> {
    world.manifests.iter().filter(|manifest| manifest.kind != Kind::AdapterRules).flat_map(|manifest| {
        let locs = manifest.metric_names().into_iter().chain(manifest.queries());
        locs.map(move |loc| (manifest, loc))
    })
}

/// FW010.
pub(in crate::lint) fn gpu_utilisation(world: &World<'_>, sink: &mut Sink) {
    for (manifest, loc) in scaled_on(world) {
        // A signal of ours may be shown without being scaled on.
        if manifest.kind == Kind::InferenceScaler || !is_gpu_utilisation(loc.node.text().unwrap_or_default())
        {
            continue;
        }
        let several = manifest.root.list(&["spec", "metrics"]).len() > 1
            || manifest.root.list(&["spec", "triggers"]).len() > 1;
        let message = if several {
            "GPU utilisation beside another metric: the largest wish wins, so it can only hold or raise the \
             count, never lower it, and one long request keeps a GPU near 100 %"
        } else {
            "GPU utilisation says nothing about load: one long request keeps a GPU near 100 %, and a batching \
             engine shows that at a tenth of its capacity"
        };
        let fix = Fix::words("scale on waiting and running requests; show GPU utilisation only");
        sink.at(manifest, &loc, message.into(), fix);
    }
}

/// FW012.
pub(in crate::lint) fn not_a_dcgm_name(world: &World<'_>, sink: &mut Sink) {
    let provided: Vec<_> = provided_by_adapter(world);
    for (manifest, loc) in scaled_on(world) {
        let name = loc.node.text().unwrap_or_default();
        if name.contains("nvidia_gpu_duty_cycle") && !provided.iter().any(|rule| rule.contains(name)) {
            let fix = Fix::words("dcgm-exporter calls it `DCGM_FI_DEV_GPU_UTIL`; better, scale on the queue");
            let message = "`nvidia_gpu_duty_cycle` is a name of GKE's old device plugin, not of dcgm-exporter: \
                           no rule here provides it, so there is no value";
            sink.at(manifest, &loc, message.into(), fix);
        }
    }
}

/// FW014.
pub(in crate::lint) fn no_adapter_rule(world: &World<'_>, sink: &mut Sink) {
    let rules = provided_by_adapter(world);
    if rules.is_empty() {
        return;
    }
    for manifest in world.of_kind(Kind::Hpa) {
        for loc in manifest.metric_names() {
            let name = loc.node.text().unwrap_or_default();
            if !rules.iter().any(|rule| rule.contains(name)) {
                let fix = Fix::words(format!("add an adapter rule whose `name.as` is `{name}`"));
                sink.at(manifest, &loc, format!("no adapter rule here provides `{name}`"), fix);
            }
        }
    }
}

/// The names and queries of adapter rules, patterns left as they are.
fn provided_by_adapter<'a>(world: &World<'a>) -> Vec<&'a str> {
    let mut provided = Vec::new();
    for manifest in world.of_kind(Kind::AdapterRules) {
        for rule in ["rules", "externalRules"].map(|key| manifest.root.list(&[key])).concat() {
            provided.extend(rule.text(&["name", "as"]));
            provided.extend(rule.text(&["seriesQuery"]));
        }
    }
    provided
}

/// FW015.
pub(in crate::lint) fn queue_at_the_gateway(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::Hpa) {
        for metric in manifest.root.list(&["spec", "metrics"]) {
            let Some(name) = metric.at(&["pods", "metric", "name"]) else { continue };
            let text = name.node.text().unwrap_or_default();
            if ["pending", "waiting", "queue"].iter().any(|word| text.contains(word)) {
                let message = "a queue per pod does not see requests that wait in a gateway, and with no \
                               ready pod it has no value at all";
                let fix = Fix::words(
                    "if requests wait in a gateway, add its queue, divided by ready pods, or use an Object or \
                     External metric",
                );
                sink.at(manifest, &name, message.into(), fix);
            }
        }
    }
}

/// FW080.
pub(in crate::lint) fn adapter_retires(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::AdapterRules) {
        let message = "prometheus-adapter is being retired in favour of KEDA, and only one of them can own \
                       external.metrics.k8s.io";
        let fix = Fix::words("plan to move: forewarm acts on /scale itself, or through KEDA's external push");
        sink.at(manifest, &manifest.root, message.into(), fix);
    }
}
