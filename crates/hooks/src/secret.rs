//! Secrets by reference: a manifest names where one is, and it is read anew at each use, so that it can be changed.

use forewarm_manifest::SecretRef;

/// Reads it. White space at its end, such as an editor's last line break, does not belong to it.
///
/// # Errors
/// When there is none, in words that do not show it.
pub(crate) fn read(secret: &SecretRef) -> Result<Vec<u8>, String> {
    let (place, value) = match secret {
        SecretRef::Env(name) => {
            let value = std::env::var(name).map_err(|error| format!("the secret in ${name}: {error}"))?;
            (format!("${name}"), value.into_bytes())
        }
        SecretRef::File(path) => {
            let value = std::fs::read(path)
                .map_err(|error| format!("the secret in the file {}: {error}", path.display()))?;
            (format!("the file {}", path.display()), value)
        }
    };
    let value = value.trim_ascii_end();
    if value.is_empty() {
        return Err(format!("the secret in {place} is empty"));
    }
    Ok(value.to_owned())
}
