//! Values that a manifest only names.

use forewarm_manifest::signal::Credential;

/// The value itself, read anew: a file may have another since. The error names the place, never the value.
pub(crate) fn reveal(credential: &Credential) -> Result<String, String> {
    match credential {
        Credential::Plain(text) => Ok(text.clone()),
        Credential::Env { from_env } => {
            std::env::var(from_env).map_err(|_| format!("the environment has no variable `{from_env}`"))
        }
        Credential::File { from_file } => {
            let text = std::fs::read_to_string(from_file)
                .map_err(|error| format!("cannot read {}: {error}", from_file.display()))?;
            // Editors and `echo` end a file with a line break.
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}
