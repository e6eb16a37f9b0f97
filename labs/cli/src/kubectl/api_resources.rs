//! `api-resources`: the kinds that the cluster has.

use std::{io::Write as _, process::ExitCode};

use clap::Args;

use super::{
    kinds::{Kind, Kinds},
    server::Server,
    table::Columns,
};

/// `kubectl api-resources`.
#[derive(Args)]
pub struct ApiResourcesArgs {
    /// Only those of this group
    #[arg(long)]
    api_group: Option<String>,
    /// Only those in namespaces; =false: only those that are not
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    namespaced: Option<bool>,
    /// Without the line of headings
    #[arg(long)]
    no_headers: bool,
    /// name: only their names
    #[arg(short, long, value_parser = ["name"])]
    output: Option<String>,
}

/// Lists the kinds.
pub async fn run(server: &Server, args: ApiResourcesArgs) -> anyhow::Result<ExitCode> {
    let kinds = Kinds::of(server).await?;
    let text = listed(kinds.all(), &args);
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn listed(kinds: &[Kind], args: &ApiResourcesArgs) -> String {
    let mut shown: Vec<&Kind> = kinds
        .iter()
        .filter(|kind| {
            args.api_group
                .as_ref()
                .is_none_or(|group| kind.group == *group)
        })
        .filter(|kind| {
            args.namespaced
                .is_none_or(|wanted| kind.namespaced == wanted)
        })
        .collect();
    shown.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
    if args.output.is_some() {
        let name = |kind: &&Kind| match kind.group.as_str() {
            "" => format!("{}\n", kind.plural),
            group => format!("{}.{group}\n", kind.plural),
        };
        return shown.iter().map(name).collect();
    }
    let row = |kind: &&Kind| {
        vec![
            kind.plural.clone(),
            kind.short.join(","),
            kind.api_version(),
            kind.namespaced.to_string(),
            kind.kind.clone(),
        ]
    };
    let mut rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    if !args.no_headers {
        let headings = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
        rows.insert(0, headings.map(str::to_owned).to_vec());
    }
    Columns::default().lines(&rows)
}
