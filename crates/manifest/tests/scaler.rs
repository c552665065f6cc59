//! `InferenceScaler` files: what is accepted, what is refused, and in which words.

use std::{path::Path, time::Duration};

use forewarm_core::{Forewarm, Policy, PreWarm, QueueDepth, Replicas, Requests, ScalingRules, Timestamp};
use forewarm_manifest::{
    AwsAutoScalingGroup, CheckedScaler, EngineKind, KvTokens, SignalSource, Target, read_scalers,
    signal::{Credential, Tls},
};

/// A valid manifest; each case changes one line of it.
const VALID: &str = "\
apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {name: llama3, namespace: ai-serving}
spec:
  target:
    processes: {command: [forewarm, engine, --port, '{port}'], port: 0}
  engine: {kind: vllm, metricsPath: /metrics, healthPath: /health, maxConcurrency: auto}
  models: [llama3]
  environment: production
  replicas: {min: 1, max: 8}
  allowScaleToZero: false
  objective: {ttft: 2s, percent: 99}
  coldStart: {expected: 240s, deadline: 30m}
  policy:
    queueDepth: {perReplica: 5, preWarm: {threshold: 0.7, leadTime: 180s, maxQueue: 100}}
  behavior: {scaleUp: {policies: [{type: Pods, value: 2, periodSeconds: 60}]}}
  signals:
    - {name: waiting, engine: {metric: waiting}}
    - {name: rps, prometheus: {serverAddress: 'http://prometheus:9090', query: 'sum(rate(http_requests_total[2m]))'}}
  queue: {maxRequests: 5000, maxBytes: 256Mi, timeout: 15m}
  mode: Act
  pause: {replicas: 4, until: 2026-12-01T00:00:00Z}
  aliases: {gpt-4o: llama3}
  routing: {keepalive: 15s, prefixAffinity: {bytes: 512, loadFactor: 1.5}}
";

/// Its target.
const PROCESSES: &str = "processes: {command: [forewarm, engine, --port, '{port}'], port: 0}";
/// Its policy.
const QUEUE_DEPTH: &str =
    "queueDepth: {perReplica: 5, preWarm: {threshold: 0.7, leadTime: 180s, maxQueue: 100}}";
/// Its objective.
const OBJECTIVE: &str = "  objective: {ttft: 2s, percent: 99}\n";

fn read_one(text: &str) -> CheckedScaler {
    let mut scalers = read_scalers("f.yaml", text).expect("a valid manifest");
    assert_eq!(scalers.len(), 1);
    scalers.remove(0)
}

#[test]
fn every_field_of_the_schema_arrives() {
    let scaler = read_one(VALID);
    assert_eq!(scaler.spec.scaler.as_str(), "llama3");
    assert_eq!(scaler.namespace.as_deref(), Some("ai-serving"));
    let Target::Processes(processes) = &scaler.target else { panic!("{:?}", scaler.target) };
    assert_eq!(processes.command, ["forewarm", "engine", "--port", "{port}"]);
    assert_eq!(processes.port, 0);
    assert_eq!(scaler.engine.kind, EngineKind::Vllm);
    assert_eq!(scaler.spec.max_concurrency, EngineKind::Vllm.auto_concurrency());
    assert_eq!(scaler.models, ["llama3"]);
    let routing = &scaler.routing;
    assert_eq!(routing.aliases.get("gpt-4o").map(String::as_str), Some("llama3"));
    assert_eq!(routing.keepalive, Some(Duration::from_secs(15)));
    let affinity = routing.affinity.expect("prefix affinity");
    assert_eq!((affinity.prefix_bytes, affinity.load_factor), (512, 1.5));
    assert_eq!((scaler.spec.replicas.min, scaler.spec.replicas.max), (Replicas(1), Replicas(8)));
    assert_eq!(scaler.spec.cold_start.expected, Duration::from_secs(240));
    let requests = |n| Requests::new(n).expect("a number of requests");
    let pre_warm =
        PreWarm { threshold: 0.7, lead_time: Duration::from_secs(180), max_queue: requests(100.0) };
    let expected = QueueDepth { per_replica: requests(5.0), pre_warm: Some(pre_warm) };
    assert_eq!(scaler.spec.policy, Policy::QueueDepth(expected));
    assert_eq!(scaler.spec.behavior.scale_up.policies.len(), 1);
    assert_eq!(scaler.spec.behavior.scale_down.stabilization_window, Duration::from_secs(300));
    assert_eq!(scaler.signals.len(), 2);
    assert_eq!(scaler.signals[0].source, SignalSource::Engine { metric: "waiting".into() });
    assert_eq!(scaler.queue.max_bytes, 256 * 1024 * 1024);
    assert_eq!(scaler.queue.cold_start_timeout, Duration::from_secs(1800));
    let pause = scaler.spec.pause.expect("pause");
    assert_eq!(pause.until, Timestamp::from_millis(1_796_083_200_000));
    assert_eq!(scaler.objective.expect("objective").ttft, Duration::from_secs(2));
    assert_eq!(
        scaler.queue.ttft_objective,
        Some(Duration::from_secs(2)),
        "the gateway's order depends on it"
    );
}

#[test]
fn a_group_of_aws_is_a_target() {
    let group = |fields: &str| read_one(&VALID.replace(PROCESSES, &format!("awsAutoScalingGroup: {fields}")));
    let short = group("{name: llm-gpu-asg}");
    let mut expected = AwsAutoScalingGroup {
        name: "llm-gpu-asg".into(),
        region: None,
        address: "{privateIp}:8000".into(),
        role_arn: None,
        interruption_queue: None,
    };
    assert_eq!(short.target, Target::AwsAutoScalingGroup(expected.clone()));
    let long = group(
        "{name: llm-gpu-asg, region: eu-west-1, address: '{instanceId}.llm.internal:9000', \
         roleArn: 'arn:aws:iam::123456789012:role/scaler', interruptionQueue: 'https://sqs.eu-west-1.amazonaws.com/1/q'}",
    );
    expected.region = Some("eu-west-1".into());
    expected.address = "{instanceId}.llm.internal:9000".into();
    expected.role_arn = Some("arn:aws:iam::123456789012:role/scaler".into());
    expected.interruption_queue = Some("https://sqs.eu-west-1.amazonaws.com/1/q".into());
    assert_eq!(long.target, Target::AwsAutoScalingGroup(expected));
    for scaler in [short, long] {
        assert_eq!(read_one(&scaler.to_yaml().expect("yaml")), scaler);
    }
}

#[test]
fn a_wrong_value_is_named_with_its_place_and_what_would_be_right() {
    struct Case {
        /// What of the valid manifest is replaced, by what.
        change: (&'static str, &'static str),
        path: &'static str,
        line: usize,
        message: &'static str,
    }
    let case = |from, to, path, line, message| Case { change: (from, to), path, line, message };
    let cases = [
        case("v1alpha1", "v1", "apiVersion", 1, "wanted forewarm.dev/v1alpha1"),
        case("kind: Inf", "kind: inf", "kind", 2, "wanted InferenceScaler"),
        case("name: llama3,", "name: Llama_3,", "metadata.name", 3, "lower-case"),
        case("name: llama3, ", "", "metadata.name", 3, "found nothing"),
        case(
            "{min: 1, max: 8}",
            "{min: 1, max: 0}",
            "spec.replicas.max",
            10,
            "found 0, wanted a whole number",
        ),
        case("{min: 1, max: 8}", "{min: 9, max: 8}", "spec.replicas.max", 10, "at least min, which is 9"),
        case("{min: 1, max: 8}", "{min: 0, max: 8}", "spec.replicas.min", 10, "allowScaleToZero: true"),
        case("{min: 1, max: 8}", "{min: 1, max: eight}", "spec.replicas.max", 10, "found eight"),
        case("{min: 1, max: 8}", "{min: -1, max: 8}", "spec.replicas.min", 10, "found -1"),
        case("  replicas: {min: 1, max: 8}\n", "", "spec.replicas", 5, "found nothing"),
        case(
            "threshold: 0.7",
            "threshold: 0",
            "spec.policy.queueDepth.preWarm.threshold",
            15,
            "above 0, at most 1",
        ),
        case("threshold: 0.7", "threshold: 70", "spec.policy.queueDepth.preWarm.threshold", 15, "found 70"),
        case("maxQueue: 100", "maxQueue: 0", "spec.policy.queueDepth.preWarm.maxQueue", 15, "above zero"),
        case("leadTime: 180s", "leadTime: 180", "spec.policy.queueDepth.preWarm.leadTime", 15, "`240s`"),
        case("perReplica: 5", "perReplica: 0", "spec.policy.queueDepth.perReplica", 15, "above zero"),
        case(
            "perReplica",
            "perReplicas",
            "spec.policy.queueDepth.perReplicas",
            15,
            "did you mean `perReplica`",
        ),
        case("pause: {rep", "pauses: {rep", "spec.pauses", 22, "did you mean `pause`"),
        case(
            "queueDepth: {",
            "forewarm: {}\n    queueDepth: {",
            "spec.policy",
            15,
            "found forewarm and queueDepth",
        ),
        case(QUEUE_DEPTH, "forewarm: {percent: 99}", "spec.policy.forewarm.percent", 15, "nothing to set"),
        case(QUEUE_DEPTH, "forewarm: all", "spec.policy.forewarm", 15, "found all"),
        case("port: 0", "port: 65536", "spec.target.processes.port", 6, "from 0 to 65535"),
        case("port: 0", "port: 8000", "spec.target.processes.port", 6, "found 8000 for up to 8 replicas"),
        case(
            "[forewarm, engine, --port, '{port}']",
            "forewarm",
            "spec.target.processes.command",
            6,
            "a list",
        ),
        case("[forewarm, engine, --port, '{port}']", "[]", "spec.target.processes.command", 6, "the program"),
        case(
            PROCESSES,
            "awsAutoScalingGroup: {name: g, regoin: x}",
            "spec.target.awsAutoScalingGroup.regoin",
            6,
            "`region`",
        ),
        case(
            PROCESSES,
            "awsAutoScalingGroup: {name: g, address: '10.0.0.1:8000'}",
            "spec.target.awsAutoScalingGroup.address",
            6,
            "{privateIp}:8000",
        ),
        case(
            PROCESSES,
            "awsAutoScalingGroup: {name: g, address: '{privateIP}:8000'}",
            "spec.target.awsAutoScalingGroup.address",
            6,
            "one of {privateIp}",
        ),
        case(
            PROCESSES,
            "awsAutoScalingGroup: {name: g, roleArn: scaler}",
            "spec.target.awsAutoScalingGroup.roleArn",
            6,
            "the ARN of a role",
        ),
        case(
            "processes: {",
            "azureScaleSet: {",
            "spec.target.azureScaleSet",
            6,
            "not available in this version",
        ),
        case("kind: vllm", "kind: vlm", "spec.engine.kind", 7, "did you mean `vllm`"),
        case("maxConcurrency: auto", "maxConcurrency: 0", "spec.engine.maxConcurrency", 7, "auto, or"),
        case("auto}", "auto, slowStart: 3s}", "spec.engine.slowStart", 7, "true or false"),
        case(
            "kind: vllm",
            "scheme: https",
            "spec.engine.scheme",
            7,
            "one of HTTP, HTTPS (did you mean `HTTPS`?)",
        ),
        case("kind: vllm", "tls: {caFile: ca.pem}", "spec.engine.tls", 7, "`scheme: HTTPS` as well"),
        case("kind: vllm", "scheme: HTTP, tls: {}", "spec.engine.tls", 7, "`scheme: HTTPS` as well"),
        case(
            "kind: vllm",
            "scheme: HTTPS, tls: {certFile: a.pem}",
            "spec.engine.tls",
            7,
            "both certFile and keyFile, or none",
        ),
        case(
            "kind: vllm",
            "scheme: HTTPS, tls: {ca: a.pem}",
            "spec.engine.tls.ca",
            7,
            "(did you mean `caFile`?)",
        ),
        case("kind: vllm", "bearerToken: hush", "spec.engine.bearerToken", 7, "{fromFile: PATH}"),
        case("auto}", "auto, kvTokens: 0}", "spec.engine.kvTokens", 7, "auto, or a whole number of tokens"),
        case(
            "timeout: 15m",
            "tenants: {header: X Tenant}",
            "spec.queue.tenants.header",
            20,
            "name of a header",
        ),
        case("timeout: 15m", "tenants: {usr: true}", "spec.queue.tenants.usr", 20, "did you mean `user`"),
        case(
            "timeout: 15m",
            "tenants: {user: true, weights: {search: 0}}",
            "spec.queue.tenants.weights.search",
            20,
            "from 1 to 1000",
        ),
        case(
            "timeout: 15m",
            "tenants: {weights: {search: 2}}",
            "spec.queue.tenants",
            20,
            "`header` or `user: true` as well",
        ),
        case("healthPath: /health", "healthPath: health", "spec.engine.healthPath", 7, "begins with `/`"),
        case(
            "environment: production",
            "environment: prod",
            "spec.environment",
            9,
            "did you mean `production`",
        ),
        case("deadline: 30m", "deadline: 3m", "spec.coldStart.deadline", 13, "at least `expected`"),
        case("percent: 99", "percent: 0", "spec.objective.percent", 12, "at most 100"),
        case("maxBytes: 256Mi", "maxBytes: 256MB", "spec.queue.maxBytes", 20, "`256Mi`"),
        case("maxRequests: 5000", "maxRequests: 0", "spec.queue.maxRequests", 20, "at least 1"),
        case("mode: Act", "mode: act", "spec.mode", 21, "did you mean `Act`"),
        case("2026-12-01T00:00:00Z", "tomorrow", "spec.pause.until", 22, "RFC 3339"),
        case("name: rps", "name: waiting", "spec.signals[1]", 19, "a second signal `waiting`"),
        case(
            "'http://prometheus:9090'",
            "prometheus",
            "spec.signals[1].prometheus.serverAddress",
            19,
            "http://",
        ),
        case("type: Pods", "type: Replicas", "spec.behavior.scaleUp.policies[0].type", 16, "Pods, Percent"),
        case("value: 2", "value: 0", "spec.behavior.scaleUp.policies[0].value", 16, "at least 1"),
        case(
            "periodSeconds: 60",
            "periodSeconds: 1801",
            "spec.behavior.scaleUp.policies[0].periodSeconds",
            16,
            "1800",
        ),
        case("gpt-4o: llama3", "gpt-4o: qwen3", "spec.aliases.gpt-4o", 23, "one of `models`: llama3"),
        case("gpt-4o: llama3", "llama3: llama3", "spec.aliases.llama3", 23, "not one of `models`"),
        case("keepalive: 15s", "keepalive: 15", "spec.routing.keepalive", 24, "`240s`"),
        case("bytes: 512", "bytes: 0", "spec.routing.prefixAffinity.bytes", 24, "from 1 to 65536"),
        case("loadFactor: 1.5", "loadFactor: 0.9", "spec.routing.prefixAffinity.loadFactor", 24, "1 to 100"),
        case(
            "allowScaleToZero: false",
            "allowScaleToZero: 'no'",
            "spec.allowScaleToZero",
            11,
            "true or false",
        ),
    ];
    for Case { change: (from, to), path, line, message } in cases {
        assert!(VALID.contains(from), "{from}");
        let problems = read_scalers("f.yaml", &VALID.replacen(from, to, 1)).expect_err(to);
        assert_eq!(problems.list.len(), 1, "{to}: {problems}");
        let problem = &problems.list[0];
        assert_eq!((problem.path.as_str(), problem.line), (path, line), "{to}: {problems}");
        assert!(problems.to_string().contains(message), "{to}: {problems}");
    }
}

#[test]
fn forewarms_own_policy_keeps_the_objective_and_nothing_else_is_to_set() {
    let within =
        |seconds, percent| Policy::Forewarm(Forewarm { percent, ttft: Duration::from_secs(seconds) });
    for own in ["forewarm: {}", "forewarm:"] {
        let text = VALID.replace(QUEUE_DEPTH, own);
        let scaler = read_one(&text);
        assert_eq!(scaler.spec.policy, within(2, 99.0), "{own}");
        assert_eq!(
            scaler.spec.behavior.scale_down,
            ScalingRules::default(),
            "no window unless one is asked for"
        );
        assert_eq!(scaler.spec.behavior.scale_up.policies.len(), 1, "what is asked for counts");
        assert_eq!(read_one(&scaler.to_yaml().expect("yaml")), scaler);

        let stricter = read_one(&text.replace("percent: 99", "percent: 99.9"));
        assert_eq!(stricter.spec.policy, within(2, 99.9));
        let patient = read_one(&text.replace("ttft: 2s", "ttft: 7s"));
        assert_eq!(patient.spec.policy, within(7, 99.0));
        let unsaid = read_one(&text.replace(", percent: 99", ""));
        assert_eq!(unsaid.spec.policy, within(2, Forewarm::DEFAULT_PERCENT));

        let none = read_scalers("f.yaml", &text.replace(OBJECTIVE, "")).expect_err("no objective");
        assert_eq!(none.list.len(), 1, "{none}");
        assert_eq!((none.list[0].path.as_str(), none.list[0].line), ("spec.policy.forewarm", 14));
        assert!(
            none.to_string().contains("wanted `spec.objective`, such as {ttft: 2s, percent: 99}"),
            "{none}"
        );
        let wrong =
            read_scalers("f.yaml", &text.replace("ttft: 2s", "ttft: 0s")).expect_err("a wrong objective");
        assert_eq!(wrong.list.len(), 1, "told once: {wrong}");
        assert_eq!(wrong.list[0].path, "spec.objective.ttft");
    }
}

#[test]
fn all_problems_are_told_at_once_and_in_order() {
    let text = VALID
        .replace("max: 8", "max: 0")
        .replace("threshold: 0.7", "threshold: 2")
        .replace("timeout: 15m", "timout: 15m");
    let problems = read_scalers("fleet.yaml", &text).expect_err("three problems");
    insta::assert_snapshot!(problems, @r"
    fleet.yaml has 3 problems:
      fleet.yaml:10:27: spec.replicas.max: found 0, wanted a whole number from 1 to 10000
      fleet.yaml:15:54: spec.policy.queueDepth.preWarm.threshold: found 2, wanted a number above 0, at most 1
      fleet.yaml:20:47: spec.queue.timout: found an unknown field, wanted one of maxRequests, maxBytes, timeout, coldStartTimeout, tenants (did you mean `timeout`?)
    ");
}

#[test]
fn scale_to_zero_takes_a_word_in_production_and_none_elsewhere() {
    let zero = VALID.replace("{min: 1, max: 8}", "{min: 0, max: 8}");
    assert!(read_scalers("f", &zero).is_err());
    assert!(
        read_one(&zero.replace("allowScaleToZero: false", "allowScaleToZero: true")).spec.may_reach_zero()
    );
    for environment in ["dev", "staging", "batch"] {
        assert!(read_one(&zero.replace("production", environment)).spec.may_reach_zero(), "{environment}");
    }
}

#[test]
fn who_shares_the_queue_and_what_a_replica_bears_arrive_and_are_written_again() {
    let text = VALID
        .replace("maxConcurrency: auto", "maxConcurrency: 32, slowStart: true, kvTokens: auto")
        .replace("timeout: 15m", "tenants: {header: X-Tenant, user: true, weights: {search: 4}}");
    let scaler = read_one(&text);
    assert_eq!((scaler.spec.max_concurrency, scaler.engine.learns_concurrency), (32, false));
    assert!(scaler.engine.slow_start);
    assert_eq!(scaler.engine.kv_tokens, Some(KvTokens::Auto));
    let tenants = &scaler.queue.tenants;
    assert_eq!((tenants.header.as_deref(), tenants.user), (Some("x-tenant"), true));
    assert_eq!(tenants.weights["search"].get(), 4);
    assert_eq!(read_one(&scaler.to_yaml().expect("yaml")), scaler);

    let known = read_one(&text.replace("kvTokens: auto", "kvTokens: 100000"));
    assert_eq!(known.engine.kv_tokens, Some(KvTokens::Tokens(100_000)));
    assert_eq!(read_one(&known.to_yaml().expect("yaml")), known);
    assert!(read_one(VALID).engine.learns_concurrency, "nobody has measured it");
}

#[test]
fn how_an_engine_is_reached_arrives_and_is_written_again() {
    let plain = read_one(VALID);
    assert_eq!((&plain.engine.tls, &plain.engine.bearer_token), (&None, &None));
    assert_eq!(read_one(&VALID.replace("kind: vllm", "kind: vllm, scheme: HTTP")), plain);
    assert!(plain.to_yaml().expect("yaml").contains("scheme: HTTP\n"));

    let system = read_one(&VALID.replace("kind: vllm", "kind: vllm, scheme: HTTPS"));
    assert_eq!(system.engine.tls, Some(Tls::default()), "whom the system trusts");
    assert_eq!(read_one(&system.to_yaml().expect("yaml")), system);

    let named = "scheme: HTTPS, tls: {caFile: ca.pem, serverName: engine}, bearerToken: {fromEnv: TOKEN}";
    let named = read_one(&VALID.replace("kind: vllm", named));
    let tls =
        Tls { ca_file: Some("ca.pem".into()), server_name: Some("engine".to_owned()), ..Tls::default() };
    assert_eq!(named.engine.tls, Some(tls));
    assert_eq!(named.engine.bearer_token, Some(Credential::Env { from_env: "TOKEN".to_owned() }));
    assert_eq!(read_one(&named.to_yaml().expect("yaml")), named);
}

#[test]
fn several_documents_must_agree() {
    let other = VALID.replace("llama3", "mistral").replace("gpt-4o", "gpt-5");
    assert_eq!(read_scalers("f", &format!("{VALID}---\n{other}---\n# nothing\n")).expect("two").len(), 2);

    let twice = read_scalers("f", &format!("{VALID}---\n{VALID}")).expect_err("one name twice");
    assert!(twice.to_string().contains("the name of a scaler above"), "{twice}");
    assert!(twice.to_string().contains("llama3, which goes to `llama3` already"), "{twice}");
    assert!(
        twice.to_string().contains("spec.aliases: found gpt-4o, which goes to `llama3` already"),
        "{twice}"
    );

    assert!(read_scalers("f", "# nothing\n").expect_err("empty").to_string().contains("no document"));
}

#[test]
fn the_effective_manifest_reads_back_to_the_same_scaler() {
    let minimal = "\
apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {name: tiny}
spec:
  target: {kubernetes: {kind: Deployment, name: tiny}}
  replicas: {min: 1, max: 2}
  policy: {queueDepth: {}}
";
    let scaler = read_one(minimal);
    insta::assert_snapshot!(scaler.to_yaml().expect("yaml"), @r"
    apiVersion: forewarm.dev/v1alpha1
    kind: InferenceScaler
    metadata:
      name: tiny
    spec:
      target:
        kubernetes:
          apiVersion: apps/v1
          kind: Deployment
          name: tiny
      engine:
        kind: vllm
        scheme: HTTP
        metricsPath: /metrics
        healthPath: /health
        maxConcurrency: auto
      environment: production
      replicas:
        min: 1
        max: 2
      allowScaleToZero: false
      coldStart:
        expected: 240s
        deadline: 30m
      policy:
        queueDepth:
          perReplica: 5.0
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 0
          selectPolicy: Max
        scaleDown:
          stabilizationWindowSeconds: 300
          selectPolicy: Max
      queue:
        maxRequests: 5000
        maxBytes: 256Mi
        timeout: 15m
        coldStartTimeout: 30m
      maxSignalAge: 60s
      drainDeadline: 30m
      maxChangesPerMinute: 30
      mode: Act
    ");
    for text in [VALID, minimal] {
        let scaler = read_one(text);
        assert_eq!(read_one(&scaler.to_yaml().expect("yaml")), scaler);
    }
}

#[test]
fn the_examples_are_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let names = [
        "forewarm.yaml",
        "vllm.yaml",
        "llama-cpp.yaml",
        "webhook.yaml",
        "exec.yaml",
        "batch-workers.yaml",
        "batch-jobs.yaml",
    ];
    for name in names {
        let text = std::fs::read_to_string(examples.join(name)).expect(name);
        let scaler = read_scalers(name, &text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(scaler.len(), 1, "{name}");
    }
}
