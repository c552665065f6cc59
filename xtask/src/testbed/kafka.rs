//! A Kafka broker's jars, from Maven Central.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::succeed;

/// The version, and that of the binding without which a broker logs nothing.
const PROJECT: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>forewarm</groupId>
  <artifactId>testbed-kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>4.3.1</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>2.25.4</version>
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
