//! Who runs where: two threads of one core would measure each other.

use std::path::Path;

/// The core that proxies have to themselves.
pub(crate) const OF_PROXY: &str = "0";

/// The core that client and replica share: the first that is not the proxy's under another number, where there is one.
pub(crate) fn of_client() -> String {
    let siblings = Path::new("/sys/devices/system/cpu/cpu0/topology/core_cpus_list");
    let siblings = std::fs::read_to_string(siblings).unwrap_or_default();
    let is_sibling = |core: usize| {
        siblings.trim().split(',').any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let bounds = (first.parse::<usize>(), last.parse::<usize>());
            matches!(bounds, (Ok(first), Ok(last)) if (first..=last).contains(&core))
        })
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    (1..cores).find(|core| !is_sibling(*core)).unwrap_or(1).to_string()
}
