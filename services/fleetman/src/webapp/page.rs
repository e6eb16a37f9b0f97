//! The page and its pictures.

use serde_json::json;

use super::Edition;
use crate::routes::ROUTES;

/// The page of an edition. The word "title" stands on one line of it and on no other: labs look for
/// that line with `grep`.
pub(super) fn render(edition: Edition) -> String {
    let (title, brand) = match edition {
        Edition::Original => ("Fleet Management", "Fleet Manager"),
        Edition::Experimental => (
            "Fleet Management Istio Premium Enterprise Edition",
            "Fleet Manager Istio Premium Enterprise Edition",
        ),
    };
    let roads = ROUTES
        .iter()
        .map(|route| json!({"vehicle": route.vehicle, "closed": route.closed, "points": route.way_points}))
        .collect::<Vec<_>>();
    include_str!("index.html")
        .replace("{{title}}", title)
        .replace("{{brand}}", brand)
        .replace("{{edition}}", edition.name())
        .replace("{{style}}", include_str!("page.css"))
        .replace("{{roads}}", &serde_json::Value::from(roads).to_string())
        .replace("{{land}}", include_str!("land.json"))
        .replace(
            "{{script}}",
            concat!(include_str!("map.js"), include_str!("page.js"),),
        )
}

/// The picture at a path.
pub(super) fn photo(path: &str) -> Option<&'static str> {
    Some(match path.strip_prefix("/photos/")? {
        "1.svg" => include_str!("photos/1.svg"),
        "2.svg" => include_str!("photos/2.svg"),
        "3.svg" => include_str!("photos/3.svg"),
        "4.svg" => include_str!("photos/4.svg"),
        "5.svg" => include_str!("photos/5.svg"),
        "placeholder.svg" => include_str!("photos/placeholder.svg"),
        _ => return None,
    })
}
