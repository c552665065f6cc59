//! What it says of every kind of server, real ones: a number, and why there is none.
//!
//! Addresses get the names that such servers have, and times are left out: the rest is what a user reads.

use std::net::SocketAddr;

use forewarm_testbed::{
    Cloud, ElasticMq, Launch, Moto, NotFetched, Page, Server, TestbedError, assets, free_port,
    kafka::{self, Kafka},
    prometheus::{self, Access, Prometheus},
    rabbitmq::{self, RabbitMq},
};

use crate::{manifest, signal_test};

/// Longer than an engine takes to start.
const START: std::time::Duration = std::time::Duration::from_secs(60);

/// What was asked in several ways, and what was said.
struct Told {
    text: String,
    /// What stands for what in the text.
    names: Vec<(String, &'static str)>,
    env: Vec<(&'static str, String)>,
}

impl Told {
    fn new(names: impl IntoIterator<Item = (SocketAddr, &'static str)>) -> Self {
        let names = names.into_iter().map(|(address, name)| (address.to_string(), name)).collect();
        Self { text: String::new(), names, env: Vec::new() }
    }

    /// Reads one signal, in YAML's flow style.
    fn ask(&mut self, what: &str, signal: &str) {
        self.ask_with(what, signal, &[]);
    }

    fn ask_with(&mut self, what: &str, signal: &str, args: &[&str]) {
        let signals = format!("  signals:\n    - name: queued\n      {signal}\n");
        self.run(what, &manifest("{queueDepth: {perReplica: 5}}", &signals), args);
    }

    fn run(&mut self, what: &str, manifest: &str, args: &[&str]) {
        let env: Vec<_> = self.env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (output, told) = signal_test(manifest, args, &env);
        let said = String::from_utf8(output.stderr).unwrap();
        let code = output.status.code().unwrap();
        self.text.push_str(&format!("# {what}\n{told}{said}[ends with {code}]\n\n"));
    }

    /// Compares it with what was said before.
    fn check(mut self, snapshot: &str) {
        for (found, name) in &self.names {
            self.text = self.text.replace(found, name);
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_omit_expression(true);
        settings.set_prepend_module_to_snapshot(false);
        settings.add_filter(r"(in|after) \d+ ms", "$1 … ms");
        settings.add_filter(r"\d+\.\d s old", "… s old");
        settings.add_filter(r"another \d+ s", "another … s");
        settings.add_filter(r"\d{4}-\d\d-\d\dT[\d:.+-]+Z?", "…");
        settings.add_filter(r"/\S+/forewarm\.yaml", "forewarm.yaml");
        settings.bind(|| insta::assert_snapshot!(snapshot, self.text));
    }
}

#[expect(clippy::print_stdout, reason = "how a test says that it did not run")]
fn skipped(why: &NotFetched) {
    println!("skipped: {why}");
}

/// The server; none where it was not fetched.
fn started<T>(server: Result<T, TestbedError>) -> Option<T> {
    match server {
        Ok(server) => Some(server),
        Err(TestbedError::NotFetched(why)) => {
            skipped(&why);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_is_asked_a_query() {
    let page = Page::start("llm_queue_depth{pod=\"a\"} 7\nllm_queue_depth{pod=\"b\"} 5\n").await.unwrap();
    let Some(server) = started(Prometheus::start(Access::Guarded, &[page.address()]).await) else { return };
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let mut told = Told::new([
        (server.address, "prometheus:9090"),
        (page.address(), "page:8080"),
        (nobody, "nobody:9090"),
    ]);
    told.names.push((server.certificates.ca.display().to_string(), "ca.pem"));
    told.env =
        vec![("PASSWORD", prometheus::PASSWORD.to_owned()), ("OLD_PASSWORD", "of yesterday".to_owned())];
    let query = |query: &str, password: &str| {
        format!(
            "prometheus: {{serverAddress: 'https://{}', query: '{query}', username: {}, password: {{fromEnv: {password}}}, \
             caFile: '{}'}}",
            server.address,
            prometheus::USER,
            server.certificates.ca.display()
        )
    };
    // Scraped once: before that, no query has an answer.
    let manifest_of = |signal: &str| {
        manifest(
            "{queueDepth: {perReplica: 5}}",
            &format!("  signals:\n    - name: queued\n      {signal}\n"),
        )
    };
    let sum = query("sum(llm_queue_depth)", "PASSWORD");
    let env: Vec<_> = told.env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    while signal_test(&manifest_of(&sum), &[], &env).0.status.code() != Some(0) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    told.ask("a sum", &sum);
    told.ask("several series", &query("llm_queue_depth", "PASSWORD"));
    told.ask("no such series", &query("llm_queue_dpeth", "PASSWORD"));
    told.ask("no query", &query("sum(llm_queue_depth", "PASSWORD"));
    told.ask("a wrong password", &query("sum(llm_queue_depth)", "OLD_PASSWORD"));
    told.ask("a secret that is not there", &query("sum(llm_queue_depth)", "NO_PASSWORD"));
    let open = |scheme: &str, at: SocketAddr| {
        format!("prometheus: {{serverAddress: '{scheme}://{at}', query: sum(llm_queue_depth)}}")
    };
    told.ask("nobody who says whose the certificate is", &open("https", server.address));
    told.ask("no TLS to a server that has it", &open("http", server.address));
    told.ask("another server", &open("http", page.address()));
    told.ask("no server", &open("http", nobody));
    told.check("prometheus");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_asked_for_a_groups_lag() {
    let Some(server) = started(Kafka::start().await) else { return };
    let mut admin = server.admin().await.unwrap();
    admin.create_topic("requests", 1).await.unwrap();
    admin.produce("requests", 0, 30).await.unwrap();
    admin.commit("workers", "requests", 0, 7).await.unwrap();
    let mut told = Told::new([(server.direct, "kafka:9092"), (server.proxy.address(), "kafka:9093")]);
    told.names.push((server.certificates.ca.display().to_string(), "ca.pem"));
    told.env = vec![("PASSWORD", kafka::PASSWORD.to_owned()), ("OLD_PASSWORD", "of yesterday".to_owned())];
    let lag = |group: &str, topic: &str| {
        format!("kafka: {{bootstrapServers: '{}', consumerGroup: {group}, topic: {topic}}}", server.direct)
    };
    let guarded = |password: &str| {
        format!(
            "kafka: {{bootstrapServers: '{}', consumerGroup: workers, topic: requests, sasl: scram_sha512, \
             username: {}, password: {{fromEnv: {password}}}, tls: {{caFile: '{}'}}}}",
            server.proxy.address(),
            kafka::USER,
            server.certificates.ca.display()
        )
    };
    told.ask("a group's lag", &lag("workers", "requests"));
    told.ask("as somebody, over TLS", &guarded("PASSWORD"));
    told.ask("no such topic", &lag("workers", "reqeusts"));
    told.ask("no such group", &lag("wrokers", "requests"));
    told.ask("a wrong password", &guarded("OLD_PASSWORD"));
    let open = |at: SocketAddr, more: &str| {
        format!("kafka: {{bootstrapServers: '{at}', consumerGroup: workers, topic: requests{more}}}")
    };
    let who = format!(", username: {}, password: {{fromEnv: PASSWORD}}, sasl: plaintext", kafka::USER);
    told.ask("no such partition", &open(server.direct, ", partitionLimitation: '7,9-12'"));
    told.ask("no TLS where it is spoken", &open(server.proxy.address(), ""));
    let tls = format!(", tls: {{caFile: '{}'}}", server.certificates.ca.display());
    told.ask("nobody who says who they are", &open(server.proxy.address(), &tls));
    told.ask("a password where none is taken", &open(server.direct, &who));
    told.check("kafka");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_is_asked_both_ways() {
    let Some(server) = started(RabbitMq::start().await) else { return };
    server.create_queue("/", "requests", "quorum").await.unwrap();
    server.publish("/", "requests", 12).await.unwrap();
    // The statistics come a moment later.
    while server.queue("/", "requests").await.unwrap()["messages"] != 12 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let mut told = Told::new([(server.management, "rabbitmq:15672"), (server.amqp, "rabbitmq:5672")]);
    told.env = vec![("PASSWORD", rabbitmq::PASSWORD.to_owned()), ("OLD_PASSWORD", "of yesterday".to_owned())];
    for (way, host) in [
        ("the management API", format!("http://{}", server.management)),
        ("AMQP", format!("amqp://{}", server.amqp)),
    ] {
        let queue = |queue: &str, password: &str, more: &str| {
            format!(
                "rabbitmq: {{host: '{host}', queueName: {queue}, username: {}, password: {{fromEnv: {password}}}{more}}}",
                rabbitmq::USER
            )
        };
        told.ask(way, &queue("requests", "PASSWORD", ""));
        told.ask(&format!("{way}: no such queue"), &queue("reqeusts", "PASSWORD", ""));
        told.ask(&format!("{way}: no such vhost"), &queue("requests", "PASSWORD", ", vhostName: llm"));
        told.ask(&format!("{way}: a wrong password"), &queue("requests", "OLD_PASSWORD", ""));
        told.ask(&format!("{way}: a wrong name"), &queue("requests", "PASSWORD", ", queue: requests"));
    }
    told.env.push(("ADDRESS", format!("amqp://{}/llm", server.amqp)));
    let who = format!("username: {}, password: {{fromEnv: PASSWORD}}", rabbitmq::USER);
    told.ask(
        "a vhost in the address",
        &format!("rabbitmq: {{hostFromEnv: ADDRESS, queueName: requests, {who}}}"),
    );
    let regex = format!("host: 'http://{}', queueName: 'req(', useRegex: true, {who}", server.management);
    told.ask("no regular expression", &format!("rabbitmq: {{{regex}}}"));
    let swapped = format!("host: 'amqp://{}', queueName: requests, {who}", server.management);
    told.ask("AMQP at the port of the management API", &format!("rabbitmq: {{{swapped}}}"));
    let encrypted = format!("host: 'amqps://{}', queueName: requests, {who}", server.amqp);
    told.ask("TLS to a port without", &format!("rabbitmq: {{{encrypted}}}"));
    told.check("rabbitmq");
}

/// Credentials and places, as every tool of AWS finds them.
fn aws(endpoint: &str) -> Vec<(&'static str, String)> {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqs_is_asked_for_a_queues_depth() {
    let Some(assets) = started(assets("elasticmq").map_err(TestbedError::from)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut server = ElasticMq::start(&assets, folder.path(), &["llm"]).await.unwrap();
    for _ in 0..12 {
        let url = format!("{}?Action=SendMessage&MessageBody=a%20request", server.queue("llm"));
        reqwest::get(url).await.unwrap().error_for_status().unwrap();
    }
    let address: SocketAddr = server.address.strip_prefix("http://").unwrap().parse().unwrap();
    let cloud = Cloud::start(&server.address).await.unwrap();
    cloud.faults(|faults| faults.denied = true);
    let mut told = Told::new([(address, "sqs:9324")]);
    told.env = aws(&server.address);
    let depth = |url: String| format!("awsSqsQueue: {{queueURL: '{url}'}}");
    told.ask("a queue", &depth(server.queue("llm")));
    told.ask("no such queue", &depth(server.queue("lmm")));
    told.env = aws(&cloud.url());
    told.ask("not allowed", &depth(server.queue("llm")));
    told.env = aws(&server.address);
    server.server.kill();
    told.ask("no server", &depth(server.queue("llm")));
    told.env = vec![
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("HOME", folder.path().display().to_string()),
    ];
    told.ask("no credentials", &depth(server.queue("llm")));
    told.check("sqs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cloudwatch_is_asked_for_a_metric() {
    let Some(assets) = started(assets("moto").map_err(TestbedError::from)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let moto = Moto::start(&assets, folder.path()).await.unwrap();
    let cloud = Cloud::start(&moto.address).await.unwrap();
    let point = [
        ("Namespace", "Custom/LLMMetrics"),
        ("MetricData.member.1.MetricName", "LLMQueueDepth"),
        ("MetricData.member.1.Value", "12"),
    ];
    cloud.ask("monitoring", "PutMetricData", &point).await.unwrap();
    let mut told = Told::new([]);
    told.env = aws(&cloud.url());
    let metric = |name: &str| {
        format!(
            "awsCloudwatch: {{namespace: Custom/LLMMetrics, metricName: {name}, metricStatPeriod: '60', metricCollectionTime: '300'}}"
        )
    };
    told.ask("a metric", &metric("LLMQueueDepth"));
    told.ask("no such metric", &metric("LLMQueueDpeth"));
    cloud.faults(|faults| faults.denied = true);
    told.ask("not allowed", &metric("LLMQueueDepth"));
    told.env.retain(|(name, _)| *name != "AWS_REGION");
    told.env.push(("AWS_EC2_METADATA_DISABLED", "true".to_owned()));
    told.ask("no region", &metric("LLMQueueDepth"));
    let wrong = |more: &str| {
        format!("awsCloudwatch: {{namespace: Custom/LLMMetrics, metricName: LLMQueueDepth, {more}}}")
    };
    told.ask("no such statistic", &wrong("metricStat: Avrage"));
    told.ask("a dimension without a value", &wrong("dimensionName: Group"));
    told.ask("a period that CloudWatch has not", &wrong("metricStatPeriod: 45"));
    told.check("cloudwatch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_asked_for_a_number() {
    let page = Page::start(r#"{"queue": {"depth": 23, "state": "open"}}"#).await.unwrap();
    let mut told = Told::new([(page.address(), "batch:8080")]);
    let number = |location: &str| {
        format!("metricsApi: {{url: 'http://{}/stats', valueLocation: {location}}}", page.address())
    };
    told.ask("a number", &number("queue.depth"));
    told.ask("no such place", &number("queue.dpeth"));
    told.ask("no such place at the top", &number("queu.depth"));
    told.ask("no number", &number("queue.state"));
    page.show("<html>");
    told.ask("no JSON", &number("queue.depth"));
    page.answer_with(404, "not here");
    told.ask("no such page", &number("queue.depth"));
    told.check("json");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_are_asked_for_their_own_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let port = address.port().to_string();
    let command =
        [env!("CARGO_BIN_EXE_forewarm"), "engine", "--port", &port, "--slots", "1", "--speed", "0.1"];
    let launch = Launch {
        name: "engine".to_owned(),
        command: command.map(str::to_owned).into(),
        env: Vec::new(),
        folder: folder.path().to_owned(),
    };
    let url = format!("http://{address}");
    let ready = async || reqwest::get(format!("{url}/health")).await.is_ok();
    let _engine = Server::start(launch, START, ready).await.unwrap();
    for _ in 0..13 {
        let body = serde_json::json!({"prompt": "a request", "max_tokens": 100_000});
        tokio::spawn(reqwest::Client::new().post(format!("{url}/v1/completions")).json(&body).send());
    }
    let waiting = async || {
        let page = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
        page.lines().any(|line| line.starts_with("vllm:num_requests_waiting{") && line.ends_with(" 12.0"))
    };
    while !waiting().await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let mut told = Told::new([(address, "engine-1:8000"), (nobody, "engine-2:8000")]);
    let (there, gone) = (address.to_string(), nobody.to_string());
    told.ask_with("an engine", "engine: {metric: waiting}", &["--replica", &there]);
    told.ask_with(
        "two, of which one is gone",
        "engine: {metric: waiting}",
        &["--replica", &there, "--replica", &gone],
    );
    told.ask_with("nobody is there", "engine: {metric: waiting}", &["--replica", &gone]);
    told.ask("nobody was named", "engine: {metric: waiting}");
    told.ask_with("no such metric", "engine: {metric: wating}", &["--replica", &there]);
    let with_scheme = format!("http://{there}");
    told.ask_with("no host and port", "engine: {metric: waiting}", &["--replica", &with_scheme]);
    told.check("engine");
}

#[test]
fn floors_are_told_by_the_clock() {
    let mut told = Told::new([]);
    let floor = |start: &str, end: &str, timezone: &str| {
        format!(
            "  floors:\n    - {{timezone: {timezone}, start: '{start}', end: '{end}', desiredReplicas: 4}}\n"
        )
    };
    let policy = "{queueDepth: {perReplica: 5}}";
    let most_of_the_year = floor("0 0 1 1 *", "59 23 31 12 *", "Europe/Berlin");
    told.run("a floor that holds", &manifest(policy, &most_of_the_year), &[]);
    let hardly_ever = floor("58 23 31 12 *", "59 23 31 12 *", "Europe/Berlin");
    told.run("one that does not", &manifest(policy, &hardly_ever), &[]);
    told.run("no such zone", &manifest(policy, &floor("0 8 * * 1-5", "0 18 * * 1-5", "Berlin")), &[]);
    told.run("no such time", &manifest(policy, &floor("0 25 * * *", "0 18 * * 1-5", "Europe/Berlin")), &[]);
    let keda = |timezone: &str| {
        format!(
            "{{keda: {{triggers: [{{type: cron, metadata: {{timezone: {timezone}, start: 0 0 1 1 *, end: 59 23 31 12 *, \
             desiredReplicas: '4'}}}}]}}}}"
        )
    };
    told.run("a trigger of KEDA's", &manifest(&keda("Europe/Berlin"), ""), &[]);
    told.run("a trigger of no such zone", &manifest(&keda("Berlin"), ""), &[]);
    told.run("a trigger with a wrong name", &manifest(&keda("Europe/Berlin, desierdReplicas: '5'"), ""), &[]);
    told.check("floors");
}
