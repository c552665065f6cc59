//! Signals and floors as people write them: KEDA's names, secrets by reference, and what is wrong with a file.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use forewarm_core::Policy;
use forewarm_manifest::{
    CheckedScaler, SignalSource, read_scalers,
    signal::{Credential, RabbitMqMode, ValueLocation, trigger_signals},
};

fn manifest(more: &str) -> String {
    format!(
        "apiVersion: forewarm.dev/v1alpha1\nkind: InferenceScaler\nmetadata: {{name: llama3}}\nspec:\n  \
         target: {{processes: {{command: [engine], port: 0}}}}\n  replicas: {{min: 1, max: 8}}\n{more}"
    )
}

const QUEUE_DEPTH: &str = "  policy: {queueDepth: {}}\n";

fn read(more: &str) -> CheckedScaler {
    let scalers = read_scalers("f.yaml", &manifest(&format!("{QUEUE_DEPTH}{more}")));
    scalers.unwrap_or_else(|problems| panic!("{problems}")).remove(0)
}

fn problems(more: &str) -> Vec<String> {
    let problems = read_scalers("f.yaml", &manifest(&format!("{QUEUE_DEPTH}{more}"))).unwrap_err();
    problems.list.iter().map(ToString::to_string).collect()
}

const EVERY_KIND: &str = r#"
  signals:
    - name: depth
      prometheus:
        serverAddress: https://prometheus:9090
        query: sum(vllm:num_requests_waiting)
        ignoreNullValues: "false"
        threshold: "5"
        authModes: tls,basic
        username: forewarm
        passwordFromEnv: PROM_PASSWORD
        caFile: /etc/ca.pem
        customHeaders: X-Scope-OrgID=llm
        timeout: "1000"
    - name: lag
      kafka:
        bootstrapServers: kafka-1:9092,kafka-2:9092
        consumerGroup: workers
        topic: requests
        lagThreshold: "20"
        activationLagThreshold: "3"
        offsetResetPolicy: latest
        partitionLimitation: 0,2-5
        limitToPartitionsWithLag: "true"
        sasl: scram_sha512
        username: {fromEnv: KAFKA_USER}
        password: {fromFile: /run/secrets/kafka}
        tls: enable
    - name: waiting_messages
      rabbitmq:
        hostFromEnv: RABBITMQ_URL
        queueName: requests
        vhostName: llm
        mode: MessageRate
        value: "100"
    - name: batch
      metricsApi:
        url: http://batch:8080/stats
        valueLocation: queues.0.depth
        apiKeyFromEnv: BATCH_KEY
        method: query
    - name: jobs
      awsSqsQueue:
        queueURL: https://sqs.us-east-1.amazonaws.com/123456789012/llm
        queueLength: "5"
        awsRegion: us-east-1
        scaleOnInFlight: "false"
        scaleOnDelayed: "true"
        identityOwner: operator
    - name: depth_seen
      awsCloudwatch:
        namespace: Custom/LLMMetrics
        metricName: LLMQueueDepth
        dimensionName: AutoScalingGroupName;Model
        dimensionValue: llm-gpu-asg;m
        targetMetricValue: "5"
        minMetricValue: "0"
        metricStatPeriod: "60"
        awsRoleArn: arn:aws:iam::123456789012:role/reader
    - {name: queue, engine: {metric: waiting}}
  floors:
    - {timezone: Europe/Berlin, start: 0 8 * * 1-5, end: 0 18 * * 1-5, desiredReplicas: "4"}
"#;

#[test]
fn keda_s_names_are_taken_as_they_are() {
    let scaler = read(EVERY_KIND);
    let kinds: Vec<_> = scaler.signals.iter().map(|signal| signal.source.kind()).collect();
    assert_eq!(
        kinds,
        ["prometheus", "kafka", "rabbitmq", "metricsApi", "awsSqsQueue", "awsCloudwatch", "engine"]
    );
    let SignalSource::Kafka(kafka) = &scaler.signals[1].source else { panic!("no kafka") };
    assert_eq!(kafka.bootstrap_servers, ["kafka-1:9092", "kafka-2:9092"]);
    assert_eq!(kafka.lag_threshold, 20);
    let password = &kafka.sasl.as_ref().unwrap().password;
    assert_eq!(password, &Credential::File { from_file: "/run/secrets/kafka".into() });
    let SignalSource::RabbitMq(rabbit) = &scaler.signals[2].source else { panic!("no rabbitmq") };
    assert_eq!(rabbit.mode, RabbitMqMode::MessageRate);
    let SignalSource::AwsSqsQueue(queue) = &scaler.signals[4].source else { panic!("no queue of SQS") };
    assert!(!queue.scale_on_in_flight && queue.scale_on_delayed);
    let SignalSource::AwsCloudWatch(metric) = &scaler.signals[5].source else { panic!("no metric") };
    let dimensions = metric.query.dimensions();
    assert_eq!(dimensions[1], ("Model".to_owned(), "m".to_owned()));
    assert_eq!((metric.period.as_secs(), metric.collection.as_secs()), (60, 300));
    assert_eq!(scaler.spec.floors[0].replicas().0, 4);
}

#[test]
fn a_manifest_written_out_is_the_same_scaler() {
    let scaler = read(EVERY_KIND);
    let written = scaler.to_yaml().unwrap();
    let again =
        read_scalers("again.yaml", &written).unwrap_or_else(|problems| panic!("{problems}\n{written}"));
    assert_eq!(again, [scaler], "{written}");
}

#[test]
fn what_is_wrong_names_the_field_and_what_would_be_right() {
    let signal = |kind: &str| format!("  signals:\n    - {{name: s, {kind}}}\n");
    let cases = [
        (
            signal("awsSqsQueue: {queueURL: llm}"),
            "spec.signals[0].awsSqsQueue.queueURL: found llm, wanted the queue's URL, such as https://sqs.us-east-1.amazonaws.com/123456789012/llm",
        ),
        (
            signal("awsCloudwatch: {namespace: n}"),
            "spec.signals[0].awsCloudwatch: found neither a metric nor an expression, wanted `namespace` and `metricName`, or `expression`",
        ),
        (
            signal("awsCloudwatch: {namespace: n, metricName: m, dimensionName: a;b, dimensionValue: c}"),
            "spec.signals[0].awsCloudwatch: found `dimensionName` and `dimensionValue` of two lengths, wanted a value for each name, divided by `;`",
        ),
        (
            signal("awsCloudwatch: {expression: e, metricStatPeriod: '600'}"),
            "spec.signals[0].awsCloudwatch: found points of 600 s in a time of 300 s, wanted `metricCollectionTime` of at least one `metricStatPeriod`",
        ),
        (
            signal("kafka: {bootstrapServers: kafka, consumerGroup: g}"),
            "spec.signals[0].kafka.bootstrapServers: found kafka, wanted addresses with their ports, such as kafka-1:9092,kafka-2:9092",
        ),
        (
            signal("kafka: {bootstrapServers: 'k:9092', consumerGroup: g, sasl: gssapi}"),
            "spec.signals[0].kafka.sasl: found gssapi, wanted one of none, plaintext, scram_sha256, scram_sha512",
        ),
        (
            signal(
                "kafka: {bootstrapServers: 'k:9092', consumerGroup: g, allowIdleConsumers: true, limitToPartitionsWithLag: true}",
            ),
            "spec.signals[0].kafka: found allowIdleConsumers and limitToPartitionsWithLag, wanted one of them: the second leaves no consumer idle",
        ),
        (
            signal("kafka: {bootstrapServers: 'k:9092', consumerGroup: g, partitionLimitation: 5-1}"),
            "spec.signals[0].kafka.partitionLimitation: found 5-1, wanted partitions and ranges of them, such as `0,2,8-15`",
        ),
        (
            signal("rabbitmq: {host: 'amqp://rabbit', queueName: q, mode: MessageRate}"),
            "spec.signals[0].rabbitmq: found mode `MessageRate` over AMQP, wanted the management API: an address with http://",
        ),
        (
            signal("metricsApi: {url: 'http://b/s', valueLocation: 'a..b'}"),
            "spec.signals[0].metricsApi.valueLocation: found \"a..b\", wanted names divided by dots, such as `queue.depth` (there is nothing between two dots, or before or behind one)",
        ),
        (
            signal("prometheus: {serverAddress: 'http://p', query: up, authModes: bearer}"),
            "spec.signals[0].prometheus: found authModes `bearer` alone, wanted bearerToken as well",
        ),
        (
            signal("cron: {timezone: UTC, start: 0 8 * * *, end: 0 9 * * *}"),
            "spec.signals[0].cron: found a schedule as a signal, wanted the same under `spec.floors`: a schedule is not measured",
        ),
        (
            "  floors: [{timezone: UTC, start: 0 8 * * *, end: 0 9 * * *, desiredReplicas: 9}]\n".to_owned(),
            "spec.floors[0].desiredReplicas: found 9, wanted a whole number from 1 to 8, the most that are allowed",
        ),
        (
            "  floors: [{timezone: Mars, start: 0 8 * * *, end: 0 9 * * *, desiredReplicas: 2}]\n".to_owned(),
            "spec.floors[0].timezone: found Mars, wanted a time zone by its name, such as Europe/Berlin or UTC",
        ),
    ];
    for (text, said) in cases {
        assert_eq!(problems(&text), [said], "{text}");
    }
}

#[test]
fn a_secret_in_the_clear_is_refused_and_not_repeated() {
    let cases = [
        "kafka: {bootstrapServers: 'k:9092', consumerGroup: g, sasl: plaintext, username: u, password: hunter2}",
        "rabbitmq: {host: 'amqp://guest:hunter2@rabbit', queueName: q}",
        "metricsApi: {url: 'http://u:hunter2@b/s', valueLocation: a}",
        "metricsApi: {url: 'http://b/s', valueLocation: a, apiKey: hunter2}",
        "prometheus: {serverAddress: 'http://p', query: up, bearerToken: hunter2}",
        "prometheus: {serverAddress: 'http://p', query: up, customHeaders: 'hunter2'}",
    ];
    for case in cases {
        let said = problems(&format!("  signals:\n    - {{name: s, {case}}}\n"));
        assert!(!said.is_empty() && !said.concat().contains("hunter2"), "{said:?}");
    }
}

#[test]
fn triggers_stand_for_the_signals_that_their_metadata_describe() {
    let text = manifest(
        r#"  policy:
    keda:
      triggers:
        - type: kafka
          metadata: {bootstrapServers: "kafka:9092", consumerGroup: workers, topic: requests, lagThreshold: "10"}
        - type: rabbitmq
          name: orders
          metadata: {hostFromEnv: RABBITMQ_URL, queueName: orders, value: "5"}
        - type: prometheus
          name: depth
          metadata: {serverAddress: "http://prometheus:9090", query: up, threshold: "5"}
        - type: prometheus
          metadata: {query: vllm:num_requests_waiting, threshold: "5"}
        - type: metrics-api
          metadata: {url: "http://batch/stats", valueLocation: queue.depth, targetValue: "3"}
  signals:
    - {name: depth, engine: {metric: waiting}}
"#,
    );
    let scaler = read_scalers("f.yaml", &text).unwrap_or_else(|problems| panic!("{problems}")).remove(0);
    let Policy::Keda(policy) = &scaler.spec.policy else { panic!("no keda") };
    let signals = trigger_signals(policy, &scaler.signals, &|_| None).unwrap();
    let names: Vec<_> = signals.iter().map(|signal| (signal.name.as_str(), signal.source.kind())).collect();
    // Not `depth`, which is a signal already, nor the query without a server, which the core knows.
    let expected =
        [("s0-kafka-requests", "kafka"), ("orders", "rabbitmq"), ("s4-metric-api-queue-depth", "metricsApi")];
    assert_eq!(names, expected);
}

#[test]
fn a_server_whose_setting_is_misspelt_is_not_taken_for_none() {
    let text = manifest(
        r#"  policy:
    keda:
      triggers:
        - type: prometheus
          metadata: {serverAdress: "http://prometheus:9090", query: up, threshold: "5"}
        - type: cron
          metadata: {timezone: UTC, start: 0 8 * * *, end: 0 18 * * *, desiredReplicas: "2", timezoen: UTC}
"#,
    );
    let scaler = read_scalers("f.yaml", &text).unwrap_or_else(|problems| panic!("{problems}")).remove(0);
    let Policy::Keda(policy) = &scaler.spec.policy else { panic!("no keda") };
    let said = trigger_signals(policy, &scaler.signals, &|_| None).unwrap_err().to_string();
    for (name, meant) in [("serverAdress", "serverAddress"), ("timezoen", "timezone")] {
        assert!(said.contains(&format!("metadata.{name}: found an unknown field")), "{said}");
        assert!(said.contains(&format!("did you mean `{meant}`?")), "{said}");
    }
}

#[test]
fn what_a_trigger_has_in_variables_is_read_from_there() {
    let text = manifest(
        r#"  policy:
    keda:
      triggers:
        - type: kafka
          metadata: {bootstrapServersFromEnv: SERVERS, consumerGroupFromEnv: GROUP, topicFromEnv: TOPIC, lagThreshold: "10"}
        - type: aws-sqs-queue
          metadata: {queueURLFromEnv: QUEUE, queueLength: "5", awsRegion: eu-west-1, awsEndpoint: ""}
"#,
    );
    let scaler = read_scalers("f.yaml", &text).unwrap_or_else(|problems| panic!("{problems}")).remove(0);
    let Policy::Keda(policy) = &scaler.spec.policy else { panic!("no keda") };
    let variable = |name: &str| match name {
        "SERVERS" => Some("kafka-1:9092,kafka-2:9092".to_owned()),
        "QUEUE" => Some("https://sqs.eu-west-1.amazonaws.com/123456789012/llm".to_owned()),
        other => Some(other.to_lowercase()),
    };
    let signals = trigger_signals(policy, &scaler.signals, &variable).unwrap();
    let SignalSource::Kafka(kafka) = &signals[0].source else { panic!("no kafka") };
    assert_eq!(kafka.bootstrap_servers, ["kafka-1:9092", "kafka-2:9092"]);
    assert_eq!((kafka.consumer_group.as_str(), kafka.topic.as_deref()), ("group", Some("topic")));
    let SignalSource::AwsSqsQueue(queue) = &signals[1].source else { panic!("no queue of SQS") };
    assert_eq!(queue.queue_url, "https://sqs.eu-west-1.amazonaws.com/123456789012/llm");
    let unset = trigger_signals(policy, &scaler.signals, &|_| None).unwrap_err().to_string();
    let wanted = "metadata.topicFromEnv: found \"TOPIC\", wanted a variable that is set where forewarm runs, or `topic` itself";
    assert!(unset.contains(wanted), "{unset}");
}

#[test]
fn a_location_finds_its_number() {
    let document = serde_json::json!({
        "queue": {"depth": 7, "a.b": {"1": "500m"}}, "workers": [{"load": 0.5}, {"load": 2}]
    });
    let found = |path: &str| path.parse::<ValueLocation>().unwrap().find(&document);
    assert_eq!(found("queue.depth"), Some(7.into()));
    assert_eq!(found("workers.1.load"), Some(2.into()));
    assert_eq!(found("workers.#"), Some(2.into()));
    assert_eq!(found(r"queue.a\.b.1"), Some("500m".into()));
    assert_eq!(found("queue.nothing"), None);
    assert_eq!(found("queue.depth.deeper"), None);
    assert_eq!(found("queue.#"), None);
    let end = |path: &str| path.parse::<ValueLocation>().unwrap().end(&document);
    assert_eq!(end("queue.dpeth"), "`queue` has `a.b`, `depth`");
    assert_eq!(end("queu.depth"), "it has `queue`, `workers`");
    assert_eq!(end("workers.2.load"), "`workers` is a list of 2");
    assert_eq!(end("queue.depth.deeper"), "`queue.depth` has no parts");
    for wrong in ["", ".", "a.", "a.*", "a.#.b", "a.#(b==1)", "@this", r"a\"] {
        assert!(wrong.parse::<ValueLocation>().is_err(), "{wrong}");
    }
}
