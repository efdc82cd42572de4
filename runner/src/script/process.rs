//! `process`: commands, one after the other or several at once.
//!
//! Lua is on one thread, so "several at once" means: each call of the author's function is a coroutine that yields while
//! its command runs (`process.lua` schedules them). The commands themselves run on the async runtime, in [`serve`].

use super::{Host, failure};
use crate::attempt::Attempt;
use crate::executor::{self, Command, Executor, Exit, Status};
use futures::stream::{FuturesUnordered, StreamExt as _};
use mlua::{Function, Lua, MultiValue, Table, Value};
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::JobError;
use std::collections::BTreeMap;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// A command the script wants run.
pub(super) struct Request {
    ticket: u64,
    call: Call,
    reply: blocking::Sender<Done>,
}

#[derive(Clone)]
struct Call {
    command: Command,
    shown: String,
    check: bool,
}

struct Done {
    ticket: u64,
    check: bool,
    result: Result<Exit, JobError>,
    failure: Option<JobError>,
}

/// Runs what the script asks for, all at once, until nobody asks any more.
pub(super) async fn serve(
    mut requests: mpsc::UnboundedReceiver<Request>,
    attempt: &Attempt,
    executor: &Executor,
    job: &executor::Job,
) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => running.push(answer(request, attempt, executor, job)),
                // The script has ended; whoever awaits it takes its result from here.
                None => std::future::pending().await,
            },
            Some(()) = running.next() => {}
        }
    }
}

async fn answer(request: Request, attempt: &Attempt, executor: &Executor, job: &executor::Job) {
    let Request { ticket, call, reply } = request;
    attempt.log.line(&format!("$ {}", call.shown));
    let result = executor.run(&call.command, job).await.map_err(|error| attempt.exec_error(&error, Some(&call.shown)));
    let failure = result.as_ref().ok().and_then(|exit| attempt.exit_error(exit, &call.shown));
    // Nobody listens only where the script is gone already.
    let _ = reply.send(Done { ticket, check: call.check, result, failure });
}

struct Native {
    host: Host,
    state: Mutex<State>,
}

struct State {
    next: u64,
    sender: blocking::Sender<Done>,
    receiver: blocking::Receiver<Done>,
    done: BTreeMap<u64, Done>,
}

pub(super) fn register(lua: &Lua, host: &Host) -> mlua::Result<()> {
    let (sender, receiver) = blocking::channel();
    let state = Mutex::new(State { next: 0, sender, receiver, done: BTreeMap::new() });
    let native = Arc::new(Native { host: host.clone(), state });
    let table = lua.create_table()?;
    let shared = native.clone();
    table.set("start", lua.create_function(move |_, spec: Value| shared.start(spec))?)?;
    let shared = native.clone();
    table.set("wait", lua.create_function(move |_, tickets: Vec<u64>| shared.wait(&tickets))?)?;
    table.set("take", lua.create_function(move |lua, ticket: u64| native.take(lua, ticket))?)?;
    let prelude: Function = lua.load(include_str!("process.lua")).set_name("=rivet").into_function()?;
    lua.globals().set("process", prelude.call::<Table>(table)?)
}

impl Native {
    fn start(&self, spec: Value) -> mlua::Result<u64> {
        let call = call(spec)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.next += 1;
        let request = Request { ticket: state.next, call, reply: state.sender.clone() };
        self.host.requests.send(request).map_err(|_| mlua::Error::runtime("the job was told to stop"))?;
        Ok(state.next)
    }

    /// Blocks until one of the commands has ended; answers which.
    fn wait(&self, tickets: &[u64]) -> mlua::Result<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(ticket) = tickets.iter().find(|ticket| state.done.contains_key(ticket)) {
                return Ok(*ticket);
            }
            let done = state.receiver.recv().map_err(|_| mlua::Error::runtime("the job was told to stop"))?;
            state.done.insert(done.ticket, done);
        }
    }

    fn take(&self, lua: &Lua, ticket: u64) -> mlua::Result<MultiValue> {
        let done = self.state.lock().unwrap_or_else(PoisonError::into_inner).done.remove(&ticket);
        let Some(done) = done else { return Err(mlua::Error::runtime("no such command")) };
        let raised = match (&done.result, &done.failure) {
            (Err(error), _) => Some(error),
            (Ok(_), Some(failure)) if done.check || failure.class != ErrorClass::CommandFailed => Some(failure),
            (Ok(_), _) => None,
        };
        if let Some(error) = raised {
            let table = failure::to_table(lua, error)?;
            return Ok(MultiValue::from_vec(vec![Value::Nil, Value::Table(table)]));
        }
        let exit = done.result.map_err(|error| mlua::Error::runtime(error.message))?;
        Ok(MultiValue::from_vec(vec![Value::Table(result_table(lua, &exit)?)]))
    }
}

fn result_table(lua: &Lua, exit: &Exit) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let code = match exit.status {
        Status::Code(code) => code,
        Status::Signal(signal) => 128 + signal,
        Status::TimedOut | Status::Stopped(_) => -1,
    };
    table.set("code", code)?;
    table.set("stdout", lua.create_string(&exit.stdout)?)?;
    table.set("stderr", lua.create_string(&exit.stderr)?)?;
    table.set("duration", exit.duration.as_secs_f64())?;
    Ok(table)
}

const KEYS: &[&str] = &["cmd", "args", "env", "cwd", "stdin", "timeout", "shell", "check", "capture", "memory", "cpu"];

fn call(spec: Value) -> mlua::Result<Call> {
    let wrong = |message: &str| mlua::Error::runtime(format!("process.run: {message}"));
    match spec {
        Value::String(line) => {
            let line = utf8(&line)?;
            let command = Command { argv: shell("sh", &line), capture: true, ..Command::default() };
            Ok(Call { command, shown: line, check: true })
        }
        Value::Table(table) => call_from_table(&table),
        other => Err(wrong(&format!("expected a string, a list or a table, got a {}", other.type_name()))),
    }
}

fn call_from_table(table: &Table) -> mlua::Result<Call> {
    let wrong = |message: String| mlua::Error::runtime(format!("process.run: {message}"));
    for pair in table.pairs::<Value, Value>() {
        if let (Value::String(key), _) = pair? {
            let key = key.to_string_lossy();
            if !KEYS.contains(&key.as_str()) {
                return Err(wrong(format!("unknown key '{key}'; it takes {}", KEYS.join(", "))));
            }
        }
    }
    if !table.get::<Value>("cpu")?.is_nil() {
        return Err(wrong("cpu bounds are the container's, not a command's".into()));
    }
    let listed: Vec<Value> = table.sequence_values().collect::<mlua::Result<_>>()?;
    let args: Option<Vec<Value>> = table.get("args")?;
    let mut words: Vec<String> = table.get::<Option<Value>>("cmd")?.iter().map(word).collect::<mlua::Result<_>>()?;
    words.extend(listed.iter().chain(args.iter().flatten()).map(word).collect::<mlua::Result<Vec<_>>>()?);
    if words.is_empty() {
        return Err(wrong("there is no command in the table: give it cmd, or a list".into()));
    }
    let shown = if words.len() == 1 {
        words[0].clone()
    } else {
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    };
    let argv = match table.get::<Value>("shell")? {
        Value::Nil | Value::Boolean(false) => words,
        Value::Boolean(true) => shell("sh", &words.join(" ")),
        Value::String(program) => shell(&utf8(&program)?, &words.join(" ")),
        other => return Err(wrong(format!("shell is true or a shell's name, not a {}", other.type_name()))),
    };
    let env: Option<BTreeMap<String, Value>> = table.get("env")?;
    let env = env.into_iter().flatten().map(|(name, value)| Ok((name, word(&value)?))).collect::<mlua::Result<_>>()?;
    let stdin: Option<mlua::LuaString> = table.get("stdin")?;
    let command = Command {
        argv,
        env,
        cwd: table.get("cwd")?,
        stdin: stdin.map(|text| text.as_bytes().to_vec()),
        timeout: duration(&table.get("timeout")?)?,
        capture: table.get::<Option<bool>>("capture")?.unwrap_or(true),
        memory: memory(&table.get("memory")?)?,
    };
    Ok(Call { command, shown, check: table.get::<Option<bool>>("check")?.unwrap_or(true) })
}

fn shell(program: &str, line: &str) -> Vec<String> {
    vec![program.to_owned(), "-c".to_owned(), line.to_owned()]
}

fn utf8(text: &mlua::LuaString) -> mlua::Result<String> {
    Ok(text.to_str()?.to_owned())
}

fn word(value: &Value) -> mlua::Result<String> {
    match value {
        Value::String(text) => utf8(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Boolean(value) => Ok(value.to_string()),
        other => Err(mlua::Error::runtime(format!("process.run: expected a string, got a {}", other.type_name()))),
    }
}

/// A word as one would type it in a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// `90`, `"90s"`, `"20m"`, `"1h30m"`.
fn duration(value: &Value) -> mlua::Result<Option<Duration>> {
    let wrong =
        || mlua::Error::runtime("process.run: timeout is a number of seconds, or a text like \"20m\" or \"1h30m\"");
    let seconds = match value {
        Value::Nil => return Ok(None),
        Value::Integer(seconds) => *seconds as f64,
        Value::Number(seconds) => *seconds,
        Value::String(text) => parse_duration(&text.to_string_lossy()).ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    if !(seconds.is_finite() && seconds > 0.0 && seconds <= 31_536_000.0) {
        return Err(wrong());
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}

fn parse_duration(text: &str) -> Option<f64> {
    let mut seconds = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match rest[..unit].trim() {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Some(seconds)
}

/// `1048576`, `"512m"`, `"2g"`.
fn memory(value: &Value) -> mlua::Result<Option<u64>> {
    let wrong = || mlua::Error::runtime("process.run: memory is a number of bytes, or a text like \"512m\" or \"2g\"");
    let bytes = match value {
        Value::Nil => return Ok(None),
        Value::Integer(bytes) => *bytes as f64,
        Value::Number(bytes) => *bytes,
        Value::String(text) => parse_bytes(&text.to_string_lossy()).ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    if !(1.0..9e15).contains(&bytes) {
        return Err(wrong());
    }
    Ok(Some(bytes as u64))
}

fn parse_bytes(text: &str) -> Option<f64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, factor) = match lower.as_bytes().last()? {
        b'k' => (&lower[..lower.len() - 1], 1024.0),
        b'm' => (&lower[..lower.len() - 1], 1024.0 * 1024.0),
        b'g' => (&lower[..lower.len() - 1], 1024.0 * 1024.0 * 1024.0),
        _ => (lower, 1.0),
    };
    Some(digits.trim().parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        assert_eq!(parse_duration("20m"), Some(1_200.0));
        assert_eq!(parse_duration("1h30m"), Some(5_400.0));
        assert_eq!(parse_duration("1.5s"), Some(1.5));
        for bad in ["", "5", "m", "5x", "-5s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert_eq!(parse_bytes("512m"), Some(536_870_912.0));
        assert_eq!(parse_bytes("2GiB"), Some(2_147_483_648.0));
        assert_eq!(parse_bytes("x"), None);
    }

    #[test]
    fn words_are_shown_as_one_would_type_them() {
        assert_eq!(quoted("--features=a,b"), "--features=a,b");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
