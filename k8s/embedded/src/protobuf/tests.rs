//! Recorded bodies, and bodies that must be refused.

use super::*;
use base64::Engine;
use serde_json::json;

fn from_base64(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

#[test]
fn what_kubectl_sends() {
    let recorded = include_str!("kubectl.txt");
    let mut seen = 0;
    for block in recorded.split("\n\n").skip(1) {
        let mut lines = block.lines();
        let (command, body, expected) = (
            lines.next().unwrap(),
            lines.next().unwrap(),
            lines.next().unwrap(),
        );
        let decoded =
            decode(&from_base64(body)).unwrap_or_else(|error| panic!("{command}: {error}"));
        assert_eq!(decoded.to_string(), expected, "{command}");
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

/// A field of bytes: short enough for one-byte keys and lengths.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    out.extend_from_slice(bytes);
    out
}

fn body(version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let meta = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &meta), field(2, object)].concat()
}

#[test]
fn times_and_options() {
    // ObjectMeta.creationTimestamp {seconds: 60}
    let metadata = field(8, &[0x08, 60]);
    let pod = decode(&body("v1", "Pod", &field(1, &metadata))).unwrap();
    assert_eq!(pod["metadata"]["creationTimestamp"], "1970-01-01T00:01:00Z");
    // Lease.spec.renewTime {seconds: 60, nanos: 1000}
    let spec = field(4, &[0x08, 60, 0x10, 0xe8, 0x07]);
    let lease = decode(&body("coordination.k8s.io/v1", "Lease", &field(2, &spec))).unwrap();
    assert_eq!(lease["spec"]["renewTime"], "1970-01-01T00:01:00.000001Z");
    let options = [vec![0x08, 0x00], field(4, b"Foreground")].concat();
    let options = decode(&body("v1", "DeleteOptions", &options)).unwrap();
    assert_eq!(
        options,
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Foreground"})
    );
}

#[test]
fn what_cannot_be_read_is_refused() {
    assert_eq!(decode(b"{}"), Err(ProtobufError::NotKubernetes));
    let error = decode(&body("a.example/v1", "Thing", &[])).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no kind \"Thing\" is registered for version \"a.example/v1\"")
    );
    let error = decode(&body("v1", "Pod", &field(9, b""))).unwrap_err();
    assert_eq!(
        error,
        ProtobufError::UnknownField {
            message: "Pod",
            number: 9
        }
    );
    assert!(
        error
            .to_string()
            .contains("unknown protobuf field number 9 in Pod")
    );
    let mut cut = body("v1", "Pod", &field(1, b""));
    cut.pop();
    assert!(matches!(decode(&cut), Err(ProtobufError::Malformed { .. })));
    // ObjectMeta as a number.
    let error = decode(&body("v1", "Pod", &[0x08, 0x01])).unwrap_err();
    assert!(
        matches!(error, ProtobufError::Malformed { message: "Pod", .. }),
        "{error}"
    );
    let error = decode(&body("v1", "ConfigMap", &field(1, &field(1, &[0xff])))).unwrap_err();
    assert!(matches!(error, ProtobufError::Malformed { .. }));
}
