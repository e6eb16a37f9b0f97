//! `meshdojo proxy-config log`: the levels of a proxy's own log.

use kube::Client;

use crate::pod_admin::{PodAdmin, PodArgs};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    pod: PodArgs,
    /// A level for all loggers (trace, debug, info, warning, error, critical, off), or LOGGER:LEVEL,...
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
}

/// Sets what is asked and prints what is now, one logger a line.
pub(super) async fn run(args: &Args, client: Client) -> anyhow::Result<()> {
    let mut admin = PodAdmin::connect(client, &args.pod).await?;
    let page = page(args.level.as_deref());
    print!("{}", admin.post(&page).await?);
    Ok(())
}

/// The page of the admin interface that does it.
fn page(level: Option<&str>) -> String {
    match level {
        None => "/logging".into(),
        Some(pairs) if pairs.contains(':') => format!("/logging?paths={pairs}"),
        Some(level) => format!("/logging?level={level}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_level_is_for_all_and_pairs_are_for_single_loggers() {
        assert_eq!(page(None), "/logging");
        assert_eq!(page(Some("debug")), "/logging?level=debug");
        assert_eq!(
            page(Some("rbac:debug,router:info")),
            "/logging?paths=rbac:debug,router:info"
        );
    }
}
