//! The first three labs from end to end through the Kubernetes API: the manifests that a student
//! applies, and what a reader of the page then sees.
//!
//! With `DOJO_KUBECONFIG` and `DOJO_GATEWAY_PORT` set, the same runs against that cluster instead of
//! one of its own.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use dojo_tests::{
    bookstore::{Reader, Stars},
    dojo::{self, Dojo, eventually},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde::Deserialize;

/// A change may take this long to be seen on a busy machine; it takes some milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// The cluster under test.
struct Cluster {
    client: Client,
    port: u16,
    _own: Option<Dojo>,
}

impl Cluster {
    async fn get() -> anyhow::Result<Self> {
        if let Some(file) = std::env::var_os("DOJO_KUBECONFIG") {
            let file = kube::config::Kubeconfig::read_from(PathBuf::from(file))?;
            let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
            let port = std::env::var("DOJO_GATEWAY_PORT")
                .context("DOJO_GATEWAY_PORT")?
                .parse()?;
            return Ok(Self {
                client: config.try_into()?,
                port,
                _own: None,
            });
        }
        let dojo = Dojo::up(&["bookinfo"])?;
        Ok(Self {
            client: dojo.client().await?,
            port: dojo.port,
            _own: Some(dojo),
        })
    }

    fn api(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
        Api::namespaced_with(
            self.client.clone(),
            "default",
            &ApiResource::from_gvk(&kind),
        )
    }

    async fn apply(&self, file: &str) -> anyhow::Result<()> {
        for object in manifests(file)? {
            let how = PatchParams::apply("student").force();
            self.api()
                .patch(&object.name_any(), &how, &Patch::Apply(&object))
                .await
                .context(file.to_owned())?;
        }
        Ok(())
    }

    async fn delete(&self, file: &str) -> anyhow::Result<()> {
        for object in manifests(file)? {
            self.api()
                .delete(&object.name_any(), &DeleteParams::default())
                .await
                .context(file.to_owned())?;
        }
        Ok(())
    }
}

/// The objects of a file of the lab book.
fn manifests(file: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let text = std::fs::read_to_string(dojo::root().join("labs/book").join(file))
        .context(file.to_owned())?;
    serde_norway::Deserializer::from_str(&text)
        .map(|d| Ok(DynamicObject::deserialize(d)?))
        .collect()
}

async fn tally(reader: &Reader, pages: usize) -> anyhow::Result<HashMap<Stars, usize>> {
    let mut seen = HashMap::new();
    for _ in 0..pages {
        *seen.entry(reader.stars().await?).or_default() += 1;
    }
    Ok(seen)
}

/// Waits until ten pages in a row show what is expected, then demands it of fifty more.
async fn shows_only(reader: &Reader, stars: Stars) -> anyhow::Result<()> {
    eventually(&format!("{stars:?}"), SOON, async || {
        let seen = tally(reader, 10).await?;
        ensure!(seen.get(&stars) == Some(&10), "{seen:?}");
        Ok(())
    })
    .await?;
    let seen = tally(reader, 50).await?;
    ensure!(seen.get(&stars) == Some(&50), "{seen:?}");
    Ok(())
}

/// Of 400 fair draws between 145 and 255 fall on one side, but for one run in twenty million.
const PAGES: usize = 400;
const FAIR: std::ops::RangeInclusive<usize> = 145..=255;

#[tokio::test]
async fn the_first_three_labs() -> anyhow::Result<()> {
    let cluster = Cluster::get().await?;
    let anyone = Reader::new(cluster.port)?;
    let jason = Reader::logged_in(cluster.port, "jason").await?;

    six_pods_with_sidecars(&cluster).await?;
    versions_take_turns(&anyone).await?;

    // 01 traffic shifting
    cluster.apply("01-traffic-shifting/reviews-v1.yaml").await?;
    shows_only(&anyone, Stars::None).await?;
    cluster
        .apply("01-traffic-shifting/reviews-50-v3.yaml")
        .await?;
    eventually("red stars", SOON, async || {
        ensure!(tally(&anyone, 10).await?.contains_key(&Stars::Red));
        Ok(())
    })
    .await?;
    let seen = tally(&anyone, PAGES).await?;
    let red = seen.get(&Stars::Red).copied().unwrap_or(0);
    ensure!(
        FAIR.contains(&red) && seen.get(&Stars::None) == Some(&(PAGES - red)),
        "{seen:?}"
    );

    // 02 request routing
    cluster
        .apply("02-request-routing/reviews-jason-v2.yaml")
        .await?;
    shows_only(&jason, Stars::Black).await?;
    shows_only(&anyone, Stars::None).await?;

    // 03 fault injection
    cluster
        .apply("03-fault-injection/ratings-delay-7s.yaml")
        .await?;
    eventually("the delay", SOON, async || {
        ensure!(jason.stars().await? == Stars::NoReviews);
        Ok(())
    })
    .await?;
    let (text, took) = jason.page().await?;
    ensure!(
        dojo_tests::bookstore::seen(&text) == Stars::NoReviews,
        "{text}"
    );
    ensure!(
        (5.9..7.0).contains(&took.as_secs_f64()),
        "twice 3 s make 6 s, this took {took:?}"
    );
    shows_only(&anyone, Stars::None).await?;

    cluster
        .apply("03-fault-injection/ratings-abort-500.yaml")
        .await?;
    shows_only(&jason, Stars::RatingsUnavailable).await?;
    shows_only(&anyone, Stars::None).await?;

    cluster
        .apply("03-fault-injection/ratings-abort-half.yaml")
        .await?;
    eventually("stars again", SOON, async || {
        ensure!(tally(&jason, 20).await?.contains_key(&Stars::Black));
        Ok(())
    })
    .await?;
    let seen = tally(&jason, PAGES).await?;
    let failed = seen.get(&Stars::RatingsUnavailable).copied().unwrap_or(0);
    ensure!(
        FAIR.contains(&failed) && seen.get(&Stars::Black) == Some(&(PAGES - failed)),
        "{seen:?}"
    );

    cluster
        .delete("03-fault-injection/ratings-abort-half.yaml")
        .await?;
    cluster
        .delete("02-request-routing/reviews-jason-v2.yaml")
        .await?;
    versions_take_turns(&anyone).await
}

async fn six_pods_with_sidecars(cluster: &Cluster) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "default");
    let pods = pods
        .list(&ListParams::default().labels("app.kubernetes.io/part-of=bookinfo"))
        .await?;
    ensure!(pods.items.len() == 6, "{} pods", pods.items.len());
    for pod in pods {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status
            .container_statuses
            .into_iter()
            .chain(status.init_container_statuses)
            .flatten();
        // istio-init is done, and so no longer runs
        let ready: Vec<String> = containers
            .filter(|c| c.ready && c.state.as_ref().is_some_and(|s| s.running.is_some()))
            .map(|c| c.name)
            .collect();
        ensure!(
            ready.len() == 2 && ready.iter().any(|name| name == "istio-proxy"),
            "{}: {ready:?}",
            pod.name_any()
        );
    }
    Ok(())
}

/// Without a rule the three versions of reviews take turns.
async fn versions_take_turns(reader: &Reader) -> anyhow::Result<()> {
    eventually("three versions in turn", SOON, async || {
        let seen = tally(reader, 30).await?;
        for stars in [Stars::None, Stars::Black, Stars::Red] {
            ensure!(
                seen.get(&stars).is_some_and(|n| (8..=12).contains(n)),
                "{seen:?}"
            );
        }
        Ok(())
    })
    .await
}

/// Changing routes under load loses no request.
#[tokio::test]
async fn a_change_drops_no_request() -> anyhow::Result<()> {
    let cluster = Cluster::get().await?;
    let port = cluster.port;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let reader = Reader::new(port)?;
                let mut pages = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let stars = reader.stars().await?;
                    ensure!(
                        matches!(stars, Stars::None | Stars::Black | Stars::Red),
                        "{stars:?} after {pages} pages"
                    );
                    pages += 1;
                }
                anyhow::Ok(pages)
            })
        })
        .collect();
    for _ in 0..10 {
        cluster.apply("01-traffic-shifting/reviews-v1.yaml").await?;
        cluster
            .apply("01-traffic-shifting/reviews-50-v3.yaml")
            .await?;
        cluster
            .delete("01-traffic-shifting/reviews-v1.yaml")
            .await?;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        ensure!(reader.await?? > 0);
    }
    Ok(())
}
