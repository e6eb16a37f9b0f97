//! What the verbs have before them: the book, the progress, the cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;

use crate::{
    book::Book,
    class::{self, Class},
    cluster::{self, Cluster},
    lab::{Lab, Step, Typed},
    language::Language,
    progress::Keeper,
    snapshot::Snapshot,
    type_in::{Given, Shell},
};

/// All of it.
pub(super) struct Desk {
    pub(super) book: Book,
    pub(super) keeper: Keeper,
    pub(super) language: Language,
    pub(super) kubeconfig: PathBuf,
    pub(super) context: Option<String>,
    pub(super) gateway: Option<String>,
    /// The student's place in a class, if it is one.
    pub(super) class: Option<Class>,
}

impl Desk {
    /// A context or KUBECONFIG is the student's own choice; else it is the embedded cluster.
    fn is_own_choice(&self) -> bool {
        self.context.is_some()
            || std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty())
    }

    /// Takes the student's place in a class, if the kubeconfig is of one: the book and the progress are those of that
    /// place then. `state` is where progress is kept.
    pub(super) async fn join_class(&mut self, state: &Path) -> anyhow::Result<()> {
        if !self.is_own_choice() {
            return Ok(());
        }
        // Without a cluster there is still something to read.
        let Ok(client) = cluster::client(None, self.context.as_deref()).await else {
            return Ok(());
        };
        let namespace = client.default_namespace().to_owned();
        let found = match Class::find(&client, &namespace).await {
            Ok(found) => found,
            Err(error) => {
                eprintln!("meshdojo: namespace {namespace} cannot be read: {error:#}");
                None
            }
        };
        let Some(class) = found else {
            return Ok(());
        };
        if let Some(message) = &class.message {
            eprintln!(
                "*** {}: {message}",
                self.language.pick("your instructor", "강사")
            );
        }
        let place = state.join("class").join(&class.namespace);
        class.write_rendered(self.book.root(), &place)?;
        self.book = Book {
            folder: place.join("labs/book"),
            namespace: Some(class.namespace.clone()),
        };
        self.keeper = Keeper::new(&place);
        if self.keeper.begin(&class.beginning)? {
            eprintln!(
                "*** {}",
                self.language.pick(
                    "your instructor has put your namespace back to its beginning, and so your progress",
                    "강사가 네임스페이스를 처음 상태로 되돌렸으므로 진도도 처음부터 시작합니다"
                )
            );
        }
        self.class = Some(class);
        Ok(())
    }

    /// Tells the instructor how far the student is. That it fails is no reason to stop.
    pub(super) async fn publish(&self, cluster: &Cluster) {
        let Some(class) = &self.class else {
            return;
        };
        let publishing = async {
            let labs = self.book.labs(self.language)?;
            class::publish(&cluster.client, class, &self.keeper.read()?, &labs).await
        };
        if let Err(error) = publishing.await {
            eprintln!("meshdojo: your progress is not in the cluster: {error:#}");
        }
    }

    /// The cluster that is worked on.
    pub(super) async fn cluster(&self) -> anyhow::Result<Cluster> {
        let file = (!self.is_own_choice()).then_some(self.kubeconfig.as_path());
        if file.is_some_and(|file| !file.exists()) {
            bail!(
                "{}",
                self.language.pick(
                    "no cluster is running; start one with `meshdojo up`, or let `meshdojo lab start` do it",
                    "실행 중인 클러스터가 없습니다. `meshdojo up`으로 시작하거나 `meshdojo lab start`를 쓰십시오"
                )
            );
        }
        let of_class = self.class.as_ref().map(|class| class.gateway.as_str());
        let gateway = self.gateway.as_deref().or(of_class);
        let mut cluster = Cluster::connect(file, self.context.as_deref(), gateway).await?;
        cluster.only = self.class.as_ref().map(|class| class.namespace.clone());
        Ok(cluster)
    }

    /// The lab that is worked on, and the number of its step.
    pub(super) fn current(&self) -> anyhow::Result<(Lab, usize)> {
        let mut progress = self.keeper.read()?;
        let id = progress.current.clone().with_context(|| {
            self.language.pick(
                "no lab is begun; begin one with `meshdojo lab start`",
                "시작한 실습이 없습니다. `meshdojo lab start`로 시작하십시오",
            )
        })?;
        let lab = self.book.lab(&id, self.language)?;
        let step = progress.lab(&id, Timestamp::now()).step;
        Ok((lab, step))
    }

    /// The step that is worked on.
    pub(super) fn current_step(&self) -> anyhow::Result<(Lab, Step)> {
        let (lab, number) = self.current()?;
        match lab.steps.get(number - 1).cloned() {
            Some(step) => Ok((lab, step)),
            None => bail!(
                "{}",
                self.language.pick(
                    format!(
                        "lab {} is done; `meshdojo lab goto 1` begins it again, `meshdojo lab list` shows the others",
                        lab.id
                    ),
                    format!(
                        "{} 실습을 마쳤습니다. `meshdojo lab goto 1`로 다시 시작하거나 `meshdojo lab list`에서 다른 실습을 고르십시오",
                        lab.id
                    )
                )
            ),
        }
    }

    /// A shell where the labs expect it: above `labs/book`.
    pub(super) fn shell(&self, gateway: &str) -> anyhow::Result<Shell> {
        let mut environment = Vec::new();
        // The shell goes from folder to folder; a class's kubeconfig may be named from this one.
        if let (Some(_), Some(file)) = (&self.class, std::env::var_os("KUBECONFIG")) {
            let file = Path::new(&file);
            if file.is_file() {
                environment.push(("KUBECONFIG", std::path::absolute(file)?));
            }
        }
        let root = self.book.root();
        let given = self
            .context
            .as_deref()
            .map(|context| Given { context, root });
        Shell::start(root, &environment, given, gateway, false)
    }

    /// Keeps the state at the start of a step for `reset`.
    pub(super) async fn keep_start(
        &self,
        cluster: &Cluster,
        lab: &Lab,
        step: usize,
    ) -> anyhow::Result<()> {
        let snapshot = Snapshot::take(cluster, &lab.front.namespaces).await?;
        snapshot.write(&self.start_of(lab, step))
    }

    /// Where the state at the start of a step is kept.
    pub(super) fn start_of(&self, lab: &Lab, step: usize) -> PathBuf {
        self.keeper.snapshot(&format!("{}.{step}", lab.id))
    }
}

/// What a block must find in its shell: folders, exports and functions of the blocks before it, nothing that acts.
pub(super) fn surroundings(blocks: &[&Typed]) -> Typed {
    let mut text = String::new();
    for block in blocks {
        let mut in_function = false;
        for line in block.text.lines() {
            let begins = line.contains("() {");
            let one_line = begins && line.trim_end().ends_with('}');
            let setting = ["cd ", "export ", "alias "]
                .iter()
                .any(|w| line.starts_with(w));
            let assignment = line.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            });
            if begins || in_function || setting || assignment {
                text.push_str(line);
                text.push('\n');
            }
            in_function = (in_function || begins) && !one_line && line != "}";
        }
    }
    Typed {
        line: 0,
        text,
        fails: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_do_not_act() {
        let block = |text: &str| Typed {
            line: 1,
            text: text.into(),
            fails: false,
        };
        let blocks = [
            block("meshdojo up\nexport A=1\ncd labs\nkubectl get pods\n"),
            block(
                "f() {\n  for i in 1; do\n    g\n  done\n}\nf\ng() { echo; }\nkubectl apply -f a\nPOD=$(kubectl get pod)\n",
            ),
        ];
        let blocks: Vec<&Typed> = blocks.iter().collect();
        assert_eq!(
            surroundings(&blocks).text,
            "export A=1\ncd labs\nf() {\n  for i in 1; do\n    g\n  done\n}\ng() { echo; }\nPOD=$(kubectl get pod)\n"
        );
    }
}
