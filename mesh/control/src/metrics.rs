//! The control plane's own metrics, named as Istio's.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Upper bounds of the convergence histogram, in seconds.
const BUCKETS: [f64; 8] = [0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0];

/// Counters since the start.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: Instant,
    /// Versions of the world that were published.
    pub(crate) pushes: AtomicU64,
    /// Resources sent, by type: clusters, endpoints, listeners, routes.
    pub(crate) sent: [AtomicU64; 4],
    pub(crate) injected: AtomicU64,
    pub(crate) injection_skipped: AtomicU64,
    pub(crate) injection_failed: AtomicU64,
    pub(crate) refused_proxies: AtomicU64,
    convergence: [AtomicU64; BUCKETS.len() + 1],
    convergence_micros: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            pushes: AtomicU64::default(),
            sent: Default::default(),
            injected: AtomicU64::default(),
            injection_skipped: AtomicU64::default(),
            injection_failed: AtomicU64::default(),
            refused_proxies: AtomicU64::default(),
            convergence: Default::default(),
            convergence_micros: AtomicU64::default(),
        }
    }
}

impl Metrics {
    /// A proxy was given a version this long after it was published.
    pub(crate) fn converged(&self, after: Duration) {
        let bucket = BUCKETS
            .iter()
            .position(|bound| after.as_secs_f64() <= *bound)
            .unwrap_or(BUCKETS.len());
        self.convergence[bucket].fetch_add(1, Relaxed);
        self.convergence_micros
            .fetch_add(after.as_micros() as u64, Relaxed);
    }

    /// In Prometheus' text format.
    pub(crate) fn print(&self, proxies: usize, services: usize, virtual_services: usize) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, samples: &[(String, f64)]| {
            let _ = writeln!(out, "# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let one = |value: f64| [(String::new(), value)];
        let count = |counter: &AtomicU64| [(String::new(), counter.load(Relaxed) as f64)];
        family(
            "pilot_info",
            "gauge",
            &[(format!("{{version=\"{version}\"}}"), 1.0)],
        );
        family(
            "istiod_uptime_seconds",
            "gauge",
            &one(self.started.elapsed().as_secs_f64()),
        );
        family(
            "pilot_xds",
            "gauge",
            &[(format!("{{version=\"{version}\"}}"), proxies as f64)],
        );
        family("pilot_services", "gauge", &one(services as f64));
        family(
            "pilot_virt_services",
            "gauge",
            &one(virtual_services as f64),
        );
        family("pilot_push_triggers", "counter", &count(&self.pushes));
        let types = ["cds", "eds", "lds", "rds"].iter().zip(&self.sent);
        let sent: Vec<_> = types
            .map(|(name, count)| (format!("{{type=\"{name}\"}}"), count.load(Relaxed) as f64))
            .collect();
        family("pilot_xds_pushes", "counter", &sent);
        family(
            "pilot_total_xds_rejects",
            "counter",
            &count(&self.refused_proxies),
        );
        family(
            "sidecar_injection_success_total",
            "counter",
            &count(&self.injected),
        );
        family(
            "sidecar_injection_skip_total",
            "counter",
            &count(&self.injection_skipped),
        );
        family(
            "sidecar_injection_failure_total",
            "counter",
            &count(&self.injection_failed),
        );
        let mut total = 0;
        let _ = writeln!(out, "# TYPE pilot_proxy_convergence_time histogram");
        for (index, counter) in self.convergence.iter().enumerate() {
            total += counter.load(Relaxed);
            let bound = BUCKETS.get(index).map_or("+Inf".to_owned(), f64::to_string);
            let _ = writeln!(
                out,
                "pilot_proxy_convergence_time_bucket{{le=\"{bound}\"}} {total}"
            );
        }
        let sum = self.convergence_micros.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(
            out,
            "pilot_proxy_convergence_time_sum {sum}\npilot_proxy_convergence_time_count {total}"
        );
        out
    }
}
