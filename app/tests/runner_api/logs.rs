//! Logs: pieces join without gap or overlap, whatever is sent twice.

use crate::world::{World, id, on_both_databases, stage};
use rivet::model::ids::JobId;
use serde_json::{Value, json};

on_both_databases!(
    pieces_join_and_repeats_are_harmless,
    a_gap_or_other_bytes_are_refused,
    there_are_bounds,
    the_same_piece_twice_at_once_is_stored_once,
);

async fn stored(world: &World, job: &Value) -> Vec<u8> {
    let mut tx = world.context.store.read().await.unwrap();
    tx.log_range(&JobId(id(job).to_owned()), 0, i64::MAX).await.unwrap()
}

async fn pieces_join_and_repeats_are_harmless(world: World) {
    world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    let job = runner.one().await;
    let next = |offset: u64| json!({ "next_offset": offset });
    assert_eq!(runner.log(&job, 0, b"one\n").await.body, next(4));
    assert_eq!(runner.log(&job, 4, "zw\u{f6}lf\0\n".as_bytes()).await.body, next(12));
    assert_eq!(runner.log(&job, 0, b"one\n").await.body, next(12), "again: what is stored is told");
    assert_eq!(runner.log(&job, 2, b"e\nz").await.body, next(12), "also across pieces");
    assert_eq!(runner.log(&job, 11, b"\nthree").await.body, next(17), "what is new of it is added");
    assert_eq!(runner.log(&job, 17, b"").await.body, next(17));
    assert_eq!(stored(&world, &job).await, "one\nzw\u{f6}lf\0\nthree".as_bytes());
    assert_eq!(world.job(id(&job)).await.log_bytes, 17);
}

async fn a_gap_or_other_bytes_are_refused(world: World) {
    world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    let job = runner.one().await;
    runner.log(&job, 0, b"0123").await;
    assert_eq!(runner.log(&job, 8, b"x").await.text(), "409 log.gap: expected offset 4, got 8.");
    assert_eq!(runner.log(&job, 0, b"0x23").await.code(), "409 log.conflict");
    assert_eq!(runner.log(&job, 2, b"").await.body, json!({"next_offset": 4}));
    assert_eq!(runner.log(&job, 3, b"x45").await.code(), "409 log.conflict");
    assert_eq!(stored(&world, &job).await, b"0123");
}

async fn there_are_bounds(world: World) {
    world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    let job = runner.one().await;
    let most = vec![b'x'; 1 << 20];
    assert_eq!(runner.log(&job, 0, &most).await.body, json!({"next_offset": 1 << 20}));
    assert_eq!(runner.log(&job, 1 << 20, &[most, vec![b'x']].concat()).await.code(), "413 body.too_large");
    world.sql(&format!("UPDATE job SET log_bytes = {}", (64 << 20) - 4)).await;
    assert_eq!(runner.log(&job, (64 << 20) - 4, b"1234").await.status, 200);
    assert_eq!(runner.log(&job, 64 << 20, b"5").await.code(), "413 log.limit");
    assert_eq!(runner.log(&job, u64::MAX, b"5").await.code(), "413 log.limit");
}

async fn the_same_piece_twice_at_once_is_stored_once(world: World) {
    world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    let job = runner.one().await;
    for offset in 0..20 {
        let (one, two) = tokio::join!(runner.log(&job, offset, b"x"), runner.log(&job, offset, b"x"));
        assert_eq!((one.status, two.status), (200, 200));
    }
    assert_eq!(stored(&world, &job).await, [b'x'; 20]);
}
