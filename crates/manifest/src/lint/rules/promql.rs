//! PromQL expressions that answer nothing, too much, or a comforting zero.

use crate::lint::{
    finding::{Edit, Fix, Sink},
    world::{Kind, Loc, Manifest, World},
};

/// Engine metrics people scale on, as the engines spell them: with a colon.
const COLON_NAMES: [&str; 16] = [
    "vllm:num_requests_waiting",
    "vllm:num_requests_running",
    "vllm:num_requests_swapped",
    "vllm:gpu_cache_usage_perc",
    "vllm:kv_cache_usage_perc",
    "vllm:time_to_first_token_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "sglang:num_queue_reqs",
    "sglang:num_running_reqs",
    "sglang:token_usage",
    "llamacpp:requests_deferred",
    "llamacpp:requests_processing",
];

/// vLLM's metrics that got another name (v0.10 renamed the cache usage).
const RENAMED: [(&str, &str); 1] = [("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc")];

/// Aggregations and functions that leave a single value.
const SINGLE: [&str; 13] = [
    "sum",
    "avg",
    "max",
    "min",
    "count",
    "scalar",
    "quantile",
    "group",
    "stddev",
    "histogram_quantile",
    "vector",
    "absent",
    "topk",
];

fn queries<'w, 'a>(world: &'w World<'a>) -> impl Iterator<Item = (&'w Manifest<'a>, Loc<'a>, &'a str)> {
    world.manifests.iter().flat_map(|manifest| {
        manifest.queries().into_iter().filter_map(move |loc| Some((manifest, loc.clone(), loc.node.text()?)))
    })
}

/// FW011.
pub(in crate::lint) fn name_without_colon(world: &World<'_>, sink: &mut Sink) {
    for (manifest, loc, query) in queries(world) {
        for name in COLON_NAMES {
            let written = name.replacen(':', "_", 1);
            if query.contains(&written) {
                let message = format!(
                    "the engine's metric is `{name}`, with a colon: `{written}` matches nothing unless a \
                     relabelling renames it"
                );
                let fix = format!("write `{name}`");
                sink.at(manifest, &loc, message, replaced(manifest, &loc, fix, &written, name));
            }
        }
    }
}

/// FW016.
pub(in crate::lint) fn renamed_metric(world: &World<'_>, sink: &mut Sink) {
    for (manifest, loc, query) in queries(world) {
        for (old, new) in RENAMED {
            if query.contains(old) {
                let message =
                    format!("`{old}` is called `{new}` in current versions: the query finds nothing");
                let fix = format!("write `{new}`");
                sink.at(manifest, &loc, message, replaced(manifest, &loc, fix, old, new));
            }
        }
    }
}

/// FW017.
pub(in crate::lint) fn pattern_takes_breakdown(world: &World<'_>, sink: &mut Sink) {
    for (manifest, loc, query) in queries(world) {
        if query.contains("num_requests_waiting.") || query.contains("num_requests_waiting[^") {
            let message = "the pattern matches `vllm:num_requests_waiting_by_reason`, too: the same requests \
                           are counted twice";
            let fix = Fix::words("name `vllm:num_requests_waiting` exactly");
            sink.at(manifest, &loc, message.into(), fix);
        }
    }
}

/// FW013.
pub(in crate::lint) fn several_series(world: &World<'_>, sink: &mut Sink) {
    for (manifest, loc, query) in queries(world) {
        let code = without_strings(query);
        if manifest.kind == Kind::AdapterRules || is_single(code.as_deref().unwrap_or(query)) {
            continue;
        }
        let message = "the query gives one series for each pod, and a single value is wanted: with a second \
                       pod it fails";
        // Around what is no expression, `sum(…)` makes none either.
        let is_whole = code.is_some_and(|code| is_balanced(&code));
        let edits = raw(manifest, &loc).filter(|_| is_whole).map(|(start, end)| {
            let insert = |at: usize, text: &str| Edit { start: at, end: at, replacement: text.into() };
            vec![insert(start, "sum("), insert(end, ")")]
        });
        let fix = Fix::edit("sum over the pods: `sum(…)`", edits.unwrap_or_default());
        sink.at(manifest, &loc, message.into(), fix);
    }
}

/// The query with spaces for what stands in quotes; `None` if a quote has no end, or there is a comment.
fn without_strings(query: &str) -> Option<String> {
    let mut quote = None;
    let mut escaped = false;
    let mut code = String::with_capacity(query.len());
    for c in query.chars() {
        let shown = match quote {
            None if c == '#' => return None,
            None => {
                quote = matches!(c, '"' | '\'' | '`').then_some(c);
                c
            }
            Some(end) if c == end && !escaped => {
                quote = None;
                c
            }
            Some(_) => ' ',
        };
        escaped = quote.is_some_and(|quote| quote != '`') && c == '\\' && !escaped;
        code.push(shown);
    }
    quote.is_none().then_some(code)
}

/// Whether each parenthesis has its other one.
fn is_balanced(code: &str) -> bool {
    let depth = code.chars().try_fold(0_u32, |depth, c| match c {
        '(' => Some(depth + 1),
        ')' => depth.checked_sub(1),
        _ => Some(depth),
    });
    depth == Some(0)
}

fn is_single(query: &str) -> bool {
    let query = query.trim().trim_start_matches('(');
    let Some((head, rest)) = query.split_once('(') else {
        // A number, or a recording rule that says by its name (`level:metric:operations`) what it did.
        let operation = query.rsplit(':').next().unwrap_or_default();
        let aggregated = query.contains(':') && SINGLE.iter().any(|name| operation.starts_with(name));
        return aggregated || query.parse::<f64>().is_ok();
    };
    let mut words = head.split_whitespace();
    let function = words.next().unwrap_or_default();
    let by = words.next() == Some("by");
    if function == "topk" {
        return rest.trim_start().starts_with('1');
    }
    if SINGLE.contains(&function) {
        // `sum by (pod) (…)` keeps the pods apart, and so does `sum(…) by (pod)`.
        return !by && !ends_with_by(query);
    }
    // Some other function or arithmetic: single when anything inside is aggregated.
    SINGLE.iter().any(|name| query.contains(&format!("{name}(")))
}

fn ends_with_by(query: &str) -> bool {
    query.rfind(" by").is_some_and(|at| {
        let tail = query[at + 3..].trim_start();
        tail.starts_with('(') && tail.find(')') == Some(tail.trim_end().len() - 1)
    })
}

/// FW019.
pub(in crate::lint) fn missing_becomes_zero(world: &World<'_>, sink: &mut Sink) {
    for (manifest, loc, query) in queries(world) {
        let squeezed: String = query.split_whitespace().collect::<Vec<_>>().join(" ");
        if squeezed.contains("or vector(0)") || squeezed.contains("or on() vector(0)") {
            let message = "`or vector(0)` turns a missing value into 0: when the engine cannot be read, the \
                           fleet is scaled down";
            let fix = Fix::words("drop it, and say what to do without a value (fallback)");
            sink.at(manifest, &loc, message.into(), fix);
        }
    }
}

/// Where the scalar's text stands in the file, when it stands there as it is.
fn raw(manifest: &Manifest<'_>, loc: &Loc<'_>) -> Option<(usize, usize)> {
    let span = loc.node.span;
    let shown = manifest.source.text.get(span.start..span.end)?;
    let text = loc.node.text()?;
    if shown.trim_end() == text {
        return Some((span.start, span.start + text.len()));
    }
    let quoted = shown.len() == text.len() + 2 && shown.get(1..shown.len() - 1) == Some(text);
    quoted.then(|| (span.start + 1, span.end - 1))
}

fn replaced(manifest: &Manifest<'_>, loc: &Loc<'_>, text: String, from: &str, to: &str) -> Fix {
    let Some((start, end)) = raw(manifest, loc) else { return Fix::words(text) };
    let shown = manifest.source.text.get(start..end).unwrap_or_default();
    let edit = |(at, _): (usize, &str)| Edit {
        start: start + at,
        end: start + at + from.len(),
        replacement: to.into(),
    };
    Fix::edit(text, shown.match_indices(from).map(edit).collect())
}
