//! The verbs of `meshdojo lab`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::{
    NOT_YET,
    desk::{Desk, surroundings},
};
use crate::{
    attempt::{attempt, passed},
    check::Check,
    class,
    cluster::Cluster,
    diagnose,
    judge::Verdict,
    lab::{Lab, Step, Typed},
    say,
    snapshot::Snapshot,
    type_in::{Shell, at_gateway},
};

/// A change may need this long to reach every proxy; `check` waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn list(desk: &Desk) -> anyhow::Result<ExitCode> {
    let progress = desk.keeper.read()?;
    for lab in desk.book.labs(desk.language)? {
        let here = progress.current.as_ref() == Some(&lab.id);
        let steps = lab.steps.len();
        let done = progress.labs.get(&lab.id).map_or(0, |p| p.passed(steps));
        say::line(format!(
            "{} {:<3} {}  ({}, {})",
            if here { ">" } else { " " },
            lab.id.split('-').next().unwrap_or_default(),
            lab.front.title,
            lab.front.time,
            say::bar(done, steps),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn start(desk: &Desk, meant: Option<&str>) -> anyhow::Result<ExitCode> {
    let lab = match (meant, desk.keeper.read()?.current) {
        (Some(meant), _) => desk.book.lab(meant, desk.language)?,
        (None, Some(current)) => desk.book.lab(&current, desk.language)?,
        (None, None) => {
            let mut labs = desk.book.labs(desk.language)?;
            if labs.is_empty() {
                bail!("there is no lab in {}", desk.book.folder.display());
            }
            labs.remove(0)
        }
    };
    if desk.class.is_some() {
        suits_a_class(desk, &lab)?;
    }
    set_up(desk, &lab).await?;
    desk.keeper.change(|progress| {
        progress.current = Some(lab.id.clone());
        let known = progress.lab(&lab.id, Timestamp::now());
        if known.step > lab.steps.len() {
            known.step = 1;
        }
    })?;
    let cluster = desk.cluster().await?;
    let (_, step) = desk.current()?;
    if !desk.start_of(&lab, step).exists() {
        desk.keep_start(&cluster, &lab, step).await?;
    }
    desk.publish(&cluster).await;
    say::line(at_gateway(lab.setup.text.trim(), &cluster.gateway))?;
    say::line("")?;
    show(desk).await
}

/// A student of a class has one namespace; labs that need more are for a cluster of one's own.
fn suits_a_class(desk: &Desk, lab: &Lab) -> anyhow::Result<()> {
    if lab
        .front
        .namespaces
        .iter()
        .all(|name| Some(name) == desk.book.namespace.as_ref())
    {
        return Ok(());
    }
    bail!(
        "{}",
        desk.language.pick(
            format!(
                "lab {} works in the namespaces {}, and yours is one alone; do it on a cluster of your own: unset KUBECONFIG, then `meshdojo lab start {0}`",
                lab.id,
                lab.front.namespaces.join(", ")
            ),
            format!(
                "{} 실습은 네임스페이스 {}에서 진행되므로 하나만 가진 수업에서는 할 수 없습니다. KUBECONFIG를 해제하고 `meshdojo lab start {0}`로 자신의 클러스터에서 하십시오",
                lab.id,
                lab.front.namespaces.join(", ")
            )
        )
    )
}

/// Brings the cluster to the lab's start, unless it has been begun before.
async fn set_up(desk: &Desk, lab: &Lab) -> anyhow::Result<()> {
    let begun = desk.keeper.read()?.labs.contains_key(&lab.id);
    let mut shell = desk.shell(desk.gateway.as_deref().unwrap_or("http://127.0.0.1:8080"))?;
    if desk.class.is_some() {
        eprintln!(
            "{}: {} ({})",
            desk.language.pick("this lab needs", "이 실습에 필요한 것"),
            lab.front.needs.join(", "),
            desk.language.pick(
                "in a class your instructor installs that: `meshdojo class create --apps APP`",
                "수업에서는 강사가 설치합니다: `meshdojo class create --apps APP`"
            )
        );
        eprintln!(
            "{}: cd {}",
            desk.language.pick(
                "its files, with your host and namespace",
                "자신의 호스트와 네임스페이스가 적힌 실습 파일"
            ),
            desk.book.root().display()
        );
    } else if desk.context.is_none() {
        for need in &lab.front.needs {
            eprintln!("$ {need}");
            shell
                .type_as_written(&Typed {
                    line: 1,
                    text: need.clone(),
                    fails: false,
                })
                .await?;
        }
    }
    if begun {
        return Ok(());
    }
    let cluster = desk.cluster().await?;
    if let Some(class) = &desk.class
        && !class::applications_serve(&cluster.client, class).await?
    {
        eprintln!(
            "meshdojo: {}",
            desk.language.pick(
                "not all of your applications serve yet: kubectl get pods",
                "아직 준비되지 않은 애플리케이션이 있습니다: kubectl get pods"
            )
        );
    }
    let mut shell = desk.shell(&cluster.gateway)?;
    for typed in &lab.setup.typed {
        let text: String = typed
            .text
            .lines()
            .filter(|line| !line.starts_with("meshdojo up"))
            .map(|line| format!("{line}\n"))
            .collect();
        let typed = Typed {
            text,
            ..typed.clone()
        };
        shell
            .type_as_written(&typed)
            .await
            .with_context(|| desk.language.pick("before the first step", "첫 단계 전"))?;
    }
    // The lab begins where its first step begins, whatever was there before.
    desk.keep_start(&cluster, lab, 1).await
}

pub(super) async fn show(desk: &Desk) -> anyhow::Result<ExitCode> {
    let (lab, step) = desk.current_step()?;
    // Without a cluster there is still something to read.
    let gateway = match desk.cluster().await {
        Ok(cluster) => cluster.gateway,
        Err(_) => "http://127.0.0.1:8080".into(),
    };
    say::line(format!(
        "[{}/{}] {}",
        step.number,
        lab.steps.len(),
        lab.front.title
    ))?;
    say::line(at_gateway(step.section.text.trim_end(), &gateway))?;
    if let Some(prediction) = &step.prediction {
        let known = desk.keeper.read()?;
        let predicted = known
            .labs
            .get(&lab.id)
            .and_then(|p| p.steps.get(&step.number))
            .and_then(|s| s.predicted);
        if predicted.is_none() {
            say::line(format!("\n? {}", prediction.ask))?;
            for (i, choice) in prediction.choices.iter().enumerate() {
                say::line(format!("  {}) {choice}", i + 1))?;
            }
            say::line(format!(
                "  {} meshdojo lab predict N",
                desk.language.pick("before you type:", "입력하기 전에:")
            ))?;
        }
    }
    let next = if step.checks.is_empty() {
        "meshdojo lab next"
    } else {
        "meshdojo lab check | hint | solve | reset | next"
    };
    say::line(format!("\n-- {next}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Judges a step, says how it came out, and notes it.
pub(super) async fn judge_and_say(
    desk: &Desk,
    cluster: &Cluster,
    lab: &Lab,
    step: &Step,
    patience: Duration,
) -> anyhow::Result<bool> {
    let verdicts = attempt(&step.checks, cluster, desk.language, patience, true).await?;
    let well = passed(&verdicts);
    let failed = verdicts.iter().find_map(|(_, verdict)| match verdict {
        Verdict::Failed(finding) => Some(finding.seen.clone()),
        Verdict::Passed(_) => None,
    });
    desk.keeper.change(|progress| {
        progress
            .lab(&lab.id, Timestamp::now())
            .checked(step.number, failed, Timestamp::now());
    })?;
    desk.publish(cluster).await;
    if !verdicts.is_empty() {
        say::line(told(desk, cluster, &verdicts).await)?;
    }
    if well && !step.checks.is_empty() {
        say::line(desk.language.pick(
            "Passed. Go on with `meshdojo lab next`.",
            "통과했습니다. `meshdojo lab next`로 계속하십시오.",
        ))?;
    }
    Ok(well)
}

/// The verdicts in words, with the likeliest causes of those that failed.
async fn told(desk: &Desk, cluster: &Cluster, verdicts: &[(&Check, Verdict)]) -> String {
    let mut lines = Vec::new();
    for (check, verdict) in verdicts {
        match verdict {
            Verdict::Passed(seen) => lines.push(format!("✓ {seen}")),
            Verdict::Failed(finding) => {
                let causes = diagnose::of_check(check, cluster, desk.language).await;
                lines.push(format!("✗ {}", desk.language.pick("not yet", "아직입니다")));
                lines.push(say::finding(finding, &causes, desk.language));
            }
        }
    }
    lines.join("\n")
}

pub(super) async fn check(desk: &Desk) -> anyhow::Result<ExitCode> {
    let (lab, step) = desk.current_step()?;
    let cluster = desk.cluster().await?;
    if judge_and_say(desk, &cluster, &lab, &step, PATIENCE).await? {
        Ok(ExitCode::SUCCESS)
    } else {
        say::line(
            desk.language
                .pick("A hint: `meshdojo lab hint`", "도움말: `meshdojo lab hint`"),
        )?;
        Ok(ExitCode::from(NOT_YET))
    }
}

pub(super) async fn next(desk: &Desk, anyway: bool) -> anyhow::Result<ExitCode> {
    let (lab, step) = desk.current_step()?;
    let cluster = desk.cluster().await?;
    let done = desk
        .keeper
        .read()?
        .lab(&lab.id, Timestamp::now())
        .at(step.number)
        .passed
        .is_some();
    if !done && !anyway && !judge_and_say(desk, &cluster, &lab, &step, PATIENCE).await? {
        say::line(desk.language.pick(
            "To go on all the same: `meshdojo lab next --anyway`",
            "그래도 넘어가려면: `meshdojo lab next --anyway`",
        ))?;
        return Ok(ExitCode::from(NOT_YET));
    }
    move_to(desk, &cluster, &lab, step.number + 1).await?;
    if step.number == lab.steps.len() {
        say::line(lab.end.trim())?;
        say::line(format!(
            "\n{}",
            desk.language.pick("The lab is done.", "실습을 마쳤습니다.")
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    show(desk).await
}

async fn move_to(desk: &Desk, cluster: &Cluster, lab: &Lab, step: usize) -> anyhow::Result<()> {
    if step <= lab.steps.len() {
        desk.keep_start(cluster, lab, step).await?;
    }
    desk.keeper
        .change(|progress| progress.lab(&lab.id, Timestamp::now()).step = step)?;
    desk.publish(cluster).await;
    Ok(())
}

pub(super) fn predict(desk: &Desk, choice: usize) -> anyhow::Result<ExitCode> {
    let (lab, step) = desk.current_step()?;
    let Some(prediction) = &step.prediction else {
        bail!(
            "{}",
            desk.language
                .pick("this step asks nothing", "이 단계에는 질문이 없습니다")
        );
    };
    if !(1..=prediction.choices.len()).contains(&choice) {
        bail!("1..{}", prediction.choices.len());
    }
    desk.keeper.change(|progress| {
        progress
            .lab(&lab.id, Timestamp::now())
            .at(step.number)
            .predicted = Some(choice);
    })?;
    let right = choice == prediction.answer;
    say::line(match right {
        true => desk
            .language
            .pick("You will see it so.", "그대로 보게 될 것입니다."),
        false => desk.language.pick(
            "Noted. Type the commands and see for yourself.",
            "기록했습니다. 명령을 입력하고 직접 확인해 보십시오.",
        ),
    })?;
    if right {
        say::line(&prediction.because)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn hint(desk: &Desk) -> anyhow::Result<ExitCode> {
    let (lab, step) = desk.current_step()?;
    if step.hints.is_empty() {
        bail!(
            "{}",
            desk.language.pick(
                "this step is for looking; there is nothing to get wrong",
                "살펴보기만 하는 단계라 틀릴 것이 없습니다"
            )
        );
    }
    let level = desk.keeper.change(|progress| {
        let at = progress.lab(&lab.id, Timestamp::now()).at(step.number);
        at.hints = (at.hints + 1).min(step.hints.len());
        at.hints
    })?;
    say::line(format!(
        "({level}/{}) {}",
        step.hints.len(),
        step.hints[level - 1]
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A shell in which the step's blocks find what those before them left.
async fn shell_for(
    desk: &Desk,
    cluster: &Cluster,
    lab: &Lab,
    step: usize,
) -> anyhow::Result<Shell> {
    let mut shell = desk.shell(&cluster.gateway)?;
    let before = lab.steps.iter().take_while(|s| s.number < step);
    let blocks: Vec<&Typed> = lab
        .setup
        .typed
        .iter()
        .chain(before.flat_map(|s| s.section.typed.iter()))
        .collect();
    shell.type_in(&surroundings(&blocks)).await?;
    Ok(shell)
}

/// Types a step and shows what is typed and printed.
async fn type_step(shell: &mut Shell, step: &Step, gateway: &str) -> anyhow::Result<()> {
    for typed in &step.section.typed {
        for line in at_gateway(&typed.text, gateway).lines() {
            say::line(format!("$ {line}"))?;
        }
        say::line(shell.type_as_written(typed).await?.output)?;
    }
    Ok(())
}

pub(super) async fn solve(desk: &Desk) -> anyhow::Result<ExitCode> {
    let (lab, step) = desk.current_step()?;
    let cluster = desk.cluster().await?;
    let mut shell = shell_for(desk, &cluster, &lab, step.number).await?;
    type_step(&mut shell, &step, &cluster.gateway).await?;
    desk.keeper.change(|progress| {
        progress
            .lab(&lab.id, Timestamp::now())
            .at(step.number)
            .solved = true;
    })?;
    let well = judge_and_say(desk, &cluster, &lab, &step, PATIENCE * 5).await?;
    Ok(ExitCode::from(if well { 0 } else { NOT_YET }))
}

pub(super) async fn reset(desk: &Desk) -> anyhow::Result<ExitCode> {
    let (lab, step) = desk.current_step()?;
    let cluster = desk.cluster().await?;
    let snapshot = Snapshot::read(&desk.start_of(&lab, step.number))?;
    let count = snapshot.restore(&cluster, &lab.front.namespaces).await?;
    say::line(desk.language.pick(
        format!(
            "back at the start of step {}: {count} objects changed",
            step.number
        ),
        format!(
            "{}단계의 시작으로 되돌렸습니다. 바뀐 객체: {count}개",
            step.number
        ),
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn goto(desk: &Desk, wanted: usize) -> anyhow::Result<ExitCode> {
    let (lab, _) = desk.current()?;
    if !(1..=lab.steps.len()).contains(&wanted) {
        bail!(
            "{}",
            desk.language.pick(
                format!("the lab has steps 1 to {}", lab.steps.len()),
                format!("이 실습은 1단계부터 {}단계까지 있습니다", lab.steps.len())
            )
        );
    }
    let cluster = desk.cluster().await?;
    // From the nearest step whose start is known, the steps between are typed.
    let known = (1..=wanted)
        .rev()
        .find(|n| desk.start_of(&lab, *n).exists())
        .with_context(|| {
            desk.language.pick(
                "the lab was not begun here; `meshdojo lab start` does it",
                "이 실습을 시작한 적이 없습니다. `meshdojo lab start`로 시작하십시오",
            )
        })?;
    Snapshot::read(&desk.start_of(&lab, known))?
        .restore(&cluster, &lab.front.namespaces)
        .await?;
    let mut shell = shell_for(desk, &cluster, &lab, known).await?;
    for step in lab
        .steps
        .iter()
        .filter(|s| (known..wanted).contains(&s.number))
    {
        type_step(&mut shell, step, &cluster.gateway).await?;
        attempt(&step.checks, &cluster, desk.language, PATIENCE * 5, false).await?;
    }
    move_to(desk, &cluster, &lab, wanted).await?;
    show(desk).await
}
