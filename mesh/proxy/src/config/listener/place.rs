//! Where connections go that a filter chain takes.

use mesh_config as model;

/// One of the destinations or server names of a chain.
#[derive(Debug)]
pub(super) enum Place {
    /// A name or an address.
    Exact(Box<str>),
    /// Names that end so.
    Suffix(Box<str>),
    Range(model::Cidr),
}

impl Place {
    pub(super) fn parse(text: &str) -> Self {
        if let Some(suffix) = text.strip_prefix('*') {
            return Self::Suffix(suffix.into());
        }
        match model::Cidr::parse(text).filter(|_| text.contains('/')) {
            Some(range) => Self::Range(range),
            None => Self::Exact(text.into()),
        }
    }

    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => &**name == host,
            Self::Suffix(suffix) => {
                suffix.is_empty() || (host.len() > suffix.len() && host.ends_with(&**suffix))
            }
            Self::Range(range) => host.parse().is_ok_and(|host| range.contains(host)),
        }
    }
}

/// One of the places is where a name, or an address, is.
pub(super) fn among(places: &[Place], name: &str) -> bool {
    places.iter().any(|place| place.covers(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_names_suffixes_addresses_and_ranges() {
        for (text, host, covers) in [
            ("web", "web", true),
            ("*.wiki.test", "en.wiki.test", true),
            ("*.wiki.test", "wiki.test", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "web", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("fd00::/8", "fd12::1", true),
        ] {
            assert_eq!(Place::parse(text).covers(host), covers, "{text} {host}");
        }
    }
}
