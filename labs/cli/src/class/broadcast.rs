//! `class broadcast`: a message into the namespaces of the students, where their labs read it.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use lab_runner::class::MESSAGE;
use serde_json::json;

use super::Connection;

pub(super) async fn run(connection: &Connection, message: &str) -> anyhow::Result<()> {
    let students = connection.students().await?;
    let api: Api<Namespace> = Api::all(connection.client.clone());
    // One line, which a terminal prints as it is.
    let line: String = message.chars().filter(|c| !c.is_control()).collect();
    let said = (!line.is_empty()).then_some(line);
    let patch = json!({ "metadata": { "annotations": { MESSAGE: said } } });
    for student in &students {
        api.patch(
            &student.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await?;
    }
    let count = students.len();
    match said {
        Some(_) => eprintln!("{count} students will see it with their next `meshdojo lab`"),
        None => eprintln!("{count} students see no message any more"),
    }
    Ok(())
}
