//! A pod.

use serde_json::Value;

use super::{
    head,
    page::{Page, annotations, map, time},
};

pub(super) fn write(page: &mut Page, pod: &Value) {
    let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    head(page, pod);
    page.line("Priority", &or(&spec["priority"], "0"));
    page.line(
        "Service Account",
        &or(&spec["serviceAccountName"], "default"),
    );
    let node = or(&spec["nodeName"], "<none>");
    let host = or(&status["hostIP"], "");
    page.line(
        "Node",
        &if host.is_empty() {
            node
        } else {
            format!("{node}/{host}")
        },
    );
    if let Some(started) = status["startTime"].as_str() {
        page.line("Start Time", &time(started));
    }
    page.lines("Labels", &map(&meta["labels"], "="));
    page.lines("Annotations", &annotations(&meta["annotations"]));
    let phase = match meta["deletionTimestamp"].as_str() {
        Some(since) => format!("Terminating (since {})", time(since)),
        None => or(&status["phase"], "Unknown"),
    };
    page.line("Status", &phase);
    for field in ["reason", "message"] {
        if let Some(text) = status[field].as_str() {
            page.line(
                if field == "reason" {
                    "Reason"
                } else {
                    "Message"
                },
                text,
            );
        }
    }
    page.line("IP", &or(&status["podIP"], ""));
    page.title("IPs");
    page.within(|page| {
        for ip in list(&status["podIPs"]) {
            page.line("IP", &or(&ip["ip"], ""));
        }
    });
    let mut owners = list(&meta["ownerReferences"]);
    if let Some(owner) = owners.find(|owner| owner["controller"] == true) {
        page.line(
            "Controlled By",
            &format!("{}/{}", or(&owner["kind"], ""), or(&owner["name"], "")),
        );
    }
    for (title, containers, statuses) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
    ] {
        if list(&spec[containers]).next().is_none() {
            continue;
        }
        page.title(title);
        for container in list(&spec[containers]) {
            let known = list(&status[statuses]).find(|s| s["name"] == container["name"]);
            let known = known.unwrap_or(&Value::Null);
            page.within(|page| write_container(page, pod, container, known));
        }
    }
    page.title("Conditions");
    page.within(|page| {
        let rows = list(&status["conditions"]);
        let rows: Vec<(String, String)> = rows
            .map(|c| (or(&c["type"], ""), or(&c["status"], "")))
            .collect();
        let width = rows.iter().map(|(kind, _)| kind.len()).max().unwrap_or(0) + 3;
        page.text_line(&format!("{:<width$}Status", "Type"));
        for (kind, value) in rows {
            page.text_line(&format!("{kind:<width$}{value} "));
        }
    });
    page.title("Volumes");
    page.within(|page| list(&spec["volumes"]).for_each(|volume| write_volume(page, volume)));
    page.line("QoS Class", &or(&status["qosClass"], "BestEffort"));
    page.lines("Node-Selectors", &map(&spec["nodeSelector"], "="));
    let tolerations: Vec<String> = list(&spec["tolerations"]).map(toleration).collect();
    page.lines("Tolerations", &tolerations);
}

/// `KEY=VALUE:EFFECT op=Exists for 300s`.
fn toleration(toleration: &Value) -> String {
    let mut text = or(&toleration["key"], "");
    if let Some(value) = toleration["value"]
        .as_str()
        .filter(|value| !value.is_empty())
    {
        text += &format!("={value}");
    }
    if let Some(effect) = toleration["effect"].as_str() {
        text += &format!(":{effect}");
    }
    if toleration["operator"] == "Exists" {
        text += " op=Exists";
    }
    if let Some(seconds) = toleration["tolerationSeconds"].as_u64() {
        text += &format!(" for {seconds}s");
    }
    text
}

fn write_container(page: &mut Page, pod: &Value, container: &Value, status: &Value) {
    page.title(&or(&container["name"], ""));
    page.within(|page| {
        page.line("Container ID", &or(&status["containerID"], ""));
        page.line("Image", &or(&container["image"], ""));
        page.line("Image ID", &or(&status["imageID"], ""));
        let ports = |field: &str| {
            let all = list(&container["ports"]);
            let all: Vec<String> = all
                .map(|p| format!("{}/{}", or(&p[field], "0"), or(&p["protocol"], "TCP")))
                .collect();
            if all.is_empty() {
                "<none>".to_owned()
            } else {
                all.join(", ")
            }
        };
        let plural = list(&container["ports"]).count() > 1;
        page.line(
            if plural { "Ports" } else { "Port" },
            &ports("containerPort"),
        );
        page.line(
            if plural { "Host Ports" } else { "Host Port" },
            &ports("hostPort"),
        );
        for (title, field) in [("Command", "command"), ("Args", "args")] {
            if list(&container[field]).next().is_some() {
                page.title(title);
                page.within(|page| {
                    list(&container[field]).for_each(|word| page.text_line(&or(word, "")))
                });
            }
        }
        write_state(page, "State", &status["state"]);
        if status["lastState"]
            .as_object()
            .is_some_and(|state| !state.is_empty())
        {
            write_state(page, "Last State", &status["lastState"]);
        }
        page.line(
            "Ready",
            if status["ready"] == true {
                "True"
            } else {
                "False"
            },
        );
        page.line("Restart Count", &or(&status["restartCount"], "0"));
        for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
            if container["resources"][field].is_object() {
                page.title(title);
                let pairs = container["resources"][field]
                    .as_object()
                    .into_iter()
                    .flatten();
                page.within(|page| pairs.for_each(|(key, value)| page.line(key, &or(value, ""))));
            }
        }
        for (title, field) in [
            ("Liveness", "livenessProbe"),
            ("Readiness", "readinessProbe"),
            ("Startup", "startupProbe"),
        ] {
            if container[field].is_object() {
                page.line(title, &probe(&container[field]));
            }
        }
        if list(&container["env"]).next().is_none() {
            page.line("Environment", "<none>");
        } else {
            page.title("Environment");
            page.within(|page| {
                list(&container["env"]).for_each(|variable| {
                    page.line(&or(&variable["name"], ""), &source_of(variable, pod));
                })
            });
        }
        if list(&container["volumeMounts"]).next().is_none() {
            page.line("Mounts", "<none>");
            return;
        }
        page.title("Mounts");
        page.within(|page| {
            list(&container["volumeMounts"]).for_each(|mount| {
                let mode = if mount["readOnly"] == true {
                    "ro"
                } else {
                    "rw"
                };
                page.text_line(&format!(
                    "{} from {} ({mode})",
                    or(&mount["mountPath"], ""),
                    or(&mount["name"], "")
                ));
            })
        });
    });
}

fn write_state(page: &mut Page, title: &str, state: &Value) {
    let pairs = state.as_object().into_iter().flatten();
    let Some((kind, detail)) = pairs.last() else {
        page.line(title, "Waiting");
        return;
    };
    let mut name = kind.clone();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    page.line(title, &name);
    page.within(|page| {
        for (field, title) in [("reason", "Reason"), ("message", "Message")] {
            // kubectl leaves out what somebody waits for
            let shown = field == "reason" || kind != "waiting";
            if let Some(text) = detail[field].as_str().filter(|_| shown) {
                page.line(title, text);
            }
        }
        if let Some(code) = detail["exitCode"].as_i64() {
            page.line("Exit Code", &code.to_string());
        }
        for (field, title) in [("startedAt", "Started"), ("finishedAt", "Finished")] {
            if let Some(text) = detail[field].as_str() {
                page.line(title, &time(text));
            }
        }
    });
}

fn probe(probe: &Value) -> String {
    let number = |field: &str, default: u64| probe[field].as_u64().unwrap_or(default);
    let what = if probe["httpGet"].is_object() {
        let get = &probe["httpGet"];
        let scheme = or(&get["scheme"], "HTTP").to_lowercase();
        format!(
            "http-get {scheme}://{}:{}{}",
            or(&get["host"], ""),
            or(&get["port"], ""),
            or(&get["path"], "")
        )
    } else if probe["tcpSocket"].is_object() {
        format!(
            "tcp-socket {}:{}",
            or(&probe["tcpSocket"]["host"], ""),
            or(&probe["tcpSocket"]["port"], "")
        )
    } else if probe["exec"].is_object() {
        let words: Vec<String> = list(&probe["exec"]["command"]).map(|w| or(w, "")).collect();
        format!("exec [{}]", words.join(" "))
    } else {
        "unknown".to_owned()
    };
    format!(
        "{what} delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds", 0),
        number("timeoutSeconds", 1),
        number("periodSeconds", 10),
        number("successThreshold", 1),
        number("failureThreshold", 3)
    )
}

/// The value of a variable, or where it comes from.
fn source_of(variable: &Value, pod: &Value) -> String {
    let from = &variable["valueFrom"];
    for (field, what) in [
        ("configMapKeyRef", "config map"),
        ("secretKeyRef", "secret"),
    ] {
        if from[field].is_object() {
            return format!(
                "<set to the key '{}' of {what} '{}'>",
                or(&from[field]["key"], ""),
                or(&from[field]["name"], "")
            );
        }
    }
    if from["fieldRef"].is_object() {
        let path = or(&from["fieldRef"]["fieldPath"], "");
        // Only what the pod's own metadata says is known here.
        let value = match path.strip_prefix("metadata.") {
            Some(field @ ("name" | "namespace" | "uid")) => or(&pod["metadata"][field], ""),
            _ => String::new(),
        };
        let version = or(&from["fieldRef"]["apiVersion"], "v1");
        return format!("{value} ({version}:{path})");
    }
    or(&variable["value"], "")
}

fn write_volume(page: &mut Page, volume: &Value) {
    page.title(&or(&volume["name"], ""));
    let fields = volume.as_object().into_iter().flatten();
    page.within(|page| {
        for (kind, detail) in fields.filter(|(key, _)| *key != "name") {
            match kind.as_str() {
                "configMap" | "secret" => {
                    let title = if kind == "secret" {
                        "Secret (a volume populated by a Secret)"
                    } else {
                        "ConfigMap (a volume populated by a ConfigMap)"
                    };
                    page.line("Type", title);
                    page.line(
                        if kind == "secret" {
                            "SecretName"
                        } else {
                            "Name"
                        },
                        &or(&detail["name"], &or(&detail["secretName"], "")),
                    );
                    page.line("Optional", &or(&detail["optional"], "false"));
                }
                "emptyDir" => page.line(
                    "Type",
                    "EmptyDir (a temporary directory that shares a pod's lifetime)",
                ),
                "projected" => {
                    page.line(
                        "Type",
                        "Projected (a volume that contains injected data from multiple sources)",
                    );
                    list(&detail["sources"]).for_each(|source| write_source(page, source));
                }
                "downwardAPI" => page.line(
                    "Type",
                    "DownwardAPI (a volume populated by information about the pod)",
                ),
                other => page.line("Type", other),
            }
        }
    });
}

/// A source of a projected volume.
fn write_source(page: &mut Page, source: &Value) {
    if source["serviceAccountToken"].is_object() {
        let seconds = or(&source["serviceAccountToken"]["expirationSeconds"], "3600");
        page.line("TokenExpirationSeconds", &seconds);
    }
    for (field, title) in [("configMap", "ConfigMapName"), ("secret", "SecretName")] {
        if source[field].is_object() {
            page.line(title, &or(&source[field]["name"], ""));
        }
    }
    if source["downwardAPI"].is_object() {
        page.line("DownwardAPI", "true");
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn or(value: &Value, otherwise: &str) -> String {
    match value {
        Value::Null => otherwise.to_owned(),
        Value::String(text) if text.is_empty() => otherwise.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_described() {
        let pod = json!({
            "metadata": { "name": "p", "namespace": "n", "labels": { "app": "a" } },
            "spec": { "containers": [{ "name": "c", "image": "i:1", "ports": [{ "containerPort": 80 }],
                "env": [{ "name": "A", "value": "1" }],
                "readinessProbe": { "httpGet": { "path": "/h", "port": 80 } } }] },
            "status": { "phase": "Running", "podIP": "127.1.0.2", "conditions": [{ "type": "Ready", "status": "True" }],
                "containerStatuses": [{ "name": "c", "ready": true, "state": { "running": {} } }] },
        });
        let mut page = Page::default();
        write(&mut page, &pod);
        let text = page.text();
        for wanted in [
            "Name:             p\n",
            "Service Account:  default\n",
            "Labels:           app=a\n",
            "  c:\n",
            "    Port:          80/TCP\n",
            "    State:          Running\n",
            "http-get http://:80/h delay=0s timeout=1s period=10s #success=1 #failure=3",
            "      A:  1\n",
            "  Ready  True\n",
        ] {
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                squeezed(&text).contains(&squeezed(wanted)),
                "{wanted}\n{text}"
            );
        }
    }
}
