//! Ports in the mesh settings.

use serde::{Deserialize, Deserializer, de::Error};

/// A number, quoted or not: protobuf's JSON takes both, and Istio's documents write `port: "8000"`.
pub(super) fn number_or_text<'de, D: Deserializer<'de>>(port: D) -> Result<u16, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a port is a number from 0 to 65535")]
    enum Port {
        Number(u16),
        Text(String),
    }
    match Port::deserialize(port)? {
        Port::Number(port) => Ok(port),
        Port::Text(text) => text
            .parse()
            .map_err(|_| Error::custom(format!("port {text:?}: a number from 0 to 65535"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_do_not_matter() {
        for (text, port) in [
            ("8000", Some(8000)),
            ("\"8000\"", Some(8000)),
            ("\"http\"", None),
            ("70000", None),
        ] {
            let mut from = serde_json::Deserializer::from_str(text);
            assert_eq!(number_or_text(&mut from).ok(), port, "{text}");
        }
    }
}
