//! Tasks of Istio's own documentation, with the commands that it prints: who may call whom over HTTP and
//! TCP, policies on trial, an outside judge, lists of addresses at the gateway, copies of requests.
//! The fixtures have the images, commands, ports and fields of the manifests that belong to the tasks.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use dojo_tests::{
    dojo::{Dojo, eventually, root},
    kubectl,
};
use serde_json::{Value, json};

/// A change may take this long to be seen on a busy machine; it takes some milliseconds.
const SOON: Duration = Duration::from_secs(60);
/// Their pods have sidecars.
const MESHED: [&str; 2] = ["foo", "bar"];
/// Its pods have none.
const PLAIN: &str = "legacy";

struct Student {
    dojo: Dojo,
    kubeconfig: PathBuf,
}

impl Student {
    fn kubectl(&self, line: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        kubectl::ok(&self.kubeconfig, &words, "")
    }

    fn apply(&self, namespace: &str, object: &Value) -> anyhow::Result<String> {
        let args = ["apply", "-n", namespace, "-f", "-"];
        kubectl::ok(&self.kubeconfig, &args, &object.to_string())
    }

    fn apply_file(&self, namespace: &str, file: &str) -> anyhow::Result<String> {
        let path = root().join("tests/fixtures/tasks").join(file);
        self.kubectl(&format!("apply -n {namespace} -f {}", path.display()))
    }

    /// A command in the container of `sleep`: what it prints and its exit code.
    fn exec(&self, namespace: &str, command: &[&str]) -> anyhow::Result<(String, Option<i32>)> {
        let exec = ["exec", "-n", namespace, "deploy/sleep", "-c", "sleep", "--"];
        let output = kubectl::run(&self.kubeconfig, &[&exec, command].concat(), "")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((text, output.status.code()))
    }

    /// `curl` from a namespace: the status it prints, and its exit code.
    fn status(
        &self,
        from: &str,
        url: &str,
        more: &[&str],
    ) -> anyhow::Result<(String, Option<i32>)> {
        let curl = ["curl", url, "-s", "-o", "/dev/null", "-w", "%{http_code}"];
        self.exec(from, &[&curl, more].concat())
    }

    /// Asks until `curl` in foo prints this status.
    async fn answers(&self, url: &str, more: &[&str], status: &str) -> anyhow::Result<()> {
        eventually(&format!("{url} {more:?}: {status}"), SOON, async || {
            let seen = self.status("foo", url, more)?;
            ensure!(seen.0 == status, "{seen:?}");
            Ok(())
        })
        .await
    }

    /// Talks to tcp-echo from foo until the answer is, or is not, the echo.
    async fn echoes(&self, host: &str, port: u16, heard: bool) -> anyhow::Result<()> {
        let line = format!("echo \"port {port}\" | nc {host} {port}");
        eventually(&format!("{line}: {heard}"), SOON, async || {
            let (text, _) = self.exec("foo", &["sh", "-c", &line])?;
            ensure!(
                text.contains(&format!("hello port {port}")) == heard,
                "{text:?}"
            );
            Ok(())
        })
        .await
    }
}

fn policy(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    })
}

fn of_httpbin(action: &str, rules: Value) -> Value {
    json!({"selector": {"matchLabels": {"app": "httpbin"}}, "action": action, "rules": rules})
}

#[tokio::test]
async fn published_tasks_have_the_outcome_that_they_print() -> anyhow::Result<()> {
    if !kubectl::available() {
        return Ok(());
    }
    let dojo = Dojo::up(&["none"])?;
    let student = Student {
        kubeconfig: dojo.kubeconfig(),
        dojo,
    };
    for namespace in MESHED {
        student.kubectl(&format!("create ns {namespace}"))?;
        student.kubectl(&format!("label ns {namespace} istio-injection=enabled"))?;
        student.apply_file(namespace, "clients-and-httpbin.yaml")?;
    }
    student.kubectl(&format!("create ns {PLAIN}"))?;
    student.apply_file(PLAIN, "clients-and-httpbin.yaml")?;
    for file in ["tcp-echo-and-judge.yaml", "mirror.yaml", "gateway.yaml"] {
        student.apply_file("foo", file)?;
    }
    for namespace in [MESHED[0], MESHED[1], PLAIN] {
        student.kubectl(&format!(
            "wait -n {namespace} --for=condition=Ready pod --all --timeout=120s"
        ))?;
    }
    peers(&student).await?;
    tcp(&student).await?;
    on_trial(&student).await?;
    outside_judge(&student).await?;
    keys_out_of_reach(&student).await?;
    addresses_at_the_gateway(&student).await?;
    mirroring(&student).await
}

/// Authentication policy: everybody reaches everybody; those without a sidecar no longer where STRICT holds.
async fn peers(student: &Student) -> anyhow::Result<()> {
    let strict = json!({"mtls": {"mode": "STRICT"}});
    let strict = policy("PeerAuthentication", "default", strict);
    for refusing in [&[][..], &["foo"], &["foo", "bar"]] {
        match refusing.len() {
            0 => {}
            1 => _ = student.apply("foo", &strict)?,
            _ => _ = student.apply("istio-system", &strict)?,
        }
        for from in ["foo", "bar", PLAIN] {
            for to in ["foo", "bar", PLAIN] {
                let url = format!("http://httpbin.{to}:8000/ip");
                let refused = from == PLAIN && refusing.contains(&to);
                eventually(&format!("{from} to {to}"), SOON, async || {
                    let (status, code) = student.status(from, &url, &[])?;
                    let (wanted, codes) = if refused {
                        ("000", [Some(52), Some(56)])
                    } else {
                        ("200", [Some(0); 2])
                    };
                    ensure!(
                        status == wanted && codes.contains(&code),
                        "{refusing:?}: {status} {code:?}"
                    );
                    Ok(())
                })
                .await?;
            }
        }
    }
    student.kubectl("delete peerauthentication default -n foo")?;
    student.kubectl("delete peerauthentication default -n istio-system")?;
    // The agent's pages are on the pod's localhost, as on a real cluster.
    let metrics =
        "exec -n foo deploy/httpbin -c istio-proxy -- curl -s localhost:15020/stats/prometheus";
    ensure!(student.kubectl(metrics)?.contains("istio_requests_total"));
    Ok(())
}

/// Authorization of TCP: conditions of HTTP never hold, which an ALLOW and a DENY policy read differently.
async fn tcp(student: &Student) -> anyhow::Result<()> {
    let get = json!(["GET"]);
    let both = json!({"ports": ["9000", "9001"]});
    let by_method = json!({"methods": get, "ports": ["9000"]});
    for (action, operation, heard) in [
        (None, json!({}), [true, true]),
        (Some("ALLOW"), both, [true, true]),
        (Some("ALLOW"), by_method.clone(), [false, false]),
        (Some("DENY"), by_method, [false, true]),
    ] {
        if let Some(action) = action {
            let spec = json!({
                "selector": {"matchLabels": {"app": "tcp-echo"}}, "action": action,
                "rules": [{"to": [{"operation": operation}]}],
            });
            student.apply("foo", &policy("AuthorizationPolicy", "tcp-policy", spec))?;
        }
        for (port, heard) in (9000..).zip(heard) {
            student.echoes("tcp-echo", port, heard).await?;
        }
    }
    student.kubectl("delete authorizationpolicy tcp-policy -n foo")?;
    Ok(())
}

/// Dry run: everything passes, and the proxy's log tells what would not.
async fn on_trial(student: &Student) -> anyhow::Result<()> {
    let level = ["proxy-config", "log", "deploy/httpbin.foo", "--level"];
    let set = student
        .dojo
        .meshdojo(&[&level[..], &["rbac:debug"]].concat())?;
    let text = String::from_utf8_lossy(&set.stdout).into_owned();
    ensure!(text.contains("rbac: debug"), "{set:?}");
    let rules = json!([{"to": [{"operation": {"paths": ["/headers"]}}]}]);
    let mut deny = policy(
        "AuthorizationPolicy",
        "deny-path-headers",
        of_httpbin("DENY", rules),
    );
    deny["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
    student.apply("foo", &deny)?;
    eventually("the proxy's log", SOON, async || {
        let (status, _) = student.status("foo", "http://httpbin.foo:8000/headers", &[])?;
        ensure!(status == "200", "{status}");
        let log = student.kubectl("logs -n foo deploy/httpbin -c istio-proxy")?;
        let says = "shadow denied, matched policy ns[foo]-policy[deny-path-headers]-rule[0]";
        ensure!(log.contains(says), "{log}");
        Ok(())
    })
    .await?;
    student.kubectl("delete authorizationpolicy deny-path-headers -n foo")?;
    Ok(())
}

/// Custom action: the mesh settings name a judge, and a policy asks it about some paths.
async fn outside_judge(student: &Student) -> anyhow::Result<()> {
    let mesh = student.kubectl("get configmap istio -n istio-system -o jsonpath={.data.mesh}")?;
    let provider = json!([{
        "name": "sample-ext-authz-http",
        "envoyExtAuthzHttp": {
            "service": "ext-authz.foo.svc.cluster.local", "port": "8000",
            "includeRequestHeadersInCheck": ["x-ext-authz"],
        },
    }]);
    let patch = json!({"data": {"mesh": format!("{mesh}\nextensionProviders: {provider}\n")}});
    let patch = patch.to_string();
    let line = ["patch", "configmap", "istio", "-n", "istio-system", "-p"];
    kubectl::ok(&student.kubeconfig, &[&line[..], &[&patch]].concat(), "")?;
    let rules = json!([{"to": [{"operation": {"paths": ["/headers"]}}]}]);
    let mut spec = of_httpbin("CUSTOM", rules);
    spec["provider"] = json!({"name": "sample-ext-authz-http"});
    student.apply("foo", &policy("AuthorizationPolicy", "ext-authz", spec))?;
    let url = "http://httpbin.foo:8000/headers";
    eventually("the judge's no", SOON, async || {
        let deny = ["curl", url, "-H", "x-ext-authz: deny", "-s"];
        let (text, _) = student.exec("foo", &deny)?;
        let says = "denied by ext_authz for not found header `x-ext-authz: allow` in the request";
        ensure!(text == says, "{text}");
        Ok(())
    })
    .await?;
    student
        .answers(url, &["-H", "x-ext-authz: allow"], "200")
        .await?;
    student
        .answers("http://httpbin.foo:8000/ip", &[], "200")
        .await?;
    let log = student.kubectl("logs -n foo deploy/ext-authz -c ext-authz")?;
    ensure!(log.contains("[HTTP][allowed]"), "{log}");
    student.kubectl("delete authorizationpolicy ext-authz -n foo")?;
    Ok(())
}

/// Keys behind an address that does not answer: the object itself says so, and no token is believed.
async fn keys_out_of_reach(student: &Student) -> anyhow::Result<()> {
    let rule = json!({"issuer": "me@example.com", "jwksUri": "https://keys.invalid/jwks.json"});
    let spec = json!({"selector": {"matchLabels": {"app": "httpbin"}}, "jwtRules": [rule]});
    student.apply("foo", &policy("RequestAuthentication", "jwt-example", spec))?;
    let url = "http://httpbin.foo:8000/headers";
    let token = ["-H", "Authorization: Bearer invalidToken"];
    student.answers(url, &token, "401").await?;
    student.answers(url, &[], "200").await?;
    eventually("the status of the object", SOON, async || {
        let object = student.kubectl("get requestauthentication jwt-example -n foo -o yaml")?;
        let says = "No keys from https://keys.invalid/jwks.json: ";
        ensure!(object.contains(says), "{object}");
        Ok(())
    })
    .await?;
    student.kubectl("delete requestauthentication jwt-example -n foo")?;
    Ok(())
}

/// Access by address at the gateway; the client's stands in the gateway's log, where the task cuts it out.
async fn addresses_at_the_gateway(student: &Student) -> anyhow::Result<()> {
    let url = format!("http://127.0.0.1:{}/headers", student.dojo.port);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answers = async |status: u16| {
        eventually(&format!("{status} at the gateway"), SOON, async || {
            let seen = client.get(&url).send().await?.status().as_u16();
            ensure!(seen == status, "{seen}");
            Ok(())
        })
        .await
    };
    answers(200).await?;
    let gateway = "deploy/istio-ingressgateway.istio-system";
    student
        .dojo
        .meshdojo(&["proxy-config", "log", gateway, "--level", "rbac:debug"])?;
    let policy = |action: &str, addresses: &[&str]| {
        let spec = json!({
            "selector": {"matchLabels": {"app": "istio-ingressgateway"}}, "action": action,
            "rules": [{"from": [{"source": {"ipBlocks": addresses}}]}],
        });
        policy("AuthorizationPolicy", "ingress-policy", spec)
    };
    student.apply("istio-system", &policy("ALLOW", &["1.2.3.4", "5.6.7.0/24"]))?;
    answers(403).await?;
    let log = student.kubectl("logs -n istio-system deploy/istio-ingressgateway")?;
    let line = log.lines().rfind(|line| line.contains("remoteIP"));
    let line = line.with_context(|| log.clone())?;
    let address = line
        .split(',')
        .nth(2)
        .and_then(|part| part.split(':').nth(1));
    let address = address.with_context(|| line.to_owned())?.trim();
    student.apply("istio-system", &policy("ALLOW", &["1.2.3.4", address]))?;
    answers(200).await?;
    student.apply("istio-system", &policy("DENY", &[address]))?;
    answers(403).await?;
    student.kubectl("delete authorizationpolicy ingress-policy -n istio-system")?;
    answers(200).await
}

/// Mirroring: the copy reaches the second version, and nobody waits for its answer.
async fn mirroring(student: &Student) -> anyhow::Result<()> {
    student
        .answers("http://mirrored:8000/headers", &[], "200")
        .await?;
    eventually("the copy", SOON, async || {
        let log = student.kubectl("logs -n foo deploy/mirrored-v2 -c httpbin")?;
        ensure!(log.contains("GET /headers"), "{log}");
        Ok(())
    })
    .await
}
