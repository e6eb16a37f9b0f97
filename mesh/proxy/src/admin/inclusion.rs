//! Which statistics are shown: what the pod's annotations ask for, and what belongs to the process.

use mesh_config::StatsMatcher;
use regex::RegexSet;

/// Shown whatever a pod asks for.
const ALWAYS: [&str; 4] = ["cluster_manager", "listener_manager", "server", "istio"];

/// A [`StatsMatcher`] made ready.
pub(super) struct Inclusion<'a> {
    matcher: &'a StatsMatcher,
    regexps: RegexSet,
}

impl<'a> Inclusion<'a> {
    /// `None`: everything is shown. An expression that cannot be read matches nothing; the control
    /// plane has reported it.
    pub(super) fn of(matcher: &'a StatsMatcher) -> Option<Self> {
        if matcher.is_empty() {
            return None;
        }
        let whole = |regexp: &String| Some(format!("^(?:{regexp})$"));
        let good = |regexp: &String| regex::Regex::new(regexp).is_ok();
        let regexps = matcher.regexps.iter().filter(|regexp| good(regexp));
        Some(Self {
            matcher,
            regexps: RegexSet::new(regexps.filter_map(whole)).unwrap_or_default(),
        })
    }

    pub(super) fn includes(&self, name: &str) -> bool {
        let prefixes = self.matcher.prefixes.iter().map(String::as_str);
        prefixes
            .chain(ALWAYS)
            .any(|prefix| name.starts_with(prefix))
            || self
                .matcher
                .suffixes
                .iter()
                .any(|suffix| name.ends_with(suffix))
            || self.regexps.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_and_what_is_always_there() {
        let matcher = StatsMatcher {
            prefixes: vec!["cluster.outbound".into()],
            suffixes: vec!["upstream_rq_timeout".into()],
            regexps: vec![".*upstream_cx.*".into(), "(".into()],
        };
        let inclusion = Inclusion::of(&matcher).unwrap();
        for (name, shown) in [
            ("cluster.outbound|80||web;.upstream_rq_total", true),
            ("cluster.inbound|80||;.upstream_rq_timeout", true),
            ("cluster.inbound|80||;.upstream_cx_total", true),
            ("cluster.inbound|80||;.upstream_rq_total", false),
            ("server.uptime", true),
        ] {
            assert_eq!(inclusion.includes(name), shown, "{name}");
        }
        assert!(Inclusion::of(&StatsMatcher::default()).is_none());
    }
}
