//! What the receiver of deliveries answers: the catalogue (B1–B18), every example GitHub publishes, slow and large
//! senders, and what is stored.

#[path = "support/databases.rs"]
mod databases;
#[path = "webhook/server.rs"]
mod server;
#[path = "support/stores.rs"]
mod stores;

use axum::http::StatusCode;
use rivet::http::webhook::{MAX_BODY_BYTES, sign};
use rivet::model::time::Timestamp;
use rivet::store::deliveries::DeliveryState;
use serde_json::{Value, json};
use server::{SECRET, Server, Server as World, guid, push};

on_both_databases!(
    a_signed_push_is_accepted_stored_verbatim_and_known_the_second_time,
    the_signature_is_checked_before_anything_else,
    headers_and_json_are_checked_after_it,
    fields_that_cannot_be_are_named,
    a_body_of_25_mib_is_taken_and_one_byte_more_is_not,
    a_body_that_ends_early_is_not_stored,
    a_hundred_at_once_with_one_id_are_one,
    a_known_inactive_installation_is_ignored_and_an_unknown_one_is_not,
    a_database_that_is_gone_is_never_a_success,
    hostile_text_is_stored_and_tamed_where_it_is_shown,
    every_example_github_publishes_is_accepted_or_ignored,
    the_local_forge_has_a_secret_of_its_own_and_no_secret_is_no_receiver,
    few_large_deliveries_are_taken_at_once,
    what_was_taken_is_hidden_until_it_is_given_back,
);

/// What was answered: status and the words a client acts on.
fn told(answer: &(StatusCode, Value)) -> String {
    let (status, body) = answer;
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    match text("code") {
        code if code.is_empty() => format!("{} {}", status.as_u16(), without_id(body)),
        code => format!("{} {code}: {}", status.as_u16(), text("detail")),
    }
}

fn without_id(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(object) = body.as_object_mut() {
        object.remove("delivery");
    }
    body
}

async fn a_signed_push_is_accepted_stored_verbatim_and_known_the_second_time(server: Server) {
    // White space and order are part of what was signed.
    let body = format!("{{ \"zen\":1,\n{}", &push().to_string()[1..]);
    let id = guid();

    let first = server.deliver(&id, "push", &body).await;
    insta::assert_snapshot!(told(&first), @r#"202 {"status":"accepted"}"#);
    assert_eq!(first.1["delivery"], id.as_str());
    insta::assert_snapshot!(told(&server.deliver(&id, "push", &body).await), @r#"200 {"status":"duplicate"}"#);

    let stored = server.delivery(&id).await;
    assert_eq!(stored.payload, body.as_bytes());
    assert_eq!((stored.event.as_str(), stored.state), ("push", DeliveryState::Pending));
    assert_eq!(stored.repo_id.map(|id| id.0).as_deref(), Some("github:4711"));
    let headers = serde_json::to_string(&stored.headers.0).unwrap();
    assert!(headers.contains("x-github-event") && !headers.contains("signature"), "{headers}");
}

async fn the_signature_is_checked_before_anything_else(server: Server) {
    let body = push().to_string();
    let signature = sign(SECRET, body.as_bytes());
    let mut said = vec![];
    let one_digit_off = format!("{}{}", &signature[..70], if signature.ends_with('0') { '1' } else { '0' });
    for (what, headers, body) in [
        ("missing", vec![], body.clone()),
        ("sha1", vec!["sha1=0123456789012345678901234567890123456789".into()], body.clone()),
        ("63 digits", vec![signature[..70].to_owned()], body.clone()),
        ("not hex", vec![format!("sha256={}", "g".repeat(64))], body.clone()),
        ("last digit", vec![one_digit_off], body.clone()),
        ("new line", vec![signature.clone()], format!("{body}\n")),
        ("twice", vec![signature.clone(), signature.clone()], body.clone()),
        ("deep and unsigned", vec![signature.clone()], "[".repeat(1_000_000)),
    ] {
        let mut request = server.request(&guid(), "push").body(body);
        for signature in headers {
            request = request.header("x-hub-signature-256", signature);
        }
        said.push(format!("{what}: {}", told(&server::answer(request).await)));
    }
    insta::assert_snapshot!(said.join("\n"), @"
    missing: 401 webhook.signature_missing: Header X-Hub-Signature-256 is required.
    sha1: 401 webhook.signature_malformed: X-Hub-Signature-256 must be 'sha256=' and 64 hex digits.
    63 digits: 401 webhook.signature_malformed: X-Hub-Signature-256 must be 'sha256=' and 64 hex digits.
    not hex: 401 webhook.signature_malformed: X-Hub-Signature-256 must be 'sha256=' and 64 hex digits.
    last digit: 401 webhook.signature_mismatch: Signature does not match the body.
    new line: 401 webhook.signature_mismatch: Signature does not match the body.
    twice: 400 webhook.header_repeated: X-Hub-Signature-256 was sent 2 times.
    deep and unsigned: 401 webhook.signature_mismatch: Signature does not match the body.
    ");
    assert_eq!(server.stored().await, 0);
}

async fn headers_and_json_are_checked_after_it(server: Server) {
    let body = push().to_string();
    let mut said = vec![];
    for (what, name, value) in [
        ("form", "content-type", "application/x-www-form-urlencoded"),
        ("none", "content-type", ""),
        ("gzip", "content-encoding", "gzip"),
        ("not a uuid", "x-github-delivery", "12345"),
        ("long id", "x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc095872d3162e-cc78-11e3-81ab-4c9367"),
        ("no event", "x-github-event", ""),
        ("hostile event", "x-github-event", "../push"),
    ] {
        let request = server.signed(&guid(), "push", &body, &[(name, value)]);
        said.push(format!("{what}: {}", told(&server::answer(request).await)));
    }
    let plain = server.signed(&guid(), "push", &body, &[("content-type", "application/json; charset=utf-8")]);
    said.push(format!("charset: {}", told(&server::answer(plain).await)));
    for (what, body) in [
        ("cut", "{\"a\":".to_owned()),
        ("deep", "[".repeat(1_000_000)),
        ("empty", String::new()),
        ("two", "{} {}".into()),
    ] {
        said.push(format!("{what}: {}", told(&server.deliver(&guid(), "push", &body).await)));
    }
    insta::assert_snapshot!(said.join("\n"), @r#"
    form: 415 webhook.content_type: Set the webhook's content type to application/json.
    none: 415 webhook.content_type: Set the webhook's content type to application/json.
    gzip: 415 webhook.encoding: Compressed bodies are not accepted.
    not a uuid: 400 webhook.delivery_id: X-GitHub-Delivery must be a UUID.
    long id: 400 webhook.delivery_id: X-GitHub-Delivery must be a UUID.
    no event: 400 webhook.event: X-GitHub-Event must name an event with 1 to 64 letters, digits and underscores.
    hostile event: 400 webhook.event: X-GitHub-Event must name an event with 1 to 64 letters, digits and underscores.
    charset: 202 {"status":"accepted"}
    cut: 400 webhook.json_invalid: Body is not valid JSON (line 1 column 5).
    deep: 400 webhook.json_invalid: Body is not valid JSON: nesting exceeds 128.
    empty: 400 webhook.json_invalid: Body is not valid JSON (line 1 column 0).
    two: 400 webhook.json_invalid: Body is not valid JSON (line 1 column 4).
    "#);
}

async fn fields_that_cannot_be_are_named(server: Server) {
    let mut said = vec![];
    for (what, pointer, value) in [
        ("no id", "/repository/id", Value::Null),
        ("2^63", "/repository/id", json!(9_223_372_036_854_775_808_u64)),
        ("negative", "/repository/id", json!(-1)),
        ("text", "/repository/id", json!("1")),
        ("option", "/after", json!("--upload-pack=x")),
        ("39 digits", "/after", json!("a".repeat(39))),
        ("upper case", "/after", json!("A".repeat(40))),
        ("number", "/after", json!(5)),
        ("before", "/before", json!("HEAD")),
        ("path", "/repository/name", json!("../../etc")),
        ("no ref", "/ref", json!("")),
        ("note", "/ref", json!("refs/notes/commits")),
        ("deleted", "/after", json!("0".repeat(40))),
        ("sha-256", "/after", json!("a".repeat(64))),
    ] {
        let mut body = push();
        *body.pointer_mut(pointer).unwrap() = value;
        said.push(format!("{what}: {}", told(&server.deliver(&guid(), "push", &body.to_string()).await)));
    }
    said.push(format!("a list: {}", told(&server.deliver(&guid(), "push", "[]").await)));
    said.push(format!("unknown event: {}", told(&server.deliver(&guid(), "foo", "{}").await)));
    insta::assert_snapshot!(said.join("\n"), @r#"
    no id: 422 webhook.field: repository.id must be a positive 63-bit integer.
    2^63: 422 webhook.field: repository.id must be a positive 63-bit integer.
    negative: 422 webhook.field: repository.id must be a positive 63-bit integer.
    text: 422 webhook.field: repository.id must be a positive 63-bit integer.
    option: 422 webhook.field: after must be 40 or 64 lower-case hex digits.
    39 digits: 422 webhook.field: after must be 40 or 64 lower-case hex digits.
    upper case: 422 webhook.field: after must be 40 or 64 lower-case hex digits.
    number: 422 webhook.field: after must be 40 or 64 lower-case hex digits.
    before: 422 webhook.field: before must be 40 or 64 lower-case hex digits.
    path: 422 webhook.field: repository.full_name must be OWNER/NAME.
    no ref: 422 webhook.field: ref must be a full ref name.
    note: 200 {"reason":"refs/notes/commits is neither a branch nor a tag","status":"ignored"}
    deleted: 200 {"reason":"branch deleted","status":"ignored"}
    sha-256: 202 {"status":"accepted"}
    a list: 422 webhook.field: repository.id must be a positive 63-bit integer.
    unknown event: 200 {"reason":"event foo is not used","status":"ignored"}
    "#);
}

async fn a_body_of_25_mib_is_taken_and_one_byte_more_is_not(server: Server) {
    let mut body = push().to_string();
    body.pop();
    body.push_str(",\"pad\":\"");
    let body = format!("{body}{}\"}}", "x".repeat(MAX_BODY_BYTES - body.len() - 2));
    insta::assert_snapshot!(told(&server.deliver(&guid(), "push", &body).await), @r#"202 {"status":"accepted"}"#);

    let body = format!("{body} ");
    let refused = "413 webhook.too_large: Body exceeds 26214400 bytes. (connection: close)";
    assert_eq!(server.deliver_raw(&guid(), "push", body.as_bytes(), false).await, refused);
    assert_eq!(server.deliver_raw(&guid(), "push", body.as_bytes(), true).await, refused);
}

async fn a_body_that_ends_early_is_not_stored(server: Server) {
    assert_eq!(server.deliver_half(&guid()).await, 0);
    assert_eq!(server.stored().await, 0);
}

async fn a_hundred_at_once_with_one_id_are_one(server: Server) {
    let (id, body) = (guid(), push().to_string());
    let all = futures::future::join_all((0..100).map(|_| server.deliver(&id, "push", &body))).await;
    let accepted = all.iter().filter(|a| a.0 == StatusCode::ACCEPTED).count();
    let repeated = all.iter().filter(|a| a.1["status"] == "duplicate").count();
    assert_eq!((accepted, repeated, server.stored().await), (1, 99, 1));
}

async fn a_known_inactive_installation_is_ignored_and_an_unknown_one_is_not(server: Server) {
    server.suspend_installation(7).await;
    let mut body = push();
    body["installation"] = json!({ "id": 7 });
    let suspended = told(&server.deliver(&guid(), "push", &body.to_string()).await);
    insta::assert_snapshot!(suspended, @r#"200 {"reason":"installation 7 is not active","status":"ignored"}"#);
    body["installation"] = json!({ "id": 8 });
    insta::assert_snapshot!(told(&server.deliver(&guid(), "push", &body.to_string()).await), @r#"202 {"status":"accepted"}"#);
}

async fn a_database_that_is_gone_is_never_a_success(server: Server) {
    server.store().close().await;
    let response = server.signed(&guid(), "push", &push().to_string(), &[]).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 503);
    assert_eq!(response.headers()["retry-after"], "30");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["code"], "unavailable");
}

async fn hostile_text_is_stored_and_tamed_where_it_is_shown(server: Server) {
    let mut body = push();
    body["head_commit"]["message"] = format!("a\u{0}b\u{1b}[31m\u{202e}{}", "x".repeat(1 << 20)).into();
    let id = guid();
    insta::assert_snapshot!(told(&server.deliver(&id, "push", &body.to_string()).await), @r#"202 {"status":"accepted"}"#);
    let stored = server.delivery(&id).await;
    assert_eq!(stored.payload, body.to_string().into_bytes());
}

async fn every_example_github_publishes_is_accepted_or_ignored(server: Server) {
    let mut said = std::collections::BTreeMap::<String, usize>::new();
    for (name, body) in server::examples() {
        let event = name.split('.').next().unwrap();
        let answer = server.deliver(&guid(), event, &body).await;
        assert!(answer.0.is_success(), "{name}: {}", told(&answer));
        let reason = answer.1["reason"].as_str().unwrap_or("accepted").to_owned();
        *said.entry(format!("{event}: {reason}")).or_default() += 1;
    }
    let said: Vec<String> = said.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
    insta::assert_snapshot!(said.join("\n"));
}

async fn the_local_forge_has_a_secret_of_its_own_and_no_secret_is_no_receiver(server: Server) {
    let body = push().to_string();
    let local = server.signed_with(server::LOCAL_SECRET, "/webhooks/local", &guid(), "push", &body);
    insta::assert_snapshot!(told(&server::answer(local).await), @r#"202 {"status":"accepted"}"#);
    let crossed = server.signed_with(SECRET, "/webhooks/local", &guid(), "push", &body);
    insta::assert_snapshot!(told(&server::answer(crossed).await), @"401 webhook.signature_mismatch: Signature does not match the body.");

    let bare = server.without_secrets().await;
    insta::assert_snapshot!(told(&bare.deliver(&guid(), "push", &body).await), @"404 not_found: There is nothing here that you may see.");
}

async fn few_large_deliveries_are_taken_at_once(server: Server) {
    let mut body = push().to_string();
    body.pop();
    let large = format!("{body},\"pad\":\"{}\"}}", "x".repeat(5 << 20));
    for _ in 0..4 {
        assert_eq!(server.deliver(&guid(), "push", &large).await.0, StatusCode::ACCEPTED);
    }
    for _ in 0..3 {
        assert_eq!(server.deliver(&guid(), "push", &push().to_string()).await.0, StatusCode::ACCEPTED);
    }
    let now = Timestamp::now().plus_seconds(1);
    let mut taken = vec![];
    for _ in 0..3 {
        let mut tx = server.store().begin().await.unwrap();
        taken.push(tx.claim_deliveries(now, 8).await.unwrap().len());
        tx.commit().await.unwrap();
    }
    assert_eq!(taken, [2, 2, 3], "of the large ones two at a time, and what is small after them");
}

async fn what_was_taken_is_hidden_until_it_is_given_back(server: Server) {
    let id = guid();
    server.deliver(&id, "push", &push().to_string()).await;
    let now = Timestamp::now();

    let mut tx = server.store().begin().await.unwrap();
    let taken = tx.claim_deliveries(now, 10).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(tx.claim_deliveries(now, 10).await.unwrap().len(), 0);
    // A killed pass: its delivery comes back by itself.
    let later = now.plus_seconds(61);
    let again = tx.claim_deliveries(later, 10).await.unwrap();
    assert_eq!(again[0].attempts, 2);
    tx.retry_delivery(&again[0], "no answer", later.plus_seconds(5), later).await.unwrap();
    assert_eq!(tx.claim_deliveries(later, 10).await.unwrap().len(), 0);
    let third = tx.claim_deliveries(later.plus_seconds(5), 10).await.unwrap();
    tx.finish_delivery(&third[0].id, DeliveryState::Done, None, later).await.unwrap();
    assert_eq!(tx.pending_deliveries().await.unwrap(), 0);
    tx.redeliver(&third[0].id, later).await.unwrap();
    assert_eq!(tx.pending_deliveries().await.unwrap(), 1);
    assert_eq!(tx.deliveries(&Default::default(), None, 10).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
}
