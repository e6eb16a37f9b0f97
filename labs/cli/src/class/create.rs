//! `class create`: makes a class, or completes one.

use std::{collections::HashSet, fs, os::unix::fs::DirBuilderExt, path::Path, time::Duration};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    ByteString,
    api::{admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Namespace},
};
use kube::{Api, ResourceExt, config::Cluster, runtime::wait::await_condition};
use lab_runner::{class::Class, cluster::find_gateway, progress::write_whole};
use serde_json::Value;

use super::{
    Connection, CreateArgs, credentials,
    objects::{self, CONFINEMENT, STUDENT},
    reset,
    roster::{self, Student},
};
use crate::{
    apply,
    arguments::{App, Choice},
    exit, manifests,
};

/// Under this name the fields of a class's objects are owned.
pub(super) const FIELD_MANAGER: &str = "meshdojo-class";
/// The mesh's own rule, by which the API server knows the control plane.
const VALIDATOR: &str = "istio-validator-istio-system";
/// A control plane that has just been installed is heard of within this time.
const TRUST_WITHIN: Duration = Duration::from_secs(90);
/// Students that are made at a time.
const AT_A_TIME: usize = 4;

pub(super) async fn run(connection: &Connection, args: &CreateArgs) -> anyhow::Result<()> {
    let students = roster::students(&args.size)?;
    let cluster = credentials::cluster(
        &connection.kubeconfig,
        connection.context.as_deref(),
        args.server.as_deref(),
    )?;
    // Everything that can be refused is looked at before anything is made.
    let there = namespaces(connection, &students).await?;
    let gateway = match &args.gateway {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => find_gateway(&connection.client)
            .await
            .map_err(|error| exit::environment(format!("{error:#}")))?,
    };
    let domain = domain(connection, args, &gateway).await?;
    make_private(&args.out)?;

    let authority = authority(connection).await?;
    if authority.is_none() {
        eprintln!(
            "NOT ENFORCED: the mesh of this cluster is not Mesh Dojo's (no ValidatingWebhookConfiguration istio-validator-istio-system with an authority), so nothing keeps a student's Gateway hosts and mesh-wide rules inside of the student's namespace"
        );
    }
    let of_class = objects::of_class(&domain, authority.as_ref());
    apply::apply_as(&connection.client, FIELD_MANAGER, &of_class).await?;
    let made: Vec<String> = stream::iter(&students)
        .map(|student| {
            let class = place(student, &domain, &gateway);
            let before = there.iter().find(|n| n.name_any() == student.name);
            make(connection, args, student, class, &cluster, before)
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    for line in made {
        println!("{line}");
    }
    eprintln!(
        "{} students; each needs the own file alone: export KUBECONFIG=STUDENT.kubeconfig, then meshdojo lab start 1",
        students.len()
    );
    Ok(())
}

async fn make(
    connection: &Connection,
    args: &CreateArgs,
    student: &Student,
    class: Class,
    cluster: &Cluster,
    before: Option<&Namespace>,
) -> anyhow::Result<String> {
    let name = &student.name;
    let mut apps = before.map_or(Vec::new(), reset::apps);
    apps.extend(Choice::apps(&args.size.apps));
    apps.sort();
    apps.dedup();
    let told = || format!("student {name}");
    let client = &connection.client;
    apply::apply_as(
        client,
        FIELD_MANAGER,
        &objects::of_student(student, &class, &args.size, &apps),
    )
    .await
    .with_context(told)?;
    install(connection, &class, &apps)
        .await
        .with_context(told)?;
    let token = credentials::token(client, name, args.token_hours).await?;
    let file = args.out.join(format!("{name}.kubeconfig"));
    write_whole(
        &file,
        credentials::kubeconfig(cluster, name, &token)?.as_bytes(),
    )?;
    Ok(format!("{name}\t{}\t{}", class.gateway, file.display()))
}

/// Applies applications in a student's namespace, rendered for the student.
pub(super) async fn install(
    connection: &Connection,
    class: &Class,
    apps: &[App],
) -> anyhow::Result<()> {
    for app in apps {
        let rendered = manifests::app_rendered(*app, &|text| class.render(text))?;
        let objects = objects::of_app(rendered, &class.namespace);
        apply::apply_as(&connection.client, FIELD_MANAGER, &objects)
            .await
            .with_context(|| app.name())?;
    }
    Ok(())
}

/// A student's place at a gateway: the port is the gateway's, the host the student's own.
fn place(student: &Student, domain: &str, gateway: &str) -> Class {
    let host = format!("{}.{domain}", student.name);
    let (scheme, address) = gateway.split_once("://").unwrap_or(("http", gateway));
    let port = address
        .rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok())
        .map_or(String::new(), |(_, port)| format!(":{port}"));
    Class {
        namespace: student.name.clone(),
        gateway: format!("{scheme}://{host}{port}"),
        host,
        message: None,
        beginning: String::new(),
    }
}

/// The namespaces of these students that are there already. One that is there and of no class is somebody else's.
async fn namespaces(
    connection: &Connection,
    students: &[Student],
) -> anyhow::Result<Vec<Namespace>> {
    let api: Api<Namespace> = Api::all(connection.client.clone());
    let all = api
        .list(&Default::default())
        .await
        .context("listing the namespaces")?;
    let names: HashSet<&str> = students.iter().map(|student| &*student.name).collect();
    let (ours, foreign): (Vec<_>, Vec<_>) = all
        .items
        .into_iter()
        .filter(|namespace| names.contains(&*namespace.name_any()))
        .partition(|namespace| namespace.labels().contains_key(STUDENT));
    if foreign.is_empty() {
        return Ok(ours);
    }
    let foreign: Vec<String> = foreign.iter().map(ResourceExt::name_any).collect();
    Err(exit::environment(format!(
        "namespaces that are there already and of no class: {}; give these students other names in a roster",
        foreign.join(", ")
    )))
}

/// The domain: of a class that is there already, else as given, else `localhost` where the gateway is on this machine.
async fn domain(
    connection: &Connection,
    args: &CreateArgs,
    gateway: &str,
) -> anyhow::Result<String> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(connection.client.clone());
    let there = match api.get_opt(CONFINEMENT).await? {
        Some(found) => objects::domain_of(&serde_json::to_value(found)?).map(str::to_owned),
        None => None,
    };
    let local = gateway.contains("://127.0.0.1");
    match (there, &args.domain) {
        (Some(there), Some(given)) if there != *given => Err(exit::environment(format!(
            "the class of this cluster has the domain {there}; use that one, or delete the class first"
        ))),
        (Some(there), _) => Ok(there),
        (None, Some(given)) => Ok(given.clone()),
        (None, None) if local => Ok("localhost".into()),
        (None, None) => Err(exit::environment(format!(
            "give the class a domain with --domain: STUDENT.DOMAIN has to lead to the gateway {gateway}"
        ))),
    }
}

/// What the API server trusts the control plane by, if it is ours. The control plane writes it when it starts.
async fn authority(connection: &Connection) -> anyhow::Result<Option<Value>> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(connection.client.clone());
    let found = api.get_opt(VALIDATOR).await?;
    let ours = found.is_some_and(|configuration| {
        let of = configuration.labels().get("app.kubernetes.io/part-of");
        of.is_some_and(|of| of == "meshdojo")
    });
    if !ours {
        return Ok(None);
    }
    let trusted = await_condition(
        api,
        VALIDATOR,
        |found: Option<&ValidatingWebhookConfiguration>| found.is_some_and(|c| bundle(c).is_some()),
    );
    match tokio::time::timeout(TRUST_WITHIN, trusted).await {
        Ok(found) => {
            let bundle = found?.as_ref().and_then(bundle);
            Ok(bundle.map(serde_json::to_value).transpose()?)
        }
        Err(_) => Err(exit::timeout(format!(
            "the control plane has not written its authority into ValidatingWebhookConfiguration {VALIDATOR}; see `kubectl logs -n istio-system deploy/istiod`"
        ))),
    }
}

fn bundle(configuration: &ValidatingWebhookConfiguration) -> Option<ByteString> {
    let webhook = configuration.webhooks.as_ref()?.first()?;
    webhook.client_config.ca_bundle.clone()
}

/// The folder of the kubeconfigs is for the instructor's eyes.
fn make_private(folder: &Path) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| exit::environment(format!("cannot make {}: {error}", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_students_place_is_at_the_gateways_port() {
        let kim = Student {
            name: "kim".into(),
            title: "Kim".into(),
        };
        let at = |gateway| place(&kim, "class.test", gateway).gateway;
        assert_eq!(at("http://127.0.0.1:8080"), "http://kim.class.test:8080");
        assert_eq!(at("http://10.0.0.1"), "http://kim.class.test");
        assert_eq!(at("https://lb.example"), "https://kim.class.test");
    }
}
