//! The cluster of a class, as the instructor reaches it.

use std::path::Path;

use anyhow::Context;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::objects::STUDENT;
use crate::exit;

/// A client, and the kubeconfig that led to it.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) kubeconfig: Kubeconfig,
    pub(super) context: Option<String>,
}

impl Connection {
    /// By `--context` or KUBECONFIG, else to the embedded cluster.
    ///
    /// # Errors
    /// When there is no cluster.
    pub(super) async fn open(embedded: &Path, context: Option<&str>) -> anyhow::Result<Self> {
        let given = context.is_some()
            || std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty());
        if !given && !embedded.exists() {
            return Err(exit::environment(
                "no cluster: start one with `meshdojo up none`, or set KUBECONFIG or --context",
            ));
        }
        let kubeconfig = if given {
            Kubeconfig::read().context("KUBECONFIG")?
        } else {
            Kubeconfig::read_from(embedded)
                .with_context(|| format!("reading {}", embedded.display()))?
        };
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await?;
        // A loopback address is never behind a proxy.
        if config.cluster_url.host() == Some("127.0.0.1") {
            config.proxy_url = None;
        }
        Ok(Self {
            client: Client::try_from(config)?,
            kubeconfig,
            context: context.map(str::to_owned),
        })
    }

    /// The namespaces of the students, by name.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(super) async fn namespaces(&self) -> anyhow::Result<Vec<Namespace>> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let mut all = api
            .list(&ListParams::default().labels(STUDENT))
            .await
            .context("listing the namespaces of students")?
            .items;
        all.sort_by_key(ResourceExt::name_any);
        Ok(all)
    }

    /// The same, for what there has to be a class for.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn students(&self) -> anyhow::Result<Vec<Namespace>> {
        let all = self.namespaces().await?;
        if all.is_empty() {
            return Err(exit::environment(
                "there is no class on this cluster; make one with `meshdojo class create`",
            ));
        }
        Ok(all)
    }
}
