//! The ordinary kubectl against the embedded cluster: each verb as it is typed, and what it prints.
//!
//! One file for each group of verbs. One cluster for all; each trial works in a namespace of its own, so they run in parallel.

mod access;
mod apply;
mod change;
mod create;
mod exec;
mod get;
mod mesh;
mod namespace;
mod own;
mod own_in_pods;
mod pods;
mod refusals;
mod rollout;
mod workloads;

use std::sync::Arc;

use dojo_tests::{dojo::Dojo, kubectl};
use libtest_mimic::{Arguments, Trial};
use namespace::Namespace;

fn main() {
    let arguments = Arguments::from_args();
    if !kubectl::available() {
        libtest_mimic::run(&arguments, Vec::new()).exit();
    }
    if arguments.list {
        libtest_mimic::run(&arguments, trials(None)).exit();
    }
    let dojo = Arc::new(Dojo::up(&["none"]).expect("a cluster"));
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&dojo)));
    drop(dojo);
    conclusion.exit();
}

/// One trial: what is typed, and what must come of it.
type Step = fn(&Namespace) -> anyhow::Result<()>;

fn trials(dojo: Option<&Arc<Dojo>>) -> Vec<Trial> {
    let groups = [
        access::STEPS,
        apply::STEPS,
        change::STEPS,
        create::STEPS,
        exec::STEPS,
        get::STEPS,
        mesh::STEPS,
        own::STEPS,
        own_in_pods::STEPS,
        pods::STEPS,
        refusals::STEPS,
        rollout::STEPS,
        workloads::STEPS,
    ];
    let trial = |&(name, step): &(&'static str, Step)| {
        let dojo = dojo.cloned();
        Trial::test(name, move || {
            let dojo = dojo.ok_or("listed only")?;
            let namespace = Namespace::create(dojo, &name.replace('_', "-"))?;
            step(&namespace).map_err(|error| format!("{error:?}\n{}", namespace.state()))?;
            Ok(())
        })
    };
    groups.into_iter().flatten().map(trial).collect()
}
