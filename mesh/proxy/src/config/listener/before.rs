//! A listener takes TLS from now on, or takes none any more: clients of the mesh hear of it a moment
//! earlier or later than we do. For that moment what they were told before still holds, so that a
//! change of mode loses no request. See also the [clients' side](crate::config::Cluster::update).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Chain, Destination, Hello, Listener};
use crate::tls::ServerTls;

/// For so long a client may speak as it was told before.
pub(crate) const GRACE: Duration = Duration::from_secs(6);

/// What a listener was until just now.
#[derive(Clone, Debug)]
pub(super) struct Before {
    chains: Arc<Vec<Chain>>,
    until: Instant,
}

impl Listener {
    /// Takes the place of `old`, whose clients are given `grace`.
    pub(crate) fn follow(&mut self, old: &Self, grace: Duration) {
        let same = self.chains.len() == old.chains.len()
            && (self.chains.iter().zip(old.chains.iter())).all(|(new, old)| {
                (new.port, new.protocol, new.tls.is_some())
                    == (old.port, old.protocol, old.tls.is_some())
            });
        self.before = match same {
            true => old.before.clone(),
            false => Some(Before {
                chains: old.chains.clone(),
                until: Instant::now() + grace,
            }),
        };
    }

    /// What the listener was, while that still counts.
    pub(super) fn just_before(&self) -> Option<&[Chain]> {
        let before = self.before.as_ref()?;
        (Instant::now() < before.until).then_some(&before.chains[..])
    }

    /// How a connection that began with `hello` was taken just now, and is not taken any more:
    /// with TLS, or in the clear where nothing else was offered. Whoever speaks in the clear to a
    /// listener that took both is a stranger, and refused at once.
    pub(super) fn taken_before(
        &self,
        destination: Option<&Destination>,
        hello: &Hello,
        now: Option<&Chain>,
    ) -> Option<Option<&Arc<ServerTls>>> {
        let chains = self.just_before()?;
        let own = Destination::from(self.address);
        let to = destination.unwrap_or(&own);
        let old = chains.iter().find(|chain| chain.takes(to, Some(hello)))?;
        match (hello.tls, &old.tls) {
            (true, Some(tls)) if now.is_none_or(|now| now.tls.is_none()) => Some(Some(tls)),
            (false, None) if now.is_none() => {
                let mut there = chains.iter().filter(|chain| chain.goes_to(to));
                there.all(|chain| chain.tls.is_none()).then_some(None)
            }
            _ => None,
        }
    }
}
