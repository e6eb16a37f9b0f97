//! Statistics in Prometheus' text format: Envoy's with the prefix `envoy_`, and Istio's metrics.

use std::fmt::Write as _;

use super::collect::{Histogram, Stats, collect};
use crate::{
    proxy::Proxy,
    stats::{BOUNDS, Kind, istio_text},
};

/// Everything that there is to scrape.
pub(crate) fn all(proxy: &Proxy) -> String {
    text(collect(proxy), proxy, |_| true)
}

/// These statistics of Envoy's, and those of Istio's metrics whose names pass.
pub(super) fn text(mut stats: Stats, proxy: &Proxy, passes: impl Fn(&str) -> bool) -> String {
    stats
        .values
        .sort_by(|a, b| (&a.family, &a.labels).cmp(&(&b.family, &b.labels)));
    let mut out = String::new();
    let mut family = "";
    for stat in &stats.values {
        if stat.family != family {
            family = &stat.family;
            let kind = match stat.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            // Writing to a String does not fail, here and below.
            let _ = writeln!(out, "# TYPE {family} {kind}");
        }
        let _ = writeln!(out, "{family}{{{}}} {}", stat.labels, stat.value);
    }
    stats
        .histograms
        .sort_by(|a, b| (&a.family, &a.labels).cmp(&(&b.family, &b.labels)));
    let mut family = "";
    for histogram in stats.histograms.iter().filter(|h| h.recorded.is_some()) {
        if histogram.family != family {
            family = &histogram.family;
            let _ = writeln!(out, "# TYPE {family} histogram");
        }
        write_histogram(&mut out, histogram);
    }
    let node = proxy.shared.node.load();
    istio_text::write(&mut out, &proxy.shared.labels, &node, passes);
    out
}

fn write_histogram(out: &mut String, histogram: &Histogram) {
    let Histogram { family, labels, .. } = histogram;
    let Some(recorded) = &histogram.recorded else {
        return;
    };
    for bound in BOUNDS {
        let count = recorded.up_to(bound);
        let _ = writeln!(out, "{family}_bucket{{{labels},le=\"{bound}\"}} {count}");
    }
    let (total, sum) = (recorded.total, recorded.sum);
    let _ = writeln!(out, "{family}_bucket{{{labels},le=\"+Inf\"}} {total}");
    let _ = writeln!(out, "{family}_sum{{{labels}}} {sum}");
    let _ = writeln!(out, "{family}_count{{{labels}}} {total}");
}
