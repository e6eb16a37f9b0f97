use std::collections::BTreeMap;

use super::*;

fn line(format: &AccessLogFormat) -> String {
    let format = Format::compile(format).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", "a \"b\"".parse().unwrap());
    let (request, response) = (format.of_request(&headers), format.of_response(&headers));
    let record = Record {
        method: Some("GET"),
        path: Some("/a"),
        protocol: Some("HTTP/1.1"),
        code: 503,
        flags: Flags::NO_HEALTHY_UPSTREAM,
        details: "no healthy upstream",
        sent: 19,
        downstream_remote: Some("1.2.3.4:5".parse().unwrap()),
        request: &request,
        response: &response,
        ..Record::default()
    };
    let mut out = String::new();
    format.write(&record, &mut out);
    out
}

#[test]
fn istios_text() {
    assert_eq!(
        line(&AccessLogFormat::default()),
        "[1970-01-01T00:00:00.000Z] \"GET /a HTTP/1.1\" 503 UH no_healthy_upstream - \"-\" 0 19 0 - \
         \"-\" \"a \\\"b\\\"\" \"-\" \"-\" \"-\" - - - 1.2.3.4:5 - -\n"
    );
}

#[test]
fn json_keeps_numbers_and_has_null_for_what_is_not_there() {
    let line = line(&AccessLogFormat::istio_json());
    assert!(line.ends_with("}\n"));
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value.as_object().unwrap().len(), 24);
    assert_eq!(value["response_code"], 503);
    assert_eq!(value["bytes_sent"], 19);
    assert_eq!(value["method"], "GET");
    assert!(value["upstream_host"].is_null());
}

#[test]
fn any_text_with_operators() {
    let text = |text: &str| line(&AccessLogFormat::Text(text.into()));
    assert_eq!(
        text("100%% %REQ(USER-AGENT):1%|%RESP(x-none)%\n"),
        "100% a|-\n"
    );
    assert_eq!(text("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"), "1.2.3.4");
    assert_eq!(text("%REQ(x-none?user-agent):3%"), "a \\\"");
    let fields = [("k".to_owned(), "%RESPONSE_CODE%/%PROTOCOL%".to_owned())];
    let json = AccessLogFormat::Json(BTreeMap::from(fields));
    assert_eq!(line(&json), "{\"k\":\"503/HTTP/1.1\"}\n");
    for bad in ["%CATS%", "%REQ(%", "50%"] {
        assert!(
            Format::compile(&AccessLogFormat::Text(bad.into())).is_err(),
            "{bad}"
        );
    }
}
