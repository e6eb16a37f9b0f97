//! What somebody meant who named an object that is not there.
//!
//! Kubernetes says that it is not found, and so do we; kubectl shows the hint as a warning.

use super::Call;

/// Names less alike than this were not mistaken for each other.
const ALIKE: f64 = 0.82;

/// The object that may have been meant: one of this name in another namespace, else one of a name like it here.
/// Only for those who may see everything anyway.
pub(super) fn instead(call: &Call<'_>) -> Option<String> {
    let target = call.target;
    let wanted = target.name.as_deref()?;
    let sees_all = call
        .user
        .groups
        .iter()
        .any(|group| group == "system:masters");
    if !sees_all || target.subresource.is_some() {
        return None;
    }
    let kind = target.resource.gvk.kind.to_lowercase();
    let here = target.namespace();
    let (objects, _) = call.api.store.list(&target.resource.storage, None);
    let named = objects.iter().map(|object| {
        let value = object.value();
        let text = |field: &str| {
            value["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        (text("namespace"), text("name"))
    });
    let named: Vec<(String, String)> = named.collect();
    if let Some((other, _)) = named.iter().find(|(of, name)| name == wanted && of != here) {
        return Some(format!(
            "{kind} {wanted:?} is in namespace {other:?}: add -n {other}"
        ));
    }
    let names = named
        .iter()
        .filter(|(of, _)| of == here)
        .map(|(_, name)| name.as_str());
    nearest(wanted, names)
        .map(|near| format!("there is no {kind} {wanted:?}; did you mean {near:?}?"))
}

/// The name most like another, if one is.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The same words in another order are alike: hello-dr, dr-hello.
    let sorted = |name: &str| {
        let mut words: Vec<&str> = name.split(['-', '.']).collect();
        words.sort_unstable();
        words.join("-")
    };
    names
        .map(|name| {
            let as_it_is = strsim::jaro_winkler(wanted, name);
            let in_order = strsim::jaro_winkler(&sorted(wanted), &sorted(name));
            (as_it_is.max(in_order), name)
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_turned_round_and_misspelt_are_alike() {
        let names = ["hello-dr", "svc-hello", "reviews"];
        let near = |wanted: &str| nearest(wanted, names.into_iter());
        assert_eq!(near("dr-hello"), Some("hello-dr"));
        assert_eq!(near("review"), Some("reviews"));
        assert_eq!(near("bookinfo"), None);
    }
}
