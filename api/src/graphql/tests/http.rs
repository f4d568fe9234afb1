//! GraphQL over HTTP: what is refused, in which form, and who may ask.

use std::{fs, os::unix::fs::PermissionsExt as _};

use axum::http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Answer, DESIRE, Harness, desired_lrp};
use crate::http::{Access, limits::SocketLimits};

const MODERN: &str = "application/graphql-response+json";

fn query(text: &str) -> String {
    json!({ "query": text }).to_string()
}

fn code(answer: &Answer) -> &str {
    answer.body["errors"][0]["extensions"]["code"].as_str().unwrap()
}

#[tokio::test]
async fn malformed_requests_are_refused_with_a_status_and_a_code() {
    let harness = Harness::start().await;
    let refused = |body: String| async {
        let answer = harness.send(harness.post(body)).await;
        assert_eq!(answer.body.get("data"), None);
        (answer.status.as_u16(), code(&answer).to_owned())
    };

    let invalid = (400, "INVALID".to_owned());
    assert_eq!(refused("{".to_owned()).await, invalid);
    assert_eq!(refused("{}".to_owned()).await, invalid);
    assert_eq!(refused(r#"{"query": 1}"#.to_owned()).await, invalid);
    assert_eq!(
        refused(r#"{"query": "{a}", "variables": "canary-5f3c"}"#.to_owned()).await,
        invalid
    );
    assert_eq!(refused(format!("{}1{}", "[".repeat(9_999), "]".repeat(9_999))).await, invalid);
    let large = query(&"#".repeat(1 << 20));
    assert_eq!(refused(large).await, (413, "TOO_LARGE".to_owned()));

    let mut request = harness.post(query("{ now { position } }"));
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    assert_eq!(harness.send(request).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut request = harness.post(query("{ now { position } }"));
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/html"));
    assert_eq!(harness.send(request).await.status, StatusCode::NOT_ACCEPTABLE);
    let mut request = harness.post(query("{ now { position } }"));
    *request.method_mut() = Method::GET;
    assert_eq!(harness.send(request).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_question_says_how_far_the_view_must_be() {
    let harness = Harness::start().await;
    let asked = async |header: Option<&str>, extension: Option<&str>| {
        let extensions = extension.map(|at_least| json!({ "atLeast": at_least }));
        let body = json!({ "query": "{ now { position } }", "extensions": extensions });
        let mut request = harness.post(body.to_string());
        if let Some(header) = header {
            let header = HeaderValue::from_str(header).unwrap();
            request.headers_mut().insert("diario-at-least", header);
        }
        harness.send(request).await
    };
    let wish = "mutation { upsertFreshnessDomain(name: \"d\", ttlSeconds: 0) { position cursor } }";
    let told = harness.send(harness.post(query(wish))).await.body;
    let told = &told["data"]["upsertFreshnessDomain"];
    let (position, cursor) = (told["position"].as_str().unwrap(), told["cursor"].as_str().unwrap());

    for (header, extension) in
        [(Some(position), None), (Some(cursor), None), (None, Some(position)), (None, Some(cursor))]
    {
        let answer = asked(header, extension).await;
        assert_eq!(answer.body["data"]["now"]["position"], position, "{}", answer.body);
    }
    let other = format!("00000000000000000000000000000009.{position}");
    for (at_least, expected) in [
        ("x", "INVALID"),
        ("-1", "INVALID"),
        ("99999", "AHEAD_OF_HEAD"),
        (other.as_str(), "CURSOR_OF_ANOTHER_LOG"),
    ] {
        assert_eq!(code(&asked(Some(at_least), None).await), expected);
        assert_eq!(code(&asked(None, Some(at_least)).await), expected);
    }
}

#[tokio::test]
async fn a_document_that_cannot_be_executed_has_no_data() {
    let harness = Harness::start().await;
    let deep =
        format!("{{ __schema {{ types {} name {} }} }}", "{ ofType ".repeat(12), "}".repeat(12));
    let deep = deep.replacen("{ ofType", "{ fields { type { ofType", 1) + " } }";
    let page = "events { cursor position stream version owner type recordedAt payload } ";
    let costly: String = (0..6).map(|n| format!("a{n}: log(first: 500) {{ {page} }} ")).collect();
    let pasts: String =
        (0..60).map(|n| format!("a{n}: at(position: \"0\") {{ position }} ")).collect();
    let diffs: String = (0..30)
        .map(|n| {
            let arguments = "from: { position: \"0\" }, to: { position: \"0\" }";
            format!("d{n}: diff({arguments}) {{ isTruncated }} ")
        })
        .collect();
    let documents = [
        ("{".to_owned(), "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }".to_owned(), "GRAPHQL_VALIDATION_FAILED"),
        ("{ at(position: \"x\") { position } }".to_owned(), "GRAPHQL_VALIDATION_FAILED"),
        (deep, "TOO_COMPLEX"),
        (format!("{{ {costly} }}"), "TOO_COMPLEX"),
        (format!("{{ {pasts} }}"), "TOO_COMPLEX"),
        (format!("{{ {diffs} }}"), "TOO_COMPLEX"),
        (format!("{{ {} }}", "now { position } ".repeat(2_000)), "TOO_COMPLEX"),
    ];
    for (document, expected) in documents {
        let mut request = harness.post(query(&document));
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(MODERN));
        let answer = harness.send(request).await;
        assert_eq!(
            (answer.status, code(&answer)),
            (StatusCode::BAD_REQUEST, expected),
            "{document}"
        );
        assert_eq!(answer.body.get("data"), None);
        assert!(answer.content_type.starts_with(MODERN), "{}", answer.content_type);

        let answer = harness.send(harness.post(query(&document))).await;
        assert_eq!((answer.status, code(&answer)), (StatusCode::OK, expected));
        assert!(answer.content_type.starts_with("application/json"), "{}", answer.content_type);
    }
}

#[tokio::test]
async fn another_site_is_refused_where_no_token_is_asked_for() {
    let harness = Harness::start().await;
    for (name, value) in [
        (header::HOST, "attacker.example"),
        (header::ORIGIN, "https://attacker.example"),
        (header::ORIGIN, "null"),
    ] {
        let mut request = harness.post(query("{ now { position } }"));
        request.headers_mut().insert(name, HeaderValue::from_static(value));
        let answer = harness.send(request).await;
        assert_eq!((answer.status, code(&answer)), (StatusCode::FORBIDDEN, "FORBIDDEN"));
    }
}

#[tokio::test]
async fn a_token_says_who_asks_and_whether_it_may_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let tokens = json!([
        { "token": "reader-0123456789", "name": "rita", "access": "read" },
        { "token": "writer-0123456789", "name": "walt", "access": "write" },
    ]);
    fs::write(&path, tokens.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let access = Access::with_tokens(&path).unwrap();
    let harness = Harness::start_with(access, SocketLimits::default()).await;
    let ask = |token: Option<&str>, body: Value| {
        let mut request = harness.post(body.to_string());
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        harness.send(request)
    };
    let look = json!({ "query": "{ now { position } log(last: 1) { events { actor { kind name via } } } }" });
    let desire = json!({ "query": DESIRE, "variables": { "spec": desired_lrp("web", 1) } });

    for token in [None, Some(""), Some("reader-0123456780")] {
        let answer = ask(token, look.clone()).await;
        assert_eq!((answer.status, code(&answer)), (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"));
    }
    let answer = ask(Some("reader-0123456789"), desire.clone()).await;
    assert_eq!(code(&answer), "FORBIDDEN");
    let answer = ask(Some("reader-0123456789"), look.clone()).await;
    assert_eq!(answer.body["data"]["now"]["position"], "0");

    let answer = ask(Some("writer-0123456789"), desire).await;
    assert_eq!(answer.body["data"]["desireLrp"]["position"], "1");
    let answer = ask(Some("reader-0123456789"), look).await;
    assert_eq!(
        answer.body["data"]["log"]["events"][0]["actor"],
        json!({ "kind": "USER", "name": "walt", "via": "graphql" })
    );
}
