use super::*;
use serde_json::json;

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["hosts"], "properties": {
            "hosts": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[a-z*.]+$"}},
            "mode": {"type": "string", "enum": ["A", "B"], "default": "A"},
            "weight": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 100},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "port": {"x-kubernetes-int-or-string": true},
            "match": {"type": "object", "oneOf": [
                {"not": {"anyOf": [{"required": ["exact"]}, {"required": ["prefix"]}]}},
                {"required": ["exact"]}, {"required": ["prefix"]}],
                "properties": {"exact": {"type": "string"}, "prefix": {"type": "string"}}},
        }},
    }})
}

#[test]
fn unknown_fields_are_pruned_and_named() {
    let mut object = json!({"apiVersion": "a/v1", "kind": "X", "metadata": {"name": "x"},
        "spec": {"hostss": 1, "hosts": ["a"], "labels": {"any": "thing"}, "free": {"x": {"y": 1}}},
        "https": []});
    assert_eq!(prune(&schema(), &mut object), ["spec.hostss", "https"]);
    assert_eq!(
        object["spec"],
        json!({"hosts": ["a"], "labels": {"any": "thing"}, "free": {"x": {"y": 1}}})
    );
}

#[test]
fn defaults_fill_in() {
    let mut object = json!({"spec": {"hosts": ["a"]}});
    default(&schema(), &mut object);
    assert_eq!(object["spec"]["mode"], "A");
    let mut object = json!({"metadata": {}});
    default(&schema(), &mut object);
    assert!(object["spec"].is_null());
}

fn messages(spec: Value) -> Vec<(String, String)> {
    validate(&schema(), &json!({"spec": spec}))
        .into_iter()
        .map(|cause| (cause.field, cause.message))
        .collect()
}

#[test]
fn wrong_values_are_told_in_the_words_of_kubernetes() {
    let one = |spec, field: &str, message: &str| {
        assert_eq!(messages(spec), [(field.to_owned(), message.to_owned())]);
    };
    one(
        json!({"hosts": "reviews"}),
        "spec.hosts",
        "Invalid value: \"string\": spec.hosts in body must be of type array: \"string\"",
    );
    one(json!({}), "spec.hosts", "Required value");
    one(
        json!({"hosts": ["a"], "mode": "a"}),
        "spec.mode",
        "Unsupported value: \"a\": supported values: \"A\", \"B\"",
    );
    one(
        json!({"hosts": ["a"], "weight": -1}),
        "spec.weight",
        "Invalid value: -1: spec.weight in body should be greater than or equal to 0",
    );
    one(
        json!({"hosts": ["a"], "match": {"exact": "a", "prefix": "b"}}),
        "<nil>",
        "Invalid value: \"\": \"spec.match\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
    );
    one(
        json!({"hosts": ["A"]}),
        "spec.hosts[0]",
        "Invalid value: \"A\": spec.hosts[0] in body should match '^[a-z*.]+$'",
    );
    assert!(messages(json!({"hosts": ["a"], "match": {}, "port": 1, "weight": 50})).is_empty());
    assert!(messages(json!({"hosts": ["a"], "match": {"exact": "x"}, "port": "http"})).is_empty());
    assert_eq!(messages(json!({"hosts": ["a"], "port": true})).len(), 1);
}
