//! How stages depend on each other, and how many they become.

use super::checker::Checker;
use super::stage::Written;
use super::{DEPENDENCIES_LIMIT, Dialect, STAGES_LIMIT};
use crate::matrix;
use crate::plan::{Pipeline, Stage};
use crate::raw::quoted;
use crate::suggest::nearest;
use std::collections::{BTreeMap, BTreeSet};

/// Fills in the order of the file and checks that stages can be put in an order at all.
pub(super) fn connect(c: &mut Checker<'_>, pipeline: &Pipeline, mut written: Vec<Written>) -> Vec<Stage> {
    let unique = duplicates(c, &written);
    let names: Vec<String> = written.iter().map(|w| w.stage.name.clone()).collect();
    for (i, stage) in written.iter_mut().enumerate() {
        if c.dialect == Dialect::Lua && !stage.has_depends_on && i > 0 {
            stage.stage.depends_on = vec![names[i - 1].clone()];
        }
        dependencies(c, stage, &names);
    }
    // Which of two namesakes a dependency means is not known, so neither is what forms a cycle.
    if unique {
        cycles(c, &written);
    }
    let total: usize = written.iter().map(|w| legs(&w.stage)).sum();
    if total > STAGES_LIMIT
        && let Some(first) = written.first()
    {
        let text = format!("pipeline '{}' makes {total} stages; the limit is {STAGES_LIMIT}.", pipeline.stem);
        c.report(&first.name_at, "plan.too_many_stages", text);
    }
    written.into_iter().map(|w| w.stage).collect()
}

/// Whether every name is there once.
fn duplicates(c: &mut Checker<'_>, written: &[Written]) -> bool {
    let mut seen: BTreeMap<&str, &Written> = BTreeMap::new();
    for stage in written {
        let name = stage.stage.name.as_str();
        if let Some(first) = seen.get(name) {
            let text = format!("two stages are called {} (the other is on line {}).", quoted(name), first.name_at.line);
            c.report(&stage.name_at, "plan.duplicate", text);
        } else {
            seen.insert(name, stage);
        }
    }
    seen.len() == written.len()
}

fn dependencies(c: &mut Checker<'_>, written: &mut Written, names: &[String]) {
    let stage = &written.stage;
    let mut seen = BTreeSet::new();
    for (i, need) in stage.depends_on.iter().enumerate() {
        let at = written.dependency_places.get(i).unwrap_or(&written.name_at);
        if !names.contains(need) {
            let text = format!("stage '{}' needs {}, which does not exist.", stage.name, quoted(need));
            let hint = nearest(need, names.iter().map(String::as_str)).map(|near| format!("Did you mean '{near}'?"));
            c.report(at, "plan.unknown_stage", text).hint = hint;
        } else if !seen.insert(need.as_str()) {
            let text = format!("stage '{}' names {} twice in depends_on.", stage.name, quoted(need));
            c.report(at, "plan.duplicate", text);
        }
    }
    if stage.depends_on.len() > DEPENDENCIES_LIMIT {
        let count = stage.depends_on.len();
        let text = format!("stage '{}' depends on {count} stages; the limit is {DEPENDENCIES_LIMIT}.", stage.name);
        c.report(&written.name_at, "plan.too_many_dependencies", text);
    }
}

/// Reports each cycle once, named in the order one depends on the next.
fn cycles(c: &mut Checker<'_>, written: &[Written]) {
    let index: BTreeMap<&str, usize> = written.iter().enumerate().map(|(i, w)| (w.stage.name.as_str(), i)).collect();
    let needs: Vec<Vec<usize>> = written
        .iter()
        .map(|w| w.stage.depends_on.iter().filter_map(|need| index.get(need.as_str()).copied()).collect())
        .collect();
    let mut state = vec![Visit::New; written.len()];
    for start in 0..written.len() {
        let mut path: Vec<(usize, usize)> = Vec::new();
        if state[start] == Visit::New {
            state[start] = Visit::Open;
            path.push((start, 0));
        }
        while let Some((stage, next)) = path.last_mut() {
            let stage = *stage;
            let Some(need) = needs[stage].get(*next).copied() else {
                state[stage] = Visit::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match state[need] {
                Visit::New => {
                    state[need] = Visit::Open;
                    path.push((need, 0));
                }
                Visit::Open => {
                    let from = path.iter().position(|(on_path, _)| *on_path == need).unwrap_or(0);
                    let ring: Vec<usize> = path[from..].iter().map(|(stage, _)| *stage).collect();
                    report_cycle(c, written, &ring);
                }
                Visit::Done => {}
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Done,
}

fn report_cycle(c: &mut Checker<'_>, written: &[Written], ring: &[usize]) {
    let Some(first) = ring.first() else { return };
    let names: Vec<&str> = ring.iter().chain([first]).map(|i| written[*i].stage.name.as_str()).collect();
    let at = written[*first].name_at.clone();
    c.report(&at, "plan.cycle", format!("stages form a cycle: {}.", names.join(" → ")));
}

/// How many stages a stage becomes; one whose axes are functions counts as the one node that stands for it until then.
fn legs(stage: &Stage) -> usize {
    let made = stage.matrix.as_ref().and_then(|matrix| {
        let axes = matrix::fixed_axes(matrix)?;
        matrix::legs(&stage.name, &axes, matrix).ok()
    });
    made.map_or(1, |legs| legs.len())
}
