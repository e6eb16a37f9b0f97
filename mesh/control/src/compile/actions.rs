//! What a rule does with a request that matched: forward, redirect, answer; and the retries,
//! rewrites, header changes and faults that go with it.

use std::time::Duration;

use mesh_api::virtual_service::{self as api, HttpRoute, grpc_status};
use mesh_config::{
    Abort, AbortStatus, Cors, Delay, DirectResponse, Fault, Forward, HeaderMutation, Mirror,
    Percent, Redirect, RedirectPath, RegexRewrite, RetryPolicy, Rewrite, RouteAction, StringMatch,
    WeightedCluster,
};

use super::matches::string_match;

/// Conditions under which Istio retries when nothing else is said.
const RETRY_ON: &[&str] = &[
    "connect-failure",
    "refused-stream",
    "unavailable",
    "cancelled",
    "retriable-status-codes",
];

/// Attempts after the first when nothing else is said.
const RETRIES: u32 = 2;

/// The retries of routes that do not set their own.
fn istios_retry() -> RetryPolicy {
    RetryPolicy {
        retry_on: RETRY_ON.iter().map(|word| (*word).to_owned()).collect(),
        num_retries: RETRIES,
        other_host: true,
        ..RetryPolicy::default()
    }
}

/// The action of a rule; `cluster` finds the cluster of a destination. `None`: the rule does
/// nothing that is carried out (a delegate), and disappears.
pub(super) fn action(
    rule: &HttpRoute,
    default_retry: Option<&api::HttpRetry>,
    cluster: impl Fn(&api::Destination) -> String,
) -> Option<RouteAction> {
    if let Some(redirect) = &rule.redirect {
        return Some(RouteAction::Redirect(self::redirect(redirect)));
    }
    if let Some(response) = &rule.direct_response {
        let body = response.body.as_ref();
        let text = body.and_then(|body| body.string.clone());
        let bytes = body.and_then(|body| body.bytes.clone());
        return Some(RouteAction::DirectResponse(DirectResponse {
            status: u16::try_from(response.status).unwrap_or(500),
            base64: text.is_none() && bytes.is_some(),
            body: text.or(bytes).unwrap_or_default(),
        }));
    }
    let single = rule.route.len() == 1;
    let clusters: Vec<_> = rule
        .route
        .iter()
        .map(|to| {
            (
                to,
                u32::try_from(to.weight.unwrap_or_default()).unwrap_or(0),
            )
        })
        .filter(|(_, weight)| single || *weight > 0)
        .map(|(to, weight)| WeightedCluster {
            name: cluster(&to.destination),
            weight: if single { 1 } else { weight },
            request_headers: mutation(
                to.headers
                    .as_ref()
                    .and_then(|headers| headers.request.as_ref()),
            ),
            response_headers: mutation(
                to.headers
                    .as_ref()
                    .and_then(|headers| headers.response.as_ref()),
            ),
        })
        .collect();
    (!clusters.is_empty()).then(|| {
        RouteAction::Forward(Forward {
            clusters,
            timeout: rule
                .timeout
                .map(|timeout| timeout.0)
                .filter(|timeout| !timeout.is_zero()),
            retry: retry(rule.retries.as_ref().or(default_retry)),
            rewrite: rewrite(rule),
            mirrors: mirrors(rule, &cluster),
            hash_policy: Vec::new(),
            hedge_on_per_try_timeout: false,
        })
    })
}

/// Who gets copies. A share that is not given is all, unlike that of a fault.
fn mirrors(rule: &HttpRoute, cluster: impl Fn(&api::Destination) -> String) -> Vec<Mirror> {
    let older = rule.mirror_percent.map(f64::from);
    let share = |percent: &Option<api::Percent>, older: Option<f64>| {
        let value = percent.as_ref().map(|percent| percent.value).or(older);
        Percent::from_percent(value.unwrap_or(100.0)).unwrap_or_default()
    };
    let only = rule
        .mirror
        .iter()
        .map(|to| (to, share(&rule.mirror_percentage, older)));
    let several = rule
        .mirrors
        .iter()
        .map(|policy| (&policy.destination, share(&policy.percentage, None)));
    only.chain(several)
        .filter(|(_, percent)| *percent != Percent::ZERO)
        .map(|(to, percent)| Mirror {
            cluster: cluster(to),
            percent,
        })
        .collect()
}

/// Which pages of other origins may call.
pub(super) fn cors(rule: &HttpRoute) -> Option<Cors> {
    let from = rule.cors_policy.as_ref()?;
    let exact = from.allow_origin.iter().cloned().map(StringMatch::Exact);
    let origins = from.allow_origins.iter().filter_map(string_match);
    Some(Cors {
        allow_origins: origins.chain(exact).collect(),
        allow_methods: from.allow_methods.join(","),
        allow_headers: from.allow_headers.join(","),
        expose_headers: from.expose_headers.join(","),
        max_age: from
            .max_age
            .map(|age| age.0.as_secs().to_string())
            .unwrap_or_default(),
        allow_credentials: from.allow_credentials == Some(true),
        answer_unmatched_preflights: from.unmatched_preflights
            == Some(api::UnmatchedPreflights::Ignore),
    })
}

fn redirect(from: &api::HttpRedirect) -> Redirect {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    // `derivePort: FROM_PROTOCOL_DEFAULT` says what is done without a port anyway.
    let port = from.port.and_then(|port| u16::try_from(port).ok());
    Redirect {
        status: from
            .redirect_code
            .filter(|code| *code != 0)
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or(301),
        path: match &from.prefix_rewrite {
            Some(prefix) => Some(RedirectPath::Prefix(prefix.clone())),
            None => text(&from.uri).map(RedirectPath::Full),
        },
        authority: text(&from.authority),
        scheme: text(&from.scheme),
        port,
    }
}

/// Absent: Istio's own. Numbers among the conditions are status codes, which need their own condition to count.
pub(super) fn retry(from: Option<&api::HttpRetry>) -> Option<RetryPolicy> {
    let mut policy = istios_retry();
    let Some(from) = from else {
        return Some(policy);
    };
    if let Some(attempts) = from.attempts {
        policy.num_retries = u32::try_from(attempts).unwrap_or(0);
    }
    if policy.num_retries == 0 {
        return None;
    }
    if !from.retry_on.is_empty() {
        policy.retry_on.clear();
        for word in from
            .retry_on
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            match word.parse() {
                Ok(code) => policy.retriable_status_codes.push(code),
                Err(_) => policy.retry_on.push(word.to_owned()),
            }
        }
        let codes = "retriable-status-codes";
        if !policy.retriable_status_codes.is_empty()
            && policy.retry_on.iter().all(|word| word != codes)
        {
            policy.retry_on.push(codes.to_owned());
        }
    }
    policy.per_try_timeout = from
        .per_try_timeout
        .map(|timeout| timeout.0)
        .filter(|timeout| *timeout > Duration::ZERO);
    policy.other_host = from.retry_ignore_previous_hosts != Some(false);
    policy.other_priority = from.retry_remote_localities == Some(true);
    policy.base_interval = from
        .backoff
        .map(|base| base.0)
        .filter(|base| *base > Duration::ZERO);
    Some(policy)
}

fn rewrite(rule: &HttpRoute) -> Option<Rewrite> {
    let from = rule.rewrite.as_ref();
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    // Setting Host among the headers is a rewrite of the authority, and the stronger one.
    let set_host = rule
        .headers
        .as_ref()
        .and_then(|headers| headers.request.as_ref())
        .and_then(|request| {
            let (_, host) = request.set.iter().find(|(name, _)| is_host(name))?;
            Some(host.clone())
        });
    let rewrite = Rewrite {
        prefix: from.and_then(|from| text(&from.uri)),
        regex: from
            .and_then(|from| from.uri_regex_rewrite.as_ref())
            .map(|regex| RegexRewrite {
                pattern: regex.r#match.clone(),
                substitution: regex.rewrite.clone(),
            }),
        authority: set_host.or_else(|| from.and_then(|from| text(&from.authority))),
    };
    (rewrite != Rewrite::default()).then_some(rewrite)
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name == ":authority"
}

/// Changes of headers; Host is not among them (see [`rewrite`]) and cannot be removed.
pub(super) fn mutation(from: Option<&api::HeaderOperations>) -> HeaderMutation {
    let Some(from) = from else {
        return HeaderMutation::default();
    };
    let pairs = |map: &std::collections::BTreeMap<String, String>| -> Vec<(String, String)> {
        let kept = map.iter().filter(|(name, _)| !is_host(name));
        kept.map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect()
    };
    let removable = from
        .remove
        .iter()
        .filter(|name| !is_host(name) && !name.starts_with(':'));
    HeaderMutation {
        set: pairs(&from.set),
        add: pairs(&from.add),
        remove: removable.map(|name| name.to_ascii_lowercase()).collect(),
    }
}

/// Faults of a rule. A share that is not given is none, as in Istio's current API.
pub(super) fn fault(rule: &HttpRoute) -> Option<Fault> {
    let from = rule.fault.as_ref()?;
    let share = |percent: &Option<api::Percent>, older: Option<i32>| {
        let value = percent
            .as_ref()
            .map(|percent| percent.value)
            .or(older.map(f64::from));
        value.and_then(Percent::from_percent).unwrap_or_default()
    };
    let delay = from.delay.as_ref().and_then(|delay| {
        let percent = share(&delay.percentage, delay.percent);
        delay.fixed_delay.map(|fixed| Delay {
            fixed: fixed.0,
            percent,
        })
    });
    let abort = from.abort.as_ref().and_then(|abort| {
        let percent = share(&abort.percentage, None);
        let status = match (abort.http_status, &abort.grpc_status) {
            (Some(code), _) => AbortStatus::Http(u16::try_from(code).ok()?),
            (None, Some(name)) => AbortStatus::Grpc(grpc_status(name)?),
            (None, None) => return None,
        };
        Some(Abort { status, percent })
    });
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}
