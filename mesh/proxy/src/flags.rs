//! Why a request ended as it did: Envoy's response flags.

use std::fmt;

/// A set of response flags, printed in the order in which a request meets their causes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flags(u32);

macro_rules! flags {
    ($($bit:literal $name:ident $text:literal $doc:literal;)*) => {
        impl Flags {
            $(#[doc = $doc] pub(crate) const $name: Self = Self(1 << $bit);)*
            const ALL: &[(Self, &str)] = &[$((Self::$name, $text)),*];
        }
    };
}

flags! {
    0 DELAY_INJECTED "DI" "A fault held the request back.";
    1 FAULT_INJECTED "FI" "A fault answered the request.";
    2 NO_ROUTE "NR" "No virtual host or no route matches.";
    3 NO_CLUSTER "NC" "The route names a cluster that does not exist.";
    4 NO_HEALTHY_UPSTREAM "UH" "The cluster has no endpoint that may be chosen.";
    5 RETRIES_EXHAUSTED "URX" "All retries were used.";
    6 UPSTREAM_CONNECTION_FAILURE "UF" "The upstream could not be connected to.";
    7 UPSTREAM_CONNECTION_TERMINATION "UC" "The upstream closed the connection.";
    8 UPSTREAM_OVERFLOW "UO" "A circuit breaker refused the request.";
    9 UPSTREAM_TIMEOUT "UT" "The upstream took too long.";
    10 UPSTREAM_PROTOCOL_ERROR "UPE" "The upstream answered what is not HTTP.";
    11 UPSTREAM_REMOTE_RESET "UR" "The upstream reset the stream.";
    12 DOWNSTREAM_CONNECTION_TERMINATION "DC" "The client went away.";
    13 DOWNSTREAM_PROTOCOL_ERROR "DPE" "The client spoke what is not HTTP.";
    20 UNAUTHORIZED_EXTERNAL "UAEX" "An outside judge refused the request.";
    21 DURATION_TIMEOUT "DT" "The connection has lasted as long as it may.";
    14 DNS_FAILURE "DF" "The upstream's name could not be resolved.";
}

impl Flags {
    pub(crate) fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut separator = "";
        for (_, text) in Self::ALL.iter().filter(|(flag, _)| self.0 & flag.0 != 0) {
            write!(f, "{separator}{text}")?;
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_in_order_of_cause() {
        assert_eq!(Flags::default().to_string(), "-");
        let spent = Flags::UPSTREAM_CONNECTION_FAILURE | Flags::RETRIES_EXHAUSTED;
        assert_eq!(spent.to_string(), "URX,UF");
        let faults = Flags::FAULT_INJECTED | Flags::DELAY_INJECTED;
        assert_eq!(faults.to_string(), "DI,FI");
    }
}
