//! The one way a run moves: load it under lock, apply one change, apply all that follows, save, answer what the rules ask
//! of the evaluator, and tell everybody who waits. Killed anywhere, it is begun again by whoever is next: the scheduler's
//! pass looks at every open run from time to time.

use crate::context::Context;
use crate::model::ids::{JobId, RunId, StageId};
use crate::model::settle::{self, Answer, Ask, AskWhat, Graph, Note};
use crate::model::state::{Illegal, JobState, RunState};
use crate::model::time::Timestamp;
use crate::store;
use crate::store::runs::Which;
use crate::store::wake::Topic;
use futures::future::{BoxFuture, join_all};
use pipelines_spec::evaluate::{Answer as Evaluated, Context as Shown, Question, Request, Response};
use pipelines_spec::instantiate::expand_dynamic;
use pipelines_spec::plan::PlannedStage;
use std::collections::BTreeMap;

/// Times a change is tried again when claims or other instances are faster.
const CONFLICTS: usize = 50;
/// Rounds of questions one change may cause: each answers at least one stage.
const ROUNDS: usize = 1100;

/// Why a run was not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The change does not fit how the run stands: `409` with this sentence.
    #[error("{0}")]
    Refused(String),
    /// The job, stage or run does not exist.
    #[error("there is no such run, stage or job")]
    NotFound,
    /// The rules contradict themselves.
    #[error("the state machine refused: {0}")]
    Illegal(#[from] Illegal),
    /// The database failed.
    #[error(transparent)]
    Store(store::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound => Self::NotFound,
            other => Self::Store(other),
        }
    }
}

impl From<Error> for crate::http::error::ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(why) => Self::new(axum::http::StatusCode::CONFLICT, "state", why),
            Error::NotFound => Self::not_found(),
            Error::Illegal(why) => Self::internal(&why),
            Error::Store(error) => error.into(),
        }
    }
}

/// Applies `change` to a run and everything that follows from it. `change` may be called several times, each time with
/// the run as it then stands; it must do nothing but change the graph.
pub async fn advance<T: Send>(
    context: &Context,
    run: &RunId,
    now: Timestamp,
    mut change: impl FnMut(&mut Graph) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    // On the heap: every verb's future would hold these, and they are large.
    let (value, graph) = Box::pin(once(context, Which::Run(run), now, BTreeMap::new(), &mut change)).await?;
    Box::pin(follow(context, graph, now)).await?;
    Ok(value)
}

/// [`advance`] for the run a job belongs to.
pub async fn advance_of_job<T: Send>(
    context: &Context,
    job: &JobId,
    now: Timestamp,
    mut change: impl FnMut(&mut Graph) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let (value, graph) = Box::pin(once(context, Which::Job(job), now, BTreeMap::new(), &mut change)).await?;
    Box::pin(follow(context, graph, now)).await?;
    Ok(value)
}

/// Looks at a run without changing anything oneself.
pub fn look(context: &Context, run: RunId, now: Timestamp) -> BoxFuture<'_, Result<(), Error>> {
    Box::pin(async move { advance(context, &run, now, |_| Ok(())).await })
}

async fn once<T: Send>(
    context: &Context,
    which: Which<'_>,
    now: Timestamp,
    answers: BTreeMap<StageId, Answer>,
    change: &mut (impl FnMut(&mut Graph) -> Result<T, Error> + Send),
) -> Result<(T, Graph), Error> {
    for _ in 0..CONFLICTS {
        let mut tx = context.store.begin().await?;
        let mut graph = tx.load_graph(which, now, rand::random()).await?;
        graph.answers = answers.clone();
        let value = change(&mut graph)?;
        settle::settle(&mut graph)?;
        graph.happened = std::mem::take(&mut graph.notes);
        graph.notes.clone_from(&graph.happened);
        match tx.save_graph(&mut graph).await {
            Ok(()) => {}
            Err(store::Error::Conflict) => continue,
            Err(error) => return Err(error.into()),
        }
        if !graph.happened.is_empty() {
            tx.report_is_due(&graph.run.id, now).await?;
        }
        tx.commit().await?;
        return Ok((value, graph));
    }
    Err(Error::Store(store::Error::Conflict))
}

/// Wakes who waits, answers questions, and moves on the runs that waited for this one.
async fn follow(context: &Context, mut graph: Graph, now: Timestamp) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        tell(context, &graph).await;
        if graph.asks.is_empty() {
            break;
        }
        let answers = answer(context, &graph).await?;
        let run = graph.run.id.clone();
        (_, graph) = once(context, Which::Run(&run), now, answers, &mut |_| Ok(())).await?;
    }
    group(context, &graph, now).await
}

async fn tell(context: &Context, graph: &Graph) {
    if graph.happened.is_empty() {
        return;
    }
    let wake = &context.store.wake;
    if graph.jobs.iter().any(|job| job.state == JobState::Queued) {
        wake.notify(Topic::Jobs).await;
    }
    wake.notify(Topic::Report).await;
    wake.notify(Topic::Live).await;
}

/// Lets the runs of the same group go on, or ends the older ones where this one says so.
async fn group(context: &Context, graph: &Graph, now: Timestamp) -> Result<(), Error> {
    let Some(name) = &graph.run.concurrency_group else { return Ok(()) };
    let over = graph.run.state.is_over();
    let cancels = graph.run.state == RunState::Pending && graph.run.cancel_in_progress && !graph.blocked_by.is_empty();
    if !over && !cancels {
        return Ok(());
    }
    let open = {
        let mut tx = context.store.read().await?;
        tx.open_runs_of_group(&graph.run.repo_id, name).await?
    };
    for (id, number, state) in open {
        if cancels && number < graph.run.number {
            let reason = format!("Superseded by run #{} of group {name}.", graph.run.number);
            Box::pin(crate::actions::cancel::cancel(context, &id, &reason, now)).await?;
        } else if over && state == RunState::Pending {
            look(context, id, now).await?;
        }
    }
    Ok(())
}

/// Answers the questions, each in a process of its own, with no transaction open.
async fn answer(context: &Context, graph: &Graph) -> Result<BTreeMap<StageId, Answer>, Error> {
    let sources = {
        let mut tx = context.store.read().await?;
        tx.bundle(&graph.run.bundle_digest).await?
    };
    let questions = graph.asks.iter().map(|ask| async {
        let index = graph.stage_index(&ask.stage)?;
        let request = request(graph, index, ask, sources.clone());
        let response = context.evaluator.ask(&request).await;
        Some((ask.stage.clone(), read(graph, index, response)))
    });
    let mut answers = graph.answers.clone();
    answers.extend(join_all(questions).await.into_iter().flatten());
    Ok(answers)
}

fn request(graph: &Graph, index: usize, ask: &Ask, sources: pipelines_spec::protocol::Sources) -> Request {
    let spec = &graph.stages[index].spec.0;
    let context = Shown { inputs: graph.run.inputs.0.clone(), needs: graph.needs(index), matrix: spec.matrix.clone() };
    let stage = spec.base.clone();
    let question = match ask.what {
        AskWhat::Condition => Question::Condition { stage, context },
        AskWhat::Legs => Question::Axes { stage, context },
    };
    Request { sources, file: graph.run.file.clone(), event: graph.run.facts.0.clone(), question }
}

fn read(graph: &Graph, index: usize, response: Response) -> Answer {
    let problem = |text: &str| Answer::Broken(text.to_owned());
    match response.answer {
        Some(Evaluated::Condition { holds }) => Answer::Condition(holds),
        Some(Evaluated::Axes { axes }) => legs(graph, &graph.stages[index].spec.0, axes),
        Some(Evaluated::Pipeline { .. } | Evaluated::Validate { .. }) => {
            problem("The evaluator answered another question.")
        }
        None => {
            let texts: Vec<String> =
                response.problems.iter().filter(|p| p.is_error()).map(ToString::to_string).collect();
            if texts.is_empty() { problem("The evaluator gave no answer.") } else { Answer::Broken(texts.join("; ")) }
        }
    }
}

fn legs(graph: &Graph, spec: &PlannedStage, axes: BTreeMap<String, Vec<serde_json::Value>>) -> Answer {
    match expand_dynamic(spec, axes, &graph.run.facts.0, &graph.run.inputs.0) {
        Ok(legs) => Answer::Legs(legs),
        Err(problems) => {
            let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Answer::Broken(texts.join("; "))
        }
    }
}

/// One line of history, for callers outside the rules.
pub fn note(kind: &str, message: impl Into<String>) -> Note {
    Note { stage: None, kind: kind.to_owned(), message: message.into() }
}
