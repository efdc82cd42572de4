//! Pipelines that start each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

/// The way from a pipeline back to itself, through the pipelines its stages run; the first one found.
pub(super) fn cycle_from<'a>(stem: &'a str, children: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![stem]];
    while let Some(way) = ways.pop() {
        let last = way.last().copied().unwrap_or(stem);
        for child in children.get(last).into_iter().flatten() {
            let mut longer = way.clone();
            longer.push(child);
            if *child == stem {
                return Some(longer);
            }
            if seen.insert(*child) {
                ways.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(stem: &str) -> String {
        let children = BTreeMap::from([
            ("ci", vec!["lint", "e2e"]),
            ("e2e", vec!["setup"]),
            ("setup", vec!["ci"]),
            ("lint", vec![]),
            ("own", vec!["own"]),
            ("outside", vec!["ci"]),
        ]);
        cycle_from(stem, &children).map(|way| way.join(" → ")).unwrap_or_default()
    }

    #[test]
    fn a_circle_is_found_from_each_of_its_pipelines_and_from_no_other() {
        assert_eq!(way("ci"), "ci → e2e → setup → ci");
        assert_eq!(way("setup"), "setup → ci → e2e → setup");
        assert_eq!(way("own"), "own → own");
        assert_eq!(way("lint"), "");
        assert_eq!(way("outside"), "", "it only leads into one");
    }
}
