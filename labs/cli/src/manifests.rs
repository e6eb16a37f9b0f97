//! The manifests of `k8s/`, carried in the binary: the very files that an instructor applies to a
//! real cluster with `kubectl apply -k`.

use crate::arguments::App;

/// A kustomize base: its `kustomization.yaml` and the files it may name.
struct Base {
    kustomization: &'static str,
    files: &'static [(&'static str, &'static str)],
}

macro_rules! base {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        Base {
            kustomization: include_str!(concat!("../../../k8s/", $folder, "/kustomization.yaml")),
            files: &[$(($file, include_str!(concat!("../../../k8s/", $folder, "/", $file)))),+],
        }
    };
}

/// The mesh: CRDs, control plane, ingress gateway. One machine has one copy of each, and nothing
/// that makes more.
pub fn install() -> anyhow::Result<Vec<serde_json::Value>> {
    let base = base!(
        "install": "namespace.yaml", "crds.yaml", "istiod.yaml", "ingressgateway.yaml",
        "high-availability.yaml",
    );
    let mut objects = objects(&base, &str::to_owned)?;
    objects.retain(|object| {
        object["kind"] != "PodDisruptionBudget" && object["kind"] != "HorizontalPodAutoscaler"
    });
    for deployment in objects.iter_mut().filter(|o| o["kind"] == "Deployment") {
        deployment["spec"]["replicas"] = 1.into();
    }
    Ok(objects)
}

/// An application of `k8s/apps`.
pub fn app(app: App) -> anyhow::Result<Vec<serde_json::Value>> {
    app_rendered(app, &str::to_owned)
}

/// The same with its files changed by `render`.
pub fn app_rendered(
    app: App,
    render: &dyn Fn(&str) -> String,
) -> anyhow::Result<Vec<serde_json::Value>> {
    let base = match app {
        App::Bookinfo => base!(
            "apps/bookinfo": "details.yaml", "ratings.yaml", "reviews.yaml", "productpage.yaml",
            "destination-rules.yaml", "gateway.yaml",
        ),
        App::Fleetman => base!(
            "apps/fleetman": "position-simulator.yaml", "position-tracker.yaml", "vehicle-telemetry.yaml",
            "staff-service.yaml", "api-gateway.yaml", "webapp.yaml", "destination-rules.yaml", "gateway.yaml",
        ),
        App::Hello => {
            base!("apps/hello": "service.yaml", "hello-server-1.yaml", "hello-server-2.yaml")
        }
        App::Helloworld => base!("apps/helloworld": "helloworld.yaml"),
        App::Delivery => base!("apps/delivery": "delivery.yaml"),
        App::Simple => {
            base!("apps/simple": "simple-web.yaml", "simple-backend.yaml", "gateway.yaml")
        }
        App::Booking => base!("apps/booking": "configuration.yaml", "booking.yaml", "vaccine.yaml"),
        App::Httpbin => base!("apps/httpbin": "httpbin.yaml"),
        App::Userlist => base!("apps/userlist": "userlist.yaml"),
        App::Echo => base!("apps/echo": "tcp-echo.yaml", "grpc-echo.yaml"),
    };
    objects(&base, render)
}

#[derive(serde::Deserialize)]
struct Kustomization {
    resources: Vec<String>,
}

/// The objects of a base in the order of its `resources`. The bases use no other feature of
/// kustomize, so that this is all there is to rendering them.
fn objects(base: &Base, render: &dyn Fn(&str) -> String) -> anyhow::Result<Vec<serde_json::Value>> {
    let kustomization: Kustomization = serde_norway::from_str(base.kustomization)?;
    let mut objects = Vec::new();
    for resource in &kustomization.resources {
        let (_, text) = base
            .files
            .iter()
            .find(|(name, _)| name == resource)
            .ok_or_else(|| {
                anyhow::anyhow!("{resource} is named by kustomization.yaml but not carried")
            })?;
        for document in serde_norway::Deserializer::from_str(&render(text)) {
            let object: serde_json::Value = serde::Deserialize::deserialize(document)?;
            if !object.is_null() {
                objects.push(object);
            }
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_base_is_whole() {
        let apps = App::ALL.iter().map(|app| self::app(*app).unwrap());
        for base in apps.chain([install().unwrap()]) {
            assert!(base.iter().any(|object| object["kind"] == "Deployment"));
            for object in &base {
                assert!(
                    object["kind"].is_string() && object["metadata"]["name"].is_string(),
                    "{object}"
                );
            }
        }
    }
}
