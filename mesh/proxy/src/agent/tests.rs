use std::rc::Rc;

use tokio::{net::TcpListener, task::LocalSet};

use super::*;
use crate::serve;

/// Serves `/healthz` (as the header `x-as` says), `/metrics` and nothing else.
async fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::task::spawn_local(serve::serve(listener, |request| async move {
        match request.uri().path() {
            "/healthz" if request.headers().contains_key("x-as") => Page::text("fine".into()),
            "/metrics" => Page::text("app_things 1\n".into()),
            _ => Page::text(String::new()).status(StatusCode::NOT_FOUND),
        }
    }));
    port
}

#[tokio::test]
async fn probes_are_performed_on_the_pods_loopback() {
    let test = async {
        let port = application().await;
        let probers = format!(
            r#"{{"/app-health/web/readyz":{{"httpGet":{{"path":"/healthz","port":{port},"httpHeaders":[{{"name":"x-as","value":"1"}}]}},"timeoutSeconds":1}},
                "/app-health/web/livez":{{"httpGet":{{"path":"healthz","port":{port}}}}},
                "/app-health/web/startupz":{{"tcpSocket":{{"port":{port}}}}},
                "/app-health/gone/readyz":{{"tcpSocket":{{"port":1}}}}}}"#
        );
        let agent = Rc::new(Agent {
            probers: serde_json::from_str(&probers).unwrap(),
            scrape: Some(Scrape {
                scrape: "true".into(),
                path: String::new(),
                port: port.to_string(),
            }),
        });
        let localhost = IpAddr::from([127, 0, 0, 1]);
        for (path, status) in [
            ("/app-health/web/readyz", 200),
            ("/app-health/web/livez", 404),
            ("/app-health/web/startupz", 200),
            ("/app-health/gone/readyz", 500),
            ("/app-health/unknown/readyz", 400),
        ] {
            let page = agent.probe(path, localhost).await;
            assert_eq!(page.parts().0, status, "{path}");
        }
        let metrics = agent.application_metrics(localhost).await;
        assert_eq!(metrics.as_deref(), Some("app_things 1\n"));
    };
    LocalSet::new().run_until(test).await;
}
