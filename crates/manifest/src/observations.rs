//! Recorded observations: one JSON object a line, as `forewarm decide` and the journal have them.

use forewarm_core::Observation;

/// A line that is no observation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file_name}:{line}: {path}{message}")]
pub struct ObservationError {
    file_name: String,
    /// The line, from 1.
    pub line: usize,
    path: String,
    message: String,
}

/// The observations of a JSON Lines text; blank lines and lines that begin with `#` are left out.
///
/// # Errors
/// At the first line that is no observation, or is earlier than the one before it.
pub fn read_observations(file_name: &str, text: &str) -> Result<Vec<Observation>, ObservationError> {
    let mut observations: Vec<Observation> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let error = |path: String, message: String| ObservationError {
            file_name: file_name.into(),
            line: index + 1,
            path,
            message,
        };
        let mut json = serde_json::Deserializer::from_str(line);
        let read: Result<Observation, _> = serde_path_to_error::deserialize(&mut json);
        let observation = read.map_err(|failed| {
            let path = failed.path().to_string();
            let path = if path == "." { String::new() } else { format!("{path}: ") };
            error(path, without_line(&failed.into_inner().to_string()))
        })?;
        json.end().map_err(|failed| error(String::new(), without_line(&failed.to_string())))?;
        if let Some(before) = observations.last()
            && observation.at < before.at
        {
            let message = format!(
                "{} is earlier than the observation before it, {}",
                observation.at.as_seconds(),
                before.at.as_seconds()
            );
            return Err(error("t: ".into(), message));
        }
        observations.push(observation);
    }
    Ok(observations)
}

/// Each line is a text of its own to the JSON reader: its line number is always 1.
fn without_line(message: &str) -> String {
    message.replace(" at line 1 column ", " at column ")
}
