//! Variables of the original that this service does not carry out. Each that is set to something
//! else than its default is named at the start, with what to use instead: none is ignored silently.

/// Name, the values that change nothing, and what there is instead.
const NOT_CARRIED_OUT: [(&str, &[&str], &str); 12] = [
    (
        "TRACING_ZIPKIN",
        &[],
        "spans go by OTLP where OTEL_EXPORTER_OTLP_ENDPOINT names a collector; B3 headers are passed on in any case",
    ),
    (
        "TRACING_DATADOG_HOST",
        &[],
        "spans go by OTLP where OTEL_EXPORTER_OTLP_ENDPOINT names a collector",
    ),
    (
        "TRACING_DATADOG_PORT",
        &["8126"],
        "see TRACING_DATADOG_HOST",
    ),
    (
        "METRICS_DATADOG_HOST",
        &[],
        "metrics are at /metrics, for Prometheus",
    ),
    (
        "METRICS_DATADOG_PORT",
        &["8125"],
        "see METRICS_DATADOG_HOST",
    ),
    (
        "LOG_OUTPUT",
        &["stdout"],
        "logs go to standard output, where `kubectl logs` finds them",
    ),
    (
        "HTTP_SERVER_READ_TIMEOUT",
        &["5s"],
        "a request's body is read for as long as the client sends",
    ),
    (
        "HTTP_SERVER_READHEADER_TIMEOUT",
        &["0s"],
        "the head of a request may take 300 s",
    ),
    (
        "HTTP_SERVER_WRITE_TIMEOUT",
        &["10s"],
        "an answer is written for as long as the client reads",
    ),
    (
        "HTTP_SERVER_IDLE_TIMEOUT",
        &["30s"],
        "an idle connection is kept for 300 s",
    ),
    (
        "LOAD_CPU_CORES",
        &["-1", "1"],
        "LOAD_CPU_PERCENTAGE burns one core",
    ),
    (
        "UPSTREAM_ALLOW_INSECURE",
        &["false"],
        "upstreams are called without TLS: that is the mesh's work",
    ),
];

/// What to say of the variables that are set.
pub(crate) fn notes(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let note = |(name, harmless, instead): &(&str, &[&str], &str)| {
        let value = variable(name)?;
        let changes = !value.is_empty() && !harmless.contains(&value.as_str());
        changes.then(|| format!("{name}={value} is not carried out: {instead}"))
    };
    NOT_CARRIED_OUT.iter().filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_and_matters_is_named_with_what_there_is_instead() {
        let set = |name: &str| match name {
            "TRACING_ZIPKIN" => Some("http://jaeger:9411".to_owned()),
            "LOG_OUTPUT" => Some("stdout".to_owned()),
            "LOAD_CPU_CORES" => Some(String::new()),
            _ => None,
        };
        let notes = notes(set);
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].starts_with("TRACING_ZIPKIN=http://jaeger:9411 is not carried out: spans"),
            "{notes:?}"
        );
    }
}
