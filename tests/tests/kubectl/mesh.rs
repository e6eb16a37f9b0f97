//! Istio resources and sidecars.

use crate::{
    Step,
    namespace::{Namespace, contains, same},
};

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("istio_resources", istio_resources),
    ("sidecar_injection", sidecar_injection),
];

pub(crate) const VIRTUAL_SERVICE: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web }
spec:
  hosts: [web]
  http:
    - route: [{ destination: { host: web, port: { number: 80 } }, weight: 100 }]
"#;

fn istio_resources(ns: &Namespace) -> anyhow::Result<()> {
    same(
        &ns.typed("apply -f -", VIRTUAL_SERVICE)?,
        "virtualservice.networking.istio.io/web created",
    )?;
    same(
        &ns.typed("apply -f -", VIRTUAL_SERVICE)?,
        "virtualservice.networking.istio.io/web unchanged",
    )?;
    contains(
        &ns.ok("get vs")?,
        &["NAME", "GATEWAYS", "HOSTS", "AGE", r#"["web"]"#],
    )?;
    contains(
        &ns.ok("get virtualservices.v1alpha3.networking.istio.io web -o yaml")?,
        &["apiVersion: networking.istio.io/v1alpha3"],
    )?;
    let negative = VIRTUAL_SERVICE.replace("weight: 100", "weight: -1");
    contains(
        &ns.refused("apply -f -", &negative)?,
        &["spec.http[0].route[0].weight", "-1"],
    )?;
    let old = VIRTUAL_SERVICE
        .replace("io/v1\n", "io/v1beta1\n")
        .replace("name: web", "name: old");
    same(
        &ns.typed("apply -f -", &old)?,
        "virtualservice.networking.istio.io/old created",
    )?;
    contains(
        &ns.typed("delete -f -", VIRTUAL_SERVICE)?,
        &[r#"virtualservice.networking.istio.io "web" deleted"#],
    )
}

fn sidecar_injection(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    contains(&ns.ok("get pods --no-headers")?, &["1/1"])?;
    ns.exact(&["label", "namespace", &ns.name, "istio-injection=enabled"])?;
    ns.ok("rollout restart deployment/web")?;
    ns.ok("rollout status deployment/web --timeout=40s")?;
    let pods = ns.ok("get pods -l app=web --field-selector=status.phase=Running --no-headers")?;
    contains(&pods, &["2/2"])?;
    let out = "{\"spec\":{\"template\":{\"metadata\":{\"labels\":{\"sidecar.istio.io/inject\":\"false\"}}}}}";
    ns.exact(&["patch", "deployment", "web", "-p", out])?;
    ns.ok("rollout status deployment/web --timeout=40s")?;
    ns.ok("wait --for=jsonpath={.status.terminatingReplicas}=0 deployment/web --timeout=60s")?;
    contains(&ns.ok("get pods --no-headers")?, &["1/1"])
}
