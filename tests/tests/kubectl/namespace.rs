//! A namespace of its own for each trial.

use std::sync::Arc;

use anyhow::ensure;
use dojo_tests::{dojo::Dojo, kubectl};

/// A namespace to work in.
pub(crate) struct Namespace {
    pub(crate) dojo: Arc<Dojo>,
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn create(dojo: Arc<Dojo>, name: &str) -> anyhow::Result<Self> {
        kubectl::ok(&dojo.kubeconfig(), &["create", "namespace", name], "")?;
        Ok(Self {
            dojo,
            name: name.into(),
        })
    }

    pub(crate) fn arguments<'a>(&'a self, args: &'a str) -> Vec<&'a str> {
        [vec!["-n", &self.name], args.split(' ').collect()].concat()
    }

    /// `kubectl ARGS` here; gives what it prints.
    pub(crate) fn ok(&self, args: &str) -> anyhow::Result<String> {
        self.typed(args, "")
    }

    /// The same with something typed into it (`-f -`).
    pub(crate) fn typed(&self, args: &str, stdin: &str) -> anyhow::Result<String> {
        kubectl::ok(&self.dojo.kubeconfig(), &self.arguments(args), stdin)
    }

    /// The same with exact arguments.
    pub(crate) fn exact(&self, args: &[&str]) -> anyhow::Result<String> {
        kubectl::ok(
            &self.dojo.kubeconfig(),
            &[&["-n", self.name.as_str()], args].concat(),
            "",
        )
    }

    /// The command fails; gives what it says.
    pub(crate) fn refused(&self, args: &str, stdin: &str) -> anyhow::Result<String> {
        let output = kubectl::run(&self.dojo.kubeconfig(), &self.arguments(args), stdin)?;
        ensure!(
            !output.status.success(),
            "kubectl {args} should have been refused"
        );
        Ok(String::from_utf8(output.stderr)?)
    }

    /// What is in it, for the report of a failure.
    pub(crate) fn state(&self) -> String {
        let looks = [
            "get pods,replicasets,deployments -o wide",
            "get events",
            "describe pods",
        ];
        looks
            .map(|look| self.ok(look).unwrap_or_else(|error| error.to_string()))
            .join("\n")
    }

    /// A web server, `replicas` of it, with a Service.
    pub(crate) fn web(&self, replicas: u32) -> anyhow::Result<()> {
        self.typed("apply -f -", &web(replicas))?;
        self.ok("rollout status deployment/web --timeout=30s")
            .map(drop)
    }
}

pub(crate) fn web(replicas: u32) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{ name: web, labels: {{ app: web }} }}
spec:
  selector: {{ app: web }}
  ports: [{{ name: http, port: 80, targetPort: 9080 }}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, labels: {{ app: web }} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      containers:
        - name: web
          image: meshdojo/meshdojo:0.1.0
          args: [service, ratings]
          ports: [{{ name: http, containerPort: 9080 }}]
          readinessProbe: {{ httpGet: {{ path: /health, port: http }} }}
"#
    )
}

pub(crate) fn contains(text: &str, parts: &[&str]) -> anyhow::Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    Ok(())
}

pub(crate) fn same(text: &str, expected: &str) -> anyhow::Result<()> {
    ensure!(
        text.trim() == expected.trim(),
        "expected:\n{expected}\nseen:\n{text}"
    );
    Ok(())
}
