//! What a condition looked at: for whoever asks why a route does not match.

use mesh_config::Condition;

use super::{Field, RequestView, RouteMatcher, first_value};

impl RouteMatcher {
    /// The value that a condition found; `None`: the request has no such thing.
    pub(crate) fn seen(&self, condition: Condition, request: &RequestView<'_>) -> Option<String> {
        match condition {
            Condition::Path => Some(request.path.into()),
            Condition::Header(index) => match &self.headers.get(index)?.field {
                Field::Method => Some(request.method.to_string()),
                Field::Authority => Some(request.authority.into()),
                Field::Scheme => Some(request.scheme.into()),
                Field::Path => Some(request.path.into()),
                Field::Claim(path) => {
                    let claim = crate::jwt::claim(request.claims?, path);
                    claim.map(ToString::to_string)
                }
                Field::Header(name) => {
                    let values = request.headers.get_all(name).iter();
                    let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
                    values
                        .reduce(|all, next| format!("{all}, {next}").into())
                        .map(Into::into)
                }
            },
            Condition::Query(index) => {
                first_value(request.query, &self.query.get(index)?.name).map(str::to_owned)
            }
        }
    }
}
