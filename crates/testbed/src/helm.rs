//! The Helm chart of the project, rendered by the real Helm.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{NotFetched, assets};

/// Helm, and the chart.
#[derive(Clone, Debug)]
pub struct Chart {
    helm: PathBuf,
    folder: PathBuf,
}

impl Chart {
    /// The chart in `deploy/helm/forewarm`.
    ///
    /// # Errors
    /// When Helm was not built.
    pub fn open() -> Result<Self, NotFetched> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/helm/forewarm");
        Ok(Self { helm: assets("helm")?.join("helm"), folder })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `helm template` of the release `forewarm` in the namespace `forewarm`, with values as `--set` takes them.
    ///
    /// # Errors
    /// What Helm says against it.
    pub fn render(&self, values: &[&str]) -> Result<String, String> {
        self.run(&["template", "forewarm", "--namespace", "forewarm"], values)
    }

    /// `helm lint`.
    ///
    /// # Errors
    /// What Helm finds.
    pub fn lint(&self, values: &[&str]) -> Result<String, String> {
        self.run(&["lint", "--strict"], values)
    }

    /// What is installed with these values, object by object.
    ///
    /// # Errors
    /// As [`Chart::render`].
    pub fn objects(&self, values: &[&str]) -> Result<Vec<Value>, String> {
        objects(&self.render(values)?)
    }

    fn run(&self, words: &[&str], values: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.helm);
        command.args(words).arg(&self.folder);
        for value in values {
            command.args(["--set", value]);
        }
        let output = command.output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr) + &text(&output.stdout)),
        }
    }
}

/// The objects of a file with several of them.
///
/// # Errors
/// When it is no YAML.
pub fn objects(yaml: &str) -> Result<Vec<Value>, String> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).map_err(|error| error.to_string())?;
    Ok(all.into_iter().filter(|object| !object.is_null()).collect())
}
