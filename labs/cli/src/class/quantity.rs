//! Kubernetes' quantities, for arithmetic.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Suffixes and what they multiply with.
const SUFFIXES: [(&str, f64); 12] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("", 1.0),
];

/// The number that a quantity stands for: CPUs, bytes, pieces.
pub(super) fn parse(text: &str) -> Option<f64> {
    let (suffix, factor) = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    let number = text.strip_suffix(suffix)?.parse::<f64>().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

/// The same of an object's field; 0 when it is not there or no quantity.
pub(super) fn of(quantity: Option<&Quantity>) -> f64 {
    quantity.and_then(|q| parse(&q.0)).unwrap_or(0.0)
}

/// Checks an argument.
pub(super) fn checked(text: &str) -> Result<String, String> {
    parse(text)
        .map(|_| text.to_owned())
        .ok_or_else(|| "a quantity is a number with a suffix: 500m, 2, 512Mi, 1Gi".into())
}

/// Memory for people.
pub(super) fn gib(bytes: f64) -> String {
    format!("{:.1} GiB", bytes / 1_073_741_824.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_numbers() {
        for (text, value) in [
            ("250m", 0.25),
            ("2", 2.0),
            ("1Gi", 1_073_741_824.0),
            ("16Mi", 16_777_216.0),
            ("1.5k", 1500.0),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in ["", "m", "-1", "1Xi", "x"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(gib(1.5 * 1_073_741_824.0), "1.5 GiB");
    }
}
