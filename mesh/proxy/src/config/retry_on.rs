//! Envoy's words for when a failed attempt is made again.

/// A set of retry conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetryOn(u16);

impl RetryOn {
    pub(crate) const SERVER_ERROR: Self = Self(1);
    pub(crate) const GATEWAY_ERROR: Self = Self(1 << 1);
    pub(crate) const RESET: Self = Self(1 << 2);
    pub(crate) const RESET_BEFORE_REQUEST: Self = Self(1 << 3);
    pub(crate) const CONNECT_FAILURE: Self = Self(1 << 4);
    pub(crate) const REFUSED_STREAM: Self = Self(1 << 5);
    pub(crate) const RETRIABLE_4XX: Self = Self(1 << 6);
    pub(crate) const RETRIABLE_STATUS_CODES: Self = Self(1 << 7);
    pub(crate) const CANCELLED: Self = Self(1 << 8);
    pub(crate) const DEADLINE_EXCEEDED: Self = Self(1 << 9);
    pub(crate) const INTERNAL: Self = Self(1 << 10);
    pub(crate) const RESOURCE_EXHAUSTED: Self = Self(1 << 11);
    pub(crate) const UNAVAILABLE: Self = Self(1 << 12);

    const GRPC: Self = Self(0b1_1111 << 8);

    /// Conditions, and the numbers among them, which are status codes. Words that need a proxy
    /// feature which is not here (`retriable-headers`, `envoy-ratelimited`) never come true.
    pub(crate) fn parse(words: &[String]) -> (Self, Vec<u16>) {
        let mut on = Self::default();
        let mut codes = Vec::new();
        for word in words.iter().flat_map(|word| word.split(',')) {
            let condition = match word.trim() {
                "5xx" => Self::SERVER_ERROR,
                "gateway-error" => Self::GATEWAY_ERROR,
                "reset" => Self::RESET,
                "reset-before-request" => Self::RESET_BEFORE_REQUEST,
                "connect-failure" => Self::CONNECT_FAILURE,
                "refused-stream" => Self::REFUSED_STREAM,
                "retriable-4xx" => Self::RETRIABLE_4XX,
                "retriable-status-codes" => Self::RETRIABLE_STATUS_CODES,
                "cancelled" => Self::CANCELLED,
                "deadline-exceeded" => Self::DEADLINE_EXCEEDED,
                "internal" => Self::INTERNAL,
                "resource-exhausted" => Self::RESOURCE_EXHAUSTED,
                "unavailable" => Self::UNAVAILABLE,
                other => {
                    if let Ok(code) = other.parse() {
                        codes.push(code);
                        Self::RETRIABLE_STATUS_CODES
                    } else {
                        Self::default()
                    }
                }
            };
            on.0 |= condition.0;
        }
        (on, codes)
    }

    pub(crate) fn any_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Some condition is about a gRPC status.
    pub(crate) fn has_grpc(self) -> bool {
        self.any_of(Self::GRPC)
    }

    /// The condition for a gRPC status in response headers.
    pub(crate) fn for_grpc_status(status: u32) -> Self {
        match status {
            1 => Self::CANCELLED,
            4 => Self::DEADLINE_EXCEEDED,
            8 => Self::RESOURCE_EXHAUSTED,
            13 => Self::INTERNAL,
            14 => Self::UNAVAILABLE,
            _ => Self::default(),
        }
    }
}

impl std::ops::BitOr for RetryOn {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
