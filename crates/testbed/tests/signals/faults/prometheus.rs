//! Prometheus, by its queries and as anybody's JSON.

use std::{sync::Arc, time::Duration};

use forewarm_control::{Clock, ports::SignalSource as Source};
use forewarm_manifest::{
    SignalSource,
    signal::{HttpAccess, MetricsApiSignal, PrometheusSignal, Tls},
};
use forewarm_testbed::{
    Page, Proxy, Server,
    prometheus::{Access, PASSWORD, Prometheus, USER},
};

use super::{Words, described};
use crate::{password::Password, started};

const SERIES: &str = "llm_queue_depth";

pub(super) struct World {
    name: &'static str,
    server: Prometheus,
    page: Page,
    proxy: Proxy,
    source: SignalSource,
    password: Password,
}

impl World {
    /// Asked as a source of this kind: `prometheus` or `metricsApi`.
    pub(super) async fn start(name: &'static str) -> Option<Self> {
        let page = Page::start("").await.unwrap();
        let server = started(Prometheus::start(Access::Guarded, &[page.address()]).await)?;
        let proxy = Proxy::start(server.address).await.unwrap();
        let password = Password::new(PASSWORD);
        let access = HttpAccess {
            basic: Some(password.of(USER)),
            tls: Tls { ca_file: Some(server.certificates.ca.clone()), ..Tls::default() },
            ..HttpAccess::default()
        };
        let address = format!("https://{}", proxy.address());
        let source = if name == "metricsApi" {
            SignalSource::MetricsApi(MetricsApiSignal {
                url: format!("{address}/api/v1/query?query={SERIES}"),
                value_location: "data.result.0.value.1".parse().unwrap(),
                api_key: None,
                access,
            })
        } else {
            SignalSource::Prometheus(PrometheusSignal { access, ..PrometheusSignal::new(address, SERIES) })
        };
        Some(Self { name, server, page, proxy, source, password })
    }
}

impl super::World for World {
    fn name(&self) -> &'static str {
        self.name
    }

    fn source(&self, clock: Clock, timeout: Duration) -> Arc<dyn Source> {
        described(&self.source, clock, timeout)
    }

    fn server(&mut self) -> &mut Server {
        &mut self.server.server
    }

    fn network(&self) -> &Proxy {
        &self.proxy
    }

    async fn start_again(&mut self) {
        self.server.restart().await.unwrap();
    }

    async fn load(&mut self, messages: usize) {
        self.page.show(&format!("{SERIES} {messages}\n"));
    }

    async fn refuse(&mut self) {
        self.password.spoil(&self.proxy).await;
    }

    async fn accept(&mut self) {
        self.password.restore(&self.proxy).await;
    }

    async fn remove(&mut self) {
        self.page.show("");
    }

    async fn put_back(&mut self) {}

    fn words(&self) -> Words {
        Words {
            unreachable: "no connection",
            refused: "the server refuses this `username` and `password`",
            absent: if self.name == "metricsApi" {
                "there is nothing at `data.result.0.value.1` in the answer"
            } else {
                "the source has no such value"
            },
        }
    }
}
