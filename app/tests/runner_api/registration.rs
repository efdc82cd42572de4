//! Becoming a runner, and being believed.

use crate::world::{TOKEN, World, label, on_both_databases, stage};
use rivet::actions::runners;
use rivet::model::ids::RunnerId;
use rivet::model::time::Timestamp;
use serde_json::json;

on_both_databases!(
    only_this_version_is_spoken,
    registration_tokens_work_as_they_say,
    a_token_grants_only_its_labels,
    registering_again_replaces_the_credentials,
    what_a_runner_may_not_be_called,
    only_a_runners_own_token_opens_anything,
    what_people_do_to_runners,
);

async fn only_this_version_is_spoken(world: World) {
    let runner = world.runner("oak").await;
    let ask =
        async |version| world.post("heartbeat", &runner.token, version, json!({"jobs": [], "free_slots": 0})).await;
    assert_eq!(ask(Some("1")).await.status, 200);
    assert_eq!(ask(Some("0")).await.text(), "426 runner.version: Server speaks 1, runner 0. Upgrade the runner.");
    assert_eq!(ask(Some("2")).await.code(), "426 runner.version");
    assert_eq!(ask(None).await.code(), "426 runner.version");
    let body = json!({"name": "elm", "labels": [], "executors": [], "version": "1"});
    assert_eq!(world.post("register", TOKEN, Some("7"), body).await.code(), "426 runner.version");
}

async fn registration_tokens_work_as_they_say(world: World) {
    let refused = "401 register.token: This registration token was used or has expired; make a new one.";
    let now = Timestamp::now();
    let mut tx = world.tx().await;
    let (_, once) = runners::create_registration_token(&mut tx, "once", vec![], true, now).await.unwrap();
    let (_, often) = runners::create_registration_token(&mut tx, "often", vec![], false, now).await.unwrap();
    let (back, revoked) = runners::create_registration_token(&mut tx, "back", vec![], true, now).await.unwrap();
    let old = Timestamp(now.0 - 3_601_000);
    let (_, expired) = runners::create_registration_token(&mut tx, "old", vec![], true, old).await.unwrap();
    assert!(runners::revoke_registration_token(&mut tx, &back, now).await.unwrap());
    tx.commit().await.unwrap();
    let none = json!([]);
    assert!(once.starts_with("rvg_"));
    assert_eq!(world.register(&once, "a", &none).await.status, 201);
    assert_eq!(world.register(&once, "b", &none).await.text(), refused);
    assert_eq!(world.register(&often, "c", &none).await.status, 201);
    assert_eq!(world.register(&often, "d", &none).await.status, 201);
    assert_eq!(world.register(&revoked, "e", &none).await.text(), refused);
    assert_eq!(world.register(&expired, "f", &none).await.text(), refused);
    assert_eq!(world.register("rvg_nonsense", "g", &none).await.text(), refused);
    assert_eq!(world.register("", "g", &none).await.code(), "401 auth.required");
    assert_eq!(world.register(TOKEN, "h", &none).await.status, 201);
    assert_eq!(world.register(TOKEN, "i", &none).await.status, 201);
    let names: Vec<String> = runners::list_registration_tokens(&mut world.tx().await, now)
        .await
        .unwrap()
        .into_iter()
        .map(|t| t.name)
        .collect();
    assert_eq!(names, ["often"]);
}

async fn a_token_grants_only_its_labels(world: World) {
    let mut tx = world.tx().await;
    let labels = vec![serde_json::from_value(label("gpu=yes")).unwrap()];
    let (_, token) = runners::create_registration_token(&mut tx, "gpu", labels, false, Timestamp::now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.register(&token, "a", &json!([label("gpu=yes")])).await.status, 201);
    assert_eq!(
        world.register(&token, "b", &json!([label("gpu=yes"), label("zone=prod")])).await.text(),
        "403 runner.label: label 'zone=prod' is not granted by this registration token."
    );
}

async fn registering_again_replaces_the_credentials(world: World) {
    let before = world.runner("oak").await;
    let after = world.runner("oak").await;
    assert_eq!(before.id, after.id);
    assert_eq!(before.claim_answer("c1", 1, 0).await.code(), "401 token.invalid");
    assert_eq!(after.claim_answer("c1", 1, 0).await.status, 200);
}

async fn what_a_runner_may_not_be_called(world: World) {
    for name in ["", "two words", "a,b", "line\nbreak", &"x".repeat(129)] {
        assert_eq!(world.register(TOKEN, name, &json!([])).await.code(), "422 field", "{name:?}");
    }
    assert_eq!(world.register(TOKEN, "oak", &json!([{"key": "a=b", "value": "c"}])).await.code(), "422 field");
    assert_eq!(world.register(TOKEN, "oak", &json!("labels")).await.status, 422);
}

async fn only_a_runners_own_token_opens_anything(world: World) {
    world.runner("oak").await;
    for token in ["rvr_nonsense", TOKEN] {
        for path in ["claim", "heartbeat", "leave", "jobs/x/start", "jobs/x/finish", "jobs/x/logs?epoch=1&offset=0"] {
            let answer = world.post(path, token, Some("1"), json!({"jobs": [], "free_slots": 0})).await;
            assert_eq!(answer.code(), "401 token.invalid", "{path}");
        }
    }
}

async fn what_people_do_to_runners(world: World) {
    let run = world.run(1, vec![stage("a"), stage("b")]).await;
    let runner = world.runner("oak").await;
    let id = RunnerId(runner.id.clone());
    let held = runner.one().await;
    let mut tx = world.tx().await;
    runners::pause(&mut tx, &id).await.unwrap();
    tx.commit().await.unwrap();
    let answer = runner.claim_answer("c2", 1, 20).await;
    assert_eq!(answer.body, json!({"jobs": [], "command": "pause"}), "and it is said at once");
    let mut tx = world.tx().await;
    runners::drain(&mut tx, &id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(runner.heartbeat(&[&held]).await.body["command"], "drain", "X13: what it has, it finishes");
    assert_eq!(runner.claim_answer("c3", 1, 20).await.body["command"], "drain");
    assert_eq!(runner.finish(&held, "succeeded").await.status, 204);
    assert_eq!(runner.post("leave", json!({})).await.status, 204);
    assert_eq!(world.tx().await.runner(&id).await.unwrap().state.to_string(), "left");
    assert_eq!(runner.heartbeat(&[]).await.body["command"], "none", "one that comes back is active again");
    let held = runner.one().await;
    let mut tx = world.tx().await;
    runners::remove(&mut tx, &id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(runner.heartbeat(&[&held]).await.code(), "401 token.invalid");
    assert_eq!(runner.finish(&held, "succeeded").await.code(), "401 token.invalid");
    assert!(runners::resume(&mut world.tx().await, &id).await.is_err(), "removed is for good");
    assert_eq!(world.state_of(&run).await, "running");
}
