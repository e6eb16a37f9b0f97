//! The webhooks' HTTP side: AdmissionReview in, AdmissionReview out.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::Pod,
    },
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{annotations::not_carried_out, decide::wanted, patch::patch};
use crate::{InjectionArgs, confine, metrics::Metrics, report};

/// Kubernetes' limit of an object is 1.5 MiB; a review holds two, and some.
const LARGEST_REVIEW: usize = 4 << 20;

/// The configurations that call us to validate: the mesh's own, and that of a class.
const VALIDATING: [&str; 2] = ["istio-validator-istio-system", "meshdojo-class"];

struct Webhooks {
    settings: InjectionArgs,
    metrics: Arc<Metrics>,
}

/// `POST /inject` for pods, `POST /validate` for Istio's resources, `POST /confine/DOMAIN` for a class.
pub(crate) fn router(settings: InjectionArgs, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/inject", post(inject))
        .route("/validate", post(validate))
        .merge(confine::router())
        .layer(DefaultBodyLimit::max(LARGEST_REVIEW))
        .with_state(Arc::new(Webhooks { settings, metrics }))
}

async fn inject(State(webhooks): State<Arc<Webhooks>>, Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    let metrics = &webhooks.metrics;
    let pod: Pod = match serde_json::from_value(request["object"].clone()) {
        Ok(pod) => pod,
        Err(error) => {
            metrics.injection_failed.fetch_add(1, Relaxed);
            return answer(
                request,
                json!({ "allowed": false, "status": { "code": 400,
                "message": format!("the sidecar injector cannot read the pod: {error}") } }),
            );
        }
    };
    let namespace = request["namespace"].as_str().unwrap_or("default");
    if let Err(reason) = wanted(&pod, namespace) {
        metrics.injection_skipped.fetch_add(1, Relaxed);
        tracing::debug!("pod in {namespace} is not injected: {reason}");
        return answer(request, json!({ "allowed": true }));
    }
    metrics.injected.fetch_add(1, Relaxed);
    let patch = json!(patch(&pod, &webhooks.settings)).to_string();
    let annotations = pod.metadata.annotations.unwrap_or_default();
    answer(
        request,
        json!({
            "allowed": true,
            "warnings": not_carried_out(&annotations),
            "patchType": "JSONPatch",
            "patch": STANDARD.encode(patch),
        }),
    )
}

async fn validate(Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    answer(request, verdict(&request["object"]))
}

/// Refuses what Istio's validation refuses; what is not carried out comes as warnings.
fn verdict(object: &Value) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default();
    let messages = report::of_object(kind, object);
    let (errors, warnings): (Vec<_>, Vec<_>) = messages
        .into_iter()
        .partition(|message| message.invalidates);
    let texts = |messages: Vec<report::Message>| -> Vec<String> {
        messages.into_iter().map(|m| m.text).collect()
    };
    let errors: Vec<_> = texts(errors)
        .iter()
        .map(|text| text.replacen("Schema validation error: ", "", 1))
        .collect();
    let warnings = texts(warnings);
    let message = match errors.as_slice() {
        [] => return json!({ "allowed": true, "warnings": warnings }),
        [only] => format!("configuration is invalid: {only}"),
        several => {
            let list: String = several
                .iter()
                .map(|error| format!("\n\t* {error}"))
                .collect();
            format!(
                "configuration is invalid: {} errors occurred:{list}\n\n",
                several.len()
            )
        }
    };
    json!({ "allowed": false, "warnings": warnings, "status": { "code": 400, "reason": "BadRequest", "message": message } })
}

/// The AdmissionReview that answers a request.
pub(crate) fn answer(request: &Value, mut response: Value) -> Json<Value> {
    response["uid"] = request["uid"].clone();
    Json(
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }),
    )
}

/// Makes the API server trust our certificate: writes the authority into the webhook
/// configurations. One that is not installed is left alone.
pub(super) async fn trust(client: &Client, authority: &str) -> anyhow::Result<()> {
    let bundle = ByteString(authority.as_bytes().to_vec());
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    if let Some(found) = mutating.get_opt("istio-sidecar-injector").await? {
        let webhooks = found
            .webhooks
            .iter()
            .flatten()
            .map(|webhook| (webhook.name.clone(), &webhook.client_config.ca_bundle));
        if let Some(patch) = bundles(webhooks, &bundle) {
            mutating.patch("istio-sidecar-injector", &PatchParams::default(), &Patch::Strategic(patch)).await
                .context("writing the authority into MutatingWebhookConfiguration istio-sidecar-injector")?;
        }
    }
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    for name in VALIDATING {
        let Some(found) = validating.get_opt(name).await? else {
            continue;
        };
        let webhooks = found
            .webhooks
            .iter()
            .flatten()
            .map(|webhook| (webhook.name.clone(), &webhook.client_config.ca_bundle));
        if let Some(patch) = bundles(webhooks, &bundle) {
            validating
                .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
                .with_context(|| {
                    format!("writing the authority into ValidatingWebhookConfiguration {name}")
                })?;
        }
    }
    Ok(())
}

/// Strategic merge by the name of the webhook; `None` when all have the bundle.
fn bundles<'a>(
    webhooks: impl Iterator<Item = (String, &'a Option<ByteString>)>,
    bundle: &ByteString,
) -> Option<Value> {
    let stale: Vec<_> = webhooks
        .filter(|(_, current)| current.as_ref() != Some(bundle))
        .map(|(name, _)| json!({ "name": name, "clientConfig": { "caBundle": bundle } }))
        .collect();
    (!stale.is_empty()).then(|| json!({ "webhooks": stale }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_worded_as_istios() {
        let service = |http: Value| json!({"kind": "VirtualService", "metadata": {"name": "a"}, "spec": {"hosts": ["a"], "http": http}});
        let to = |weight: i32| json!({"destination": {"host": "a"}, "weight": weight});
        assert_eq!(
            verdict(&service(json!([{"route": [to(1)]}])))["allowed"],
            true
        );
        let refused = verdict(&service(json!([{"route": [to(0), to(0)]}])));
        assert_eq!(
            refused["status"]["message"],
            "configuration is invalid: total destination weight = 0"
        );
        let refused = verdict(&service(json!([{}, {"route": [to(-1)]}])));
        assert_eq!(
            refused["status"]["message"],
            "configuration is invalid: 2 errors occurred:\n\t* HTTP route, redirect or direct_response is required\n\t* weight -1 < 0\n\n"
        );
        let warned = verdict(&service(
            json!([{"route": [to(1)], "match": [{"statPrefix": "b"}]}]),
        ));
        assert_eq!(warned["allowed"], true);
        assert_eq!(warned["warnings"].as_array().unwrap().len(), 1);
    }
}
