//! What a request to the admin interface asks for.

use std::borrow::Cow;

/// The query of an admin request.
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self(text)
    }

    /// Its parameters, decoded.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.0.as_bytes())
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        let value = self.pairs().find(|(key, _)| key == name)?.1;
        Some(value.into_owned())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.get(name).as_deref() == Some(value)
    }
}
