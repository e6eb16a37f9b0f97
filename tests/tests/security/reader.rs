//! Somebody who reads pages all the time, and who has spoken how with whom for them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use anyhow::ensure;
use dojo_tests::{
    bookstore::{Reader, Stars},
    dojo::{Dojo, eventually},
};

use crate::{SOON, page, pods};

/// Pages for as long as it is not told to stop; every one must be right. On a thread of its own,
/// because what the test does meanwhile blocks.
pub(crate) fn keep_reading(port: u16, stop: &Arc<AtomicBool>) -> JoinHandle<anyhow::Result<usize>> {
    let stop = stop.clone();
    let reading = async move {
        let reader = Reader::new(port)?;
        let mut pages = 0;
        while !stop.load(Relaxed) {
            let stars = reader.stars().await?;
            let right = matches!(stars, Stars::None | Stars::Black | Stars::Red);
            ensure!(right, "{stars:?} after {pages} pages");
            pages += 1;
        }
        Ok(pages)
    };
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build()?.block_on(reading)
    })
}

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
