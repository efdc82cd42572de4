//! The graph of a run as boxes and lines: layered from left to right, each layer ordered by where its predecessors
//! stand. Legs of one matrix are one box.

use super::status::Status;
use super::text::{clean, shorten};
use crate::http::api::shapes::Stage;
use std::collections::BTreeMap;

const WIDTH: usize = 190;
const HEIGHT: usize = 46;
const GAP_X: usize = 54;
const GAP_Y: usize = 16;
const MARGIN: usize = 8;

/// Beyond this a picture tells less than the table below it.
const MOST_BOXES: usize = 80;

/// The picture.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The boxes.
    pub nodes: Vec<Node>,
    /// Paths of the lines.
    pub edges: Vec<Edge>,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// A stage, or all legs of one.
#[derive(Debug, Clone)]
pub struct Node {
    /// Left edge.
    pub x: usize,
    /// Upper edge.
    pub y: usize,
    /// How it stands.
    pub status: Status,
    /// Its name, short enough for the box.
    pub label: String,
    /// Its whole name.
    pub title: String,
    /// The second line.
    pub note: String,
    /// Where it leads.
    pub href: String,
    /// Whether it stands for several legs.
    pub many: bool,
}

/// A line from one box to another.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Its path.
    pub path: String,
    /// Whether what it comes from is done.
    pub done: bool,
}

struct Group<'a> {
    stages: Vec<&'a Stage>,
    needs: Vec<usize>,
    layer: usize,
    row: usize,
}

impl Graph {
    /// The graph of these stages; `None` where a picture would not help.
    pub fn new(stages: &[Stage], note: impl Fn(&Stage) -> String) -> Option<Self> {
        let mut groups = group(stages);
        if groups.len() < 2 || groups.len() > MOST_BOXES {
            return None;
        }
        layer(&mut groups);
        let rows = order(&mut groups);
        let layers = groups.iter().map(|g| g.layer).max().unwrap_or(0) + 1;
        let height = rows * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN;
        let nodes: Vec<Node> = groups.iter().map(|g| draw(g, &groups, height, &note)).collect();
        let edges = connect(&groups, &nodes);
        Some(Self { nodes, edges, width: layers * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN, height })
    }
}

fn group(stages: &[Stage]) -> Vec<Group<'_>> {
    let mut index: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for stage in stages {
        let at = *index.entry(&stage.base).or_insert_with(|| {
            groups.push(Group { stages: vec![], needs: vec![], layer: 0, row: 0 });
            groups.len() - 1
        });
        groups[at].stages.push(stage);
    }
    for (at, group) in groups.iter_mut().enumerate() {
        let names = group.stages.first().map(|s| s.depends_on.as_slice()).unwrap_or_default();
        let needs = names.iter().filter_map(|name| index.get(name.as_str()).copied());
        group.needs = needs.filter(|need| *need != at).collect();
    }
    groups
}

/// Each box stands one layer behind the last box it needs. Plans have no cycles; were there one, the bound ends it.
fn layer(groups: &mut [Group<'_>]) {
    for _ in 0..groups.len() {
        let mut moved = false;
        for at in 0..groups.len() {
            let layer = groups[at].needs.iter().map(|need| groups[*need].layer + 1).max().unwrap_or(0);
            if layer > groups[at].layer && layer < groups.len() {
                groups[at].layer = layer;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
}

/// Orders each layer by the middle of what its boxes need, and answers the height of the tallest layer.
fn order(groups: &mut [Group<'_>]) -> usize {
    let layers = groups.iter().map(|g| g.layer).max().unwrap_or(0);
    let mut tallest = 1;
    for layer in 0..=layers {
        let mut members: Vec<(usize, usize)> = (0..groups.len())
            .filter(|at| groups[*at].layer == layer)
            .map(|at| {
                let needs = &groups[at].needs;
                let sum: usize = needs.iter().map(|need| groups[*need].row * 1000).sum();
                (sum.checked_div(needs.len()).unwrap_or(0), at)
            })
            .collect();
        members.sort_unstable();
        tallest = tallest.max(members.len());
        for (row, (_, at)) in members.into_iter().enumerate() {
            groups[at].row = row;
        }
    }
    tallest
}

fn draw(group: &Group<'_>, all: &[Group<'_>], height: usize, note: &impl Fn(&Stage) -> String) -> Node {
    let in_layer = all.iter().filter(|g| g.layer == group.layer).count();
    let used = in_layer * (HEIGHT + GAP_Y) - GAP_Y;
    let first = group.stages[0];
    let many = group.stages.len() > 1;
    let status = Status::of_all(group.stages.iter().map(|s| s.state.as_str()));
    let (name, note, href) = if many {
        let done = group.stages.iter().filter(|s| !Status::of(&s.state).live).count();
        (&first.base, format!("{done} of {} legs done", group.stages.len()), format!("#stage-{}", clean(&first.base)))
    } else {
        (&first.name, note(first), first.url.clone())
    };
    Node {
        x: MARGIN + group.layer * (WIDTH + GAP_X),
        y: (height - used) / 2 + group.row * (HEIGHT + GAP_Y),
        status,
        label: shorten(&clean(name), 20),
        title: format!("{}: {}", clean(name), status.word),
        note,
        href,
        many,
    }
}

fn connect(groups: &[Group<'_>], nodes: &[Node]) -> Vec<Edge> {
    let mut edges = vec![];
    for (at, group) in groups.iter().enumerate() {
        for need in &group.needs {
            let (from, to) = (&nodes[*need], &nodes[at]);
            let (x1, y1) = (from.x + WIDTH, from.y + HEIGHT / 2);
            let (x2, y2) = (to.x, to.y + HEIGHT / 2);
            // Bends right before its end, so a long line runs along the row it comes from.
            let bend = x2.saturating_sub(GAP_X);
            let middle = x2.saturating_sub(GAP_X / 2);
            let path = format!("M{x1} {y1}H{bend}C{middle} {y1} {middle} {y2} {x2} {y2}");
            edges.push(Edge { path, done: !from.status.live });
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, base: &str, needs: &[&str]) -> Stage {
        Stage {
            name: name.into(),
            base: base.into(),
            matrix: serde_json::Map::new(),
            state: "pending".into(),
            reason: String::new(),
            attempt: 0,
            max_attempts: 1,
            depends_on: needs.iter().map(|n| (*n).to_owned()).collect(),
            container: None,
            labels: vec![],
            environment: None,
            rollback: None,
            child_run: None,
            queued_at: None,
            started_at: None,
            finished_at: None,
            error: None,
            outputs: None,
            url: String::new(),
        }
    }

    #[test]
    fn a_box_stands_behind_all_it_needs_and_legs_share_one() {
        let stages = [
            stage("deploy", "deploy", &["test", "lint"]),
            stage("build", "build", &[]),
            stage("test (a=1)", "test", &["build"]),
            stage("test (a=2)", "test", &["build"]),
            stage("lint", "lint", &[]),
        ];
        let graph = Graph::new(&stages, |_| String::new()).unwrap();
        let places: Vec<(String, usize)> =
            graph.nodes.iter().map(|n| (n.label.clone(), (n.x - MARGIN) / (WIDTH + GAP_X))).collect();
        let expected = [("deploy", 2), ("build", 0), ("test", 1), ("lint", 0)];
        assert_eq!(places, expected.map(|(name, layer)| (name.to_owned(), layer)));
        assert_eq!(graph.edges.len(), 3);
        assert_eq!(graph.nodes[2].note, "0 of 2 legs done");
        assert!(graph.nodes.iter().all(|n| n.x + WIDTH <= graph.width && n.y + HEIGHT <= graph.height));
    }

    #[test]
    fn even_a_circle_ends() {
        let stages = [stage("a", "a", &["b"]), stage("b", "b", &["a"])];
        assert!(Graph::new(&stages, |_| String::new()).is_some());
    }
}
