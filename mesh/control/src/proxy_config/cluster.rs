//! Clusters.

use serde_json::Value;

use super::{
    Listing,
    dump::{Section, resource_behind, text},
};

#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only clusters of this service
    #[arg(long)]
    fqdn: Option<String>,
    /// Only clusters of this port
    #[arg(long)]
    port: Option<u16>,
    /// Only clusters of this direction: inbound or outbound
    #[arg(long)]
    direction: Option<String>,
    /// Only clusters of this subset
    #[arg(long)]
    subset: Option<String>,
}

/// What the name of a cluster says: `DIRECTION|PORT|SUBSET|HOST`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name<'a> {
    host: &'a str,
    port: Option<u16>,
    subset: &'a str,
    direction: &'a str,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Self {
        match *name.split('|').collect::<Vec<_>>() {
            [direction, port, subset, host] => Self {
                host,
                port: port.parse().ok(),
                subset,
                direction,
            },
            _ => Self {
                host: name,
                port: None,
                subset: "",
                direction: "",
            },
        }
    }
}

impl Filter {
    fn keeps(&self, name: &Name<'_>) -> bool {
        let same = |wanted: &Option<String>, value: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        same(&self.fqdn, name.host)
            && (self.port.is_none() || self.port == name.port)
            && same(&self.direction, name.direction)
            && same(&self.subset, name.subset)
    }
}

pub(super) fn list(dump: &Value, filter: &Filter) -> Option<Listing> {
    let mut clusters: Vec<(Name<'_>, &Value)> = Section::Clusters
        .resources(dump)?
        .into_iter()
        .map(|cluster| (Name::parse(text(cluster, "name")), cluster))
        .filter(|(name, _)| filter.keeps(name))
        .collect();
    clusters.sort_by(|(one, _), (other, _)| one.cmp(other));
    let or_dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
    let rows = clusters.iter().map(|(name, cluster)| {
        [
            name.host.to_owned(),
            name.port.map_or("-".into(), |port| port.to_string()),
            or_dash(name.subset),
            or_dash(name.direction),
            text(cluster, "type").to_owned(),
            resource_behind(cluster),
        ]
    });
    let heads = [
        "SERVICE FQDN",
        "PORT",
        "SUBSET",
        "DIRECTION",
        "TYPE",
        "DESTINATION RULE",
    ];
    let messages = clusters.iter().map(|(_, cluster)| (*cluster).clone());
    Some(Listing::of(heads, rows, messages.collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_config::{Cluster, Discovery, Snapshot, envoy::dump::config_dump, names};

    use super::{super::columns, *};

    fn dump() -> Value {
        let mut snapshot = Snapshot::default();
        let host = "reviews.default.svc.cluster.local";
        let rule: Arc<str> = names::config("destination-rule", "default", "reviews").into();
        for (name, kind, config) in [
            (
                names::outbound(9080, "", host),
                Discovery::Eds,
                Some(rule.clone()),
            ),
            (
                names::outbound(9080, "v2", host),
                Discovery::Eds,
                Some(rule),
            ),
            (
                names::outbound(80, "", "api.test"),
                Discovery::StrictDns,
                None,
            ),
            (names::inbound(9080), Discovery::Eds, None),
            (
                names::PASSTHROUGH_CLUSTER.into(),
                Discovery::OriginalDst,
                None,
            ),
        ] {
            let cluster = Cluster {
                config,
                ..Cluster::new(&name, kind)
            };
            snapshot.clusters.insert(name, Arc::new(cluster));
        }
        config_dump(&snapshot, &Default::default()).unwrap()
    }

    #[test]
    fn each_cluster_is_a_line() {
        let listing = list(&dump(), &Filter::default()).unwrap();
        let expected = "\
SERVICE FQDN                          PORT     SUBSET     DIRECTION     TYPE             DESTINATION RULE
                                      9080     -          inbound       EDS
PassthroughCluster                    -        -          -             ORIGINAL_DST
api.test                              80       -          outbound      STRICT_DNS
reviews.default.svc.cluster.local     9080     -          outbound      EDS              reviews.default
reviews.default.svc.cluster.local     9080     v2         outbound      EDS              reviews.default
";
        assert_eq!(columns(&listing.table), expected);
    }

    #[test]
    fn filters_hold_for_the_messages_too() {
        let filter = |filter: Filter| {
            let listing = list(&dump(), &filter).unwrap();
            assert_eq!(
                listing.table.len(),
                listing.messages.as_array().unwrap().len() + 1
            );
            listing.messages.as_array().unwrap().len()
        };
        let fqdn = Some("reviews.default.svc.cluster.local".into());
        assert_eq!(
            filter(Filter {
                fqdn: fqdn.clone(),
                ..Filter::default()
            }),
            2
        );
        assert_eq!(
            filter(Filter {
                fqdn,
                subset: Some("v2".into()),
                ..Filter::default()
            }),
            1
        );
        assert_eq!(
            filter(Filter {
                port: Some(9080),
                direction: Some("inbound".into()),
                ..Filter::default()
            }),
            1
        );
        assert_eq!(
            filter(Filter {
                port: Some(1),
                ..Filter::default()
            }),
            0
        );
    }
}
