//! `LabelSelector` objects.

use serde_json::Value;

/// Whether labels match a `LabelSelector`. An absent or empty one matches everything.
pub(crate) fn matches(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| labels[key] == *value);
    let expressions = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
        .all(|expression| {
            let label = expression["key"]
                .as_str()
                .and_then(|key| labels[key].as_str());
            let among = |label: &str| {
                expression["values"]
                    .as_array()
                    .is_some_and(|values| values.iter().any(|value| value == label))
            };
            match expression["operator"].as_str() {
                Some("In") => label.is_some_and(among),
                Some("NotIn") => !label.is_some_and(among),
                Some("Exists") => label.is_some(),
                Some("DoesNotExist") => label.is_none(),
                _ => false,
            }
        });
    equal && expressions
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_match_as_in_kubernetes() {
        let labels = json!({"app": "web", "istio-injection": "enabled"});
        for yes in [
            json!({}),
            Value::Null,
            json!({"matchLabels": {"app": "web"}}),
            json!({"matchExpressions": [
                {"key": "istio-injection", "operator": "In", "values": ["enabled"]},
                {"key": "rev", "operator": "DoesNotExist"},
                {"key": "rev", "operator": "NotIn", "values": ["x"]}]}),
        ] {
            assert!(matches(&yes, &labels), "{yes}");
        }
        for no in [
            json!({"matchLabels": {"app": "db"}}),
            json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
            json!({"matchExpressions": [{"key": "rev", "operator": "Exists"}]}),
            json!({"matchExpressions": [{"key": "app", "operator": "Near"}]}),
        ] {
            assert!(!matches(&no, &labels), "{no}");
        }
    }
}
