use super::*;
use crate::arguments::App;

const GIB: f64 = 1_073_741_824.0;

fn facts() -> Facts {
    Facts {
        version: (1, 36),
        mesh: Mesh {
            ours: vec!["istio-system/istiod".into()],
            ready: true,
            ..Mesh::default()
        },
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
        mesh: Mesh::default(),
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
    let foreign = Mesh {
        other: vec!["istio-system/istiod-1-28".into()],
        ..Mesh::default()
    };
    let other = Facts {
        mesh: foreign.clone(),
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
fn a_mesh_that_is_not_whole_is_told_in_one_line() {
    let ours = facts().mesh;
    let of = |mesh: Mesh| Facts { mesh, ..facts() };
    let two = Mesh {
        other: vec!["other/istiod".into()],
        ..ours.clone()
    };
    let away = Mesh {
        ready: false,
        ..ours.clone()
    };
    let ending = Mesh {
        ending: true,
        ..ours
    };
    let left = Facts {
        left_over: vec!["mutatingwebhookconfiguration/istio-sidecar-injector".into()],
        ..facts()
    };
    let strict = Facts {
        strict: vec![("default".into(), "restricted".into())],
        ..facts()
    };
    for (facts, words) in [
        (
            of(two),
            "two control planes are installed (istio-system/istiod, other/istiod)",
        ),
        (of(away), "no copy of the control plane is ready"),
        (of(ending), "istio-system is being deleted"),
        (
            left,
            "kubectl delete mutatingwebhookconfiguration/istio-sidecar-injector",
        ),
        (strict, "namespace default enforces Pod Security restricted"),
    ] {
        let findings = judge(&facts, &bookinfo(1.0));
        let problems = findings.iter().filter(|f| f.level == Level::Problem);
        let texts: Vec<&str> = problems.map(|f| f.text.as_str()).collect();
        assert!(texts.len() == 1 && texts[0].contains(words), "{texts:?}");
        assert_eq!(code(&findings), 8);
    }
}

/// What the line about storage says.
#[test]
fn nothing_asks_for_a_volume_that_lasts() {
    let apps = App::ALL.iter().map(|app| manifests::app(*app).unwrap());
    for object in apps.chain([manifests::install().unwrap()]).flatten() {
        let text = object.to_string();
        let asks = text.contains("persistentVolumeClaim") || text.contains("volumeClaimTemplates");
        assert!(!asks, "{text}");
    }
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
