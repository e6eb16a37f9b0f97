//! Who has spoken how with whom.

use std::collections::BTreeMap;

use anyhow::ensure;
use dojo_tests::dojo::{Dojo, eventually};

use crate::{SOON, page, pods};

/// Which workloads call a workload, by the label `app` of the one that is called.
const CALLERS: [(&str, &[&str]); 4] = [
    ("productpage", &["istio-ingressgateway"]),
    ("details", &["productpage-v1"]),
    ("reviews", &["productpage-v1"]),
    ("ratings", &["reviews-v2", "reviews-v3"]),
];

/// Waits, while somebody reads, until every client of the mesh speaks as a mode says: they go over
/// later than servers.
pub(crate) async fn clients_speak(dojo: &Dojo, mode: &str) -> anyhow::Result<()> {
    let how = match mode {
        "DISABLE" => "none",
        _ => "mutual_tls",
    };
    let before = calls(dojo, how).await?;
    eventually(&format!("all speak {how}"), SOON, async || {
        let now = calls(dojo, how).await?;
        for (who, count) in &before {
            ensure!(now.get(who) > Some(count), "{who:?} of {now:?}");
        }
        Ok(())
    })
    .await
}

/// How many requests each pod has taken from each caller in this way, as its metrics say.
async fn calls(dojo: &Dojo, how: &str) -> anyhow::Result<BTreeMap<(String, &'static str), f64>> {
    let how = format!("connection_security_policy=\"{how}\"");
    let mut found = BTreeMap::new();
    for (app, callers) in CALLERS {
        for (name, address) in pods(dojo, "default", &format!("app={app}")).await? {
            let (_, text) = page(&[&format!("http://{address}:15020/stats/prometheus")])?;
            for caller in callers {
                let source = format!("source_workload=\"{caller}\"");
                let lines = text.lines().filter(|line| {
                    line.starts_with("istio_requests_total{")
                        && line.contains("reporter=\"destination\"")
                        && line.contains(&how)
                        && line.contains(&source)
                });
                let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
                found.insert((name.clone(), *caller), counts.sum());
            }
        }
    }
    Ok(found)
}
