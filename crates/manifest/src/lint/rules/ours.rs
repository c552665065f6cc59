//! `InferenceScaler`s that are valid and still a trap.

use crate::{
    lint::{
        finding::{Fix, Sink},
        world::{Kind, World},
    },
    quantity,
    yaml::Node,
};

fn duration(node: Option<&Node>) -> Option<std::time::Duration> {
    node.and_then(Node::text).and_then(|text| quantity::duration(text).ok())
}

/// FW070.
pub(in crate::lint) fn lead_below_cold_start(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::InferenceScaler) {
        let Some(spec) = manifest.spec() else { continue };
        let Some(lead) = spec.at(&["policy", "queueDepth", "preWarm", "leadTime"]) else { continue };
        let expected = duration(spec.node.at(&["coldStart", "expected"]));
        if let (Some(lead_time), Some(expected)) = (duration(Some(lead.node)), expected)
            && lead_time < expected
        {
            let message = format!(
                "looks {} ahead, but a start takes {}: what it warms comes late",
                quantity::write_duration(lead_time),
                quantity::write_duration(expected)
            );
            let fix = Fix::words(format!("leadTime: {}", quantity::write_duration(expected)));
            sink.at(manifest, &lead, message, fix);
        }
    }
}

/// FW071.
pub(in crate::lint) fn grace_below_shutdown(world: &World<'_>, sink: &mut Sink) {
    for manifest in world.of_kind(Kind::InferenceScaler) {
        let Some(target) = manifest.root.at(&["spec", "target", "processes"]) else { continue };
        let words: Vec<_> = target.list(&["command"]).iter().filter_map(|word| word.node.text()).collect();
        let timeout = words.iter().enumerate().find_map(|(index, word)| {
            let rest = word.strip_prefix("--shutdown-timeout")?;
            let value = rest.strip_prefix('=').or_else(|| words.get(index + 1).copied())?;
            // vLLM takes seconds, `forewarm engine` a duration.
            value
                .parse::<f64>()
                .ok()
                .or_else(|| quantity::duration(value).ok().map(|span| span.as_secs_f64()))
        });
        let grace = target.get("terminationGracePeriod");
        let seconds = grace.as_ref().and_then(|grace| duration(Some(grace.node)));
        let seconds = seconds.unwrap_or(crate::CheckedScaler::DEFAULT_TERMINATION_GRACE).as_secs_f64();
        if let Some(timeout) = timeout.filter(|timeout| *timeout > seconds) {
            let message = format!(
                "the process is killed after {seconds} s, but drains for up to {timeout} s by itself"
            );
            let fix = Fix::words(format!("terminationGracePeriod: {}s or more", timeout + 10.0));
            sink.at(manifest, &grace.unwrap_or(target), message, fix);
        }
    }
}
