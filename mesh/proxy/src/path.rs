//! Path normalisation: what matching, authorization and the upstream all see.

use std::borrow::Cow;

/// Resolves dot segments, not beyond the root, makes slashes of backslashes and decodes escapes of
/// unreserved characters. Double slashes and other escapes, `%2F` among them, stay. `None`: there
/// is an escaped zero byte.
pub(crate) fn normalize(path: &str) -> Option<Cow<'_, str>> {
    let bytes = path.as_bytes();
    let plain = !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\')) && !path.contains("/.");
    if plain {
        return Some(Cow::Borrowed(path));
    }
    if path.contains("%00") {
        return None;
    }
    let decoded = decode_unreserved(bytes).replace('\\', "/");
    let mut out: Vec<&str> = Vec::new();
    let mut segments = decoded.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                // The first segment is the empty one before the leading slash.
                if out.len() > 1 {
                    out.pop();
                }
            }
            segment => {
                out.push(segment);
                continue;
            }
        }
        if last {
            out.push("");
        }
    }
    Some(Cow::Owned(out.join("/")))
}

fn decode_unreserved(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let Some(byte) = hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l)
            && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        {
            out.push(byte);
            rest = after;
            continue;
        }
        out.push(*first);
        rest = tail;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes_as_envoy_does() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/../b", "/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/%61bc", "/abc"),
            ("/a/%2e%2E/b", "/b"),
            ("//x", "//x"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2", "/a%2"),
            ("/.hidden", "/.hidden"),
            ("/..x", "/..x"),
            ("/../etc", "/etc"),
            ("/..", "/"),
            ("/a\\b", "/a/b"),
        ] {
            assert_eq!(normalize(path).as_deref(), Some(normal), "{path}");
        }
        assert_eq!(normalize("/a%00"), None);
    }
}
