//! `/memory`: what the process takes, as the kernel has it.

use serde_json::{Value, json};

/// Bytes of memory that the process has in use; 0 where the system does not tell.
pub(super) fn resident() -> u64 {
    field("VmRSS:")
}

pub(super) fn page() -> Value {
    // Envoy's field names; its figures come from its allocator. 64-bit numbers are strings.
    json!({
        "allocated": field("RssAnon:").to_string(),
        "heap_size": field("VmData:").to_string(),
        "total_physical_bytes": resident().to_string(),
    })
}

/// A line of `/proc/self/status`, in bytes.
fn field(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
