//! Checks that ask a pod: its log, its proxy's counters.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::LogParams};

use super::{Verdict, traffic::sender};
use crate::{
    check::{Log, Pattern, Stat},
    cluster::{Cluster, loopback},
    language::Language,
};

/// Access logs are written in batches.
pub(super) const SETTLE: Duration = Duration::from_millis(300);
/// So many of the last lines are looked at.
pub(super) const LINES: i64 = 300;

/// See [`crate::check::Check::Log`].
pub(super) async fn log(
    check: &Log,
    cluster: &Cluster,
    language: Language,
) -> anyhow::Result<Verdict> {
    if let Some(request) = &check.after {
        let sender = match sender(request, cluster).await? {
            Ok(sender) => sender,
            Err(verdict) => return Ok(verdict),
        };
        sender
            .send_many(check.times, check.at_a_time)
            .collect::<Vec<_>>()
            .await;
        tokio::time::sleep(SETTLE).await;
    }
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &check.namespace);
    let parameters = LogParams {
        container: Some(check.container.clone()),
        tail_lines: Some(LINES),
        ..LogParams::default()
    };
    let mut lines = 0;
    let pods = match cluster.pods(&check.namespace, &check.of).await {
        Ok(pods) => pods,
        Err(error) => return none_or(error, &check.of),
    };
    for pod in pods {
        let text = match api.logs(&pod.name_any(), &parameters).await {
            Ok(text) => text,
            Err(kube::Error::Api(status)) => {
                return Ok(Verdict::failed(status.message.clone(), &*check.of));
            }
            Err(error) => return Err(error.into()),
        };
        lines += text.lines().count();
        if let Some(line) = text.lines().rev().find(|line| check.line.0.is_match(line)) {
            return Ok(Verdict::Passed(line.to_owned()));
        }
    }
    Ok(Verdict::failed(
        language.pick(
            format!(
                "{lines} lines in the log of {}, container {}, none like it",
                check.of, check.container
            ),
            format!(
                "{} 컨테이너 {}의 로그 {lines}줄에 그런 줄이 없습니다",
                check.of, check.container
            ),
        ),
        language.pick(
            format!("a line with {}", check.line),
            format!("{}이(가) 있는 줄", check.line),
        ),
    ))
}

/// That a pod is not there is a verdict; that the cluster does not answer is not.
pub(super) fn none_or(error: anyhow::Error, expected: &str) -> anyhow::Result<Verdict> {
    match error.downcast_ref::<kube::Error>() {
        Some(_) => Err(error),
        None => Ok(Verdict::failed(error.to_string(), expected)),
    }
}

/// See [`crate::check::Check::Stat`].
pub(super) async fn stat(
    check: &Stat,
    cluster: &Cluster,
    language: Language,
) -> anyhow::Result<Verdict> {
    let pods = match cluster.pods(&check.namespace, &check.of).await {
        Ok(pods) => pods,
        Err(error) => return none_or(error, &check.of),
    };
    let before = sum(&pods, &check.name).await?;
    let mut with_status = 0;
    if let Some(request) = &check.during {
        let sender = match sender(request, cluster).await? {
            Ok(sender) => sender,
            Err(verdict) => return Ok(verdict),
        };
        let answers: Vec<_> = sender
            .send_many(check.times, check.at_a_time)
            .collect()
            .await;
        with_status = answers
            .iter()
            .filter(|a| Some(a.status) == check.rises_with_status)
            .count() as u64;
    }
    let after = sum(&pods, &check.name).await?;
    let rise = after.saturating_sub(before);
    let name = &check.name;
    if let Some(range) = check.value
        && !range.contains(after)
    {
        return Ok(Verdict::failed(
            format!("{name}: {after}"),
            format!("{name}: {range}"),
        ));
    }
    if let Some(range) = check.rise
        && !range.contains(rise)
    {
        return Ok(Verdict::failed(
            language.pick(
                format!("{name} rose by {rise}"),
                format!("{name}이(가) {rise}만큼 늘었습니다"),
            ),
            language.pick(format!("by {range}"), format!("{range}만큼")),
        ));
    }
    if let Some(status) = check.rises_with_status
        && (rise != with_status || rise == 0)
    {
        return Ok(Verdict::failed(
            language.pick(
                format!("{with_status} answers of status {status}, and {name} rose by {rise}"),
                format!("{status} 응답 {with_status}개, {name}은(는) {rise}만큼 늘었습니다"),
            ),
            language.pick(
                "both the same, and more than none",
                "둘이 같고, 0보다 커야 함",
            ),
        ));
    }
    Ok(Verdict::Passed(format!("{name}: {before} → {after}")))
}

/// The sum of all counters whose names match, over all pods.
async fn sum(pods: &[Pod], name: &Pattern) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pod in pods {
        sum += sum_of_text(&ask_proxy(pod, "/stats").await?, name);
    }
    Ok(sum)
}

fn sum_of_text(text: &str, name: &Pattern) -> u64 {
    text.lines()
        .filter_map(|line| line.rsplit_once(": "))
        .filter(|(known, _)| name.0.is_match(known))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum()
}

/// Where a proxy's admin interface listens: the loopback of a pod with a sidecar, the address of a gateway's.
fn admin(pod: &Pod) -> Option<String> {
    if let Some(loopback) = loopback(pod) {
        return Some(loopback.to_string());
    }
    let ip = pod.status.as_ref()?.pod_ip.clone()?;
    ip.starts_with("127.").then_some(ip)
}

/// A page of the admin interface of the pod's proxy.
pub(super) async fn ask_proxy(pod: &Pod, page: &str) -> anyhow::Result<String> {
    let Some(address) = admin(pod) else {
        bail!(
            "the proxy of pod {} cannot be asked: its admin interface is reached on the embedded cluster only",
            pod.name_any()
        );
    };
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://{address}:15000{page}");
    let answer = http.get(&url).send().await.with_context(|| url.clone())?;
    Ok(answer.text().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_match_are_added_up() {
        let text = "cluster.outbound|80||a.upstream_rq_pending_overflow: 3\ncluster.outbound|80||b.upstream_rq_pending_overflow: 4\nserver.live: 1\n";
        let name = |p: &str| Pattern(regex::Regex::new(p).unwrap());
        assert_eq!(sum_of_text(text, &name("pending_overflow$")), 7);
        assert_eq!(sum_of_text(text, &name(r"\|\|a\..*overflow$")), 3);
        assert_eq!(sum_of_text(text, &name("absent")), 0);
    }
}
