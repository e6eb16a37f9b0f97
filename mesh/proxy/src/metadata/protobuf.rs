//! Just enough of protobuf's `google.protobuf.Struct` for peer metadata: strings and one nested
//! struct of labels.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use mesh_config::{Node, Workload};

/// A struct's fields, nested structs flattened to `OUTER.inner`.
type Fields = BTreeMap<String, String>;

/// Longest metadata taken from a peer.
const LIMIT: usize = 8 * 1024;

/// The header value that tells a peer about a node.
pub(crate) fn encode(node: &Node) -> String {
    let workload = &node.workload;
    let mut labels = Vec::new();
    for (name, value) in [
        ("app", &workload.app),
        ("version", &workload.version),
        ("service.istio.io/canonical-name", &workload.canonical_name),
        (
            "service.istio.io/canonical-revision",
            &workload.canonical_revision,
        ),
    ] {
        if !value.is_empty() {
            put_field(&mut labels, name, &string(value));
        }
    }
    let mut fields = Vec::new();
    for (name, value) in [
        ("NAMESPACE", &workload.namespace),
        ("WORKLOAD_NAME", &workload.name),
        ("CLUSTER_ID", &node.cluster_id),
        ("IDENTITY", &workload.identity),
    ] {
        put_field(&mut fields, name, &string(value));
    }
    let mut nested = Vec::new();
    put_bytes(&mut nested, 5, &labels);
    put_field(&mut fields, "LABELS", &nested);
    STANDARD.encode(fields)
}

/// The workload that a peer's header describes.
pub(crate) fn decode(header: &[u8]) -> Option<Workload> {
    if header.len() > LIMIT {
        return None;
    }
    let bytes = STANDARD.decode(header).ok()?;
    let mut fields = Fields::new();
    read_struct(&bytes, "", &mut fields)?;
    let mut take = |name: &str| fields.remove(name).unwrap_or_default();
    let (app, name) = (take("LABELS.app"), take("WORKLOAD_NAME"));
    let or = |value: String, other: &str| {
        if value.is_empty() {
            other.to_owned()
        } else {
            value
        }
    };
    let version = take("LABELS.version");
    Some(Workload {
        namespace: take("NAMESPACE"),
        canonical_name: or(
            take("LABELS.service.istio.io/canonical-name"),
            if app.is_empty() { &name } else { &app },
        ),
        canonical_revision: or(
            take("LABELS.service.istio.io/canonical-revision"),
            if version.is_empty() {
                "latest"
            } else {
                &version
            },
        ),
        // What a header says of an identity proves nothing.
        identity: String::new(),
        name,
        app,
        version,
    })
}

/// `Value { string_value = 3 }`.
fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 3, text.as_bytes());
    out
}

/// One entry of `map<string, Value> fields = 1`.
fn put_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let mut entry = Vec::new();
    put_bytes(&mut entry, 1, name.as_bytes());
    put_bytes(&mut entry, 2, value);
    put_bytes(out, 1, &entry);
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// Nesting is one level deep, by construction of the names.
fn read_struct(bytes: &[u8], outer: &str, fields: &mut Fields) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (number, entry) = read(&mut rest)?;
        if number != 1 {
            continue;
        }
        let (mut name, mut value, mut entry) = ("", &[][..], entry);
        while !entry.is_empty() {
            match read(&mut entry)? {
                (1, key) => name = std::str::from_utf8(key).ok()?,
                (2, bytes) => value = bytes,
                _ => {}
            }
        }
        while !value.is_empty() {
            match read(&mut value)? {
                (3, text) => {
                    let text = std::str::from_utf8(text).ok()?.to_owned();
                    fields.insert(format!("{outer}{name}"), text);
                }
                (5, nested) if outer.is_empty() => {
                    read_struct(nested, &format!("{name}."), fields)?;
                }
                _ => {}
            }
        }
    }
    Some(())
}

/// The next field: its number and, when it is length-delimited, its bytes.
fn read<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let tag = read_varint(rest)?;
    let skip = |rest: &mut &'a [u8], length: usize| {
        let (bytes, after) = rest.split_at_checked(length)?;
        *rest = after;
        Some(bytes)
    };
    let bytes = match tag & 7 {
        0 => {
            read_varint(rest)?;
            &[][..]
        }
        1 => skip(rest, 8)?,
        2 => {
            let length = usize::try_from(read_varint(rest)?).ok()?;
            skip(rest, length)?
        }
        5 => skip(rest, 4)?,
        _ => return None,
    };
    Some((tag >> 3, bytes))
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_arrives_as_its_workload() {
        let workload = Workload {
            name: "reviews-v1".into(),
            namespace: "default".into(),
            app: "reviews".into(),
            version: "v1".into(),
            canonical_name: "reviews".into(),
            canonical_revision: "v1".into(),
            identity: String::new(),
        };
        let node = Node {
            workload: workload.clone(),
            cluster_id: "Kubernetes".into(),
            ..Node::default()
        };
        assert_eq!(decode(encode(&node).as_bytes()), Some(workload));
    }

    #[test]
    fn garbage_is_nobody() {
        for header in ["", "!", "AAAA", "CgIK/w==", "//////////8="] {
            let _ = decode(header.as_bytes());
        }
        assert_eq!(decode(&[b'A'; LIMIT + 1]), None);
        assert_eq!(decode(b"not base64"), None);
    }
}
