//! Who a pod is, and by which id a request is followed.

use super::{
    Cause, Objects, Subject, cause,
    objects::{has_sidecar, name, namespace, selector_pairs},
};

pub(super) fn causes(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let mut found = account(objects, subject);
    found.extend(broken_trace(objects, subject));
    found
}

/// The pods run under another ServiceAccount, or in another namespace, than their identity should name.
fn account(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let (Some(wanted), Some((in_namespace, selector))) = (&subject.identity, &subject.pods) else {
        return Vec::new();
    };
    let part = |key: &str| {
        let (_, rest) = wanted.split_once(&format!("/{key}/"))?;
        Some(rest.split(['/', '$']).next().unwrap_or(rest))
    };
    let pods = objects.pods(in_namespace, &selector_pairs(selector));
    for pod in pods.iter().filter(|pod| has_sidecar(pod)) {
        let own = pod["spec"]["serviceAccountName"]
            .as_str()
            .unwrap_or("default");
        if let Some(wanted) = part("sa").filter(|wanted| *wanted != own) {
            return cause(
                "other-service-account",
                format!(
                    "pod {} runs under the ServiceAccount {own}, so its certificate names {own} and not {wanted}: set serviceAccountName in the template of its Deployment",
                    name(pod)
                ),
                format!(
                    "{} 파드는 ServiceAccount {own}(으)로 실행되므로 인증서의 이름이 {wanted}이(가) 아니라 {own}입니다. Deployment 템플릿의 serviceAccountName을 정하십시오",
                    name(pod)
                ),
            );
        }
        if let Some(wanted) = part("ns").filter(|wanted| *wanted != namespace(pod)) {
            let own = namespace(pod);
            return cause(
                "identity-of-other-namespace",
                format!(
                    "pod {} is in namespace {own}, and its certificate says so; {wanted} was expected",
                    name(pod)
                ),
                format!(
                    "{} 파드는 {own} 네임스페이스에 있고 인증서에도 그렇게 적혀 있습니다. {wanted}이어야 합니다",
                    name(pod)
                ),
            );
        }
    }
    Vec::new()
}

/// Where a request can get another id: at a pod without a proxy, else at an application that drops headers.
fn broken_trace(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let Some((in_namespace, hops)) = &subject.hops else {
        return Vec::new();
    };
    for hop in hops {
        let labels = selector_pairs(&super::selector(hop));
        let pods = objects.pods(in_namespace, &labels);
        if pods.is_empty() {
            return cause(
                "hop-without-pods",
                format!("no pod of {hop} is there to be asked in namespace {in_namespace}"),
                format!("{in_namespace} 네임스페이스에 {hop}인 파드가 없습니다"),
            );
        }
        if let Some(bare) = pods.iter().find(|pod| !has_sidecar(pod)) {
            return cause(
                "hop-without-sidecar",
                format!(
                    "pod {} has no sidecar, so nobody logs what it is asked",
                    name(bare)
                ),
                format!(
                    "{} 파드에는 사이드카가 없어 요청을 기록할 곳이 없습니다",
                    name(bare)
                ),
            );
        }
    }
    cause(
        "headers-not-passed-on",
        "a proxy cannot tell which call belongs to which request: the application before the first service that is missing does not pass the header x-request-id on".to_owned(),
        "어느 호출이 어느 요청의 것인지 프록시는 알 수 없습니다. 빠진 첫 서비스의 앞에 있는 애플리케이션이 x-request-id 헤더를 넘겨주지 않습니다".to_owned(),
    )
}
