//! Turns the configured command into one replica's command, and explains why it does not start.

use std::{fs::File, io, os::unix::process::CommandExt, process::Command, process::Stdio};

use forewarm_core::ReplicaId;

use crate::{ProcessFleetConfig, procfs::Marker};

/// The replica's command: in a process group of its own, with nothing that ties it to this process.
pub(crate) fn command(
    config: &ProcessFleetConfig,
    marker: &Marker,
    port: u16,
    output: File,
) -> io::Result<Command> {
    let fill = |text: &String| text.replace("{port}", &port.to_string());
    let mut arguments = config.command.iter().map(fill);
    let mut command = Command::new(arguments.next().unwrap_or_default());
    command
        .args(arguments)
        .env("PORT", port.to_string())
        .envs(config.env.iter().map(|(name, value)| (name, fill(value))))
        .envs(marker.variables())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    if let Some(directory) = &config.working_dir {
        command.current_dir(directory);
    }
    Ok(command)
}

/// Why the command did not start, and what would be right.
pub(crate) fn explain(config: &ProcessFleetConfig, id: &ReplicaId, error: &io::Error) -> String {
    let program = config.command.first().map_or("", String::as_str);
    if let Some(directory) = config.working_dir.as_ref().filter(|directory| !directory.is_dir()) {
        return format!("{id}: the working directory {} is not a directory", directory.display());
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        format!("{id}: the command `{program}` is not executable; `chmod +x` it or name its interpreter")
    } else if error.kind() != io::ErrorKind::NotFound {
        format!("{id}: the command `{program}` does not start: {error}")
    } else if program.contains('/') {
        format!(
            "{id}: the command `{program}`, or the interpreter it names, does not exist; give the path of a program"
        )
    } else {
        format!("{id}: the command `{program}` is not in PATH; install it or give its full path")
    }
}
