//! `class preflight`: whether the cluster can take the class, a line for each thing that was looked at.

mod facts;

use std::process::ExitCode;

use serde_json::Value;

use super::{ClassSize, Connection, objects::SIDECAR, quantity, roster};
use crate::{arguments::Choice, manifests};

/// What a finding is about; of those that stop a class the first in this order gives the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// You may not do what is needed.
    Permission = 7,
    /// The version, the mesh or the image is not as needed.
    Cluster = 8,
    /// There is not enough of something.
    Room = 9,
}

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Well,
    /// It works, and something should be known.
    Warning,
    /// It does not work.
    Problem,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    kind: Kind,
    text: String,
}

impl Finding {
    fn well(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            level: Level::Well,
            kind,
            text: text.into(),
        }
    }
    fn warning(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            kind,
            text: text.into(),
        }
    }
    fn problem(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            level: Level::Problem,
            kind,
            text: text.into(),
        }
    }
}

/// What was found out about the cluster.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// `1.36`, as major and minor.
    version: (u32, u32),
    /// The control planes that are there.
    mesh: Mesh,
    /// Webhook configurations of a mesh whose control plane is gone.
    left_over: Vec<String>,
    /// Namespaces with sidecars, and the level of Pod Security that forbids them there.
    strict: Vec<(String, String)>,
    /// What the instructor may not do: `create namespaces`.
    forbidden: Vec<String>,
    /// Nodes that take pods.
    nodes: Vec<Node>,
    /// Processors and bytes that the pods which are there already ask for.
    asked: (f64, f64),
    /// It is the embedded cluster, where nothing is pulled and quotas have no effect.
    embedded: bool,
}

/// Control planes, as `namespace/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mesh {
    ours: Vec<String>,
    /// Upstream Istio or something with its names.
    other: Vec<String>,
    /// One of ours can be reached.
    ready: bool,
    /// The namespace `istio-system` is being deleted.
    ending: bool,
}

#[derive(Clone, Debug)]
struct Node {
    name: String,
    cpu: f64,
    memory: f64,
    pods: f64,
    /// The node's list of images has ours. Nodes list the largest fifty.
    has_image: bool,
}

/// What the class asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wanted {
    students: f64,
    /// Of one student's quota: processors, bytes, pods.
    quota: (f64, f64, f64),
    /// Of one student's applications with their sidecars.
    apps: (f64, f64, f64),
}

pub(super) async fn run(connection: &Connection, size: &ClassSize) -> anyhow::Result<ExitCode> {
    let students = roster::students(size)?;
    let mut apps = Vec::new();
    for app in Choice::apps(&size.apps) {
        apps.extend(manifests::app(app)?);
    }
    let wanted = Wanted {
        students: students.len() as f64,
        quota: (
            quantity::parse(&size.cpu).unwrap_or(0.0),
            quantity::parse(&size.memory).unwrap_or(0.0),
            f64::from(size.pods),
        ),
        apps: asked_by(&apps),
    };
    let facts = facts::gather(connection).await?;
    let findings = judge(&facts, &wanted);
    for finding in &findings {
        let mark = match finding.level {
            Level::Well => "ok      ",
            Level::Warning => "warning ",
            Level::Problem => "problem ",
        };
        lab_runner::say::line(format!("{mark} {}", finding.text))?;
    }
    Ok(ExitCode::from(code(&findings)))
}

/// 0 when nothing stops the class.
fn code(findings: &[Finding]) -> u8 {
    let problems = findings.iter().filter(|f| f.level == Level::Problem);
    problems.map(|f| f.kind).min().map_or(0, |kind| kind as u8)
}

/// What applications ask for with a class's sidecars: processors, bytes, pods.
fn asked_by(objects: &[Value]) -> (f64, f64, f64) {
    let number = |value: &Value| value.as_str().and_then(quantity::parse).unwrap_or(0.0);
    let sidecar = (
        quantity::parse(SIDECAR.0).unwrap_or(0.0),
        quantity::parse(SIDECAR.1).unwrap_or(0.0),
    );
    let mut sum = (0.0, 0.0, 0.0);
    for deployment in objects.iter().filter(|o| o["kind"] == "Deployment") {
        let replicas = deployment["spec"]["replicas"].as_f64().unwrap_or(1.0);
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
        let (mut cpu, mut memory) = sidecar;
        for container in containers.into_iter().flatten() {
            cpu += number(&container["resources"]["requests"]["cpu"]);
            memory += number(&container["resources"]["requests"]["memory"]);
        }
        sum = (
            sum.0 + replicas * cpu,
            sum.1 + replicas * memory,
            sum.2 + replicas,
        );
    }
    sum
}

/// What the facts mean for the class.
fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = vec![
        version(facts.version),
        mesh(&facts.mesh),
        permissions(&facts.forbidden),
    ];
    findings.extend(left_over(&facts.left_over));
    findings.extend(strict(&facts.strict));
    findings.push(image(facts));
    findings.push(Finding::well(
        Kind::Cluster,
        "storage: nothing asks for volumes that last, so no StorageClass is needed",
    ));
    findings.extend(room(facts, wanted));
    if facts.embedded {
        // Nothing is refused there for want of room: pods take what they use.
        for finding in &mut findings {
            if finding.kind == Kind::Room && finding.level == Level::Problem {
                finding.level = Level::Warning;
            }
        }
        findings.push(Finding::warning(
            Kind::Cluster,
            "the embedded cluster does not enforce quotas, limits of CPU and network policies, and all pods are processes of one user: a class of those who trust each other",
        ));
    }
    findings
}

fn version((major, minor): (u32, u32)) -> Finding {
    let text = format!("Kubernetes {major}.{minor}");
    match (major, minor) {
        (1, 29..) => Finding::well(Kind::Cluster, text),
        (1, 27..) => Finding::warning(
            Kind::Cluster,
            format!("{text}: set ENABLE_NATIVE_SIDECARS=false on istiod, or upgrade to 1.29"),
        ),
        _ => Finding::problem(
            Kind::Cluster,
            format!("{text} is too old; 1.29 or later is needed"),
        ),
    }
}

fn mesh(mesh: &Mesh) -> Finding {
    let problem = |text: String| Finding::problem(Kind::Cluster, text);
    if mesh.ending {
        return problem(
            "the namespace istio-system is being deleted: wait until it is gone, then install again (kubectl get namespace istio-system -o yaml tells what it waits for)".into(),
        );
    }
    let all = [&mesh.ours[..], &mesh.other].concat();
    match (mesh.ours.as_slice(), mesh.other.as_slice()) {
        ([], []) => problem("no mesh is installed: kubectl apply --server-side -k k8s/install".into()),
        ([], _) => Finding::warning(
            Kind::Cluster,
            "another Istio is installed: do not install k8s/install beside it. Labs work on it, but nothing keeps students' Gateway hosts and mesh-wide rules inside of their namespaces",
        ),
        ([_], []) if !mesh.ready => problem(
            "no copy of the control plane is ready, so pods with sidecars are refused: kubectl -n istio-system describe deployment istiod; kubectl -n istio-system logs deployment/istiod".into(),
        ),
        ([_], []) => Finding::well(Kind::Cluster, "Mesh Dojo's control plane is installed"),
        _ => problem(format!(
            "two control planes are installed ({}): both would inject sidecars and write statuses; uninstall one",
            all.join(", ")
        )),
    }
}

fn left_over(webhooks: &[String]) -> Option<Finding> {
    let list = webhooks.join(" ");
    (!webhooks.is_empty()).then(|| {
        Finding::problem(
            Kind::Cluster,
            format!("left of a mesh whose control plane is gone, so that pods with sidecars are refused: kubectl delete {list}"),
        )
    })
}

fn strict(namespaces: &[(String, String)]) -> Vec<Finding> {
    let told = |(namespace, level): &(String, String)| {
        Finding::problem(
            Kind::Cluster,
            format!(
                "namespace {namespace} enforces Pod Security {level}, which refuses pods with istio-init (NET_ADMIN): kubectl label --overwrite namespace {namespace} pod-security.kubernetes.io/enforce=privileged"
            ),
        )
    };
    namespaces.iter().map(told).collect()
}

fn permissions(forbidden: &[String]) -> Finding {
    match forbidden {
        [] => Finding::well(
            Kind::Permission,
            "you may make everything that a class consists of",
        ),
        _ => Finding::problem(
            Kind::Permission,
            format!(
                "you may not {}; ask for the role cluster-admin",
                forbidden.join(", ")
            ),
        ),
    }
}

fn image(facts: &Facts) -> Finding {
    if facts.embedded {
        return Finding::well(Kind::Cluster, "images: the embedded cluster needs none");
    }
    let missing: Vec<&str> = facts
        .nodes
        .iter()
        .filter(|node| !node.has_image)
        .map(|node| node.name.as_str())
        .collect();
    match missing.as_slice() {
        [] => Finding::well(
            Kind::Cluster,
            "the image meshdojo/meshdojo is on every node",
        ),
        _ => Finding::warning(
            Kind::Cluster,
            format!(
                "the image meshdojo/meshdojo is not among those that these nodes list: {}; they have to be able to pull it, or import it (meshdojo image save)",
                missing.join(", ")
            ),
        ),
    }
}

fn room(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let sum = |of: fn(&Node) -> f64| facts.nodes.iter().map(of).sum::<f64>();
    let (cpu, memory, pods) = (sum(|n| n.cpu), sum(|n| n.memory), sum(|n| n.pods));
    if facts.nodes.is_empty() {
        return vec![Finding::problem(Kind::Room, "no node takes pods")];
    }
    let free = (cpu - facts.asked.0, memory - facts.asked.1);
    let times = |(cpu, memory, pods): (f64, f64, f64)| {
        (
            wanted.students * cpu,
            wanted.students * memory,
            wanted.students * pods,
        )
    };
    let (apps, quota) = (times(wanted.apps), times(wanted.quota));
    let told = |(cpu, memory): (f64, f64)| format!("{cpu:.1} CPU and {}", quantity::gib(memory));
    let mut findings = Vec::new();
    let fits = apps.0 <= free.0 && apps.1 <= free.1 && apps.2 <= pods;
    let text = format!(
        "{} students x applications ask for {} in {} pods; free of {} nodes: {}, {pods:.0} pods at most",
        wanted.students,
        told((apps.0, apps.1)),
        apps.2,
        facts.nodes.len(),
        told(free),
    );
    findings.push(if fits {
        Finding::well(Kind::Room, text)
    } else {
        Finding::problem(
            Kind::Room,
            format!("{text}: too much; more nodes, fewer --apps"),
        )
    });
    if apps.2 > 0.0 {
        for (what, one, bound) in [
            ("CPU", wanted.apps.0, wanted.quota.0),
            ("memory", wanted.apps.1, wanted.quota.1),
            ("pods", wanted.apps.2, wanted.quota.2),
        ] {
            if one > bound {
                findings.push(Finding::problem(
                    Kind::Room,
                    format!("one student's applications ask for more {what} than the quota: raise it or take fewer --apps"),
                ));
            }
        }
    }
    let text = format!(
        "{} quotas sum to {} and {:.0} pods",
        wanted.students,
        told((quota.0, quota.1)),
        quota.2
    );
    findings.push(
        if quota.0 <= free.0 && quota.1 <= free.1 && quota.2 <= pods {
            Finding::well(Kind::Room, text)
        } else {
            Finding::warning(
                Kind::Room,
                format!("{text}: more than is free; if everybody used all of it, pods would wait"),
            )
        },
    );
    findings
}

#[cfg(test)]
mod tests;
