//! Stage scripts: the author's Lua on the runner, with the core modules as its hands.
//!
//! Lua runs on a thread of its own and calls the host synchronously; commands run on the async runtime. Each file here is
//! one core module with one `register`.

mod ctx;
mod definition;
mod facts;
mod failure;
mod json;
mod log;
mod process;

use crate::attempt::{Attempt, job_error, succeeded};
use crate::executor::{self, Executor};
use crate::stop::Stop;
use mlua::{Lua, LuaSerdeExt as _, Value, VmState};
use pipelines_spec::lua::{Mode, new_vm};
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{Annotation, JobError, Outcome};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes one script's Lua may use.
const MEMORY_LIMIT: usize = 512 << 20;
/// Most bytes of what a script returns, as JSON.
const OUTPUT_BYTES: usize = 1 << 20;
/// How long a script that was told to stop may take to notice, beside what its commands take.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the core modules share.
#[derive(Clone)]
pub(super) struct Host {
    attempt: Arc<Facts>,
    log: crate::log::Log,
    stop: Stop,
    requests: mpsc::UnboundedSender<process::Request>,
    annotations: Arc<Mutex<Vec<Annotation>>>,
}

/// What a script may know: a copy, because Lua's thread outlives no borrow.
pub(super) struct Facts {
    job: pipelines_spec::protocol::Job,
    workspace: String,
}

/// Runs the stage's script (or its rollback) to its end.
pub(crate) async fn run(attempt: &Attempt, executor: &Executor, job: &executor::Job) -> Result<Outcome, JobError> {
    let (requests, incoming) = mpsc::unbounded_channel();
    let annotations = Arc::new(Mutex::new(Vec::new()));
    let facts = Facts { job: attempt.job.clone(), workspace: executor.workspace().display().to_string() };
    let host = Host {
        attempt: Arc::new(facts),
        log: job.log.clone(),
        stop: job.stop.clone(),
        requests,
        annotations: annotations.clone(),
    };
    let script = tokio::task::spawn_blocking(move || execute(&host));
    let patience = async {
        job.stop.requested().await;
        tokio::time::sleep(attempt.options.grace + STOP_PATIENCE).await;
    };
    let result = tokio::select! {
        ended = script => ended.unwrap_or_else(|_| Err(job_error(ErrorClass::InfraError, "the script's thread ended"))),
        () = process::serve(incoming, attempt, executor, job) => unreachable_end(),
        () = patience => Err(job_error(ErrorClass::InfraError, "the script did not stop in time")),
    };
    let annotations = std::mem::take(&mut *annotations.lock().unwrap_or_else(PoisonError::into_inner));
    result.map(|outputs| Outcome { annotations, ..succeeded(outputs) })
}

fn unreachable_end() -> Result<serde_json::Map<String, serde_json::Value>, JobError> {
    Err(job_error(ErrorClass::InfraError, "the script ended without a result"))
}

fn execute(host: &Host) -> Result<serde_json::Map<String, serde_json::Value>, JobError> {
    let lua = new_vm(Mode::Runtime).map_err(|error| failure::from_error(&error))?;
    let stop = host.stop.clone();
    // Sticky: an error that `pcall` catches is raised again at the next step.
    lua.set_interrupt(move |_| match stop.reason() {
        None => Ok(VmState::Continue),
        Some(_) => Err(mlua::Error::runtime("the job was told to stop")),
    });
    let limited = lua.set_memory_limit(MEMORY_LIMIT);
    limited.and_then(|_| register(&lua, host)).map_err(|error| failure::from_error(&error))?;
    let function = definition::script(&lua, &host.attempt.job)?;
    let argument = lua.globals().get::<Value>("ctx").map_err(|error| failure::from_error(&error))?;
    let value = failure::protect(&lua, &function, argument)?;
    outputs(&lua, value)
}

fn register(lua: &Lua, host: &Host) -> mlua::Result<()> {
    failure::register(lua)?;
    facts::register(lua, host)?;
    log::register(lua, host)?;
    json::register(lua)?;
    process::register(lua, host)?;
    ctx::register(lua, host)
}

fn outputs(lua: &Lua, value: Value) -> Result<serde_json::Map<String, serde_json::Value>, JobError> {
    let wrong = |message: String| job_error(ErrorClass::ScriptError, message);
    let value: serde_json::Value = match value {
        Value::Nil => return Ok(serde_json::Map::new()),
        Value::Table(_) => {
            lua.from_value(value).map_err(|error| wrong(format!("the script's outputs are not plain data: {error}")))?
        }
        other => {
            let kind = other.type_name();
            return Err(wrong(format!("a script returns a table of outputs or nothing, not a {kind}")));
        }
    };
    if value.to_string().len() > OUTPUT_BYTES {
        let message = format!("the script's outputs are larger than {OUTPUT_BYTES} bytes; write them to a file");
        return Err(job_error(ErrorClass::Limit, message));
    }
    match value {
        serde_json::Value::Object(map) => Ok(map),
        serde_json::Value::Array(items) if items.is_empty() => Ok(serde_json::Map::new()),
        _ => Err(wrong("a script's outputs have names: return { name = value }".into())),
    }
}

/// A command's text short enough for a sentence.
pub(crate) fn shorten(command: &str) -> String {
    let first = command.lines().next().unwrap_or_default();
    let mut text: String = first.chars().take(120).collect();
    if text.len() < command.len() {
        text.push('…');
    }
    text
}
