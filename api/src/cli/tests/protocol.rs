//! The client against made-up control planes: what is refused, lost, or not one at all.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{any, post},
};
use serde_json::{Value, json};

use super::Server;
use crate::{
    cli::{
        client::{Client, Error},
        subscription::{Step, follow},
    },
    graphql::AT_LEAST_HEADER,
};

fn answering(status: StatusCode, body: &'static str) -> Router {
    Router::new().route("/graphql", any(move || async move { (status, body) }))
}

async fn asked(router: Router) -> Result<Value, Error> {
    let server = Server::start(router).await;
    Client::new(&server.url, None, None).unwrap().query("{ now }", json!({})).await
}

#[test]
fn addresses_and_tokens_that_cannot_be_used_are_refused_at_once() {
    for address in ["", "localhost:7400", "ftp://x", "http://", "unix:///x"] {
        assert!(
            matches!(Client::new(address, None, None), Err(Error::Address { .. })),
            "{address}"
        );
    }
    for token in ["", "a b", "a\nb", "ü"] {
        let refused = Client::new("https://x", Some(token), None);
        assert!(matches!(refused, Err(Error::Token)), "{token:?}");
    }
    let in_clear = Client::new("http://control.example", Some("secret"), None);
    assert!(matches!(in_clear, Err(Error::TokenInClear { .. })));
    let missing = Client::new("https://x", None, Some("/missing".as_ref()));
    assert!(matches!(missing, Err(Error::CaFile { .. })));
    assert!(Client::new("http://[::1]:7400/", Some("secret"), None).is_ok());
}

#[tokio::test]
async fn a_missing_control_plane_is_told_with_what_to_do() {
    let server = Server::start(Router::new()).await;
    let url = server.url.clone();
    drop(server);
    // The listener closes when its worker is gone.
    let failure = loop {
        let client = Client::new(&url, None, None).unwrap();
        match client.query("{ now }", json!({})).await {
            Err(failure @ Error::Unreachable { .. }) => break failure,
            Ok(_) | Err(_) => tokio::task::yield_now().await,
        }
    };

    assert_eq!(
        failure.to_string(),
        format!(
            "cannot reach the control plane at {url}; start it with `diario dev`, \
             or name another with --api"
        )
    );
}

#[tokio::test]
async fn answers_that_are_none_are_told_apart_from_refusals() {
    for (status, body) in [
        (StatusCode::NOT_FOUND, "404 page not found"),
        (StatusCode::OK, "<html>"),
        (StatusCode::OK, "{}"),
        (StatusCode::OK, r#"{"data":null}"#),
        (StatusCode::OK, "[]"),
    ] {
        let outcome = asked(answering(status, body)).await;
        assert!(matches!(outcome, Err(Error::Unexpected { .. })), "{body}: {outcome:?}");
    }

    let body = r#"{"data":null,"errors":[{"message":"memoryMb must be more","extensions":
        {"code":"INVALID","fields":[{"field":"memoryMb","problem":"must be more"}]}}]}"#;
    let Err(Error::Refused(refusal)) = asked(answering(StatusCode::BAD_REQUEST, body)).await else {
        panic!("not a refusal");
    };
    assert_eq!(refusal.to_string(), "memoryMb must be more (INVALID)");
    assert_eq!(refusal.fields, [("memoryMb".to_owned(), "must be more".to_owned())]);

    let body = r#"{"errors":[{"message":"no","extensions":{"code":"UNAUTHENTICATED"}}]}"#;
    let Err(failure) = asked(answering(StatusCode::UNAUTHORIZED, body)).await else {
        panic!("not a refusal");
    };
    assert!(failure.to_string().contains("--token-file"), "{failure}");
}

#[tokio::test]
async fn the_token_is_sent_and_never_told() {
    let echo = |headers: HeaderMap| async move {
        let token = headers["authorization"].to_str().unwrap().to_owned();
        Json(json!({ "data": { "token": token } }))
    };
    let server = Server::start(Router::new().route("/graphql", post(echo))).await;
    let client = Client::new(&server.url, Some("secret"), None).unwrap();

    let answer = client.query("{ now }", json!({})).await.unwrap();

    assert_eq!(answer["token"], "Bearer secret");
    assert!(!format!("{client:?}").contains("secret"));
}

#[tokio::test]
async fn a_wish_without_an_answer_says_how_to_repeat_it() {
    let server = Server::start(answering(StatusCode::BAD_GATEWAY, "upstream is gone")).await;

    let why = server.refused(&["lrp", "rm", "web", "--command-id", "c1"]).await;

    assert!(why.contains("repeat it with --command-id c1"), "{why}");
    assert!(why.contains("status 502 Bad Gateway: upstream is gone"), "{why}");
}

#[tokio::test]
async fn a_task_that_is_no_longer_shown_is_looked_up_in_the_past() {
    let answer = |Json(question): Json<Value>| async move {
        let variables = &question["variables"];
        let is_past = variables["position"] == "11";
        let task = json!({ "taskGuid": "job", "state": "COMPLETED", "cellId": "cell-1",
            "createdAt": "2026-01-31T12:00:00Z", "updatedAt": "2026-01-31T12:00:01Z",
            "failed": false });
        let data = if variables["filter"]["owner"] == "task/job" {
            json!({ "log": { "events": [{ "position": "12" }] } })
        } else {
            json!({ "world": { "task": if is_past { task } else { Value::Null } } })
        };
        Json(json!({ "data": data }))
    };
    let server = Server::start(Router::new().route("/graphql", post(answer))).await;

    let shown = server.done(&["task", "show", "job"]).await;

    assert_eq!(shown[..3], ["guid     job", "state    completed", "result   succeeded"]);
}

#[tokio::test]
async fn a_task_that_was_waited_for_is_shown_as_it_ended_although_the_view_is_behind_the_log() {
    let answer = |headers: HeaderMap, Json(question): Json<Value>| async move {
        let accepted = json!({ "position": "6", "cursor": "6", "commandId": "c", "events": 1 });
        let has_ended = headers.get(AT_LEAST_HEADER).is_some_and(|it| it == "7");
        let state = if has_ended { "COMPLETED" } else { "RUNNING" };
        let task = json!({ "taskGuid": "job", "state": state, "cellId": "cell-1",
            "createdAt": "2026-01-31T12:00:00Z", "updatedAt": "2026-01-31T12:00:01Z",
            "failed": has_ended.then_some(false) });
        let is_wish = question["query"].as_str().unwrap().starts_with("mutation");
        let data = if is_wish {
            json!({ "accepted": accepted })
        } else {
            json!({ "world": { "task": task } })
        };
        Json(json!({ "data": data }))
    };
    let upgrade = async |upgrade: WebSocketUpgrade| {
        upgrade.protocols(["graphql-transport-ws"]).on_upgrade(async |mut socket| {
            let subscribe = subscribed(&mut socket).await;
            assert_eq!(subscribe["payload"]["variables"]["after"], "6");
            tell(&mut socket, &subscribe, json!({ "log": { "cursor": "7" } })).await;
        })
    };
    let server = Server::start(Router::new().route("/graphql", post(answer).get(upgrade))).await;

    let shown = server.done(&["task", "run", "--guid", "job", "--wait", "--", "/bin/diario"]).await;

    assert_eq!(shown[..3], ["guid     job", "state    completed", "result   succeeded"]);
}

/// Speaks the protocol once: numbers its events from the cursor on, two a connection.
async fn two_events(mut socket: WebSocket) {
    let subscribe = subscribed(&mut socket).await;
    let after = subscribe["payload"]["variables"]["after"].as_str().unwrap_or("0");
    let after: u64 = after.parse().unwrap();
    let ping = json!({ "type": "ping" }).to_string();
    socket.send(Message::Text(ping.into())).await.unwrap();
    for number in [after + 1, after + 2] {
        tell(&mut socket, &subscribe, json!({ "number": number })).await;
    }
    assert_eq!(received(&mut socket).await, json!({ "type": "pong" }));
}

/// What a client subscribes to, after the handshake.
async fn subscribed(socket: &mut WebSocket) -> Value {
    assert_eq!(received(socket).await["type"], "connection_init");
    let ack = json!({ "type": "connection_ack" }).to_string();
    socket.send(Message::Text(ack.into())).await.unwrap();
    let subscribe = received(socket).await;
    assert_eq!(subscribe["type"], "subscribe");
    subscribe
}

async fn tell(socket: &mut WebSocket, subscribe: &Value, data: Value) {
    let next = json!({ "type": "next", "id": subscribe["id"], "payload": { "data": data } });
    socket.send(Message::Text(next.to_string().into())).await.unwrap();
}

async fn received(socket: &mut WebSocket) -> Value {
    let Message::Text(text) = socket.recv().await.unwrap().unwrap() else { panic!("no text") };
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn following_goes_on_behind_the_last_cursor_when_the_connection_is_lost() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let upgrade = move |upgrade: WebSocketUpgrade| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { upgrade.protocols(["graphql-transport-ws"]).on_upgrade(two_events) }
    };
    let server = Server::start(Router::new().route("/graphql", any(upgrade))).await;
    let client = Client::new(&server.url, None, None).unwrap();

    let mut seen = Vec::new();
    let variables = |after: Option<&str>| json!({ "after": after });
    let followed: Result<(), Error> = follow(&client, "", None, variables, |data| {
        seen.push(data["number"].as_u64().unwrap());
        let is_enough = seen.len() == 3;
        Ok(if is_enough { Step::Stop } else { Step::GoOn(seen.len().to_string()) })
    })
    .await;

    followed.unwrap();
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_subscription_that_is_refused_ends_with_the_reason() {
    let refuse = |headers: HeaderMap| async move {
        assert_eq!(headers["sec-websocket-protocol"], "graphql-transport-ws");
        let errors = json!([{ "message": "no", "extensions": { "code": "FORBIDDEN" } }]);
        let answer: Response = Json(json!({ "errors": errors })).into_response();
        (StatusCode::FORBIDDEN, answer)
    };
    let server = Server::start(Router::new().route("/graphql", any(refuse))).await;
    let client = Client::new(&server.url, None, None).unwrap();

    let refused = client.subscribe("", json!({})).await;

    let Err(Error::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.code, "FORBIDDEN");
}
