//! The pages of environments: what stands there, the ledger, and the forms that lock, unlock and go back.

use crate::pages::Browser;
use crate::world::{ADMIN, SHA, World, on_both_databases};
use axum::http::Method;
use rivet::model::role::Role;
use serde_json::json;

on_both_databases!(
    an_environment_is_shown_locked_and_gone_back_from_by_forms,
    environments_of_repositories_one_may_not_see_are_not_there,
);

/// Two deployments to production, the second one what stands there.
async fn deployed(world: &World) {
    world.repo(1, "acme", "shop").await;
    world
        .sql(
            "INSERT INTO environment (repo_id, name_key, name, next_number, created_at)
              VALUES ('local:1', 'production', 'Production', 3, 1000)",
        )
        .await;
    for (number, state) in [(1, "superseded"), (2, "succeeded")] {
        let run = world.run(1, number * 10_000, "completed").await;
        world.stage(&run, 0, "build", "succeeded", &[]).await;
        let stage = world.stage(&run, 1, "deploy", "succeeded", &["build"]).await;
        world
            .sql(&format!(
                "INSERT INTO deployment (id, repo_id, environment, number, run_id, stage_id, stage, attempt, pipeline,
                    git_ref, sha, plan_digest, inputs, actor, approvers, state, reason, started_at)
                 VALUES ('d{number}', 'local:1', 'production', {number}, '{run}', '{stage}', 'deploy', 1, 'ci',
                    'refs/heads/main', '{SHA}', 'd1', '{{}}', 'al<i>ce', '[\"bob\"]', '{state}', 'It & it.', 3000)"
            ))
            .await;
    }
}

async fn an_environment_is_shown_locked_and_gone_back_from_by_forms(world: World) {
    deployed(&world).await;
    let browser = Browser::signed_in(&world).await;
    let list = browser.get("/acme/shop/environments").await.text;
    assert!(list.contains(">Production</a>") && list.contains("#2") && list.contains("open"), "{list}");
    let path = "/acme/shop/environments/Production";
    let page = browser.get(path).await.text;
    assert!(page.contains("al&#60;i&#62;ce") && page.contains("approved by bob"), "{page}");
    assert!(page.contains("Roll back to #1") && page.contains("Superseded") && page.contains("Stands"), "{page}");

    let csrf = browser.csrf().await;
    assert_eq!(browser.post(&format!("{path}/lock"), "csrf=wrong&reason=x").await.status, 403);
    assert_eq!(browser.post(&format!("{path}/lock"), &format!("csrf={csrf}&reason=")).await.status, 409);
    let locked = browser.post(&format!("{path}/lock"), &format!("csrf={csrf}&reason=the+audit")).await;
    assert_eq!((locked.status.as_u16(), locked.header("location")), (303, path), "{}", locked.text);
    let page = browser.get(path).await.text;
    assert!(page.contains("Environment Production is locked by admin: the audit."), "{page}");
    let held = browser.post(&format!("{path}/rollback"), &format!("csrf={csrf}&to=1")).await;
    assert_eq!(held.status, 409);
    assert!(held.text.contains("goes through the lock"), "{}", held.text);
    let wrong = browser.post(&format!("{path}/rollback"), &format!("csrf={csrf}&to=9&through_lock=yes")).await;
    assert!(wrong.status == 409 && wrong.text.contains("has no deployment 9"), "{}", wrong.text);
    let back = browser.post(&format!("{path}/rollback"), &format!("csrf={csrf}&to=1&through_lock=yes")).await;
    assert_eq!(back.status, 303, "{}", back.text);
    let run = browser.get(back.header("location")).await.text;
    assert!(run.contains("production to deployment 1") && run.contains("Taken over from run #10000"), "{run}");
    assert_eq!(browser.post(&format!("{path}/unlock"), &format!("csrf={csrf}")).await.status, 303);
    assert_eq!(browser.post(&format!("{path}/explode"), &format!("csrf={csrf}")).await.status, 404);
    assert_eq!(browser.get("/acme/shop/environments/nowhere").await.status, 404);
}

async fn environments_of_repositories_one_may_not_see_are_not_there(world: World) {
    deployed(&world).await;
    let all = world.get("/api/v1/environments?repo=acme/shop").await.json();
    assert_eq!((&all["items"][0]["current"]["number"], &all["items"][0]["lock"]), (&json!(2), &json!(null)));
    let ledger = "/api/v1/environments/production/deployments?repo=acme/shop&limit=1";
    let first = world.get(ledger).await.json();
    assert_eq!(first["items"][0]["number"], 2);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = world.get(&format!("{ledger}&cursor={cursor}")).await.json();
    assert_eq!((&second["items"][0]["number"], &second["next_cursor"]), (&json!(1), &json!(null)));

    let elsewhere = world.token(Role::User, &["acme/other"]).await;
    let viewer = world.token(Role::Viewer, &[]).await;
    for path in ["environments", "environments/production", "environments/production/deployments"] {
        let path = format!("/api/v1/{path}?repo=acme/shop");
        assert_eq!(world.ask(Method::GET, &path, &elsewhere, None).await.refusal(), "404 not_found");
        assert_eq!(world.ask(Method::GET, &path, &viewer, None).await.status, 200);
        assert_eq!(world.ask(Method::GET, &path, "", None).await.refusal(), "401 auth.required");
    }
    for (verb, body) in [("lock", json!({"reason": "x"})), ("unlock", json!({})), ("rollback", json!({}))] {
        let path = format!("/api/v1/environments/production/{verb}?repo=acme/shop");
        assert_eq!(world.ask(Method::POST, &path, &elsewhere, Some(body.clone())).await.refusal(), "404 not_found");
        assert_eq!(world.ask(Method::POST, &path, &viewer, Some(body)).await.refusal(), "403 auth.role");
    }
    let path = "/api/v1/environments/production/lock?repo=acme/shop";
    assert_eq!(world.ask(Method::POST, path, ADMIN, Some(json!({"why": 1}))).await.refusal(), "422 field.unknown");
    assert_eq!(world.ask(Method::POST, path, ADMIN, Some(json!({}))).await.refusal(), "422 field.required");
}
