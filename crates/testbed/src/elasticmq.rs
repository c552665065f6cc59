//! ElasticMQ, a server that speaks SQS. As SQS does, it keeps its messages over a restart.

use std::{io, path::Path, time::Duration};

use crate::{Launch, Server, ServerError, free_port};

/// A JVM on a busy machine.
const START: Duration = Duration::from_secs(90);

/// A server with the queues that it was started with.
pub struct ElasticMq {
    /// Its process: to pause, kill and restart.
    pub server: Server,
    /// Its address, `http://127.0.0.1:PORT`.
    pub address: String,
}

impl ElasticMq {
    /// Starts one from what `cargo xtask testbed elasticmq` fetched.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(assets: &Path, folder: &Path, queues: &[&str]) -> Result<Self, ServerError> {
        let failed = |source: io::Error| ServerError::Start { name: "elasticmq".to_owned(), source };
        let (port, statistics) = (free_port().map_err(failed)?, free_port().map_err(failed)?);
        let queues: Vec<String> = queues.iter().map(|queue| format!("\"{queue}\" {{}}")).collect();
        let configuration = format!(
            "include classpath(\"application.conf\")\n\
             node-address {{ protocol = http, host = \"127.0.0.1\", port = {port}, context-path = \"\" }}\n\
             rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = \"127.0.0.1\" }}\n\
             rest-stats {{ enabled = true, bind-port = {statistics}, bind-hostname = \"127.0.0.1\" }}\n\
             messages-storage {{ enabled = true, driver-class-name = \"org.h2.Driver\", username = \"\", password = \"\", \
             uri = \"jdbc:h2:./elasticmq;WRITE_DELAY=0\" }}\n\
             queues {{ {} }}\n",
            queues.join("\n")
        );
        std::fs::write(folder.join("elasticmq.conf"), configuration).map_err(failed)?;
        let command = ["java", "-Xmx128m", "-XX:+UseSerialGC", "-Dconfig.file=elasticmq.conf", "-cp"];
        let mut command: Vec<String> = command.map(str::to_owned).into();
        command.push(assets.join("lib/*").display().to_string());
        command.push("org.elasticmq.server.Main".to_owned());
        let launch =
            Launch { name: "elasticmq".to_owned(), command, env: Vec::new(), folder: folder.to_owned() };
        let address = format!("http://127.0.0.1:{port}");
        let server = Server::start(launch, START, async || answers(&address).await).await?;
        Ok(Self { server, address })
    }

    /// Starts it again, at the same port and with the messages that it had.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        let address = &self.address;
        self.server.restart(START, async || answers(address).await).await
    }

    /// The URL of a queue.
    pub fn queue(&self, name: &str) -> String {
        format!("{}/000000000000/{name}", self.address)
    }
}

/// Any answer will do: without an action it is an error.
async fn answers(address: &str) -> bool {
    reqwest::get(address).await.is_ok()
}
