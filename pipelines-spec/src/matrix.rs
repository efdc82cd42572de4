//! Legs of a matrix: the product of its axes, less `exclude`, with `include` as GitHub documents it, and their names.
//!
//! `include` is read in order after `exclude`. An entry whose values all agree with a leg's axes adds its further values to
//! that leg (and to every other that agrees); it may overwrite what an earlier entry added, never an axis. An entry that
//! agrees with no leg becomes a leg of its own, to which no later entry adds.

use crate::inputs::text;
use crate::plan::{Axis, Matrix};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Legs one matrix may have.
pub const MOST_LEGS: usize = 256;
/// Legs looked at before `exclude`.
const MOST_PRODUCT: usize = 1 << 14;
/// Characters of a value that is part of a leg's name.
const LONGEST_VALUE: usize = 128;

/// One leg: its values by axis.
pub type Leg = Map<String, Value>;

/// The legs of a matrix whose axes all have values, in the order of the file; or what is wrong, as a sentence.
/// An empty axis gives no legs but those of `include`.
pub fn legs(owner: &str, axes: &BTreeMap<String, Vec<Value>>, matrix: &Matrix) -> Result<Vec<Leg>, String> {
    let product = axes.values().try_fold(1usize, |n, values| n.checked_mul(values.len())).unwrap_or(usize::MAX);
    if product > MOST_PRODUCT {
        return Err(too_many(owner, &product.to_string()));
    }
    let excluded = |leg: &Leg| matrix.exclude.iter().any(|x| !x.is_empty() && agrees(leg, x));
    let mut legs: Vec<Leg> = multiply(axes).into_iter().filter(|leg| !excluded(leg)).collect();
    let originals = legs.len();
    for include in &matrix.include {
        let mut added = false;
        for leg in &mut legs[..originals] {
            let axes_agree = include.iter().filter(|(k, _)| axes.contains_key(*k)).all(|(k, v)| same(leg.get(k), v));
            if axes_agree {
                leg.extend(include.clone());
                added = true;
            }
        }
        if !added {
            legs.push(include.clone().into_iter().collect());
        }
    }
    if legs.len() > MOST_LEGS {
        return Err(too_many(owner, &legs.len().to_string()));
    }
    check_values(owner, &legs)?;
    Ok(legs)
}

fn too_many(owner: &str, count: &str) -> String {
    format!("stage '{owner}' makes {count} legs; the limit is {MOST_LEGS}.")
}

fn multiply(axes: &BTreeMap<String, Vec<Value>>) -> Vec<Leg> {
    if axes.is_empty() {
        return Vec::new();
    }
    axes.iter().fold(vec![Leg::new()], |legs, (axis, values)| {
        let with = |leg: &Leg, value: &Value| {
            let mut leg = leg.clone();
            leg.insert(axis.clone(), value.clone());
            leg
        };
        legs.iter().flat_map(|leg| values.iter().map(move |value| with(leg, value))).collect()
    })
}

fn agrees(leg: &Leg, values: &BTreeMap<String, Value>) -> bool {
    values.iter().all(|(key, value)| same(leg.get(key), value))
}

/// Values are compared as people see them: Lua's `1` and `1.0` are one number.
fn same(have: Option<&Value>, want: &Value) -> bool {
    have.is_some_and(|have| have == want || (have.is_number() && want.is_number() && text(have) == text(want)))
}

fn check_values(owner: &str, legs: &[Leg]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for leg in legs {
        for (axis, value) in leg {
            let shown = match value {
                Value::String(_) | Value::Number(_) | Value::Bool(_) => text(value),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(format!("axis '{axis}' of stage '{owner}' may hold text, numbers and booleans only."));
                }
            };
            if shown.chars().count() > LONGEST_VALUE || shown.chars().any(char::is_control) {
                return Err(format!(
                    "a value of axis '{axis}' of stage '{owner}' is not one line of at most {LONGEST_VALUE} characters."
                ));
            }
        }
        let name = leg_name(owner, leg);
        if !names.insert(name.clone()) {
            return Err(format!("the matrix of stage '{owner}' makes the leg '{name}' twice."));
        }
    }
    Ok(())
}

/// `test (db=sqlite, os=linux)`, axes sorted by name.
pub fn leg_name(base: &str, leg: &Leg) -> String {
    if leg.is_empty() {
        return base.to_owned();
    }
    let values: Vec<_> = leg.iter().map(|(axis, value)| format!("{axis}={}", text(value))).collect();
    format!("{base} ({})", values.join(", "))
}

/// The axes whose values stand in the file; `None` where one is a function.
pub fn fixed_axes(matrix: &Matrix) -> Option<BTreeMap<String, Vec<Value>>> {
    let fixed = |(name, axis): (&String, &Axis)| match axis {
        Axis::Values { values } => Some((name.clone(), values.clone())),
        Axis::Function => None,
    };
    matrix.axes.iter().map(fixed).collect()
}

/// Every name `${matrix.…}` may have: axes, and what `include` adds.
pub fn axis_names(matrix: &Matrix) -> Vec<String> {
    let names: BTreeSet<&String> = matrix.axes.keys().chain(matrix.include.iter().flat_map(BTreeMap::keys)).collect();
    names.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;
    use proptest::prelude::*;
    use serde_json::json;

    fn matrix(axes: Value, include: Value, exclude: Value) -> Matrix {
        let axes: BTreeMap<String, Vec<Value>> = serde_json::from_value(axes).unwrap();
        Matrix {
            axes: axes.into_iter().map(|(name, values)| (name, Axis::Values { values })).collect(),
            include: serde_json::from_value(include).unwrap(),
            exclude: serde_json::from_value(exclude).unwrap(),
            max_parallel: None,
            fail_fast: true,
        }
    }

    fn names(matrix: &Matrix) -> String {
        match legs("t", &fixed_axes(matrix).unwrap(), matrix) {
            Ok(legs) => legs.iter().map(|leg| leg_name("t", leg)).collect::<Vec<_>>().join("\n"),
            Err(why) => why,
        }
    }

    #[test]
    fn the_example_of_the_language() {
        let m = matrix(
            json!({ "profile": ["dev", "release"], "db": ["sqlite", "postgres"] }),
            json!([]),
            json!([{ "db": "postgres", "profile": "dev" }]),
        );
        assert_snapshot!(names(&m), @"
        t (db=sqlite, profile=dev)
        t (db=sqlite, profile=release)
        t (db=postgres, profile=release)
        ");
    }

    /// The example GitHub documents: what each entry of `include` does to fruits and animals.
    #[test]
    fn include_does_what_github_documents() {
        let m = matrix(
            json!({ "fruit": ["apple", "pear"], "animal": ["cat", "dog"] }),
            json!([
                { "color": "green" },
                { "color": "pink", "animal": "cat" },
                { "fruit": "apple", "shape": "circle" },
                { "fruit": "banana" },
                { "fruit": "banana", "animal": "cat" },
            ]),
            json!([]),
        );
        assert_snapshot!(names(&m), @"
        t (animal=cat, color=pink, fruit=apple, shape=circle)
        t (animal=cat, color=pink, fruit=pear)
        t (animal=dog, color=green, fruit=apple, shape=circle)
        t (animal=dog, color=green, fruit=pear)
        t (fruit=banana)
        t (animal=cat, fruit=banana)
        ");
    }

    #[test]
    fn include_alone_makes_legs() {
        let m = matrix(json!({}), json!([{ "os": "linux" }, { "os": "mac", "arch": "arm" }]), json!([]));
        assert_snapshot!(names(&m), @"
        t (os=linux)
        t (arch=arm, os=mac)
        ");
    }

    #[test]
    fn what_cannot_be_a_leg_is_said() {
        let numbers: Vec<u32> = (0..257).collect();
        assert_snapshot!(names(&matrix(json!({ "n": numbers }), json!([]), json!([]))), @"stage 't' makes 257 legs; the limit is 256.");
        assert_snapshot!(names(&matrix(json!({ "n": [1, 1.0] }), json!([]), json!([]))), @"the matrix of stage 't' makes the leg 't (n=1)' twice.");
        assert_snapshot!(names(&matrix(json!({ "n": [[1]] }), json!([]), json!([]))), @"axis 'n' of stage 't' may hold text, numbers and booleans only.");
        assert_snapshot!(names(&matrix(json!({ "n": ["a\nb"] }), json!([]), json!([]))), @"a value of axis 'n' of stage 't' is not one line of at most 128 characters.");
        let wide: Vec<u32> = (0..200).collect();
        let huge = matrix(json!({ "a": wide, "b": wide, "c": wide, "d": wide, "e": wide }), json!([]), json!([]));
        assert_snapshot!(names(&huge), @"stage 't' makes 320000000000 legs; the limit is 256.");
    }

    proptest! {
        #[test]
        fn excluded_legs_are_gone_and_all_others_stay(a in 1usize..5, b in 1usize..5, x in 0usize..5, y in 0usize..5) {
            let axes = json!({ "a": (0..a).collect::<Vec<_>>(), "b": (0..b).collect::<Vec<_>>() });
            let m = matrix(axes, json!([]), json!([{ "a": x, "b": y }]));
            let legs = legs("t", &fixed_axes(&m).unwrap(), &m).unwrap();
            prop_assert_eq!(legs.len(), a * b - usize::from(x < a && y < b));
        }
    }
}
