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
    /// Whose mesh is there.
    mesh: Mesh,
    /// What the instructor may not do: `create namespaces`.
    forbidden: Vec<String>,
    /// Nodes that take pods.
    nodes: Vec<Node>,
    /// Processors and bytes that the pods which are there already ask for.
    asked: (f64, f64),
    /// It is the embedded cluster, where nothing is pulled and quotas have no effect.
    embedded: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mesh {
    #[default]
    None,
    Ours,
    /// Upstream Istio or something with its names.
    Other,
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
        mesh(facts.mesh),
        permissions(&facts.forbidden),
    ];
    findings.push(image(facts));
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
            "the embedded cluster does not enforce quotas, limits and network policies, and all pods are processes of one user: a class of those who trust each other",
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

fn mesh(mesh: Mesh) -> Finding {
    match mesh {
        Mesh::Ours => Finding::well(Kind::Cluster, "Mesh Dojo's control plane is installed"),
        Mesh::Other => Finding::warning(
            Kind::Cluster,
            "another Istio is installed: do not install k8s/install beside it. Labs work on it, but nothing keeps students' Gateway hosts and mesh-wide rules inside of their namespaces",
        ),
        Mesh::None => Finding::problem(
            Kind::Cluster,
            "no mesh is installed: kubectl apply --server-side -k k8s/install",
        ),
    }
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
mod tests {
    use super::*;
    use crate::arguments::App;

    const GIB: f64 = 1_073_741_824.0;

    fn facts() -> Facts {
        Facts {
            version: (1, 36),
            mesh: Mesh::Ours,
            nodes: vec![Node {
                name: "a".into(),
                cpu: 8.0,
                memory: 32.0 * GIB,
                pods: 250.0,
                has_image: true,
            }],
            asked: (0.5, GIB),
            ..Facts::default()
        }
    }

    fn bookinfo(students: f64) -> Wanted {
        Wanted {
            students,
            quota: (0.5, GIB, 30.0),
            apps: asked_by(&manifests::app(App::Bookinfo).unwrap()),
        }
    }

    #[test]
    fn thirty_students_with_bookinfo_fit_one_node() {
        let (cpu, memory, pods) = bookinfo(30.0).apps;
        assert_eq!((pods, (cpu * 1000.0).round()), (6.0, 120.0));
        assert_eq!(memory / 1_048_576.0, 240.0);
        let findings = judge(&facts(), &bookinfo(30.0));
        assert_eq!(code(&findings), 0, "{findings:?}");
        let sum = findings.iter().find(|f| f.kind == Kind::Room).unwrap();
        assert!(
            sum.text
                .contains("30 students x applications ask for 3.6 CPU and 7.0 GiB in 180 pods"),
            "{}",
            sum.text
        );
        let warned = findings
            .iter()
            .any(|f| f.level == Level::Warning && f.text.contains("15.0 CPU"));
        assert!(warned, "quotas may be promised twice, and it is said");
    }

    #[test]
    fn each_kind_of_problem_has_its_code() {
        let code_of = |facts: &Facts| code(&judge(facts, &bookinfo(30.0)));
        let old = Facts {
            version: (1, 26),
            ..facts()
        };
        let bare = Facts {
            mesh: Mesh::None,
            ..facts()
        };
        let forbidden = Facts {
            forbidden: vec!["create namespaces".into()],
            ..bare.clone()
        };
        let full = Facts {
            asked: (7.0, GIB),
            ..facts()
        };
        let embedded = Facts {
            embedded: true,
            ..full.clone()
        };
        assert_eq!(code_of(&embedded), 0);
        let none = Facts {
            nodes: Vec::new(),
            ..facts()
        };
        let codes = [&old, &bare, &forbidden, &full, &none].map(code_of);
        assert_eq!(codes, [8, 8, 7, 9, 9]);
        let other = Facts {
            mesh: Mesh::Other,
            ..facts()
        };
        assert_eq!(code_of(&other), 0);
        assert!(
            judge(&other, &bookinfo(1.0))
                .iter()
                .any(|f| f.level == Level::Warning && f.text.contains("another Istio"))
        );
    }

    #[test]
    fn a_quota_must_hold_the_applications() {
        let wanted = Wanted {
            quota: (0.1, GIB, 5.0),
            ..bookinfo(1.0)
        };
        let findings = judge(&facts(), &wanted);
        let problems: Vec<_> = findings
            .iter()
            .filter(|f| f.level == Level::Problem)
            .collect();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
