use super::*;
use serde_json::json;

fn object(name: &str, n: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"namespace": "a", "name": name}, "data": {"n": n}})
}

#[tokio::test]
async fn writes_count_revisions_and_refuse_stale_ones() {
    let store = Store::in_memory();
    let first = store
        .create("core/configmaps", "a", "x", object("x", 1))
        .await
        .unwrap();
    assert_eq!(
        first.value()["metadata"]["resourceVersion"],
        first.revision.to_string()
    );
    let again = store
        .create("core/configmaps", "a", "x", object("x", 1))
        .await;
    assert_eq!(again.unwrap_err(), StoreError::Exists);
    let second = store
        .update("core/configmaps", "a", "x", first.revision, object("x", 2))
        .await
        .unwrap();
    assert_eq!(second.revision, first.revision + 1);
    let stale = store
        .update("core/configmaps", "a", "x", first.revision, object("x", 3))
        .await;
    assert_eq!(stale.unwrap_err(), StoreError::Conflict);
    let gone = store.delete("core/configmaps", "a", "nosuch", 1).await;
    assert_eq!(gone.unwrap_err(), StoreError::NotFound);
    let deleted = store
        .delete("core/configmaps", "a", "x", second.revision)
        .await
        .unwrap();
    assert_eq!(deleted.revision, store.revision());
    assert!(store.get("core/configmaps", "a", "x").is_none());
}

#[tokio::test]
async fn a_watch_replays_and_then_waits() {
    let store = Store::in_memory();
    let start = store.revision();
    let x = store
        .create("core/configmaps", "a", "x", object("x", 1))
        .await
        .unwrap();
    store
        .create("core/secrets", "a", "s", object("s", 1))
        .await
        .unwrap();
    let mut watch = store.watch("core/configmaps", start);
    let events = watch.next().await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].change, Change::Added);
    assert_eq!(watch.position(), store.revision());
    let (events, _) = tokio::join!(
        watch.next(),
        store.delete("core/configmaps", "a", "x", x.revision)
    );
    assert_eq!(events.unwrap()[0].change, Change::Deleted);
}

#[tokio::test]
async fn a_watch_that_falls_behind_expires() {
    let store = Store::in_memory();
    let mut watch = store.watch("core/configmaps", store.revision());
    let mut last = store
        .create("core/configmaps", "a", "x", object("x", 0))
        .await
        .unwrap();
    for n in 0..1100 {
        last = store
            .update("core/configmaps", "a", "x", last.revision, object("x", n))
            .await
            .unwrap();
    }
    let expired = watch.next().await.unwrap_err();
    assert!(expired.oldest > expired.asked);
    // a quiet resource is not affected by a busy one
    assert!(store.watch("core/secrets", 1).pending().unwrap().is_empty());
}

#[tokio::test]
async fn objects_survive_and_old_revisions_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let revision = {
        let store = Store::open(&path).unwrap();
        let writes = (0..200).map(|n| {
            let (store, name) = (store.clone(), format!("x{n}"));
            async move {
                store
                    .create("core/configmaps", "a", &name, object(&name, n))
                    .await
                    .unwrap()
                    .revision
            }
        });
        futures::future::join_all(writes)
            .await
            .into_iter()
            .max()
            .unwrap()
    };
    // the file is unlocked when the writing thread has ended
    let store = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        loop {
            match Store::open(&path) {
                Ok(store) => break store,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    })
    .await
    .unwrap();
    let (objects, now) = store.list("core/configmaps", Some("a"));
    assert_eq!(objects.len(), 200);
    assert!(now > revision);
    assert!(store.watch("core/configmaps", revision).pending().is_err());
    assert!(store.list("core/configmaps", Some("b")).0.is_empty());
}
