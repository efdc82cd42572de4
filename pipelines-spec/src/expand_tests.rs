//! Strings and run lines as people write them; run lines are also run by a real shell.

use super::*;
use crate::trigger::EventFacts;
use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::json;
use std::process::Command;

fn event() -> EventFacts {
    serde_json::from_value(json!({
        "name": "push", "repo": "acme/app", "default_branch": "main", "ref": "refs/heads/feature/x",
        "branch": "feature/x", "sha": "abc123", "actor": "alice", "extra": { "words": ["a", "b"] },
    }))
    .unwrap()
}

fn specs() -> BTreeMap<String, InputSpec> {
    let spec = json!({
        "target": { "type": "string", "required": false },
        "jobs": { "type": "number", "required": false },
        "token": { "type": "string", "required": false, "secret": true },
    });
    serde_json::from_value(spec).unwrap()
}

struct World {
    event: EventFacts,
    specs: BTreeMap<String, InputSpec>,
    inputs: Map<String, Value>,
    leg: Map<String, Value>,
}

impl World {
    fn new(target: &str) -> Self {
        let inputs = json!({ "target": target, "jobs": 4, "token": "s3cret" }).as_object().unwrap().clone();
        let leg = json!({ "db": "sqlite", "n": 2.0 }).as_object().unwrap().clone();
        Self { event: event(), specs: specs(), inputs, leg }
    }

    fn scope(&self) -> Scope<'_> {
        Scope::new(&self.event, Some(&self.specs), &self.inputs, Axes::Leg(&self.leg))
    }

    fn string(&self, text: &str) -> String {
        say(string(&self.scope(), text, Secrets::Refused))
    }

    fn line(&self, line: &str) -> String {
        say(run_line(&self.scope(), line, &mut RunValues::default()))
    }

    /// What `sh` prints for the line.
    fn sh(&self, line: &str) -> String {
        let mut values = RunValues::default();
        let line = run_line(&self.scope(), line, &mut values).unwrap();
        let out = Command::new("sh").args(["-c", &line]).envs(values.into_values()).output().unwrap();
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }
}

fn say(result: Result<String, Vec<Unknown>>) -> String {
    result.unwrap_or_else(|problems| {
        problems
            .into_iter()
            .map(|p| format!("{} | {}", p.message, p.hint.unwrap_or_default()))
            .collect::<Vec<_>>()
            .join("\n")
    })
}

#[test]
fn names_are_filled_in() {
    let world = World::new("x86");
    assert_eq!(world.string("ci-${ref}-${sha}"), "ci-feature/x-abc123");
    assert_eq!(world.string("${branch} ${event.actor} ${event.extra.words}"), "feature/x alice a,b");
    assert_eq!(world.string("${input.target}/${input.jobs} ${matrix.db}:${matrix.n}"), "x86/4 sqlite:2");
    assert_eq!(world.string("$${HOME} $HOME $"), "${HOME} $HOME $");
    assert_eq!(world.string("[${event.tag}${event.pull_request.number}]"), "[]", "what this event lacks is empty");
}

#[test]
fn unknown_names_are_told_with_the_nearest() {
    let world = World::new("x86");
    assert_snapshot!(world.string("${input.targt} ${matrix.os} ${brnch}"), @"
    unknown name 'input.targt' in ${input.targt} | Did you mean '${input.target}'?
    unknown name 'matrix.os' in ${matrix.os} | Write $${matrix.os} for the plain text.
    unknown name 'brnch' in ${brnch} | Did you mean '${branch}'?
    ");
    assert_snapshot!(world.string("${event.shaa}"), @"unknown name 'event.shaa' in ${event.shaa} | Did you mean '${event.sha}'?");
    assert_snapshot!(world.string("${event.pull_request.numbr}"), @"unknown name 'event.pull_request.numbr' in ${event.pull_request.numbr} | Did you mean '${event.pull_request.number}'?");
    assert_snapshot!(world.string("a ${ref"), @"'${' is not closed in 'a ${ref' | Write $${ for a plain '${'.");
    assert_snapshot!(world.string("${input.token}"), @"the secret value of ${input.token} would be shown here | Secret inputs can be used in 'env' and in 'run' lines.");
}

#[test]
fn refs_have_short_names() {
    let short = |git_ref: &str| short_ref(&EventFacts { git_ref: git_ref.into(), ..event() });
    assert_eq!(short("refs/heads/release/1"), "release/1");
    assert_eq!(short("refs/tags/v1"), "v1");
    assert_eq!(short("refs/pull/5/head"), "pull/5");
    assert_eq!(short("refs/pull/5/merge"), "pull/5");
}

#[test]
fn values_stay_out_of_run_lines() {
    let world = World::new("x86");
    assert_snapshot!(world.line("make ${input.target} -j${input.jobs}"), @r#"make "${RIVET_V_1}" -j"${RIVET_V_2}""#);
    assert_snapshot!(world.line(r#"echo "to ${input.target}, ${input.target}""#), @r#"echo "to ${RIVET_V_1}, ${RIVET_V_1}""#);
    assert_snapshot!(world.line("echo 'to ${input.target}'"), @r#"echo 'to '"${RIVET_V_1}"''"#);
    assert_snapshot!(world.line("echo $HOME ${HOME} ${x:-1} $(pwd) ${refs} $${ref} ${input}"), @"echo $HOME ${HOME} ${x:-1} $(pwd) ${refs} ${ref} ${input}");
    assert_snapshot!(world.line("echo ${TARGET:-${input.target}}"), @r#"echo ${TARGET:-"${RIVET_V_1}"}"#);
    assert_snapshot!(world.line(r#"x="$(${input.target} -v)""#), @r#"x="$("${RIVET_V_1}" -v)""#);
    assert_snapshot!(world.line(r"echo \${sha} '\${sha}'"), @r#"echo \${sha} '\'"${RIVET_V_1}"''"#);
    assert_snapshot!(world.line("echo ${input.nope}"), @"unknown name 'input.nope' in ${input.nope} | Write $${input.nope} for the plain text.");
    assert_snapshot!(world.line("cat <<'END'\n${sha}\nEND"), @"${sha} stands in a here-document whose delimiter is quoted, where the shell expands nothing | Take the quotes off the delimiter.");
}

/// Lines in which the value must arrive as it is, as one word.
const LINES: [&str; 16] = [
    "printf %s ${input.target}",
    "printf %s \"${input.target}\"",
    "printf %s '${input.target}'",
    "printf %s \"$(printf %s ${input.target})\"",
    "printf %s \"$(printf %s \"${input.target}\")\"",
    "printf %s \"`printf %s ${input.target}`\"",
    "printf %s ${NOTHING:-${input.target}}",
    "printf %s \"${NOTHING:-${input.target}}\"",
    "printf %s \"it's ${input.target}\" | cut -c 6-",
    "printf %s ${input.target} # it's a comment",
    "echo 'it'\\''s' > /dev/null; printf %s ${input.target}",
    "x=$((1 + 1)); printf %s ${input.target}",
    "cat <<END\n${input.target}\nEND\n",
    "cat <<'A' > /dev/null; printf %s ${input.target}\nit's \" quoted\nA\n",
    "if [ $# = 0 ]; then printf %s ${input.target}; fi",
    "(printf %s ${input.target})",
];

#[test]
fn a_real_shell_gets_every_value_as_it_is() {
    for hostile in ["x86", "a b", "$(id)", "`id`", "'; id; '", "\"; id; \"", "*", "-n", "a\\nb", "${HOME}", "é 日本"]
    {
        let world = World::new(hostile);
        for line in LINES {
            assert_eq!(world.sh(line).trim_end_matches('\n'), hostile, "{line}");
        }
    }
    assert_eq!(World::new("").sh("echo $((${input.jobs} * 2))"), "8\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_value_arrives_in_any_of_the_lines(value in "[ -~äß]{0,12}", line in proptest::sample::select(LINES.to_vec())) {
        let said = World::new(&value).sh(line);
        prop_assert_eq!(said.trim_end_matches('\n'), value);
    }

    #[test]
    fn no_value_is_ever_part_of_the_line(line in "[a-z '\"`$(){}<\\\\#\n]{0,20}", value in "[A-Z]{8}") {
        let world = World::new(&value);
        let line = format!("{line}${{input.target}}{line}");
        prop_assert!(!world.line(&line).contains(&value));
    }
}
