//! Amounts of resources: `500m`, `1.5`, `64Mi`, `1e3`.

/// What Kubernetes says of a text that is not a quantity.
pub(super) const FORM: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The amount as a number; `None` when the text is not a quantity. Exact enough to compare: an
/// f64 holds every amount that a node can have.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let end = text
        .char_indices()
        .find(|(at, character)| {
            !(character.is_ascii_digit()
                || *character == '.'
                || (*at == 0 && "+-".contains(*character)))
        })
        .map_or(text.len(), |(at, _)| at);
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, amount) in [
            ("1", 1.0),
            ("500m", 0.5),
            ("1.5", 1.5),
            ("64Mi", 67_108_864.0),
            ("1e3", 1000.0),
            ("2E", 2e18),
            ("-1", -1.0),
        ] {
            assert_eq!(parse(text), Some(amount), "{text}");
        }
        for text in ["", "x", "1x", "1 Mi", "1mi", "Mi", "1.2.3", "1e"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
