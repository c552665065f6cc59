//! Pods that lose requests when they go, or count before they serve.

use crate::lint::{
    finding::{Fix, Sink},
    world::{Kind, Loc, Manifest, World},
};

/// `terminationGracePeriodSeconds` when none is given.
const DEFAULT_GRACE_SECONDS: f64 = 30.0;
/// The low end of the 3–10 minutes that a GPU replica takes to serve.
const SHORT_COLD_START_SECONDS: f64 = 180.0;

/// The containers that run an inference engine.
fn engines<'w, 'a>(world: &'w World<'a>) -> impl Iterator<Item = (&'w Manifest<'a>, Loc<'a>, Loc<'a>)> {
    world.of_kind(Kind::Workload).flat_map(|manifest| {
        let pod = manifest.root.at(&["spec", "template", "spec"]);
        let containers = pod.as_ref().map(|pod| pod.list(&["containers"])).unwrap_or_default();
        containers
            .into_iter()
            .filter(is_engine)
            .filter_map(move |container| Some((manifest, pod.clone()?, container)))
    })
}

fn is_engine(container: &Loc<'_>) -> bool {
    const ENGINES: [&str; 6] =
        ["vllm", "sglang", "text-generation-inference", "tritonserver", "llama.cpp", "llama-server"];
    let words = [vec![container.text(&["image"]).unwrap_or_default()], arguments(container)].concat();
    words.iter().any(|word| ENGINES.iter().any(|engine| word.contains(engine)))
        || container.at(&["resources", "limits", "nvidia.com/gpu"]).is_some()
}

fn arguments<'a>(container: &Loc<'a>) -> Vec<&'a str> {
    let lists = ["command", "args"].map(|key| container.list(&[key])).concat();
    lists.iter().filter_map(|word| word.node.text()).flat_map(str::split_whitespace).collect()
}

fn is_vllm(container: &Loc<'_>) -> bool {
    let words = [vec![container.text(&["image"]).unwrap_or_default()], arguments(container)].concat();
    words.iter().any(|word| word.contains("vllm"))
}

/// The value of `--shutdown-timeout`, in seconds.
fn shutdown_timeout(container: &Loc<'_>) -> Option<f64> {
    const FLAG: &str = "--shutdown-timeout";
    let words = arguments(container);
    let at = words.iter().position(|word| word.starts_with(FLAG))?;
    let value = match words[at].strip_prefix(FLAG)?.strip_prefix('=') {
        Some(value) => value,
        None => words.get(at + 1)?,
    };
    value.parse().ok()
}

/// Seconds that `preStop` takes, as far as the file says.
fn pre_stop(container: &Loc<'_>) -> Option<f64> {
    let hook = container.at(&["lifecycle", "preStop"])?;
    if let Some(seconds) = hook.number(&["sleep", "seconds"]) {
        return Some(seconds);
    }
    let command = hook.list(&["exec", "command"]);
    let words: Vec<_> =
        command.iter().filter_map(|word| word.node.text()).flat_map(str::split_whitespace).collect();
    let at = words.iter().position(|word| word.ends_with("sleep"))?;
    words.get(at + 1)?.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

fn grace<'a>(pod: &Loc<'a>) -> (f64, Option<Loc<'a>>) {
    let loc = pod.get("terminationGracePeriodSeconds");
    let seconds = loc.as_ref().and_then(|loc| loc.node.number());
    (seconds.unwrap_or(DEFAULT_GRACE_SECONDS), loc)
}

/// FW040.
pub(in crate::lint) fn grace_too_short(world: &World<'_>, sink: &mut Sink) {
    for (manifest, pod, container) in engines(world) {
        let (pre_stop, timeout) = (pre_stop(&container), shutdown_timeout(&container));
        let needed = pre_stop.unwrap_or_default() + timeout.unwrap_or_default();
        let (grace, loc) = grace(&pod);
        if needed > grace {
            let message = format!(
                "the pod is killed after {grace} s, but preStop ({} s) and the engine's own drain ({} s) take \
                 {needed} s",
                pre_stop.unwrap_or_default(),
                timeout.unwrap_or_default()
            );
            let fix = Fix::words(format!("terminationGracePeriodSeconds: at least {}", needed + 10.0));
            sink.at(manifest, &loc.unwrap_or(container), message, fix);
        }
    }
}

/// FW041.
pub(in crate::lint) fn no_pre_stop(world: &World<'_>, sink: &mut Sink) {
    for (manifest, pod, container) in engines(world) {
        let (grace, _) = grace(&pod);
        if container.at(&["lifecycle", "preStop"]).is_none() && grace <= DEFAULT_GRACE_SECONDS {
            let message = format!(
                "no preStop and a grace of {grace} s: requests still arrive while the engine stops, and a \
                 generation longer than that is cut"
            );
            let fix = Fix::words("a preStop sleep of some 15 s, and a grace above the longest generation");
            sink.at(manifest, &container, message, fix);
        }
    }
}

/// FW042.
pub(in crate::lint) fn aborts_on_sigterm(world: &World<'_>, sink: &mut Sink) {
    for (manifest, _, container) in engines(world) {
        if is_vllm(&container) && shutdown_timeout(&container).is_none_or(|seconds| seconds == 0.0) {
            let message = "vLLM aborts what is in flight on SIGTERM unless `--shutdown-timeout` is given; its \
                           streams hang without an error";
            let fix = Fix::words("`--shutdown-timeout 60`, and a grace period above it");
            sink.at(manifest, &container, message.into(), fix);
        }
    }
}

/// FW043.
pub(in crate::lint) fn ready_too_early(world: &World<'_>, sink: &mut Sink) {
    for (manifest, _, container) in engines(world) {
        match container.get("readinessProbe") {
            None => {
                let message = "no readinessProbe: the pod counts as ready while its model is still loading";
                let fix = Fix::words("a readinessProbe on the engine's health path");
                sink.at(manifest, &container, message.into(), fix);
            }
            Some(probe) if probe.get("tcpSocket").is_some() => {
                let message = "an open port does not mean that the model is loaded";
                sink.at(manifest, &probe, message.into(), Fix::words("httpGet on the engine's health path"));
            }
            Some(_) => {}
        }
    }
}

/// FW044.
pub(in crate::lint) fn killed_while_loading(world: &World<'_>, sink: &mut Sink) {
    for (manifest, _, container) in engines(world) {
        // A startup probe holds the liveness probe back until it has passed.
        let probe = container.get("startupProbe").or_else(|| container.get("livenessProbe"));
        let Some(probe) = probe else { continue };
        let or = |key: &str, default: f64| probe.number(&[key]).unwrap_or(default);
        let budget = or("initialDelaySeconds", 0.0) + or("periodSeconds", 10.0) * or("failureThreshold", 3.0);
        if budget < SHORT_COLD_START_SECONDS {
            let message = format!(
                "the container is restarted when it does not answer within {budget} s, and a model takes minutes \
                 to load"
            );
            let fix =
                Fix::words("a startupProbe with periodSeconds × failureThreshold above the longest start");
            sink.at(manifest, &probe, message, fix);
        }
    }
}
