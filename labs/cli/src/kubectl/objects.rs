//! Which objects the words of a command line mean: `pods`, `pod NAME`, `deploy/NAME svc/NAME`, `-l app=a`.

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use super::{
    kinds::{Kind, Kinds},
    server::Server,
};

/// On a ReplicaSet and a Deployment: the number of the template.
pub const REVISION: &str = "deployment.kubernetes.io/revision";

/// `TYPE`, `TYPE NAME...` or `TYPE/NAME...`.
#[derive(Debug, PartialEq, Eq)]
pub enum Meant {
    /// Every object of these kinds.
    All(Vec<Kind>),
    /// These.
    Named(Vec<(Kind, String)>),
}

/// What the words mean.
///
/// # Errors
/// When a type is not known, or is missing.
pub fn meant(kinds: &Kinds, words: &[String]) -> anyhow::Result<Meant> {
    let Some((first, rest)) = words.split_first() else {
        bail!("You must specify the type of resource");
    };
    if words.iter().any(|word| word.contains('/')) {
        let pair = |word: &String| {
            let Some((kind, name)) = word.split_once('/') else {
                bail!(
                    "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'"
                );
            };
            Ok((one(kinds, kind)?, name.to_owned()))
        };
        return Ok(Meant::Named(
            words.iter().map(pair).collect::<anyhow::Result<_>>()?,
        ));
    }
    let mut found = Vec::new();
    for word in first.split(',').filter(|word| !word.is_empty()) {
        found.extend(kinds.called(word)?);
    }
    if rest.is_empty() {
        return Ok(Meant::All(found));
    }
    let named = found
        .iter()
        .flat_map(|kind| rest.iter().map(move |name| (kind.clone(), name.clone())));
    Ok(Meant::Named(named.collect()))
}

/// The one kind that a word means.
///
/// # Errors
/// When it is none or several.
pub fn one(kinds: &Kinds, word: &str) -> anyhow::Result<Kind> {
    match kinds.called(word)?.as_slice() {
        [kind] => Ok(kind.clone()),
        _ => bail!("{word:?} means several types; name one"),
    }
}

/// `deploy/NAME`, `deploy NAME` or, for the verbs that are about pods, `NAME`.
///
/// # Errors
/// When it is none of these.
pub fn single(kinds: &Kinds, words: &[String]) -> anyhow::Result<(Kind, String)> {
    match meant(kinds, words)? {
        Meant::Named(mut named) if named.len() == 1 => Ok(named.remove(0)),
        Meant::Named(_) => bail!("only one object at a time"),
        Meant::All(_) => bail!("required resource not specified: TYPE/NAME or TYPE NAME"),
    }
}

/// Which of many objects.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    /// Labels that they have: app=reviews,version!=v1
    #[arg(short = 'l', long = "selector")]
    pub labels: Option<String>,
    /// Fields that they have: status.phase=Running
    #[arg(long = "field-selector")]
    pub fields: Option<String>,
}

impl Selection {
    /// Whether everything is meant.
    pub fn is_empty(&self) -> bool {
        self.labels.is_none() && self.fields.is_none()
    }

    /// `?labelSelector=...`, or nothing.
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let pairs = [
            ("labelSelector", &self.labels),
            ("fieldSelector", &self.fields),
        ];
        for (key, value) in pairs {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        let query = query.finish();
        if query.is_empty() {
            query
        } else {
            format!("?{query}")
        }
    }
}

/// The objects that are meant, each with its kind. Those that are named must be there.
///
/// # Errors
/// What the server refuses.
pub async fn fetch(
    server: &Server,
    words: &[String],
    selection: &Selection,
) -> anyhow::Result<Vec<(Kind, Value)>> {
    let kinds = Kinds::of(server).await?;
    let mut found = Vec::new();
    match meant(&kinds, words)? {
        Meant::All(all) => {
            for kind in all {
                let path = kind.path(Some(&server.namespace)) + &selection.query();
                let mut list = server.get(&path).await?;
                if let Some(items) = list["items"].as_array_mut() {
                    found.extend(items.drain(..).map(|mut item| {
                        item["apiVersion"] = kind.api_version().into();
                        item["kind"] = kind.kind.clone().into();
                        (kind.clone(), item)
                    }));
                }
            }
        }
        Meant::Named(named) => {
            for (kind, name) in named {
                let object = server.get(&kind.path_of(&server.namespace, &name)).await?;
                found.push((kind, object));
            }
        }
    }
    Ok(found)
}

/// Whether nothing was changed from one answer to the next. What controllers write meanwhile does not count.
pub fn same(before: &Value, after: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.shift_remove("status");
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.shift_remove("resourceVersion");
            metadata.shift_remove("managedFields");
            let annotations = metadata
                .get_mut("annotations")
                .and_then(Value::as_object_mut);
            let none_left = annotations.is_some_and(|annotations| {
                annotations.shift_remove(REVISION);
                annotations.is_empty()
            });
            if none_left {
                metadata.shift_remove("annotations");
            }
        }
        object
    };
    bare(before) == bare(after)
}

/// An object's name.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// An object's namespace; empty for one without.
pub fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::kinds::tests::some, *};

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn words_mean_kinds_or_objects() {
        let kinds = some();
        let of = |line: &str| meant(&kinds, &words(line));
        let titles = |meant: Meant| match meant {
            Meant::All(kinds) => kinds.iter().map(Kind::title).collect::<Vec<_>>(),
            Meant::Named(named) => named
                .iter()
                .map(|(kind, name)| format!("{}/{name}", kind.title()))
                .collect(),
        };
        assert_eq!(
            titles(of("deploy,pod").unwrap()),
            ["deployment.apps", "pod"]
        );
        assert_eq!(titles(of("pod a b").unwrap()), ["pod/a", "pod/b"]);
        assert_eq!(
            titles(of("ns/a gw/b").unwrap()),
            ["namespace/a", "gateway.networking.istio.io/b"]
        );
        assert!(of("pod a/b").unwrap_err().to_string().contains("no need"));
        assert!(
            of("user02 a")
                .unwrap_err()
                .to_string()
                .contains("resource type \"user02\"")
        );
    }

    #[test]
    fn what_controllers_write_is_no_change() {
        let object = |version: &str, replicas: u32, revision: Option<&str>| {
            let mut object = json!({ "metadata": { "resourceVersion": version },
                "spec": { "replicas": replicas }, "status": { "seen": version } });
            if let Some(revision) = revision {
                object["metadata"]["annotations"][REVISION] = revision.into();
            }
            object
        };
        assert!(same(&object("1", 1, None), &object("2", 1, Some("1"))));
        assert!(!same(&object("1", 1, None), &object("2", 2, None)));
    }

    #[test]
    fn selections_are_queries() {
        let selection = Selection {
            labels: Some("a=b,c!=d".into()),
            fields: None,
        };
        assert_eq!(selection.query(), "?labelSelector=a%3Db%2Cc%21%3Dd");
        assert_eq!(Selection::default().query(), "");
    }
}
