//! `kubectl create`.

use crate::{
    Step,
    namespace::{Namespace, contains, same, web},
};
use anyhow::ensure;

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("create_by_flags", create_by_flags),
    ("create_from_files", create_from_files),
];

fn create_by_flags(ns: &Namespace) -> anyhow::Result<()> {
    same(
        &ns.ok("create configmap settings --from-literal=a=1 --from-literal=b=2")?,
        "configmap/settings created",
    )?;
    same(
        &ns.ok("get configmap settings -o jsonpath={.data}")?,
        r#"{"a":"1","b":"2"}"#,
    )?;
    same(
        &ns.ok("create serviceaccount robot")?,
        "serviceaccount/robot created",
    )?;
    let token = ns.ok("create token robot --duration=10m")?;
    ensure!(token.trim().split('.').count() == 3, "not a JWT: {token}");
    same(
        &ns.ok("create secret generic keys --from-literal=password=hush")?,
        "secret/keys created",
    )?;
    same(
        &ns.ok("get secret keys -o jsonpath={.data.password}")?,
        "aHVzaA==",
    )?;
    same(
        &ns.exact(&[
            "create",
            "deployment",
            "made",
            "--image=meshdojo/meshdojo:0.1.0",
            "--replicas=1",
            "--",
            "sleep",
            "600",
        ])?,
        "deployment.apps/made created",
    )?;
    contains(
        &ns.ok("rollout status deployment/made --timeout=30s")?,
        &["successfully rolled out"],
    )?;
    let twice = ns.refused("create serviceaccount robot", "")?;
    same(
        &twice,
        r#"error: failed to create serviceaccount: serviceaccounts "robot" already exists"#,
    )
}

fn create_from_files(ns: &Namespace) -> anyhow::Result<()> {
    same(
        &ns.typed("create -f -", &web(1))?,
        "service/web created\ndeployment.apps/web created",
    )?;
    let twice = ns.refused("create -f -", &web(1))?;
    contains(
        &twice,
        &[
            r#"Error from server (AlreadyExists)"#,
            r#"services "web" already exists"#,
        ],
    )?;
    let generated = "apiVersion: v1\nkind: ConfigMap\nmetadata: { generateName: draw- }\n";
    contains(
        &ns.typed("create -f -", generated)?,
        &["configmap/draw-", "created"],
    )
}
