use super::*;

fn evaluate(text: &str) -> Option<String> {
    let mut request = HeaderMap::new();
    request.insert("x-user", HeaderValue::from_static("jason"));
    let context = Context {
        request: &request,
        response: None,
        method: "GET",
        path: "/p",
        query: "",
        authority: "web",
        scheme: "http",
        protocol: "HTTP/1.1",
        remote: "10.0.0.1:5000".parse().unwrap(),
        local: "10.0.0.2:80".parse().unwrap(),
        upstream_host: None,
        cluster: "outbound|80||web",
        route: "default",
        status: 0,
        flags: crate::flags::Flags::default(),
    };
    let value = Value::compile(text).unwrap().evaluate(&context)?;
    Some(value.to_str().unwrap().to_owned())
}

#[test]
fn operators_become_values() {
    for (text, value) in [
        ("plain", Some("plain")),
        ("100%%", Some("100%")),
        ("%REQ(X-User)%", Some("jason")),
        ("u=%REQ(x-user):3%!", Some("u=jas!")),
        ("%REQ(x-none?x-user)%", Some("jason")),
        ("%REQ(x-none)%", None),
        ("%REQ(:authority)%%REQ(:path)%", Some("web/p")),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", Some("10.0.0.1:5000")),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", Some("10.0.0.1")),
        ("%UPSTREAM_HOST%", Some("-")),
        ("%UPSTREAM_CLUSTER%", Some("outbound|80||web;")),
        ("%UPSTREAM_CLUSTER_RAW%", Some("outbound|80||web")),
        ("%PROTOCOL% %RESPONSE_FLAGS%", Some("HTTP/1.1 -")),
    ] {
        assert_eq!(evaluate(text).as_deref(), value, "{text}");
    }
    for bad in ["%", "50%", "%NONSENSE%", "%REQ(x%"] {
        assert!(Value::compile(bad).is_err(), "{bad}");
    }
}
