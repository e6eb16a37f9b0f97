//! Checks that look at the certificates of proxies.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Deserialize;

use super::{
    Verdict,
    witness::{ask_proxy, none_or},
};
use crate::{
    check::{Certificate, Seconds},
    cluster::Cluster,
    language::Language,
};

/// What a proxy's `/certs` says.
#[derive(Deserialize)]
struct Held {
    #[serde(default)]
    certificates: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    cert_chain: Vec<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    subject_alt_names: Vec<Name>,
    expiration_time: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Name {
    uri: Option<String>,
    dns: Option<String>,
}

/// See [`crate::check::Check::Certificate`].
pub(super) async fn certificate(
    check: &Certificate,
    cluster: &Cluster,
    language: Language,
) -> anyhow::Result<Verdict> {
    let pods = match cluster.pods(&check.namespace, &check.of).await {
        Ok(pods) => pods,
        Err(error) => return none_or(error, &check.of),
    };
    let mut seen = Vec::new();
    for pod in pods {
        // A pod without a proxy has no certificate; that is a verdict, not an error.
        let page = match ask_proxy(&pod, "/certs").await {
            Ok(page) => page,
            Err(_) if !check.absent => {
                return Ok(Verdict::failed(
                    language.pick(
                        format!("pod {} has no proxy that answers", pod.name_any()),
                        format!("{} 파드에 응답하는 프록시가 없습니다", pod.name_any()),
                    ),
                    check.name.to_string(),
                ));
            }
            Err(_) => continue,
        };
        match judge_page(&page, check, Timestamp::now(), language)? {
            Verdict::Passed(name) => seen.push(format!("{}: {name}", pod.name_any())),
            Verdict::Failed(finding) => {
                return Ok(Verdict::failed(
                    format!("{}: {}", pod.name_any(), finding.seen),
                    finding.expected,
                ));
            }
        }
    }
    Ok(Verdict::Passed(seen.join(", ")))
}

/// The verdict on one proxy's page.
fn judge_page(
    page: &str,
    check: &Certificate,
    now: Timestamp,
    language: Language,
) -> anyhow::Result<Verdict> {
    let held: Held = serde_json::from_str(page)?;
    // The first of a chain is the proxy's own.
    let own = held
        .certificates
        .iter()
        .filter_map(|c| c.cert_chain.first());
    let mut names = Vec::new();
    let mut found = None;
    for details in own {
        for name in &details.subject_alt_names {
            let name = name.uri.as_ref().or(name.dns.as_ref());
            let Some(name) = name else { continue };
            if check.name.0.is_match(name) {
                found = Some((name.clone(), details.expiration_time));
            }
            names.push(name.clone());
        }
    }
    let all = if names.is_empty() {
        language.pick("no certificate", "인증서 없음").to_owned()
    } else {
        names.join(", ")
    };
    let Some((name, expires)) = found else {
        return Ok(if check.absent {
            Verdict::Passed(all)
        } else {
            Verdict::failed(all, check.name.to_string())
        });
    };
    if check.absent {
        let expected = language.pick(
            format!("no certificate with {}", check.name),
            format!("{}이(가) 있는 인증서가 없어야 함", check.name),
        );
        return Ok(Verdict::failed(name, expected));
    }
    let left = expires.map_or(0, |expires| expires.duration_since(now).as_secs().max(0));
    let left = Seconds(left as f64);
    match check.valid_for {
        Some(range) if !range.contains(left) => Ok(Verdict::failed(
            language.pick(
                format!("{name}, valid for another {left}"),
                format!("{name}, 남은 유효 기간 {left}"),
            ),
            range.to_string(),
        )),
        _ => Ok(Verdict::Passed(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"{ "certificates": [
        { "ca_cert": [], "cert_chain": [{ "subject_alt_names": [{ "uri": "spiffe://cluster.local/ns/default/sa/web" }],
          "expiration_time": "2026-01-02T00:00:00Z" }] }] }"#;

    fn judged(check: &str) -> Verdict {
        let check: Certificate = serde_norway::from_str(check).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        judge_page(PAGE, &check, now, Language::En).unwrap()
    }

    #[test]
    fn a_certificate_is_known_by_its_name_and_its_time() {
        let passed = |check: &str| matches!(judged(check), Verdict::Passed(_));
        assert!(passed("{ of: app=web, name: '/sa/web$' }"));
        assert!(passed(
            "{ of: app=web, name: '/sa/web$', valid_for: 3600s..90000s }"
        ));
        assert!(passed("{ of: app=web, name: '/sa/other$', absent: true }"));
        assert!(!passed("{ of: app=web, name: '/sa/other$' }"));
        assert!(!passed("{ of: app=web, name: '/sa/web$', absent: true }"));
        let Verdict::Failed(finding) = judged("{ of: app=web, name: web, valid_for: 1s..60s }")
        else {
            panic!("it is valid for a day");
        };
        assert!(finding.seen.contains("86400s"), "{}", finding.seen);
    }
}
