//! How engines are reached by commands that have no manifest to say so: the settings of its `engine`, as flags.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use forewarm_manifest::signal::{Credential, Tls};
use forewarm_signals::engine::EngineAccess;

use crate::exit::Failure;

/// What engines ask of whoever reads their metrics.
#[derive(Args)]
pub(super) struct EngineAccessArgs {
    /// Who signs the certificates of engines behind TLS (PEM); default: whom the system trusts.
    #[arg(long, value_name = "FILE")]
    engine_ca_file: Option<PathBuf>,
    /// The name in their certificates, if it is not the one in the address.
    #[arg(long, value_name = "NAME")]
    engine_server_name: Option<String>,
    /// A file with the token that engines ask for (`vllm serve --api-key`); it is read again for each round.
    #[arg(long, value_name = "FILE")]
    engine_bearer_token_file: Option<PathBuf>,
}

/// What engines speak.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(super) enum Scheme {
    Http,
    Https,
}

/// The same, for engines whose addresses do not say what they speak.
#[derive(Args)]
pub(super) struct SchemedEngineArgs {
    /// What the engines speak.
    #[arg(long, value_enum, ignore_case = true, default_value_t = Scheme::Http, value_name = "SCHEME")]
    engine_scheme: Scheme,
    #[command(flatten)]
    access: EngineAccessArgs,
}

impl EngineAccessArgs {
    /// For engines whose addresses say what they speak.
    pub(super) fn access(&self) -> EngineAccess {
        let tls = Tls {
            ca_file: self.engine_ca_file.clone(),
            server_name: self.engine_server_name.clone(),
            ..Tls::default()
        };
        let bearer_token =
            self.engine_bearer_token_file.clone().map(|from_file| Credential::File { from_file });
        EngineAccess { tls: Some(tls), bearer_token }
    }
}

impl SchemedEngineArgs {
    /// # Errors
    /// When something is said of TLS that is not spoken.
    pub(super) fn access(&self) -> Result<EngineAccess, Failure> {
        let EngineAccess { tls, bearer_token } = self.access.access();
        if self.engine_scheme == Scheme::Http && tls != Some(Tls::default()) {
            let why = anyhow!("--engine-ca-file and --engine-server-name need `--engine-scheme HTTPS`");
            return Err(Failure::usage(why));
        }
        Ok(EngineAccess { tls: tls.filter(|_| self.engine_scheme == Scheme::Https), bearer_token })
    }
}
