//! What has to be known of one event beside its delivery, asked once and only where a pipeline makes it matter.

use super::prepare::{Base, NotDecided, Ready, TestMerge, test_merge};
use super::required::BaseSays;
use crate::context::Context;
use crate::definitions::{self, Defined, Usable};
use crate::forge::pulls::PullRequest;
use crate::forge::{Forge, ForgeError};
use crate::model::ids::RepoId;
use pipelines_spec::belongs::{ForPull, as_pull, for_merge_group, for_pull};
use pipelines_spec::plan::{Pipeline, Plan};
use pipelines_spec::protocol::Sources;
use pipelines_spec::trigger::{self, Changed, Decision, EventFacts, EventKind};
use std::collections::BTreeMap;
use tokio::sync::{Mutex, OnceCell};

/// What is waited for, and what is done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The test merge of a pull request.
    pub merge: bool,
    /// The pull request a pushed commit belongs to, which the forge may find a moment later than the push.
    pub lookup: bool,
}

impl Patience {
    /// How often a delivery is put off at most: each time twice as long, a good minute in all.
    const WAITS: i64 = 6;

    /// That of a delivery that was put off so often.
    pub fn after(waits: i64) -> Self {
        Self { merge: waits < Self::WAITS, lookup: waits < 1 }
    }
}

/// Definitions by stem.
type Definitions = BTreeMap<String, Usable>;

/// The base branch's definitions.
pub(super) enum Compared {
    /// They are those of the event's commit.
    Same,
    /// They differ.
    Differ(Sources, Definitions),
}

/// One event's open questions and their answers.
pub(super) struct Inquiry<'a> {
    pub(super) context: &'a Context,
    pub(super) forge: &'a Forge,
    pub(super) ready: &'a Ready,
    patience: Patience,
    changed: OnceCell<Option<Vec<String>>>,
    pulls: OnceCell<Vec<PullRequest>>,
    tip: OnceCell<Option<String>>,
    base: OnceCell<Option<Compared>>,
    head: OnceCell<(Sources, Definitions)>,
    conflicts: Mutex<BTreeMap<i64, bool>>,
}

impl<'a> Inquiry<'a> {
    pub(super) fn new(context: &'a Context, forge: &'a Forge, ready: &'a Ready, patience: Patience) -> Self {
        Self {
            context,
            forge,
            ready,
            patience,
            changed: OnceCell::new(),
            pulls: OnceCell::new(),
            tip: OnceCell::new(),
            base: OnceCell::new(),
            head: OnceCell::new(),
            conflicts: Mutex::default(),
        }
    }

    pub(super) fn facts(&self) -> &'a EventFacts {
        &self.ready.trigger.facts
    }

    fn repo_id(&self) -> RepoId {
        self.ready.trigger.repo.id()
    }

    /// Whether the event starts a pipeline.
    pub(super) async fn decide(&self, pipeline: &Pipeline) -> Result<Decision, NotDecided> {
        let facts = self.facts();
        if !trigger::needs_paths(&pipeline.on, facts) {
            return Ok(trigger::decide(&pipeline.on, facts, Changed::Unknown));
        }
        let ask = async || self.forge.changed_files(&self.ready.trigger.repo, facts).await;
        Ok(trigger::decide(&pipeline.on, facts, known(self.changed.get_or_try_init(ask).await?)))
    }

    /// Who runs the pipeline for a push's commit instead of the push: a sentence.
    pub(super) async fn elsewhere(&self, pipeline: &Pipeline) -> Result<Option<String>, NotDecided> {
        let facts = self.facts();
        let Some(branch) = facts.branch.as_ref().filter(|_| facts.name == EventKind::Push) else { return Ok(None) };
        if for_merge_group(&pipeline.on, facts) {
            return Ok(Some("it runs for the merge queue, whose branch this is".to_owned()));
        }
        let on = &pipeline.on;
        let twice = on.push.as_ref().is_some_and(|rules| rules.with_pull_request);
        // What is pushed to the default branch is no change that waits to be merged, even where a pull request begins there.
        if twice || *branch == facts.default_branch || (on.pull_request.is_none() && !on.is_silent()) {
            return Ok(None);
        }
        for pull in self.pulls.get_or_try_init(|| Box::pin(self.find_pulls(branch))).await? {
            if Box::pin(self.runs_for(pipeline, pull)).await? {
                return Ok(Some(format!("it runs for pull request {}, which has this branch", pull.facts.number)));
            }
        }
        Ok(None)
    }

    /// The open pull requests that a push to `branch` belongs to.
    async fn find_pulls(&self, branch: &str) -> Result<Vec<PullRequest>, NotDecided> {
        let (repo, facts) = (&self.ready.trigger.repo, self.facts());
        let mut found = self.forge.pull_requests_from(repo, branch).await?;
        if found.is_empty() {
            found = self.forge.pull_requests_of(repo, &facts.sha).await?;
            found.retain(|pull| !pull.facts.fork);
        }
        // A branch that is new with this push cannot have had a pull request before it.
        let may_come = facts.before.is_some() && matches!(self.forge, Forge::Github(_));
        if found.is_empty() && may_come && self.patience.lookup {
            return Err(NotDecided::NotYet(format!("whether branch '{branch}' has a pull request is asked once more")));
        }
        Ok(found)
    }

    async fn runs_for(&self, pipeline: &Pipeline, pull: &PullRequest) -> Result<bool, NotDecided> {
        let (facts, number) = (self.facts(), pull.facts.number);
        let as_pull = as_pull(facts, &pull.facts, "synchronize");
        let mut files = None;
        if trigger::needs_paths(&pipeline.on, &as_pull) {
            files = self.forge.changed_files(&self.ready.trigger.repo, &as_pull).await?;
        }
        match for_pull(&pipeline.on, facts, &pull.facts, known(&files)) {
            ForPull::Never => return Ok(false),
            ForPull::Always => {}
            ForPull::Depends => {
                let mut tx = self.context.store.read().await?;
                return Ok(tx.has_run_for_pull(&self.repo_id(), &pipeline.stem, number, &facts.sha).await?);
            }
        }
        // Without a test merge the pull request does not run: then the push does, so that one of them does.
        Ok(!builds_merge(pipeline) || !self.conflicts(pull).await?)
    }

    async fn conflicts(&self, pull: &PullRequest) -> Result<bool, NotDecided> {
        let number = pull.facts.number;
        if pull.facts.head_sha != self.facts().sha {
            return Ok(false);
        }
        let mut known = self.conflicts.lock().await;
        if let Some(found) = known.get(&number) {
            return Ok(*found);
        }
        let repo = &self.ready.trigger.repo;
        let seen = self.forge.pull_request(repo, number).await?;
        let found = match test_merge(self.forge, repo, &seen).await? {
            TestMerge::Conflict => true,
            TestMerge::Unknown if self.patience.merge => {
                let what = format!("the forge has not worked out the test merge of pull request {number} yet");
                return Err(NotDecided::NotYet(what));
            }
            TestMerge::Of { .. } | TestMerge::Moved(_) | TestMerge::Unknown => false,
        };
        known.insert(number, found);
        Ok(found)
    }

    /// Why this is not started although it is meant: its branch has gone on, and its group keeps only the newest. Started
    /// late, it would cancel what came after it.
    pub(super) async fn superseded(&self, plan: &Plan) -> Result<Option<String>, NotDecided> {
        let facts = self.facts();
        let Some(group) = plan.concurrency.as_ref().filter(|group| group.cancel_in_progress) else { return Ok(None) };
        if group.group.contains(&facts.sha) {
            return Ok(None);
        }
        let (what, at) = match (&self.ready.build, facts.name, &facts.branch) {
            (super::prepare::Build::Moved(to), _, _) => ("the pull request".to_owned(), to.clone()),
            (_, EventKind::Push, Some(branch)) => match self.tip.get_or_try_init(|| Box::pin(self.find_tip())).await? {
                Some(tip) if *tip != facts.sha => (format!("branch '{branch}'"), tip.clone()),
                Some(_) | None => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(format!("{what} is at {} by now, and group '{}' keeps only the newest", short(&at), group.group)))
    }

    /// Where the pushed branch is now; `None` where it is gone.
    async fn find_tip(&self) -> Result<Option<String>, NotDecided> {
        match self.forge.resolve(&self.ready.trigger.repo, &self.facts().git_ref).await {
            Err(ForgeError::NotFound(_)) => Ok(None),
            found => Ok(Some(found?.sha)),
        }
    }

    /// The definitions of a pull request's head, for pipelines that build it and not the test merge.
    pub(super) async fn at_head(&self) -> Result<&(Sources, Definitions), NotDecided> {
        let load = async || {
            let facts = unmerged(self.facts());
            let loaded = self.forge.sources(&self.ready.trigger.repo, &facts.sha).await?;
            let all = definitions::evaluate(&self.context.evaluator, &loaded.sources, &facts).await;
            Ok((loaded.sources, by_stem(all).into_iter().collect()))
        };
        self.head.get_or_try_init(load).await
    }

    /// The base branch's definitions beside those of the event's commit; `None` where there is nothing to compare with.
    pub(super) async fn base(&self, own: &Sources) -> Result<Option<&Compared>, NotDecided> {
        Ok(self.base.get_or_try_init(|| Box::pin(self.find_base(own))).await?.as_ref())
    }

    async fn find_base(&self, own: &Sources) -> Result<Option<Compared>, NotDecided> {
        let repo = &self.ready.trigger.repo;
        let commit = match &self.ready.base {
            Base::Nothing => return Ok(None),
            Base::Commit(sha) => Ok(sha.clone()),
            Base::DefaultBranch => {
                self.forge.resolve(repo, &format!("refs/heads/{}", repo.default_branch)).await.map(|commit| commit.sha)
            }
        };
        let loaded = match commit {
            Ok(sha) => self.forge.sources(repo, &sha).await,
            Err(error) => Err(error),
        };
        let loaded = match loaded {
            // A base that is not there proves nothing.
            Err(ForgeError::NotFound(_)) => return Ok(Some(Compared::Differ(Sources::new(), Definitions::new()))),
            other => other?,
        };
        if loaded.sources == *own && loaded.problems.is_empty() {
            return Ok(Some(Compared::Same));
        }
        let all = definitions::evaluate(&self.context.evaluator, &loaded.sources, self.facts()).await;
        Ok(Some(Compared::Differ(loaded.sources, by_stem(all).into_iter().collect())))
    }

    /// What a definition of the base branch says to the event.
    pub(super) async fn base_says(&self, definition: Option<&Usable>) -> Result<BaseSays, NotDecided> {
        Ok(match definition {
            None => BaseSays::Absent,
            Some(Err(_)) => BaseSays::Broken,
            Some(Ok((pipeline, _))) => match self.decide(pipeline).await? {
                Decision::Run { .. } => BaseSays::Runs,
                Decision::Skip { by_path: true, .. } => BaseSays::ByPath,
                Decision::Skip { by_path: false, .. } => BaseSays::NotMeant,
            },
        })
    }
}

fn known(files: &Option<Vec<String>>) -> Changed<'_> {
    match files {
        Some(files) => Changed::Known(files),
        None => Changed::Unknown,
    }
}

/// Whether a pipeline builds a pull request's test merge.
pub(super) fn builds_merge(pipeline: &Pipeline) -> bool {
    pipeline.on.pull_request.as_ref().is_none_or(|rules| rules.merge)
}

/// The same event for a pipeline that builds the head.
pub(super) fn unmerged(facts: &EventFacts) -> EventFacts {
    let mut facts = facts.clone();
    if let Some(pull) = &mut facts.pull_request {
        pull.merge_sha = None;
    }
    facts
}

/// A commit's id as people read it.
pub(super) fn short(sha: &str) -> &str {
    sha.get(..12).unwrap_or(sha)
}

/// The definitions by stem. Where several files share one, its pipeline is none of theirs.
pub(super) fn by_stem(all: Vec<Defined>) -> Vec<(String, Usable)> {
    let mut found: Vec<(String, Usable)> = vec![];
    for defined in all {
        let stem = defined.stem.clone();
        match (found.last_mut(), defined.usable()) {
            (Some((last, Err(known))), Err(more)) if *last == stem => {
                known.extend(more.into_iter().filter(|problem| !known.contains(problem)).collect::<Vec<_>>());
            }
            (_, usable) => found.push((stem, usable)),
        }
    }
    found
}
