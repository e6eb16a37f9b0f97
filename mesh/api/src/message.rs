//! The shape that all of Istio's protobuf messages share in JSON.

/// Declares structs as Istio's API has them: every field may be absent, names are camelCase, and
/// the schema comes from the type.
macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", default)]
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }
    )*};
}

/// Declares enums as Istio's API has them: SCREAMING_SNAKE_CASE strings; the first is the default.
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident {
        $(#[$first_meta:meta])* $first:ident, $($(#[$value_meta:meta])* $value:ident,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum $name {
            #[default]
            $(#[$first_meta])* $first,
            $($(#[$value_meta])* $value,)*
        }
    )*};
}
