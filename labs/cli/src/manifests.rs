//! The manifests of `k8s/`, carried in the binary: the very files that an instructor applies to a
//! real cluster with `kubectl apply -k`.

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

/// The mesh: CRDs, control plane, ingress gateway.
pub fn install() -> anyhow::Result<Vec<serde_json::Value>> {
    let base =
        base!("install": "namespace.yaml", "crds.yaml", "istiod.yaml", "ingressgateway.yaml");
    objects(&base)
}

/// The bookstore.
pub fn bookinfo() -> anyhow::Result<Vec<serde_json::Value>> {
    let base = base!(
        "apps/bookinfo": "details.yaml", "ratings.yaml", "reviews.yaml", "productpage.yaml",
        "destination-rules.yaml", "gateway.yaml",
    );
    objects(&base)
}

#[derive(serde::Deserialize)]
struct Kustomization {
    resources: Vec<String>,
}

/// The objects of a base in the order of its `resources`. The bases use no other feature of
/// kustomize, so that this is all there is to rendering them.
fn objects(base: &Base) -> anyhow::Result<Vec<serde_json::Value>> {
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
        for document in serde_norway::Deserializer::from_str(text) {
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
        for (base, least) in [(install().unwrap(), 20), (bookinfo().unwrap(), 16)] {
            assert!(base.len() >= least, "{}", base.len());
            for object in &base {
                assert!(
                    object["kind"].is_string() && object["metadata"]["name"].is_string(),
                    "{object}"
                );
            }
        }
    }
}
