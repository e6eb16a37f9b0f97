//! The likeliest causes of a check that does not hold: pure functions over the cluster's objects.
//!
//! Each function of the modules below looks for one family of mistakes about one subject and tells what it finds, the
//! more telling first. None of them knows what the student typed; they read what is there.

mod destination_rules;
mod gateways;
mod identities;
mod objects;
mod pods;
mod resources;
mod security;
mod services;
mod virtual_services;

pub use objects::Objects;

use crate::{
    check::{Check, Request},
    cluster::Cluster,
    language::Language,
};

/// No more causes than these are told: the first is nearly always the one.
const TOLD: usize = 3;

/// A mistake that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What kind of mistake: `subset-without-pods`.
    pub code: &'static str,
    /// In English.
    pub english: String,
    /// In Korean.
    pub korean: String,
}

fn cause(code: &'static str, english: String, korean: String) -> Vec<Cause> {
    vec![Cause {
        code,
        english,
        korean,
    }]
}

/// What a check is about.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The service, and the namespace from which its name is read.
    pub service: Option<(String, String)>,
    /// The request comes through the ingress gateway, for this host.
    pub gateway_host: Option<String>,
    /// Namespace and reference of the pod that sends.
    pub caller: Option<(String, String)>,
    /// Headers that the request carries.
    pub headers: Vec<(String, String)>,
    /// apiVersion, kind, namespace and name of an object.
    pub object: Option<(String, String, String, String)>,
    /// Namespace and selector of pods.
    pub pods: Option<(String, String)>,
    /// The part of a DestinationRule that must be at work: `connectionPool` or `outlierDetection`.
    pub policy: Option<&'static str>,
    /// An expression for the identity that pods must have.
    pub identity: Option<String>,
    /// Namespace, and the pods that one request must go through under one id.
    pub hops: Option<(String, Vec<String>)>,
    /// The object's environment variables matter.
    pub variables: bool,
}

/// The causes, likeliest first, each code once.
pub fn diagnose(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let families: [fn(&Objects, &Subject) -> Vec<Cause>; 9] = [
        resources::causes,
        services::causes,
        pods::causes,
        gateways::causes,
        virtual_services::causes,
        destination_rules::causes,
        security::causes,
        identities::causes,
        resources::reports,
    ];
    let mut found: Vec<Cause> = Vec::new();
    for cause in families.iter().flat_map(|family| family(objects, subject)) {
        if !found.iter().any(|known| known.code == cause.code) {
            found.push(cause);
        }
    }
    found
}

/// The causes for a check in words; none when nothing is found, or the cluster does not answer.
pub async fn of_check(check: &Check, cluster: &Cluster, language: Language) -> Vec<String> {
    let Ok(objects) = Objects::of_cluster(cluster).await else {
        return Vec::new();
    };
    diagnose(&objects, &subject(check))
        .into_iter()
        .take(TOLD)
        .map(|cause| language.pick(cause.english, cause.korean))
        .collect()
}

/// What a check is about.
pub fn subject(check: &Check) -> Subject {
    match check {
        Check::Http(check) => of_request(&check.request),
        Check::Shares(check) => of_request(&check.request),
        Check::Answers(check) => of_request(&check.request),
        Check::Log(check) => {
            let mut subject = check.after.as_ref().map(of_request).unwrap_or_default();
            subject.policy = policy(check.line.0.as_str());
            subject.pods = Some((check.namespace.clone(), selector(&check.of)));
            subject
        }
        Check::Stat(check) => {
            let mut subject = check.during.as_ref().map(of_request).unwrap_or_default();
            subject.policy = policy(check.name.0.as_str());
            subject.pods = Some((check.namespace.clone(), selector(&check.of)));
            subject
        }
        Check::Resource(check) => Subject {
            object: Some((
                check.api_version.clone(),
                check.kind.clone(),
                check.namespace.clone(),
                check.name.clone(),
            )),
            variables: check.fields.keys().any(|pointer| pointer.contains("/env")),
            ..Subject::default()
        },
        Check::Pods(check) => Subject {
            pods: Some((check.namespace.clone(), check.selector.clone())),
            ..Subject::default()
        },
        Check::Certificate(check) => Subject {
            pods: Some((check.namespace.clone(), selector(&check.of))),
            identity: Some(check.name.to_string()),
            ..Subject::default()
        },
        Check::Trace(check) => {
            let namespace = check.request.namespace.clone();
            Subject {
                hops: Some((namespace, check.through.clone())),
                ..of_request(&check.request)
            }
        }
    }
}

fn of_request(request: &Request) -> Subject {
    let through_gateway = request.url.starts_with('/');
    let host = request.url.split("://").nth(1).map(|rest| {
        let end = rest.find([':', '/']).unwrap_or(rest.len());
        rest[..end].to_owned()
    });
    let mut headers: Vec<(String, String)> = request.headers.clone().into_iter().collect();
    if let Some(session) = &request.session {
        // What the bookstore makes of a login.
        let user = session.form.get("username");
        headers.extend(user.map(|user| ("end-user".to_owned(), user.clone())));
    }
    Subject {
        service: request
            .about
            .clone()
            .or(host)
            .map(|name| (name, request.namespace.clone())),
        gateway_host: through_gateway.then(|| request.host.clone().unwrap_or_default()),
        caller: request
            .from
            .clone()
            .map(|from| (request.namespace.clone(), from)),
        headers,
        ..Subject::default()
    }
}

/// The part of a DestinationRule that a counter or a flag speaks of.
fn policy(pattern: &str) -> Option<&'static str> {
    if pattern.contains("overflow") || pattern.contains("UO") {
        Some("connectionPool")
    } else if pattern.contains("outlier") || pattern.contains("ejection") {
        Some("outlierDetection")
    } else {
        None
    }
}

/// A reference to pods as a selector; names of Deployments are taken for the label `app`.
fn selector(reference: &str) -> String {
    match reference.split_once('/') {
        Some((_, name)) => format!("app={name}"),
        None => reference.to_owned(),
    }
}

/// The name among `known` that is nearest to `name`, if one is near.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The same words in another order are near: hello-dr, dr-hello.
    let sorted = |name: &str| {
        let mut words: Vec<&str> = name.split(['-', '.']).collect();
        words.sort_unstable();
        words.join("-")
    };
    known
        .filter(|other| *other != name)
        .map(|other| {
            let near = strsim::jaro_winkler(name, other)
                .max(strsim::jaro_winkler(&sorted(name), &sorted(other)));
            (near, other)
        })
        .filter(|(near, _)| *near >= 0.82)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests;
