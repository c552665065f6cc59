//! Where GPU metrics come from. A machine without a GPU or a driver is a state, not an error.

mod nvidia_smi;

pub use nvidia_smi::NvidiaSmi;

/// A source of GPU metrics.
#[derive(Clone, Debug)]
pub enum GpuSource {
    /// The driver's own program, once per round.
    NvidiaSmi(NvidiaSmi),
}

impl GpuSource {
    /// Reads every GPU once.
    pub async fn read(&self) -> GpuReading {
        match self {
            GpuSource::NvidiaSmi(nvidia_smi) => nvidia_smi.read().await,
        }
    }
}

/// What a source says.
#[derive(Clone, Debug, PartialEq)]
pub enum GpuReading {
    /// These are the GPUs.
    Gpus(Vec<Gpu>),
    /// The driver or its program is not there.
    NoDriver(String),
    /// There is a driver and no GPU.
    NoGpu,
    /// There may be GPUs, and they could not be read.
    Failed(String),
}

impl GpuReading {
    /// Every state's name, as in the `state` label.
    pub const STATES: [&'static str; 4] = ["ok", "no_driver", "no_gpu", "failed"];

    /// This state's name.
    pub fn state(&self) -> &'static str {
        match self {
            GpuReading::Gpus(_) => "ok",
            GpuReading::NoDriver(_) => "no_driver",
            GpuReading::NoGpu => "no_gpu",
            GpuReading::Failed(_) => "failed",
        }
    }
}

/// One GPU. What it does not support is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gpu {
    /// Its index, as the driver counts.
    pub index: String,
    /// Its identity across restarts.
    pub uuid: String,
    /// Its product name.
    pub model: String,
    /// Share of the last sample period in which a kernel ran, 0 to 1. It says nothing about load: one
    /// request holds it at 1.
    pub utilization: Option<f64>,
    /// Used memory in MiB, as the driver reports it.
    pub memory_used_mib: Option<f64>,
    /// All memory in MiB.
    pub memory_total_mib: Option<f64>,
    /// Power draw in watts.
    pub power_watts: Option<f64>,
    /// Temperature of the chip in °C.
    pub temperature_celsius: Option<f64>,
    /// Memory errors since the driver was loaded that ECC could not correct.
    pub uncorrected_ecc_errors: Option<f64>,
}
