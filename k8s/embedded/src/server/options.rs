//! Query parameters of resource requests.

use crate::status::ApiError;
use axum::extract::Query;
use http::header;
use http::request::Parts;
use std::collections::HashMap;

/// How unknown fields are treated: `fieldValidation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// All parameters, of whichever verb.
#[derive(Debug)]
pub(super) struct Options {
    query: HashMap<String, String>,
    pub(super) watch: bool,
    pub(super) dry_run: bool,
    pub(super) field_validation: FieldValidation,
    /// Who is recorded in managedFields: `fieldManager`, else the client's program.
    pub(super) manager: String,
    /// Whether `fieldManager` was given.
    pub(super) manager_given: bool,
}

impl Options {
    pub(super) fn parse(parts: &Parts) -> Result<Self, ApiError> {
        let Query(query) = Query::<HashMap<String, String>>::try_from_uri(&parts.uri)
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let flag = |name: &str| {
            query
                .get(name)
                .is_some_and(|value| matches!(value.as_str(), "true" | "1" | "True" | "TRUE"))
        };
        let field_validation = match query.get("fieldValidation").map(String::as_str) {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                return Err(invalid_option(
                    "fieldValidation",
                    other,
                    "\"Ignore\", \"Strict\", \"Warn\"",
                ));
            }
        };
        let dry_run = match query.get("dryRun").map(String::as_str) {
            None => false,
            Some("All") => true,
            Some(other) => return Err(invalid_option("dryRun", other, "\"All\"")),
        };
        let agent = parts
            .headers
            .get(header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .and_then(|agent| agent.split('/').next())
            .filter(|agent| !agent.is_empty())
            .unwrap_or("unknown");
        let given = query.get("fieldManager").filter(|name| !name.is_empty());
        Ok(Options {
            watch: flag("watch"),
            dry_run,
            field_validation,
            manager: given.cloned().unwrap_or_else(|| agent.to_owned()),
            manager_given: given.is_some(),
            query,
        })
    }

    /// A parameter; `None` when it is absent or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.query
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether a boolean parameter is true.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| matches!(value, "true" | "1" | "True" | "TRUE"))
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    ApiError::bad_request(format!(
                        "strconv.ParseInt: parsing {value:?}: invalid syntax"
                    ))
                })
            })
            .transpose()
    }
}

fn invalid_option(name: &str, value: &str, supported: &str) -> ApiError {
    use crate::status::Cause;
    let gvk = crate::gvk::Gvk::new("meta.k8s.io", "v1", "PatchOptions");
    let cause = Cause {
        reason: "FieldValueNotSupported".into(),
        message: format!("Unsupported value: {value:?}: supported values: {supported}"),
        field: name.into(),
    };
    ApiError::invalid(&gvk, "", vec![cause])
}
