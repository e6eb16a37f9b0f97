//! Where resources are kept: in memory, numbered from 1, and not more than so many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;

use crate::entity::{Field, Object};
use crate::problem::Problem;

/// What happens when one more object would be too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest is forgotten: right where load generators create objects.
    ForgetOldest,
    /// The new one is refused with 507.
    Refuse,
}

/// What kind of objects a repository has.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    /// The name of many, which is also the path: `deliveries`.
    pub collection: &'static str,
    /// The name of one: `delivery`.
    pub item: &'static str,
    /// The fields, in the order in which they are written.
    pub fields: &'static [Field],
    /// The most objects.
    pub capacity: usize,
    /// What happens then.
    pub when_full: WhenFull,
}

/// The objects of one resource; clones share them.
#[derive(Clone)]
pub struct Repository {
    /// What kind of objects these are.
    pub resource: &'static Resource,
    shared: Arc<Mutex<Objects>>,
}

#[derive(Default)]
struct Objects {
    last: u64,
    by_id: BTreeMap<u64, Object>,
}

impl Repository {
    /// An empty repository.
    #[must_use]
    pub fn new(resource: &'static Resource) -> Self {
        Self {
            resource,
            shared: Arc::default(),
        }
    }

    /// Adds an object; returns its id.
    ///
    /// # Errors
    /// When there are too many and the oldest is not to be forgotten.
    pub fn insert(&self, object: Object) -> Result<u64, Problem> {
        let mut objects = self.lock();
        if objects.by_id.len() >= self.resource.capacity {
            match self.resource.when_full {
                WhenFull::ForgetOldest => {
                    objects.by_id.pop_first();
                }
                WhenFull::Refuse => {
                    return Err(Problem::new(
                        StatusCode::INSUFFICIENT_STORAGE,
                        format!(
                            "{} {} are kept and no more; delete some",
                            self.resource.capacity, self.resource.collection
                        ),
                    ));
                }
            }
        }
        objects.last += 1;
        let id = objects.last;
        objects.by_id.insert(id, object);
        Ok(id)
    }

    /// The object of this id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Object> {
        self.lock().by_id.get(&id).cloned()
    }

    /// Changes an object in place; what `change` returns is returned. None: no such object.
    pub fn update<T>(&self, id: u64, change: impl FnOnce(&mut Object) -> T) -> Option<T> {
        self.lock().by_id.get_mut(&id).map(change)
    }

    /// Removes an object; returns what it was.
    pub fn remove(&self, id: u64) -> Option<Object> {
        self.lock().by_id.remove(&id)
    }

    /// So many objects from this position on, in the order of their ids, and how many there are.
    #[must_use]
    pub fn page(&self, from: usize, count: usize) -> (Vec<(u64, Object)>, usize) {
        let objects = self.lock();
        let page = objects.by_id.iter().skip(from).take(count);
        (
            page.map(|(id, object)| (*id, object.clone())).collect(),
            objects.by_id.len(),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        // Every change is complete before anything in it can panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FORGETS: Resource = Resource {
        collection: "things",
        item: "thing",
        fields: &[],
        capacity: 2,
        when_full: WhenFull::ForgetOldest,
    };
    static REFUSES: Resource = Resource {
        when_full: WhenFull::Refuse,
        ..FORGETS
    };

    #[test]
    fn a_full_repository_forgets_or_refuses() {
        let forgets = Repository::new(&FORGETS);
        let refuses = Repository::new(&REFUSES);
        for id in 1..=2 {
            assert_eq!(forgets.insert(Object::new()), Ok(id));
            assert_eq!(refuses.insert(Object::new()), Ok(id));
        }
        assert_eq!(forgets.insert(Object::new()), Ok(3));
        assert!(forgets.get(1).is_none() && forgets.get(3).is_some());
        let problem = refuses.insert(Object::new()).expect_err("full");
        assert_eq!(problem.status, 507);
        assert!(refuses.remove(1).is_some());
        assert_eq!(refuses.insert(Object::new()), Ok(3));
    }
}
