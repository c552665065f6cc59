//! ElasticMQ, a server that speaks SQS: its jars, from Maven Central.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::succeed;

const PROJECT: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>forewarm</groupId>
  <artifactId>testbed-elasticmq</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.elasticmq</groupId>
      <artifactId>elasticmq-server_2.13</artifactId>
      <version>1.7.1</version>
    </dependency>
  </dependencies>
</project>
"#;

/// Puts the jars into `lib`.
pub(super) fn get(folder: &Path) -> Result<()> {
    std::fs::write(folder.join("pom.xml"), PROJECT)?;
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=lib"]);
    succeed(maven.current_dir(folder))
}
