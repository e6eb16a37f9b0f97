//! `/stats`: all statistics as text or JSON; [`prometheus`](super::prometheus) has them in its format.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    collect::{Histogram, Stats, collect},
    prometheus,
    query::Query,
};
use crate::{
    proxy::Proxy,
    serve::Page,
    stats::{Kind, QUANTILES},
};

/// `?filter=REGEX&usedonly&type=Counters|Gauges|Histograms`, as `text`, `json` or `prometheus`.
pub(super) fn page(proxy: &Proxy, query: &Query<'_>, format: Option<&str>) -> Page {
    let bad = |text: String| Page::text(text).status(http::StatusCode::BAD_REQUEST);
    let filter = match query.get("filter").map(|filter| regex::Regex::new(&filter)) {
        None => None,
        Some(Ok(filter)) => Some(filter),
        Some(Err(error)) => return bad(format!("Invalid regex: {error}\n")),
    };
    let kind = query.get("type").unwrap_or_else(|| "All".into());
    if !["All", "Counters", "Gauges", "Histograms", "TextReadouts"].contains(&kind.as_str()) {
        return bad("usage: /stats?type=All|Counters|Gauges|Histograms|TextReadouts\n".into());
    }
    let used = query.has("usedonly");
    let passes = |name: &str| filter.as_ref().is_none_or(|filter| filter.is_match(name));
    let mut stats = collect(proxy);
    stats.values.retain(|stat| {
        let wanted = match stat.kind {
            Kind::Counter => "Counters",
            Kind::Gauge => "Gauges",
        };
        passes(&stat.name) && (stat.value > 0 || !used) && (kind == "All" || kind == wanted)
    });
    stats.histograms.retain(|histogram| {
        passes(&histogram.name)
            && (histogram.recorded.is_some() || !used)
            && (kind == "All" || kind == "Histograms")
    });
    stats.values.sort_by(|a, b| a.name.cmp(&b.name));
    stats.histograms.sort_by(|a, b| a.name.cmp(&b.name));
    match format {
        None | Some("text" | "html") => Page::text(text(&stats)),
        Some("json") => Page::json(&json(&stats)),
        Some("prometheus") => Page::text(prometheus::text(stats, proxy, passes)),
        Some(_) => bad("usage: /stats?format=(json|prometheus|text)\n".into()),
    }
}

fn text(stats: &Stats) -> String {
    let mut out = String::new();
    // Writing to a String does not fail, here and below.
    for stat in &stats.values {
        let _ = writeln!(out, "{}: {}", stat.name, stat.value);
    }
    for Histogram { name, recorded, .. } in &stats.histograms {
        let _ = write!(out, "{name}:");
        match recorded {
            None => out.push_str(" No recorded values"),
            // The first of each pair is of the last seconds, which are not kept apart.
            Some(recorded) => {
                for quantile in QUANTILES {
                    let value = rounded(recorded.quantile(quantile));
                    let _ = write!(out, " P{quantile}(nan,{value})");
                }
            }
        }
        out.push('\n');
    }
    out
}

fn json(stats: &Stats) -> Value {
    let mut all: Vec<Value> = stats
        .values
        .iter()
        .map(|stat| json!({ "name": stat.name, "value": stat.value }))
        .collect();
    let computed: Vec<Value> = stats
        .histograms
        .iter()
        .map(|Histogram { name, recorded, .. }| {
            let value = |quantile| Some(rounded(recorded.as_ref()?.quantile(quantile)));
            let values = QUANTILES.map(|q| json!({ "interval": null, "cumulative": value(q) }));
            json!({ "name": name, "values": values })
        })
        .collect();
    if !computed.is_empty() {
        all.push(json!({ "histograms": {
            "supported_quantiles": QUANTILES,
            "computed_quantiles": computed,
        } }));
    }
    json!({ "stats": all })
}

/// Without the noise that binary fractions make of decimal ones.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
