//! The state machine's whole table, and what must hold of a run whatever happens to it in whatever order.

use pipelines_spec::plan::{Approval, Backoff, ErrorClass, PlannedStage, Retry};
use pipelines_spec::protocol::{Conclusion, JobError, Outcome, Trust};
use proptest::prelude::*;
use rivet::model::approval::{Approval as Decided, LIFE_MILLIS, Verdict};
use rivet::model::deployment::{Change, Deployment, DeploymentState, changes};
use rivet::model::ids::{ApprovalId, DeploymentId, RepoId, RunId};
use rivet::model::run::{Run, TrustText};
use rivet::model::settle::{
    Answer, AskWhat, Graph, MAX_INFRA_FAULTS, finish_attempt, lose_attempt, settle, start_attempt,
};
use rivet::model::stage::Stage;
use rivet::model::state::{JobState, RunEvent, RunState, StageEvent, StageState};
use rivet::model::time::Timestamp;
use rivet::store::Json;
use serde_json::json;
use std::collections::BTreeMap;
use strum::IntoEnumIterator;

#[test]
fn the_whole_table_of_runs() {
    let mut table = String::new();
    for from in RunState::iter() {
        for event in RunEvent::iter() {
            if let Ok(to) = from.after(event)
                && to != from
            {
                table += &format!("{from} + {event:?} -> {to}\n");
            }
        }
    }
    insta::assert_snapshot!(table, @r"
    pending + Start -> running
    pending + Cancel -> cancelled
    running + Complete -> completed
    running + Fail -> failed
    running + RollBack -> rolling_back
    running + Cancel -> cancelled
    sleeping + Complete -> completed
    sleeping + Fail -> failed
    sleeping + RollBack -> rolling_back
    sleeping + Cancel -> cancelled
    rolling_back + Fail -> failed
    completed + RollBack -> rolling_back
    failed + Reopen -> pending
    cancelled + Reopen -> pending
    diverged + Cancel -> cancelled
    stuck + Cancel -> cancelled
    ");
}

#[test]
fn the_whole_table_of_stages() {
    let mut table = String::new();
    for from in StageState::iter() {
        for event in StageEvent::iter() {
            if let Ok(to) = from.after(event)
                && to != from
            {
                table += &format!("{from} + {event:?} -> {to}\n");
            }
        }
    }
    insta::assert_snapshot!(table, @r"
    pending + Hold -> awaiting_approval
    pending + Queue -> queued
    pending + Skip -> skipped
    pending + Break -> failed
    pending + Cancel -> cancelled
    awaiting_approval + Queue -> queued
    awaiting_approval + Reject -> failed
    awaiting_approval + Break -> failed
    awaiting_approval + Cancel -> cancelled
    queued + Hold -> awaiting_approval
    queued + Break -> failed
    queued + Start -> running
    queued + Succeed -> succeeded
    queued + Fail -> failed
    queued + Cancel -> cancelled
    running + Succeed -> succeeded
    running + Fail -> failed
    running + Retry -> queued
    running + Cancel -> cancelled
    sleeping + Succeed -> succeeded
    sleeping + Fail -> failed
    sleeping + Retry -> queued
    sleeping + Cancel -> cancelled
    succeeded + RollBack -> rolling_back
    failed + RollBack -> rolling_back
    failed + Reopen -> pending
    skipped + Reopen -> pending
    cancelled + Reopen -> pending
    rolling_back + Undo -> rolled_back
    rolling_back + GiveUp -> failed
    rolled_back + Reopen -> pending
    ");
}

/// A stage of a test's plan: what it waits for (by index) and how it is guarded.
#[derive(Debug, Clone)]
struct Shape {
    needs: Vec<usize>,
    attempts: u32,
    approval: bool,
    condition: bool,
    rollback: bool,
    environment: bool,
    group: usize,
}

fn shape(index: usize) -> impl Strategy<Value = Shape> {
    (proptest::collection::vec(0..index.max(1), 0..3), 1..4_u32, any::<[bool; 4]>(), 0..2_usize).prop_map(
        move |(needs, attempts, [approval, condition, rollback, environment], group)| Shape {
            needs: needs.into_iter().filter(|need| *need < index).collect(),
            attempts,
            approval: approval && index % 2 == 1,
            condition: condition && index % 3 == 1,
            rollback,
            environment,
            group,
        },
    )
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    (1..6_usize).prop_flat_map(|count| (0..count).map(shape).collect::<Vec<_>>())
}

fn spec(index: usize, shape: &Shape) -> PlannedStage {
    let needs: Vec<String> = shape.needs.iter().map(|need| format!("s{need}")).collect();
    let mut stage: pipelines_spec::plan::Stage = serde_json::from_value(json!({
        "name": format!("s{index}"), "depends_on": needs, "action": {"kind": "script"},
    }))
    .expect("a stage");
    stage.retry = Some(Retry { max_attempts: shape.attempts, on: vec![], backoff: Backoff::default() });
    stage.environment = shape.environment.then(|| "production".to_owned());
    if shape.approval {
        stage.approval = Some(Approval {
            required: true,
            reviewers: vec![],
            policy_reviewers: vec![],
            count: 1,
            prevent_self: false,
            expires: Some(3600),
        });
    }
    if shape.condition {
        stage.condition = Some(pipelines_spec::plan::Condition::Function);
    }
    if shape.rollback {
        stage.rollback = serde_json::from_value(json!({"action": {"kind": "script"}})).ok();
    }
    serde_json::from_value(json!({
        "name": format!("s{index}"), "base": format!("s{index}"), "stage": stage,
        "fail_fast": shape.group == 1,
    }))
    .expect("a planned stage")
}

fn graph(shapes: &[Shape], trust: Trust) -> Graph {
    let id = RunId::generate();
    let facts = serde_json::from_value(json!({
        "name": "push", "repo": "acme/app", "default_branch": "main", "ref": "refs/heads/main", "sha": "a".repeat(40),
    }));
    let run = Run {
        id: id.clone(),
        repo_id: RepoId("local:1".to_owned()),
        number: 1,
        pipeline: "ci".to_owned(),
        name: "ci".to_owned(),
        file: ".rivet/ci.lua".to_owned(),
        event: "push".to_owned(),
        facts: Json(facts.expect("facts")),
        git_ref: "refs/heads/main".to_owned(),
        branch: None,
        sha: "a".repeat(40),
        pull_request: None,
        actor: "alice".to_owned(),
        title: String::new(),
        trust: TrustText(trust),
        state: RunState::Pending,
        reason: String::new(),
        plan_digest: "d".to_owned(),
        bundle_digest: "b".to_owned(),
        inputs: Json(serde_json::Map::new()),
        concurrency_group: None,
        cancel_in_progress: false,
        delivery_id: None,
        parent_stage_id: None,
        rerun_of: None,
        cancel_requested: false,
        cancel_reason: None,
        version: 0,
        next_completion: 1,
        timeout_seconds: Some(1_000_000),
        deadline_at: None,
        due_at: None,
        created_at: Timestamp(0),
        started_at: None,
        finished_at: None,
        rollback_to: None,
        through_lock: None,
        trust_reason: None,
        caused_by: Json(vec![]),
        outdated: None,
        dirty: false,
    };
    let stages = shapes.iter().enumerate().map(|(i, s)| Stage::planned(&id, i64::try_from(i).unwrap_or(0), spec(i, s)));
    Graph {
        run,
        stages: stages.collect(),
        jobs: vec![],
        blocked_by: vec![],
        approvals: vec![],
        admitted: trust == Trust::Trusted,
        now: Timestamp(0),
        random: 0.5,
        answers: BTreeMap::new(),
        asks: vec![],
        notes: vec![],
        happened: vec![],
        replaced: vec![],
        locked: vec![],
        freeze: None,
        withdrawn: vec![],
    }
}

/// A yes to exactly this run, at one of its stages or (`None`) as a whole.
fn yes(graph: &Graph, stage: Option<usize>) -> Decided {
    Decided {
        id: ApprovalId::generate(),
        repo_id: graph.run.repo_id.clone(),
        run_id: graph.run.id.clone(),
        stage_id: stage.map(|index| graph.stages[index].id.clone()),
        decision: Verdict::Approve,
        actor: "bob".to_owned(),
        approver: "id:12".to_owned(),
        actor_forge_id: Some(12),
        permission: Some("write".to_owned()),
        pull_request: None,
        sha: graph.run.sha.clone(),
        head_sha: graph.run.sha.clone(),
        base_sha: None,
        plan_digest: graph.run.plan_digest.clone(),
        environment: None,
        inputs_digest: String::new(),
        comment: None,
        via: "comment".to_owned(),
        created_at: graph.now,
        expires_at: graph.now.plus_millis(LIFE_MILLIS),
        asked_at: Some(graph.now),
        unanswered: None,
        voided_at: None,
        void_reason: None,
        dirty: false,
        fresh: true,
    }
}

/// Something that happens from outside; indexes are taken modulo what there is.
#[derive(Debug, Clone)]
enum Event {
    Claim(usize),
    Start(usize),
    Finish(usize, Conclusion, ErrorClass),
    Lose(usize),
    Approve(usize),
    Admit,
    Void(usize),
    Cancel,
    Answer(bool),
    Wait(i64),
}

fn class() -> impl Strategy<Value = ErrorClass> {
    proptest::sample::select(ErrorClass::iter().collect::<Vec<_>>())
}

fn event() -> impl Strategy<Value = Event> {
    let conclusion = proptest::sample::select(vec![
        Conclusion::Succeeded,
        Conclusion::Failed,
        Conclusion::Failed,
        Conclusion::Cancelled,
    ]);
    prop_oneof![
        6 => any::<usize>().prop_map(Event::Claim),
        6 => any::<usize>().prop_map(Event::Start),
        6 => (any::<usize>(), conclusion, class()).prop_map(|(i, c, e)| Event::Finish(i, c, e)),
        1 => any::<usize>().prop_map(Event::Lose),
        3 => any::<usize>().prop_map(Event::Approve),
        1 => Just(Event::Admit),
        1 => any::<usize>().prop_map(Event::Void),
        1 => Just(Event::Cancel),
        3 => any::<bool>().prop_map(Event::Answer),
        2 => (0..5_000_000_i64).prop_map(Event::Wait),
    ]
}

fn open_jobs(graph: &Graph, states: &[JobState]) -> Vec<usize> {
    (0..graph.jobs.len()).filter(|&job| states.contains(&graph.jobs[job].state)).collect()
}

fn pick(list: &[usize], index: usize) -> Option<usize> {
    (!list.is_empty()).then(|| list[index % list.len()])
}

fn outcome(conclusion: Conclusion, class: ErrorClass) -> Outcome {
    let error = (conclusion == Conclusion::Failed).then(|| JobError {
        class,
        message: "it broke".to_owned(),
        command: None,
        exit_code: None,
        tail: None,
        at: None,
    });
    Outcome { conclusion, error, outputs: serde_json::Map::new(), annotations: vec![] }
}

/// What the claim query asks, in Rust.
fn claimable(graph: &Graph, job: usize) -> bool {
    let job = &graph.jobs[job];
    let stage = graph.stages.iter().find(|stage| stage.id == job.stage_id).expect("its stage");
    job.state == JobState::Queued
        && job.available_at <= graph.now
        && !graph.run.cancel_requested
        && graph.admitted
        && (!job.gated || stage.approved)
}

fn happen(graph: &mut Graph, event: &Event) {
    let held = [JobState::Claimed, JobState::Running];
    match event {
        Event::Claim(i) => {
            if let Some(job) = pick(&open_jobs(graph, &[JobState::Queued]), *i).filter(|&job| claimable(graph, job)) {
                graph.jobs[job].state = JobState::Claimed;
                graph.jobs[job].epoch += 1;
            }
        }
        Event::Start(i) => {
            if let Some(job) = pick(&open_jobs(graph, &[JobState::Claimed]), *i) {
                start_attempt(graph, job).expect("a claimed job starts");
            }
        }
        Event::Finish(i, conclusion, class) => {
            if let Some(job) = pick(&open_jobs(graph, &held), *i) {
                finish_attempt(graph, job, &outcome(*conclusion, *class)).expect("a held job finishes");
            }
        }
        Event::Lose(i) => {
            if let Some(job) = pick(&open_jobs(graph, &held), *i) {
                lose_attempt(graph, job).expect("a held job is lost");
            }
        }
        Event::Approve(i) => {
            let waiting: Vec<usize> = (0..graph.stages.len())
                .filter(|&index| graph.stages[index].state == StageState::AwaitingApproval)
                .collect();
            if let Some(index) = pick(&waiting, *i) {
                let yes = yes(graph, Some(index));
                graph.approvals.push(yes);
            }
        }
        Event::Admit => {
            let yes = yes(graph, None);
            graph.approvals.push(yes);
        }
        Event::Void(i) => {
            let now = graph.now;
            let count = graph.approvals.len().max(1);
            if let Some(approval) = graph.approvals.get_mut(i % count) {
                approval.void("bob took the approval back", now);
            }
        }
        Event::Cancel => graph.run.cancel_requested = !graph.run.state.is_over() || graph.run.cancel_requested,
        Event::Answer(holds) => {
            for ask in graph.asks.clone() {
                if ask.what == AskWhat::Condition {
                    graph.answers.insert(ask.stage, Answer::Condition(*holds));
                }
            }
        }
        Event::Wait(millis) => graph.now = graph.now.plus_millis(*millis),
    }
    settle(graph).expect("the rules never contradict themselves");
}

fn check(graph: &Graph) {
    for stage in &graph.stages {
        let open = graph.jobs.iter().filter(|job| job.stage_id == stage.id && job.state != JobState::Finished).count();
        assert!(open <= 1, "{} has {open} open jobs", stage.name);
        assert!(stage.user_failures <= stage.max_attempts, "{} failed too often", stage.name);
        assert!(stage.infra_faults <= MAX_INFRA_FAULTS + 1, "{} was lost too often", stage.name);
        assert!(!stage.reason.is_empty(), "{} does not say why it is {}", stage.name, stage.state);
        // (What runs was approved when it was claimed: `happen` claims nothing else.)
        if matches!(stage.state, StageState::Queued)
            && open_jobs(graph, &[JobState::Queued]).iter().any(|&job| graph.jobs[job].stage_id == stage.id)
        {
            assert!(!stage.needs_approval() || stage.approved, "{} is queued without approval", stage.name);
            assert!(graph.admitted, "{} of a stranger is queued", stage.name);
        }
        if stage.state == StageState::AwaitingApproval {
            assert_eq!(open, 0, "{} waits and has a job", stage.name);
            assert!(stage.expires_at.is_some(), "{} waits for ever", stage.name);
        }
    }
    assert_eq!(graph.run.state.is_over(), graph.run.finished_at.is_some());
    assert_eq!(graph.run.state.is_over(), graph.run.due_at.is_none(), "every open run is looked at again");
    if graph.run.state.is_over() {
        assert!(graph.stages.iter().all(|stage| stage.state.is_over()), "a stage outlives its run");
        assert!(open_jobs(graph, &[JobState::Queued, JobState::Claimed, JobState::Running]).is_empty());
    }
}

/// Whatever happened, people and machines that now do their part bring the run to its end.
fn bring_to_the_end(graph: &mut Graph) {
    happen(graph, &Event::Admit);
    for _ in 0..500 {
        if graph.run.state.is_over() {
            return;
        }
        graph.now = graph.now.plus_millis(400_000);
        for event in [
            Event::Answer(true),
            Event::Admit,
            Event::Approve(0),
            Event::Claim(0),
            Event::Start(0),
            Event::Finish(0, Conclusion::Failed, ErrorClass::CommandFailed),
        ] {
            happen(graph, &event);
            check(graph);
        }
    }
    panic!("the run never ends: {:?} {:?}", graph.run.state, graph.stages.iter().map(|s| s.state).collect::<Vec<_>>());
}

/// What the store does with the ledger's changes, and what must then hold: an attempt is one entry at most, an entry is
/// open exactly while its attempt runs, and what ended well and was not undone is good.
fn keep_ledger(graph: &Graph, ledger: &mut Vec<Deployment>) {
    for change in changes(&graph.stages, ledger) {
        match change {
            Change::Begin { stage, state, reason } => ledger.push(entry(graph, &graph.stages[stage], state, reason)),
            Change::Become { id, state, reason } => {
                let entry = ledger.iter_mut().find(|entry| entry.id == id).expect("an entry of the ledger");
                assert_ne!(entry.state, state, "no change is no change");
                (entry.state, entry.reason) = (state, reason);
            }
        }
    }
    assert_eq!(changes(&graph.stages, ledger), vec![], "told once, the ledger is in line");
    for stage in &graph.stages {
        let entries: Vec<&Deployment> = ledger.iter().filter(|entry| entry.stage_id == stage.id).collect();
        let mut attempts: Vec<i64> = entries.iter().map(|entry| entry.attempt).collect();
        assert!(attempts.is_sorted(), "{}: {attempts:?}", stage.name);
        attempts.dedup();
        assert_eq!(attempts.len(), entries.len(), "an attempt of {} is in the ledger twice", stage.name);
        if stage.environment_key().is_none() {
            assert!(entries.is_empty());
            continue;
        }
        let open = entries.iter().filter(|entry| entry.state == DeploymentState::InProgress).count();
        assert_eq!(open, usize::from(stage.state == StageState::Running), "{} is {}", stage.name, stage.state);
        let last = entries.last().map(|entry| entry.state);
        match stage.state {
            StageState::Succeeded => assert_eq!(last, Some(DeploymentState::Succeeded)),
            StageState::RolledBack => assert_eq!(last, Some(DeploymentState::RolledBack)),
            _ => {}
        }
    }
}

fn entry(graph: &Graph, stage: &Stage, state: DeploymentState, reason: String) -> Deployment {
    Deployment {
        id: DeploymentId::generate(),
        repo_id: graph.run.repo_id.clone(),
        environment: stage.environment_key().expect("an environment"),
        number: 0,
        run_id: graph.run.id.clone(),
        stage_id: stage.id.clone(),
        stage: stage.name.clone(),
        attempt: stage.attempt,
        pipeline: String::new(),
        git_ref: String::new(),
        sha: String::new(),
        plan_digest: String::new(),
        inputs: graph.run.inputs.clone(),
        artifacts: Json(BTreeMap::new()),
        actor: String::new(),
        approvers: Json(vec![]),
        rollback_to: None,
        state,
        reason,
        started_at: graph.now,
        finished_at: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_keeps_its_promises_whatever_happens(
        shapes in shapes(),
        trusted in any::<bool>(),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let trust = if trusted { Trust::Trusted } else { Trust::Untrusted };
        let mut graph = graph(&shapes, trust);
        settle(&mut graph).expect("it begins");
        check(&graph);
        let mut ledger = vec![];
        for event in &events {
            let before = (graph.run.state, graph.stages.iter().map(|s| s.state).collect::<Vec<_>>());
            happen(&mut graph, event);
            check(&graph);
            keep_ledger(&graph, &mut ledger);
            if before.0.is_over() {
                let after = graph.stages.iter().map(|s| s.state).collect::<Vec<_>>();
                prop_assert_eq!(before, (graph.run.state, after), "what is over stays as it is");
            }
        }
        bring_to_the_end(&mut graph);
    }
}

#[test]
fn rollbacks_run_in_reverse_order_of_completion() {
    let shape = |needs: &[usize]| Shape {
        needs: needs.to_vec(),
        attempts: 1,
        approval: false,
        condition: false,
        rollback: true,
        environment: false,
        group: 0,
    };
    let mut graph = graph(&[shape(&[]), shape(&[0]), shape(&[1])], Trust::Trusted);
    settle(&mut graph).expect("it begins");
    let run_one = |graph: &mut Graph, conclusion| {
        let stage = graph.jobs.last().map(|job| (job.kind.clone(), job.stage_id.clone())).expect("a job");
        let name = graph.stages.iter().find(|s| s.id == stage.1).map(|s| s.name.clone()).expect("its stage");
        happen(graph, &Event::Claim(0));
        happen(graph, &Event::Start(0));
        happen(graph, &Event::Finish(0, conclusion, ErrorClass::CommandFailed));
        format!("{} {name}", stage.0)
    };
    let mut order = vec![];
    for conclusion in [Conclusion::Succeeded, Conclusion::Succeeded, Conclusion::Failed] {
        order.push(run_one(&mut graph, conclusion));
    }
    assert_eq!(graph.run.state, RunState::RollingBack);
    while graph.run.state == RunState::RollingBack {
        order.push(run_one(&mut graph, Conclusion::Succeeded));
    }
    assert_eq!(order, ["stage s0", "stage s1", "stage s2", "rollback s2", "rollback s1", "rollback s0"]);
    assert_eq!(graph.run.state, RunState::Failed);
    insta::assert_snapshot!(graph.run.reason, @"s2 failed. Rolled back: 3 of 3.");
    assert!(graph.stages.iter().all(|stage| stage.state == StageState::RolledBack));
}
