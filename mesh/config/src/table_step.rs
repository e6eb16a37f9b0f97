//! The step from one version of a route table to the next: a table of a thousand virtual hosts of
//! which one changed travels as that one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{RouteConfiguration, VirtualHost};

/// A part of a route table, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Piece {
    /// Virtual hosts of the version before: the index of the first, and how many.
    Keep(usize, usize),
    /// A new or changed virtual host.
    Host(Arc<VirtualHost>),
}

/// An update names virtual hosts of a version that the receiver does not have.
#[derive(Debug, thiserror::Error)]
#[error("route table {0}: the update starts from another version of it")]
pub struct UnknownBase(String);

/// What `new` is made of.
pub(crate) fn pieces(
    old: Option<&Arc<RouteConfiguration>>,
    new: &RouteConfiguration,
) -> Vec<Piece> {
    let old = old.map_or(&[][..], |table| &table.virtual_hosts);
    let mut pieces = Vec::new();
    // Where the old table goes on, as long as both run in parallel.
    let mut next = 0;
    for host in &new.virtual_hosts {
        let named = |at: &usize| old.get(*at).is_some_and(|before| before.name == host.name);
        let anywhere = || old.iter().position(|before| before.name == host.name);
        match Some(next).filter(named).or_else(anywhere) {
            Some(at) if same(&old[at], host) => {
                match pieces.last_mut() {
                    Some(Piece::Keep(first, count)) if *first + *count == at => *count += 1,
                    _ => pieces.push(Piece::Keep(at, 1)),
                }
                next = at + 1;
            }
            found => {
                pieces.push(Piece::Host(host.clone()));
                next = found.map_or(next, |at| at + 1);
            }
        }
    }
    pieces
}

/// The table that is made of pieces.
pub(crate) fn rebuilt(
    name: &str,
    old: Option<&Arc<RouteConfiguration>>,
    pieces: Vec<Piece>,
) -> Result<RouteConfiguration, UnknownBase> {
    let old = old.map_or(&[][..], |table| &table.virtual_hosts);
    let mut virtual_hosts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece {
            Piece::Host(host) => virtual_hosts.push(host),
            Piece::Keep(first, count) => {
                let kept = old.get(first..).and_then(|rest| rest.get(..count));
                let kept = kept.ok_or_else(|| UnknownBase(name.to_owned()))?;
                virtual_hosts.extend(kept.iter().cloned());
            }
        }
    }
    Ok(RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
    })
}

/// Equal, which shared resources show without being looked at.
pub(crate) fn same<T: PartialEq>(one: &Arc<T>, other: &Arc<T>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with a virtual host for each word; what follows a `:` tells versions of one apart.
    fn table(text: &str) -> Arc<RouteConfiguration> {
        let host = |word: &str| VirtualHost {
            name: word.split(':').next().unwrap().into(),
            domains: vec![word.into()],
            routes: vec![],
        };
        Arc::new(RouteConfiguration {
            name: "80".into(),
            virtual_hosts: text.split_whitespace().map(host).map(Arc::new).collect(),
        })
    }

    fn step(old: &str, new: &str) -> String {
        let (old, new) = (table(old), table(new));
        let pieces = pieces(Some(&old), &new);
        let words = pieces.iter().map(|piece| match piece {
            Piece::Keep(first, count) => format!("{first}+{count}"),
            Piece::Host(host) => host.domains[0].clone(),
        });
        let words = words.collect::<Vec<_>>().join(" ");
        assert_eq!(rebuilt("80", Some(&old), pieces).unwrap(), *new);
        words
    }

    #[test]
    fn only_what_changed_is_told() {
        for (old, new, told) in [
            ("a b c d", "a b:2 c d", "0+1 b:2 2+2"),
            ("a b c d", "a b c", "0+3"),
            ("a b d", "a b c d", "0+2 c 2+1"),
            ("a b c d", "a c d", "0+1 2+2"),
            ("a b c d", "d c b a", "3+1 2+1 1+1 0+1"),
            ("a b c d", "a:2 b c d:2", "a:2 1+2 d:2"),
            ("", "a b", "a b"),
            ("a b", "", ""),
            // Names are not promised to be unique.
            ("a a:2 b", "a a:2 b", "0+3"),
            ("b a a:2", "a a:2", "1+2"),
        ] {
            assert_eq!(step(old, new), told, "{old} -> {new}");
        }
    }

    #[test]
    fn a_step_from_another_version_is_refused() {
        for piece in [
            Piece::Keep(0, 3),
            Piece::Keep(3, 1),
            Piece::Keep(usize::MAX, 2),
        ] {
            assert!(rebuilt("80", Some(&table("a b")), vec![piece]).is_err());
        }
        assert!(rebuilt("80", None, vec![Piece::Keep(0, 1)]).is_err());
    }
}
