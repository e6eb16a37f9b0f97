//! What an autoscaler tells: conditions, figures, events.

use super::measure::{Failure, Proposal};
use crate::controllers::events::EventType;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};

/// Type, reason and message of an event.
type Event = (EventType, &'static str, String);

/// The outcome of one look.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// How many replicas there should be; `None` leaves them.
    pub(super) wanted: Option<i32>,
    pub(super) status: Value,
    pub(super) events: Vec<Event>,
}

/// From the proposal to the number that is taken.
pub(super) struct Steps {
    pub(super) stable: i32,
    pub(super) limited: i32,
    pub(super) wanted: i32,
    pub(super) bounds: (i32, i32),
}

/// The status as it was, with other conditions; the moment of an unchanged one stays.
fn with_conditions(
    autoscaler: &HorizontalPodAutoscaler,
    conditions: &[(&str, bool, &str, &str)],
) -> Value {
    let mut status = serde_json::to_value(&autoscaler.status).unwrap_or_default();
    let before = status["conditions"].as_array().cloned().unwrap_or_default();
    let mut after = before.clone();
    for (type_, is_true, reason, message) in conditions {
        let truth = if *is_true { "True" } else { "False" };
        let old = before.iter().find(|c| c["type"] == *type_);
        let since = old
            .filter(|c| c["status"] == truth)
            .map(|c| c["lastTransitionTime"].clone())
            .unwrap_or_else(|| crate::status::timestamp().into());
        after.retain(|c| c["type"] != *type_);
        after.push(json!({
            "type": type_,
            "status": truth,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }));
    }
    status["conditions"] = after.into();
    if let Some(generation) = autoscaler.metadata.generation {
        status["observedGeneration"] = generation.into();
    }
    status
}

impl Report {
    /// One condition is false, and nothing is done.
    pub(super) fn failed(
        autoscaler: &HorizontalPodAutoscaler,
        condition: &str,
        reason: &str,
        message: String,
        event: Event,
    ) -> Self {
        let status = with_conditions(autoscaler, &[(condition, false, reason, &message)]);
        Report {
            wanted: None,
            status,
            events: vec![event],
        }
    }

    /// The target was scaled to nothing by hand.
    pub(super) fn disabled(autoscaler: &HorizontalPodAutoscaler) -> Self {
        let conditions = [
            (
                "AbleToScale",
                true,
                "SucceededGetScale",
                "the HPA controller was able to get the target's current scale",
            ),
            (
                "ScalingActive",
                false,
                "ScalingDisabled",
                "scaling is disabled since the replica count of the target is zero",
            ),
        ];
        let mut status = with_conditions(autoscaler, &conditions);
        status["currentReplicas"] = 0.into();
        status["desiredReplicas"] = 0.into();
        Report {
            status,
            ..Report::default()
        }
    }

    /// No metric could be read.
    pub(super) fn unmeasured(
        autoscaler: &HorizontalPodAutoscaler,
        replicas: i32,
        (reason, why): &Failure,
    ) -> Self {
        let message = format!("the HPA was unable to compute the replica count: {why}");
        let conditions = [
            (
                "AbleToScale",
                true,
                "SucceededGetScale",
                "the HPA controller was able to get the target's current scale",
            ),
            ("ScalingActive", false, *reason, message.as_str()),
        ];
        let mut status = with_conditions(autoscaler, &conditions);
        status["currentReplicas"] = replicas.into();
        if status["desiredReplicas"].is_null() {
            status["desiredReplicas"] = 0.into();
        }
        if let Some(status) = status.as_object_mut() {
            status.shift_remove("currentMetrics");
        }
        let events = vec![
            (EventType::Warning, *reason, why.clone()),
            (
                EventType::Warning,
                "FailedComputeMetricsReplicas",
                format!("invalid metrics (1 invalid out of 1), first error is: {why}"),
            ),
        ];
        Report {
            wanted: None,
            status,
            events,
        }
    }

    /// The number is known.
    pub(super) fn decided(
        autoscaler: &HorizontalPodAutoscaler,
        replicas: i32,
        proposal: &Proposal,
        steps: &Steps,
    ) -> Self {
        let Steps {
            stable,
            limited,
            wanted,
            bounds: (min, max),
        } = *steps;
        let rescaled = wanted != replicas;
        let rescaled_message =
            format!("the HPA controller was able to update the target scale to {wanted}");
        let able = if rescaled {
            ("SucceededRescale", rescaled_message.as_str())
        } else if stable > proposal.replicas {
            (
                "ScaleDownStabilized",
                "recent recommendations were higher than current one, applying the highest recent recommendation",
            )
        } else {
            ("ReadyForNewScale", "recommended size matches current size")
        };
        let found = format!(
            "the HPA was able to successfully calculate a replica count from {}",
            proposal.because
        );
        let limit = if limited > max {
            (
                true,
                "TooManyReplicas",
                "the desired replica count is more than the maximum replica count",
            )
        } else if limited < min {
            (
                true,
                "TooFewReplicas",
                "the desired replica count is less than the minimum replica count",
            )
        } else if limited < stable {
            (
                true,
                "ScaleUpLimit",
                "the desired replica count is increasing faster than the maximum scale rate",
            )
        } else if limited > stable {
            (
                true,
                "ScaleDownLimit",
                "the desired replica count is decreasing faster than the maximum scale rate",
            )
        } else {
            (
                false,
                "DesiredWithinRange",
                "the desired count is within the acceptable range",
            )
        };
        let conditions = [
            ("AbleToScale", true, able.0, able.1),
            ("ScalingActive", true, "ValidMetricFound", found.as_str()),
            ("ScalingLimited", limit.0, limit.1, limit.2),
        ];
        let mut status = with_conditions(autoscaler, &conditions);
        status["currentReplicas"] = replicas.into();
        status["desiredReplicas"] = wanted.into();
        status["currentMetrics"] = proposal.current.clone().into();
        let mut events = Vec::new();
        if rescaled {
            status["lastScaleTime"] = crate::status::timestamp().into();
            let reason = if wanted > replicas {
                format!("{} above target", proposal.because)
            } else if replicas > max {
                "Current number of replicas above Spec.MaxReplicas".to_owned()
            } else {
                "All metrics below target".to_owned()
            };
            let message = format!("New size: {wanted}; reason: {reason}");
            events.push((EventType::Normal, "SuccessfulRescale", message));
        }
        Report {
            wanted: Some(wanted),
            status,
            events,
        }
    }
}
