//! `class delete`: nothing of the class is left.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    core::v1::Namespace,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
    runtime::wait::{await_condition, conditions::is_deleted},
};

use super::{
    Connection,
    objects::{CONFINEMENT, STUDENT},
};
use crate::exit;

pub(super) async fn run(connection: &Connection, timeout: u64) -> anyhow::Result<()> {
    let client = &connection.client;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let students = connection.namespaces().await?;
    let mut uids = Vec::new();
    for student in &students {
        let name = student.name_any();
        uids.push((name.clone(), student.uid().unwrap_or_default()));
        gone(namespaces.delete(&name, &DeleteParams::background()).await)
            .with_context(|| format!("deleting namespace {name}"))?;
    }
    // The namespaces' own deletions are not admission's matter; what students could still make is, until they are gone.
    let all_gone = async {
        for (name, uid) in &uids {
            await_condition(namespaces.clone(), name, is_deleted(uid)).await?;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(Duration::from_secs(timeout), all_gone).await {
        Ok(outcome) => outcome?,
        Err(_) => {
            return Err(exit::timeout(format!(
                "namespaces are not gone within {timeout} s; see `kubectl get namespaces -l {STUDENT}`, then run `meshdojo class delete` again"
            )));
        }
    }
    let of_class = ListParams::default().labels(STUDENT);
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), "istio-system");
    for binding in bindings.list(&of_class).await? {
        gone(
            bindings
                .delete(&binding.name_any(), &DeleteParams::default())
                .await,
        )?;
    }
    let roles: Api<Role> = Api::namespaced(client.clone(), "istio-system");
    gone(roles.delete(CONFINEMENT, &DeleteParams::default()).await)?;
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    gone(webhooks.delete(CONFINEMENT, &DeleteParams::default()).await)?;
    eprintln!(
        "{} students are gone, and their tokens are worth nothing; the kubeconfig files are yours to remove",
        students.len()
    );
    Ok(())
}

/// What is not there needs no deleting.
pub(super) fn gone<T>(outcome: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
