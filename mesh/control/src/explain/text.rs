//! An explanation as people read it.

mod action;
mod condition;

use mesh_config::{
    ClusterState, Explanation, HealthStatus, LbPolicy, Outcome, Rule, Verdict, names,
};

use condition::{conditions, failed};

/// Names before the values, as wide as the widest of them.
fn line(name: &str, value: &str) -> String {
    format!("{name:<18}{value}\n")
}

/// The whole explanation.
pub(super) fn text(it: &Explanation) -> String {
    let mut text = line("Listener", &format!("{} on {}", it.listener, it.address));
    match &it.filter_chain {
        Some(chain) => text += &line("Filter chain", chain),
        None => {
            text += &line(
                "Filter chain",
                "none takes it: the connection is closed (NR)",
            )
        }
    }
    match &it.outcome {
        Outcome::Closed if it.filter_chain.is_some() => {
            text +=
                "\nThe port is one of HTTP, and TLS does not end here: the connection is closed.\n";
        }
        Outcome::Closed => {}
        Outcome::Tcp(split) => {
            text += "\nTCP: bytes are passed on, no route is asked.\n\n";
            let shares = split.iter().map(|to| (to.name.as_str(), to.weight));
            text += &destinations(shares, &it.clusters);
        }
        Outcome::Http {
            route_table,
            virtual_host,
            domains,
            rules,
        } => {
            let unknown = "not known: 404 (NR)";
            let table = route_table.as_deref().unwrap_or(unknown);
            text += &line("Route table", table);
            let host = match virtual_host {
                Some(name) => format!("{name} ({})", domains.join(", ")),
                None => "none has this host name: 404 (NR)".into(),
            };
            text += &line("Virtual host", &host);
            if it.guarded {
                text += &line("Policies", "asked before; not part of this");
            }
            if virtual_host.is_some() {
                text += &of_rules(rules, &it.clusters);
            }
        }
    }
    text
}

fn of_rules(rules: &[Rule], clusters: &[ClusterState]) -> String {
    let mut text = String::from("\nRules\n");
    for (index, rule) in rules.iter().enumerate() {
        let route = &rule.route;
        let verdict = match rule.verdict {
            Verdict::Matched => "matches",
            Verdict::Failed { .. } => "no",
            Verdict::NotReached => "not reached",
        };
        let mut of = resource(route.config.as_deref(), "VirtualService");
        if !route.name.is_empty() {
            of = [of.as_str(), route.name.as_str()]
                .join(" ")
                .trim()
                .to_owned();
        }
        text += &format!(
            "  {}  {verdict:<13}{}",
            index + 1,
            conditions(&route.matches)
        );
        text += &match of.is_empty() {
            true => "\n".into(),
            false => format!("   [{of}]\n"),
        };
        if let Verdict::Failed { condition, seen } = &rule.verdict {
            text += &format!(
                "       {}\n",
                failed(&route.matches, *condition, seen.as_deref())
            );
        }
    }
    let matched = rules.iter().find(|rule| rule.verdict == Verdict::Matched);
    text += &match matched {
        None if rules.is_empty() => "  none at all: 404 (NR)\n".to_owned(),
        None => "  none matches: 404 (NR)\n".to_owned(),
        Some(rule) => format!("\n{}", action::action(&rule.route, clusters)),
    };
    text
}

/// `VirtualService reviews.default`; empty: there is none.
fn resource(config: Option<&str>, kind: &str) -> String {
    let path: Vec<&str> = config.unwrap_or_default().split('/').collect();
    match path[..] {
        [.., "namespaces", namespace, _, name] => format!("{kind} {name}.{namespace}"),
        _ => String::new(),
    }
}

/// Clusters with their shares and endpoints.
fn destinations<'a>(
    shares: impl Iterator<Item = (&'a str, u32)> + Clone,
    clusters: &[ClusterState],
) -> String {
    let sum: u64 = shares.clone().map(|(_, weight)| u64::from(weight)).sum();
    let mut text = String::from("Goes to\n");
    for (name, weight) in shares {
        let share = u64::from(weight) * 1000 / sum.max(1);
        let (whole, tenth) = (share / 10, share % 10);
        let share = match tenth {
            0 => format!("{whole}%"),
            _ => format!("{whole}.{tenth}%"),
        };
        let state = clusters.iter().find(|state| state.name == name);
        text += &format!("  {share:<7}{name}\n");
        text += &cluster(name, state);
    }
    text
}

/// What is to be said of a cluster, below its name.
fn cluster(name: &str, state: Option<&ClusterState>) -> String {
    const INDENT: &str = "         ";
    let mut text = String::new();
    let mut say = |line: &str| text += &format!("{INDENT}{line}\n");
    match name {
        names::PASSTHROUGH_CLUSTER => {
            say("no service of the mesh: it goes to where the client wanted, unchanged");
            return text;
        }
        names::BLACK_HOLE_CLUSTER => {
            say(
                "no service of the mesh, and only those may be called (REGISTRY_ONLY): it ends here",
            );
            return text;
        }
        _ => {}
    }
    let cluster = state.and_then(|state| state.cluster.as_deref());
    let (Some(state), Some(cluster)) = (state, cluster) else {
        say("there is no such cluster: 503 (NC). Is the subset missing in the DestinationRule?");
        return text;
    };
    let policy = match cluster.lb_policy {
        LbPolicy::LeastRequest => "LEAST_REQUEST",
        LbPolicy::RoundRobin => "ROUND_ROBIN",
        LbPolicy::Random => "RANDOM",
        LbPolicy::RingHash { .. } => "RING_HASH",
        LbPolicy::Maglev { .. } => "MAGLEV",
    };
    let mut facts = vec![policy.to_owned()];
    let subset = name.split('|').nth(2).filter(|subset| !subset.is_empty());
    facts.extend(subset.map(|subset| format!("subset {subset}")));
    let rule = resource(cluster.config.as_deref(), "DestinationRule");
    facts.extend((!rule.is_empty()).then_some(rule));
    if cluster.tls.is_some() {
        facts.push("TLS".into());
    }
    if cluster.outlier_detection.is_some() {
        facts.push("outlier detection".into());
    }
    say(&facts.join(", "));
    if state.endpoints.is_empty() {
        say("no endpoints: 503 (UH)");
    }
    for it in &state.endpoints {
        let health = match (it.endpoint.health, it.ejected) {
            (HealthStatus::Healthy, false) => "healthy",
            (HealthStatus::Healthy, true) => "ejected by outlier detection",
            (HealthStatus::Unhealthy, _) => "not ready",
            (HealthStatus::Draining, _) => "going away",
        };
        let address = it.endpoint.address.to_string();
        let priority = match it.endpoint.priority {
            0 => String::new(),
            priority => format!(", priority {priority}"),
        };
        let workload = &it.endpoint.workload.name;
        say(&format!("{address:<22}{workload:<20}{health}{priority}"));
    }
    text
}

#[cfg(test)]
mod tests;
