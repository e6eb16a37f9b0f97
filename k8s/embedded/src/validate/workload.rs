//! What makes pods from a template.

use serde_json::{Value, json};

use super::metadata::{selector, selects};
use super::{At, Errors, IMMUTABLE, given, list, pod, text};

/// Deployment, ReplicaSet, StatefulSet, DaemonSet: replicas, a selector, a template.
pub(super) fn replicated(kind: &str, old: Option<&Value>, new: &Value, errors: &mut Errors) {
    let at = At::root().key("spec");
    let spec = &new["spec"];
    errors.not_negative(&at, spec, "replicas");
    let is_empty = |selector: &Value| {
        selector
            .get("matchLabels")
            .and_then(Value::as_object)
            .is_none_or(serde_json::Map::is_empty)
            && list(selector, "matchExpressions").is_empty()
    };
    match given(spec, "selector") {
        None => errors.required(&at.key("selector")),
        Some(value) => {
            selector(value, &at.key("selector"), errors);
            if is_empty(value) {
                let why = format!("empty selector is invalid for {}", kind.to_lowercase());
                errors.invalid(&at.key("selector"), value, &why);
            }
        }
    }
    let template = &spec["template"];
    let labels = template["metadata"].get("labels").unwrap_or(&Value::Null);
    let chosen = given(spec, "selector")
        .is_some_and(|selector| is_empty(selector) || selects(selector, labels));
    let template_at = at.key("template");
    if !chosen {
        errors.invalid(
            &template_at.key("metadata").key("labels"),
            labels,
            "`selector` does not match template `labels`",
        );
    }
    pod::template(template, &template_at, errors);
    errors.one_of(
        &template_at.key("spec"),
        &template["spec"],
        "restartPolicy",
        &["Always"],
    );
    if let Some(deadline) = given(&template["spec"], "activeDeadlineSeconds") {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        let at = template_at.key("spec").key("activeDeadlineSeconds");
        let _ = deadline;
        errors.forbidden(&at, &why);
    }
    errors.not_negative(&at, spec, "minReadySeconds");
    errors.not_negative(&at, spec, "revisionHistoryLimit");
    if kind == "Deployment" {
        strategy(spec, &at, errors);
    }
    if let Some(old) = old {
        errors.immutable(
            &at.key("selector"),
            old["spec"].get("selector"),
            spec.get("selector"),
            IMMUTABLE,
        );
    }
    if kind == "StatefulSet"
        && let Some(old) = old
    {
        for field in ["serviceName", "podManagementPolicy", "volumeClaimTemplates"] {
            if old["spec"].get(field) != spec.get(field) {
                errors.forbidden(&at, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden");
                break;
            }
        }
    }
}

fn strategy(spec: &Value, at: &At, errors: &mut Errors) {
    let strategy_at = at.key("strategy");
    let strategy = &spec["strategy"];
    let rolling_at = strategy_at.key("rollingUpdate");
    match text(strategy, "type") {
        "Recreate" => {
            if given(strategy, "rollingUpdate").is_some() {
                errors.forbidden(
                    &rolling_at,
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        "RollingUpdate" => match given(strategy, "rollingUpdate") {
            None => {
                errors.required_because(&rolling_at, "this should be defaulted and never be nil")
            }
            Some(rolling) => {
                for field in ["maxUnavailable", "maxSurge"] {
                    count_or_percent(rolling, field, &rolling_at, errors);
                }
                let zero = |field: &str| matches!(rolling.get(field), Some(value) if *value == 0 || *value == "0%");
                if zero("maxUnavailable") && zero("maxSurge") {
                    let value = &rolling["maxUnavailable"];
                    errors.invalid(
                        &rolling_at.key("maxUnavailable"),
                        value,
                        "may not be 0 when `maxSurge` is 0",
                    );
                }
            }
        },
        _ => errors.one_of(
            &strategy_at,
            strategy,
            "type",
            &["Recreate", "RollingUpdate"],
        ),
    }
    if let (Some(deadline), ready) = (
        given(spec, "progressDeadlineSeconds"),
        spec["minReadySeconds"].as_i64().unwrap_or(0),
    ) && deadline.as_i64().is_some_and(|deadline| deadline <= ready)
    {
        errors.invalid(
            &at.key("progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        );
    }
}

/// `3` or `25%`.
fn count_or_percent(object: &Value, field: &str, at: &At, errors: &mut Errors) {
    match given(object, field) {
        Some(Value::Number(_)) => errors.not_negative(at, object, field),
        Some(value @ Value::String(text)) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|number| number.parse::<u32>().ok());
            match percent {
                None => errors.invalid(
                    &at.key(field),
                    value,
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ),
                Some(percent) if percent > 100 && field == "maxUnavailable" => {
                    errors.invalid(&at.key(field), value, "must not be greater than 100%");
                }
                Some(_) => {}
            }
        }
        _ => {}
    }
}

pub(super) fn job(old: Option<&Value>, new: &Value, errors: &mut Errors) {
    let at = At::root().key("spec");
    job_spec(&new["spec"], &at, errors);
    if let Some(old) = old {
        for field in ["selector", "template", "completionMode"] {
            let (old, new) = (old["spec"].get(field), new["spec"].get(field));
            errors.immutable(&at.key(field), old, new, IMMUTABLE);
        }
    }
}

fn job_spec(spec: &Value, at: &At, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ] {
        errors.not_negative(at, spec, field);
    }
    let template_at = at.key("template");
    pod::template(&spec["template"], &template_at, errors);
    let at = template_at.key("spec");
    match spec["template"]["spec"].get("restartPolicy") {
        None => {}
        Some(policy) if *policy == "Always" => {
            errors.required_because(
                &at.key("restartPolicy"),
                "valid values: \"OnFailure\", \"Never\"",
            );
        }
        Some(_) => errors.one_of(
            &at,
            &spec["template"]["spec"],
            "restartPolicy",
            &["Never", "OnFailure"],
        ),
    }
}

pub(super) fn cron_job(new: &Value, errors: &mut Errors) {
    let at = At::root().key("spec");
    let spec = &new["spec"];
    match text(spec, "schedule") {
        "" => errors.required(&at.key("schedule")),
        schedule if schedule.starts_with('@') => {}
        schedule => {
            let fields = schedule.split_whitespace().count();
            if fields != 5 {
                let why = format!("expected exactly 5 fields, found {fields}: {:?}", schedule);
                errors.invalid(&at.key("schedule"), &json!(schedule), &why);
            }
        }
    }
    errors.one_of(
        &at,
        spec,
        "concurrencyPolicy",
        &["Allow", "Forbid", "Replace"],
    );
    errors.not_negative(&at, spec, "startingDeadlineSeconds");
    job_spec(
        &spec["jobTemplate"]["spec"],
        &at.key("jobTemplate").key("spec"),
        errors,
    );
}
