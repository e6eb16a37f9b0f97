//! Wrong answers of students, each with the reason that is told first.

use serde::Deserialize;
use serde_json::Value;

use super::*;

/// A namespace with two services, as labs find it.
const GOOD: &str = "
{ kind: Namespace, metadata: { name: default, labels: { istio-injection: enabled } } }
---
{ kind: Service, metadata: { name: reviews, namespace: default }, spec: { selector: { app: reviews }, ports: [{ name: http, port: 9080 }] } }
---
{ kind: Service, metadata: { name: ratings, namespace: default }, spec: { selector: { app: ratings }, ports: [{ name: http, port: 9080 }] } }
---
{ kind: Pod, metadata: { name: reviews-v1-a-b, namespace: default, labels: { app: reviews, version: v1 } }, spec: { containers: [{ name: reviews, ports: [{ containerPort: 9080 }] }, { name: istio-proxy }] } }
---
{ kind: Pod, metadata: { name: reviews-v2-a-b, namespace: default, labels: { app: reviews, version: v2 } }, spec: { containers: [{ name: reviews, ports: [{ containerPort: 9080 }] }, { name: istio-proxy }] } }
---
{ kind: Pod, metadata: { name: ratings-v1-a-b, namespace: default, labels: { app: ratings, version: v1 } }, spec: { containers: [{ name: ratings, ports: [{ containerPort: 9080 }] }, { name: istio-proxy }] } }
---
{ kind: Pod, metadata: { name: gateway-a-b, namespace: istio-system, labels: { istio: ingressgateway } }, spec: { containers: [{ name: istio-proxy }] } }
---
{ kind: Gateway, metadata: { name: bookinfo, namespace: default }, spec: { selector: { istio: ingressgateway }, servers: [{ port: { number: 80 }, hosts: ['*'] }] } }
---
{ kind: DestinationRule, metadata: { name: reviews, namespace: default }, spec: { host: reviews, subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }] } }
";

fn read(text: &str) -> Vec<Value> {
    serde_norway::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|object| !object.is_null())
        .collect()
}

/// The good cluster; an object of the same kind, namespace and name takes the place of the good one, one with `gone: true` removes it.
fn cluster(changes: &str) -> Objects {
    let mut objects = read(GOOD);
    for change in read(changes) {
        let same = |o: &Value| {
            o["kind"] == change["kind"]
                && o["metadata"]["name"] == change["metadata"]["name"]
                && o["metadata"]["namespace"] == change["metadata"]["namespace"]
        };
        objects.retain(|o| !same(o));
        if change["gone"] != true {
            objects.push(change);
        }
    }
    Objects(objects)
}

fn codes(changes: &str, check: &str) -> Vec<&'static str> {
    let check: Check = serde_json::from_value(read(check).remove(0)).expect("a check");
    let causes = diagnose(&cluster(changes), &subject(&check));
    for cause in &causes {
        assert!(
            cause.english.len() > 20 && cause.korean.chars().count() > 10,
            "{cause:?}"
        );
    }
    causes.iter().map(|c| c.code).collect()
}

const REVIEWS: &str =
    "shares: { request: { url: /api, about: reviews }, by: status, expect: { a: 100 } }";
const INSIDE: &str = "http: { request: { url: 'http://reviews:9080/', from: app=ratings }, expect: { status: 200 } }";
const JASON: &str = "http: { request: { url: /, about: reviews, session: { url: /login, form: { username: jason } } }, expect: { status: 200 } }";
const OVERFLOW: &str = "stat: { of: app=ratings, name: upstream_rq_pending_overflow, during: { url: 'http://reviews:9080/', from: app=ratings }, rise: 1.. }";
const OUTLIER: &str = "stat: { of: app=ratings, name: outlier_detection.ejections_total, during: { url: 'http://reviews:9080/', from: app=ratings }, rise: 1.. }";
const HOST: &str = "http: { request: { url: /, host: books.example.com, about: reviews }, expect: { status: 200 } }";
const OBJECT: &str =
    "resource: { apiVersion: networking.istio.io/v1, kind: DestinationRule, name: hello-dr }";
const CERTIFICATE: &str =
    "certificate: { of: app=reviews, name: '^spiffe://cluster.local/ns/default/sa/default$' }";
const TRACE: &str =
    "trace: { request: { url: /api, about: reviews }, through: [app=reviews, app=ratings] }";
const PODS: &str = "pods: { selector: app=reviews, ready: 2/2 }";

/// VirtualService `reviews` in `default` with this spec.
fn vs(spec: &str) -> String {
    format!(
        "{{ kind: VirtualService, metadata: {{ name: reviews, namespace: default }}, spec: {spec} }}"
    )
}

/// DestinationRule `reviews` in `default` with this spec.
fn dr(spec: &str) -> String {
    format!(
        "{{ kind: DestinationRule, metadata: {{ name: reviews, namespace: default }}, spec: {spec} }}"
    )
}

const TO_V1: &str =
    "{ hosts: [reviews], http: [{ route: [{ destination: { host: reviews, subset: v1 } }] }] }";

fn pod(spec: &str, status: &str) -> String {
    format!(
        "{{ kind: Pod, metadata: {{ name: reviews-v1-a-b, namespace: default, labels: {{ app: reviews, version: v1 }} }}, spec: {spec}, status: {status} }}"
    )
}

const BARE: &str = "{ containers: [{ name: reviews }] }";
const WITH: &str = "{ containers: [{ name: reviews }, { name: istio-proxy }] }";

#[test]
fn a_good_cluster_has_no_cause() {
    assert_eq!(codes("", REVIEWS), [""; 0]);
    assert_eq!(codes(&vs(TO_V1), REVIEWS), [""; 0]);
    assert_eq!(codes(&vs(TO_V1), INSIDE), [""; 0]);
    assert_eq!(codes("", PODS), [""; 0]);
}

#[test]
fn wrong_answers_get_their_reason() {
    let namespace = |labels: &str| {
        format!(
            "{{ kind: Namespace, metadata: {{ name: default, labels: {labels} }} }}\n---\n{}",
            pod(BARE, "{}")
        )
    };
    let gateway_vs = |gateways: &str, hosts: &str| {
        format!(
            "{{ kind: VirtualService, metadata: {{ name: web, namespace: default }}, spec: {{ hosts: {hosts}, gateways: {gateways}, http: [{{ route: [{{ destination: {{ host: reviews }} }}] }}] }} }}"
        )
    };
    let two = |kind: &str, spec: &str| {
        format!(
            "{{ kind: {kind}, metadata: {{ name: one, namespace: default, creationTimestamp: '2026-01-01T00:00:00Z' }}, spec: {spec} }}\n---\n{{ kind: {kind}, metadata: {{ name: two, namespace: default, creationTimestamp: '2026-01-02T00:00:00Z' }}, spec: {spec} }}"
        )
    };
    let policy = "{ host: reviews, trafficPolicy: { connectionPool: {} } }";
    let strict = "{ kind: PeerAuthentication, metadata: { name: default, namespace: istio-system }, spec: { mtls: { mode: STRICT } } }";
    let fixtures: Vec<(&str, String, &str)> = vec![
        // Where it is.
        ("rule-in-wrong-namespace", format!("{{ kind: VirtualService, metadata: {{ name: reviews, namespace: other }}, spec: {TO_V1} }}"), REVIEWS),
        ("service-in-other-namespace", "{ kind: Service, metadata: { name: reviews, namespace: default }, gone: true }\n---\n{ kind: Service, metadata: { name: reviews, namespace: shop } }".into(), REVIEWS),
        ("service-missing", "{ kind: Service, metadata: { name: reviews, namespace: default }, gone: true }".into(), REVIEWS),
        ("wrong-namespace", "{ kind: DestinationRule, metadata: { name: hello-dr, namespace: kube-system } }".into(), OBJECT),
        ("similar-name", "{ kind: DestinationRule, metadata: { name: dr-hello, namespace: default } }".into(), OBJECT),
        ("rule-not-visible", "{ kind: DestinationRule, metadata: { name: reviews, namespace: default }, gone: true }\n---\n{ kind: DestinationRule, metadata: { name: r, namespace: other }, spec: { host: reviews.default.svc.cluster.local } }".into(), REVIEWS),
        // What it is for.
        ("host-misspelt", vs("{ hosts: [review], http: [] }"), REVIEWS),
        ("host-half-qualified", vs("{ hosts: [reviews.default], http: [] }"), REVIEWS),
        ("only-on-gateway", vs("{ hosts: [reviews], gateways: [bookinfo], http: [] }"), INSIDE),
        ("two-rules", two("VirtualService", TO_V1), REVIEWS),
        ("host-unknown", String::new(), "http: { request: { url: 'http://books.example.com/', from: app=ratings }, expect: {} }"),
        // Where it sends to.
        ("destination-unknown", vs("{ hosts: [reviews], http: [{ route: [{ destination: { host: rewiews } }] }] }"), REVIEWS),
        ("subset-undefined", vs("{ hosts: [reviews], http: [{ route: [{ destination: { host: reviews, subset: v4 } }] }] }"), REVIEWS),
        ("no-destination-rule", vs("{ hosts: [reviews], http: [{ route: [{ destination: { host: ratings, subset: v7 } }] }] }"), REVIEWS),
        ("host-mismatch", format!("{}\n---\n{}", vs(TO_V1), dr("{ host: review, subsets: [{ name: v1, labels: { version: v1 } }] }")), REVIEWS),
        ("subset-without-pods", format!("{}\n---\n{}", vs(TO_V1), dr("{ host: reviews, subsets: [{ name: v1, labels: { version: one } }] }")), REVIEWS),
        ("label-on-deployment-only", format!("{}\n---\n{}\n---\n{{ kind: Deployment, metadata: {{ name: reviews, namespace: default, labels: {{ tier: canary }} }} }}", vs(TO_V1), dr("{ host: reviews, subsets: [{ name: v1, labels: { tier: canary } }] }")), REVIEWS),
        // How it chooses.
        ("unreachable-route", vs("{ hosts: [reviews], http: [{ route: [{ destination: { host: reviews, subset: v1 } }] }, { match: [{ headers: { end-user: { exact: jason } } }], route: [{ destination: { host: reviews, subset: v2 } }] }] }"), JASON),
        ("weights-not-100", vs("{ hosts: [reviews], http: [{ route: [{ destination: { host: reviews, subset: v1 }, weight: 50 }, { destination: { host: reviews, subset: v2 }, weight: 5 }] }] }"), REVIEWS),
        ("weight-left-out", vs("{ hosts: [reviews], http: [{ route: [{ destination: { host: reviews, subset: v1 }, weight: 90 }, { destination: { host: reviews, subset: v2 } }] }] }"), REVIEWS),
        ("value-case", vs("{ hosts: [reviews], http: [{ match: [{ headers: { end-user: { exact: Jason } } }], route: [{ destination: { host: reviews, subset: v2 } }] }] }"), JASON),
        ("header-name", vs("{ hosts: [reviews], http: [{ match: [{ headers: { enduser: { exact: jason } } }], route: [{ destination: { host: reviews, subset: v2 } }] }] }"), JASON),
        ("fault-of-nothing", vs("{ hosts: [reviews], http: [{ fault: { abort: { httpStatus: 500, percentage: { value: 0 } } }, route: [{ destination: { host: reviews } }] }] }"), REVIEWS),
        ("fault-elsewhere", "{ kind: VirtualService, metadata: { name: ratings, namespace: default }, spec: { hosts: [ratings], http: [{ fault: { delay: { fixedDelay: 7s } } }] } }".into(), REVIEWS),
        // Sidecars.
        ("injection-label-missing", namespace("{}"), PODS),
        ("injection-label-value", namespace("{ istio-injection: enable }"), PODS),
        ("injection-label-name", namespace("{ istio-inject: enabled }"), PODS),
        ("sidecar-needs-restart", pod(BARE, "{}"), PODS),
        ("sidecar-opted-out", "{ kind: Pod, metadata: { name: reviews-v1-a-b, namespace: default, labels: { app: reviews, version: v1, sidecar.istio.io/inject: 'false' } }, spec: { containers: [] } }".into(), PODS),
        ("sidecar-needs-restart", "{ kind: Pod, metadata: { name: ratings-v1-a-b, namespace: default, labels: { app: ratings } }, spec: { containers: [] } }".into(), INSIDE),
        // Pods.
        ("image", pod(WITH, "{ containerStatuses: [{ name: reviews, image: 'reviews:v9', state: { waiting: { reason: ImagePullBackOff } } }] }"), PODS),
        ("crash-loop", pod(WITH, "{ containerStatuses: [{ name: reviews, state: { waiting: { reason: CrashLoopBackOff } } }] }"), PODS),
        ("not-ready", pod(WITH, "{ containerStatuses: [{ name: reviews, ready: false, state: { running: {} } }] }"), REVIEWS),
        ("scaled-to-zero", "{ kind: Deployment, metadata: { name: web, namespace: default }, spec: { replicas: 0, template: { metadata: { labels: { app: web } } } } }".into(), "pods: { selector: app=web, count: 1 }"),
        ("scaled-to-zero", "{ kind: Service, metadata: { name: web, namespace: default }, spec: { selector: { app: web }, ports: [] } }\n---\n{ kind: Deployment, metadata: { name: web, namespace: default }, spec: { replicas: 0, template: { metadata: { labels: { app: web } } } } }".into(), "http: { request: { url: /, about: web }, expect: {} }"),
        ("wrong-namespace", "{ kind: Deployment, metadata: { name: web, namespace: other }, spec: { template: { metadata: { labels: { app: web } } } } }".into(), "pods: { selector: app=web }"),
        ("selector-without-pods", "{ kind: Service, metadata: { name: reviews, namespace: default }, spec: { selector: { app: review }, ports: [] } }".into(), REVIEWS),
        ("target-port", "{ kind: Service, metadata: { name: reviews, namespace: default }, spec: { selector: { app: reviews }, ports: [{ name: http, port: 80 }] } }".into(), REVIEWS),
        ("port-not-http", format!("{{ kind: Service, metadata: {{ name: reviews, namespace: default }}, spec: {{ selector: {{ app: reviews }}, ports: [{{ name: tcp-web, port: 9080 }}] }} }}\n---\n{}", vs(TO_V1)), REVIEWS),
        // Circuit breakers.
        ("policy-missing", dr("{ host: reviews, trafficPolicy: { outlierDetection: {} } }"), OVERFLOW),
        ("policy-misplaced", dr("{ host: reviews, outlierDetection: {} }"), OUTLIER),
        ("no-policy", "{ kind: DestinationRule, metadata: { name: reviews, namespace: default }, gone: true }".into(), OVERFLOW),
        ("host-misspelt", dr("{ host: svc-reviews, trafficPolicy: { outlierDetection: {} } }"), OUTLIER),
        ("two-policies", format!("{}\n---\n{}", two("DestinationRule", policy), dr("{ host: ratings }")), OVERFLOW),
        // The way in.
        ("gateway-selector", "{ kind: Gateway, metadata: { name: bookinfo, namespace: default }, spec: { selector: { istio: ingress }, servers: [] } }".into(), REVIEWS),
        ("gateway-missing", gateway_vs("[bookinfo-gateway]", "['*']"), REVIEWS),
        ("gateway-in-other-namespace", format!("{}\n---\n{{ kind: Gateway, metadata: {{ name: door, namespace: istio-system }} }}", gateway_vs("[door]", "['*']")), REVIEWS),
        ("no-gateway", "{ kind: Gateway, metadata: { name: bookinfo, namespace: default }, gone: true }".into(), REVIEWS),
        ("gateway-hosts", format!("{}\n---\n{{ kind: Gateway, metadata: {{ name: bookinfo, namespace: default }}, spec: {{ servers: [{{ hosts: [shop.example.com] }}] }} }}", gateway_vs("[bookinfo]", "[books.example.com]")), HOST),
        ("rule-not-bound", gateway_vs("[mesh]", "[books.example.com]"), HOST),
        ("host-without-rule", gateway_vs("[bookinfo]", "[book.example.com]"), HOST),
        // Security.
        ("tls-modes-clash", format!("{strict}\n---\n{}", dr("{ host: reviews, trafficPolicy: { tls: { mode: DISABLE } } }")), INSIDE),
        ("allows-nothing", "{ kind: AuthorizationPolicy, metadata: { name: none, namespace: default }, spec: {} }".into(), INSIDE),
        ("allows-others", "{ kind: AuthorizationPolicy, metadata: { name: some, namespace: default }, spec: { selector: { matchLabels: { app: reviews } }, rules: [{}] } }".into(), INSIDE),
        // Identity.
        ("other-service-account", pod(&WITH.replace("{ containers", "{ serviceAccountName: bookinfo-reviews, containers"), "{}"), CERTIFICATE),
        ("identity-of-other-namespace", String::new(), "certificate: { of: app=reviews, name: 'spiffe://cluster.local/ns/shop/sa/default$' }"),
        ("sidecar-needs-restart", pod(BARE, "{}"), CERTIFICATE),
        // Traces.
        ("headers-not-passed-on", String::new(), TRACE),
        ("hop-without-pods", "{ kind: Pod, metadata: { name: ratings-v1-a-b, namespace: default }, gone: true }".into(), "trace: { request: { url: /api, about: reviews }, through: [app=reviews, app=ratings] }"),
        ("hop-without-sidecar", "{ kind: Pod, metadata: { name: ratings-v1-a-b, namespace: default, labels: { app: ratings } }, spec: { containers: [] } }".into(), TRACE),
        // Variables.
        ("set-in-a-shell-only", "{ kind: Deployment, metadata: { name: web, namespace: default } }".into(), "resource: { apiVersion: apps/v1, kind: Deployment, name: web, fields: { /spec/template/spec/containers/0/env: '~ERROR_RATE' } }"),
        ("reported", vs("{ hosts: [reviews], http: [] }").replace("spec:", "status: { validationMessages: [{ message: odd, type: { code: IST0130 } }] }, spec:"), REVIEWS),
    ];
    assert!(fixtures.len() >= 30);
    for (code, changes, check) in &fixtures {
        let found = codes(changes, check);
        assert_eq!(found.first(), Some(code), "{found:?} for {changes}");
    }
    // Behind another reason, but told.
    let bare_caller = "{ kind: Pod, metadata: { name: ratings-v1-a-b, namespace: default, labels: { app: ratings } }, spec: { containers: [] } }";
    assert!(
        codes(&format!("{strict}\n---\n{bare_caller}"), INSIDE).contains(&"strict-without-sidecar")
    );
}
