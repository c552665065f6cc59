//! GPU metrics from `nvidia-smi`.

use std::{io, path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

use super::{Gpu, GpuReading};

/// The fields, in the order in which [`gpu`] reads them.
const FIELDS: &str = "index,uuid,name,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu,\
                      ecc.errors.uncorrected.volatile.total";
/// Most GPUs that are read; the largest machines have 16, and MIG does not add any here.
const MAX_GPUS: usize = 64;
/// "No devices were found", by nvidia-smi's manual.
const NO_DEVICE: i32 = 6;
/// "The driver is not loaded".
const NO_DRIVER: i32 = 9;
/// "The NVML library could not be found".
const NO_LIBRARY: i32 = 12;

/// Runs `nvidia-smi` once for each reading.
#[derive(Clone, Debug)]
pub struct NvidiaSmi {
    program: PathBuf,
    timeout: Duration,
}

impl NvidiaSmi {
    /// Reads through `program`, which may take `timeout`; then it is killed.
    pub fn new(program: PathBuf, timeout: Duration) -> Self {
        Self { program, timeout }
    }

    pub(super) async fn read(&self) -> GpuReading {
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--query-gpu={FIELDS}"))
            .arg("--format=csv,noheader,nounits")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let program = self.program.display();
        let output = match tokio::time::timeout(self.timeout, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                return GpuReading::NoDriver(format!("`{program}` is not there"));
            }
            Ok(Err(error)) => return GpuReading::Failed(format!("cannot run `{program}`: {error}")),
            Err(_) => {
                let seconds = self.timeout.as_secs_f64();
                return GpuReading::Failed(format!("`{program}` did not end within {seconds} s"));
            }
        };
        // Some of its errors go to the standard output.
        let said = if output.stderr.trim_ascii().is_empty() { &output.stdout } else { &output.stderr };
        let said = String::from_utf8_lossy(said).lines().next().unwrap_or_default().trim().to_owned();
        match output.status.code() {
            Some(0) => gpus(&String::from_utf8_lossy(&output.stdout)),
            Some(NO_DEVICE) => GpuReading::NoGpu,
            Some(NO_DRIVER | NO_LIBRARY) => GpuReading::NoDriver(said),
            _ => GpuReading::Failed(format!("`{program}`: {}: {said}", output.status)),
        }
    }
}

fn gpus(text: &str) -> GpuReading {
    let mut gpus = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_GPUS) {
        if line.starts_with("No devices") {
            return GpuReading::NoGpu;
        }
        match gpu(line) {
            Some(gpu) => gpus.push(gpu),
            None => {
                let expected = FIELDS.split(',').count();
                return GpuReading::Failed(format!("nvidia-smi printed `{line}`, not {expected} fields"));
            }
        }
    }
    if gpus.is_empty() { GpuReading::NoGpu } else { GpuReading::Gpus(gpus) }
}

fn gpu(line: &str) -> Option<Gpu> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [index, uuid, model, utilization, used, total, power, temperature, ecc] = fields.as_slice() else {
        return None;
    };
    Some(Gpu {
        index: (*index).to_owned(),
        uuid: (*uuid).to_owned(),
        model: (*model).to_owned(),
        utilization: number(utilization).map(|percent| percent / 100.0),
        memory_used_mib: number(used),
        memory_total_mib: number(total),
        power_watts: number(power),
        temperature_celsius: number(temperature),
        uncorrected_ecc_errors: number(ecc),
    })
}

/// `[N/A]` and `[Not Supported]` stand where the GPU has no such figure, as for utilisation under MIG.
fn number(field: &str) -> Option<f64> {
    field.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_the_driver() {
        let GpuReading::Gpus(gpus) = gpus(
            "0, GPU-1, NVIDIA A10G, 97, 20902, 23028, 143.21, 58, 0\n\
             1, GPU-2, NVIDIA H200, [N/A], 1024, 143771, [Not Supported], 30, [N/A]\n",
        ) else {
            panic!("two GPUs")
        };
        assert_eq!(gpus.len(), 2);
        assert_eq!(gpus[0].utilization, Some(0.97));
        assert_eq!(gpus[0].memory_used_mib, Some(20902.0));
        assert_eq!(gpus[0].power_watts, Some(143.21));
        assert_eq!(gpus[1].utilization, None, "not supported is not zero");
        assert_eq!(gpus[1].power_watts, None);
    }

    #[test]
    fn anything_else_is_a_state() {
        assert_eq!(gpus("No devices were found\n"), GpuReading::NoGpu);
        assert_eq!(gpus(""), GpuReading::NoGpu);
        assert!(matches!(gpus("1, 2\n"), GpuReading::Failed(reason) if reason.contains("`1, 2`")));
    }
}
