//! How what a proxy has differs from what the control plane has for it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::state::refused;
use crate::proxy_config::Section;

/// A line per type of resource; where it differs, one more for each resource that does.
pub(super) fn text(told: &Value, own: &Value) -> String {
    let mut text = String::new();
    for (title, section) in [
        ("Clusters", Section::Clusters),
        ("Endpoints", Section::Endpoints),
        ("Listeners", Section::Listeners),
        ("Routes", Section::Routes),
    ] {
        let differences = differences(&by_name(section, told), &by_name(section, own));
        if differences.is_empty() {
            text += &format!("{title} Match\n");
            continue;
        }
        text += &format!("{title} Don't Match\n");
        for difference in differences {
            text += &format!("  {difference}\n");
        }
    }
    for it in refused(own) {
        text += &format!(
            "{} {} was refused, what was there before is in effect: {}\n",
            it.of, it.name, it.details
        );
    }
    text
}

fn by_name<'a>(section: Section, dump: &'a Value) -> BTreeMap<&'a str, &'a Value> {
    let resources = section.resources(dump).unwrap_or_default().into_iter();
    // Endpoints have the name of their cluster.
    let named = |it: &'a Value| {
        let mut fields = ["name", "cluster_name"].into_iter();
        fields.find_map(|field| Some((it.get(field)?.as_str()?, it)))
    };
    resources.filter_map(named).collect()
}

fn differences(told: &BTreeMap<&str, &Value>, own: &BTreeMap<&str, &Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in told {
        match own.get(name) {
            None => found.push(format!("{name}: the proxy does not have it")),
            Some(other) if other != value => {
                found.push(format!("{name}: the proxy has another version"))
            }
            Some(_) => {}
        }
    }
    let gone = own.keys().filter(|name| !told.contains_key(*name));
    found.extend(gone.map(|name| format!("{name}: only the proxy has it")));
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dump(clusters: Value, route_error: Value) -> Value {
        json!({ "configs": [
            { "@type": "x.ClustersConfigDump", "dynamic_active_clusters": clusters },
            { "@type": "x.RoutesConfigDump", "dynamic_route_configs": [
                { "route_config": { "name": "80" }, "error_state": route_error } ] },
        ] })
    }

    #[test]
    fn each_difference_is_named() {
        let cluster = |name: &str, kind: &str| json!({ "cluster": { "name": name, "type": kind } });
        let told = dump(
            json!([
                cluster("a", "EDS"),
                cluster("b", "EDS"),
                cluster("c", "EDS")
            ]),
            Value::Null,
        );
        let equal = "Clusters Match\nEndpoints Match\nListeners Match\nRoutes Match\n";
        assert_eq!(text(&told, &told), equal);
        let own = dump(
            json!([
                cluster("a", "EDS"),
                cluster("b", "STATIC"),
                cluster("d", "EDS")
            ]),
            json!({ "details": "bad regular expression" }),
        );
        let expected = "\
Clusters Don't Match
  b: the proxy has another version
  c: the proxy does not have it
  d: only the proxy has it
Endpoints Match
Listeners Match
Routes Match
RDS 80 was refused, what was there before is in effect: bad regular expression
";
        assert_eq!(text(&told, &own), expected);
    }
}
