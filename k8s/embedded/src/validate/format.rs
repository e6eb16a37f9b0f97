//! Formats of names: each function returns what is wrong with a text, in Kubernetes' words.

/// Most bytes of a DNS label.
const LABEL: usize = 63;
/// Most bytes of a DNS subdomain.
const SUBDOMAIN: usize = 253;

fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Letters, digits and `inner`, with a letter or digit at both ends.
fn framed(text: &str, ends: fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if ends(*first) && ends(*last))
        && bytes.iter().all(|byte| ends(*byte) || inner.contains(byte))
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// RFC 1123 label: names of namespaces, services, containers, volumes, ports of services.
pub(super) fn label(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if text.len() > LABEL {
        complaints.push(too_long(LABEL));
    }
    if !framed(text, lower_or_digit, b"-") {
        complaints.push(if text.contains('.') {
            "must not contain dots".into()
        } else {
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')".into()
        });
    }
    complaints
}

/// RFC 1123 subdomain: names of most objects.
pub(super) fn subdomain(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if text.len() > SUBDOMAIN {
        complaints.push(too_long(SUBDOMAIN));
    }
    if !text
        .split('.')
        .all(|part| framed(part, lower_or_digit, b"-"))
    {
        complaints.push("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into());
    }
    complaints
}

/// A name that is a segment of a path: RBAC's.
pub(super) fn path_segment(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if text == "." || text == ".." {
        complaints.push(format!("may not be '{text}'"));
    }
    for illegal in ['/', '%'] {
        if text.contains(illegal) {
            complaints.push(format!("may not contain '{illegal}'"));
        }
    }
    complaints
}

const NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// The key of a label or annotation: a name with an optional domain before a slash.
pub(super) fn qualified_name(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let mut complaints = Vec::new();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                complaints.push("prefix part must be non-empty".into());
            } else {
                complaints.extend(
                    subdomain(prefix)
                        .iter()
                        .map(|why| format!("prefix part {why}")),
                );
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {NAME_PART} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        complaints.push("name part must be non-empty".into());
    } else if name.len() > LABEL {
        complaints.push(format!("name part {}", too_long(LABEL)));
    }
    if !framed(name, alphanumeric, b"-_.") {
        complaints.push(format!("name part {NAME_PART}"));
    }
    complaints
}

/// The value of a label.
pub(super) fn label_value(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if text.len() > LABEL {
        complaints.push(too_long(LABEL));
    }
    if !text.is_empty() && !framed(text, alphanumeric, b"-_.") {
        complaints.push("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')".into());
    }
    complaints
}

/// A key of a ConfigMap or Secret.
pub(super) fn config_key(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if text.len() > SUBDOMAIN {
        complaints.push(too_long(SUBDOMAIN));
    }
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || !text.bytes().all(valid) {
        complaints.push("a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')".into());
    }
    match text {
        "." => complaints.push("must not be '.'".into()),
        ".." => complaints.push("must not be '..'".into()),
        _ if text.starts_with("..") => complaints.push("must not start with '..'".into()),
        _ => {}
    }
    complaints
}

/// The name of an environment variable.
pub(super) fn env_name(text: &str) -> Vec<String> {
    let valid = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
    if text.bytes().all(valid) {
        Vec::new()
    } else {
        vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
    }
}

/// The name of a container's port.
pub(super) fn port_name(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if text.len() > 15 {
        complaints.push("must be no more than 15 bytes".into());
    }
    if !text
        .bytes()
        .all(|byte| lower_or_digit(byte) || byte == b'-')
    {
        complaints
            .push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        complaints.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        complaints.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        complaints.push("must not begin or end with a hyphen".into());
    }
    complaints
}

/// The number of a port.
pub(super) fn port_number(number: i64) -> Vec<String> {
    if (1..=65535).contains(&number) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit() {
        assert!(label("a-1").is_empty() && subdomain("a.b-1.c").is_empty());
        assert!(label(&"a".repeat(63)).is_empty() && subdomain(&"a".repeat(253)).is_empty());
        assert!(path_segment("system:node").is_empty());
        assert!(
            qualified_name("a.example/Name_1.x").is_empty() && qualified_name("app").is_empty()
        );
        assert!(label_value("").is_empty() && label_value("V1.0").is_empty());
        assert!(config_key("a.B_c-1").is_empty() && env_name("A.b-1").is_empty());
        assert!(port_name("http-2").is_empty() && port_number(65535).is_empty());
    }

    #[test]
    fn names_that_do_not() {
        assert_eq!(label("a.b"), ["must not contain dots"]);
        assert!(label("A")[0].starts_with("a lowercase RFC 1123 label must consist"));
        assert_eq!(label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        for bad in ["", "-a", "a-", "a..b", "A", "a_b", ".a"] {
            assert_eq!(subdomain(bad).len(), 1, "{bad:?}");
        }
        assert_eq!(path_segment("a/b"), ["may not contain '/'"]);
        assert_eq!(path_segment(".."), ["may not be '..'"]);
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("a/").len(), 2);
        assert!(qualified_name("a/b/c")[0].ends_with("(e.g. 'example.com/MyName')"));
        assert!(qualified_name("bad key")[0].starts_with("name part must consist of"));
        assert_eq!(config_key("..x"), ["must not start with '..'"]);
        assert_eq!(env_name("A=B").len(), 1);
        assert_eq!(port_name("a--b"), ["must not contain consecutive hyphens"]);
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    }
}
