//! `meshdojo kubeconfig` and `meshdojo env`: how kubectl finds the cluster.

use std::path::Path;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{arguments::NameArgs, exit, home::Home};

/// Prints the path of the kubeconfig file.
pub fn print_path(home: &Home, args: &NameArgs) -> anyhow::Result<()> {
    println!("{}", path(home, args)?);
    Ok(())
}

/// Prints `export KUBECONFIG=...` for the shell.
pub fn print_env(home: &Home, args: &NameArgs) -> anyhow::Result<()> {
    println!(
        "export KUBECONFIG='{}'",
        path(home, args)?.replace('\'', r"'\''")
    );
    Ok(())
}

fn path(home: &Home, args: &NameArgs) -> anyhow::Result<String> {
    let cluster = home.cluster(&args.name);
    let file = cluster.kubeconfig();
    if !file.exists() {
        cluster.require_running()?;
        return Err(exit::environment(format!(
            "{} is not there yet; run `meshdojo up`",
            file.display()
        )));
    }
    Ok(file.display().to_string())
}

/// A client of the cluster behind a kubeconfig file. Proxy variables of the shell do not apply to it.
pub async fn client(file: &Path) -> anyhow::Result<Client> {
    let mut config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &KubeConfigOptions::default())
            .await?;
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}
