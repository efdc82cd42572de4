//! Live: events of a run, a log that is followed and resumed.

use crate::world::{ADMIN, World, on_both_databases};
use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use futures::StreamExt as _;
use std::time::Duration;
use tower::ServiceExt as _;

on_both_databases!(
    a_followed_log_has_no_gap_and_no_repeat,
    a_cursor_nobody_gave_out_is_refused,
    a_run_tells_what_changes_and_ends,
    streams_end_when_the_server_stops,
);

/// One server-sent event.
#[derive(Debug, Default, Clone, PartialEq)]
struct Event {
    name: String,
    id: String,
    data: String,
}

/// A reader of a stream, as a browser would read it.
struct Reader {
    body: BodyDataStream,
    buffer: String,
}

impl Reader {
    async fn open(world: &World, path: &str, last: Option<&str>) -> Self {
        let mut request =
            Request::get(path).header("authorization", format!("Bearer {ADMIN}")).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self { body: response.into_body().into_data_stream(), buffer: String::new() }
    }

    /// The next event; `None` where the stream ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let mut event = Event::default();
                let mut data = vec![];
                for line in block.lines() {
                    match line.split_once(": ").unwrap_or((line.trim_end_matches(':'), "")) {
                        ("event", value) => event.name = value.to_owned(),
                        ("id", value) => event.id = value.to_owned(),
                        ("data", value) => data.push(value.to_owned()),
                        _ => {}
                    }
                }
                event.data = data.join("\n");
                self.buffer = rest.to_owned();
                return Some(event);
            }
            let more = tokio::time::timeout(Duration::from_secs(20), self.body.next()).await.expect("an event");
            self.buffer.push_str(std::str::from_utf8(&more?.unwrap()).unwrap());
        }
    }
}

async fn a_followed_log_has_no_gap_and_no_repeat(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = world.run(1, 1, "running").await;
    let stage = world.stage(&run, 0, "build", "running", &[]).await;
    let path = format!("/api/v1/runs/{run}/stages/build/logs");
    let mut reader = Reader::open(&world, &path, None).await;
    let job = world.job(&run, &stage, 1, "running").await;
    world.log(&job, 0, "one\ntwo\nthr").await;
    let first = reader.next().await.unwrap();
    assert_eq!((first.name.as_str(), first.id.as_str(), first.data.as_str()), ("log", "8", "one\ntwo"));
    drop(reader);

    world.log(&job, 11, "ee\n10%\r100%\r\n").await;
    let mut reader = Reader::open(&world, &path, Some(&first.id)).await;
    let second = reader.next().await.unwrap();
    assert_eq!((second.id.as_str(), second.data.as_str()), ("24", "three\n100%"));
    world.log(&job, 24, "\nlast without an end").await;
    assert_eq!(reader.next().await.unwrap().data, "");
    world.sql("UPDATE job SET state = 'finished', conclusion = 'succeeded'").await;
    let last = reader.next().await.unwrap();
    assert_eq!((last.id.as_str(), last.data.as_str()), ("44", "last without an end"));
    let end = reader.next().await.unwrap();
    assert_eq!(end.name, "end");
    assert_eq!(end.data, r#"{"attempt":1,"state":"succeeded","bytes":44,"complete":true}"#);
    assert_eq!(reader.next().await, None);

    let mut from_the_end = Reader::open(&world, &path, Some("44")).await;
    assert_eq!(from_the_end.next().await.unwrap().name, "end");
}

async fn a_cursor_nobody_gave_out_is_refused(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = world.run(1, 1, "running").await;
    world.stage(&run, 0, "build", "running", &[]).await;
    for path in [format!("/api/v1/runs/{run}/stages/build/logs"), format!("/api/v1/runs/{run}/events")] {
        let request = Request::get(path)
            .header("authorization", format!("Bearer {ADMIN}"))
            .header("accept", "text/event-stream")
            .header("last-event-id", "x");
        assert_eq!(world.send(request.body(Body::empty()).unwrap()).await.refusal(), "400 sse.cursor");
    }
}

async fn a_run_tells_what_changes_and_ends(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = world.run(1, 1, "running").await;
    world.stage(&run, 0, "build", "running", &[]).await;
    world.stage(&run, 1, "test", "pending", &["build"]).await;
    let mut reader = Reader::open(&world, &format!("/api/v1/runs/{run}/events"), None).await;
    let first = reader.next().await.unwrap();
    assert_eq!(first.name, "run");
    world.sql("UPDATE stage SET state = 'succeeded', version = version + 1 WHERE name = 'build'").await;
    let second = reader.next().await.unwrap();
    assert_eq!(second.name, "stage");
    let stage: serde_json::Value = serde_json::from_str(&second.data).unwrap();
    assert_eq!((&stage["name"], &stage["state"]), (&"build".into(), &"succeeded".into()));
    assert!(second.id.parse::<i64>().unwrap() > first.id.parse::<i64>().unwrap());
    world.sql("UPDATE run SET state = 'completed', version = version + 1, finished_at = 9000").await;
    assert_eq!(reader.next().await.unwrap().name, "run");
    let end = reader.next().await.unwrap();
    assert_eq!(end.name, "end");
    assert!(end.data.contains(r#""state":"completed""#));
    assert_eq!(reader.next().await, None);
}

async fn streams_end_when_the_server_stops(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = world.run(1, 1, "running").await;
    world.stage(&run, 0, "build", "running", &[]).await;
    let mut log = Reader::open(&world, &format!("/api/v1/runs/{run}/stages/build/logs"), None).await;
    let mut events = Reader::open(&world, &format!("/api/v1/runs/{run}/events"), None).await;
    assert_eq!(events.next().await.unwrap().name, "run");
    world.context.shutdown.cancel();
    assert_eq!((log.next().await, events.next().await), (None, None));
}
