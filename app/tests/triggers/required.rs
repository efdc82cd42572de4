//! The required status: it always reports, and no change opens its own gate.

use crate::conversation::{Rivet, conversations};
use crate::{ANY, built};

conversations!(
    a_path_filtered_pull_request_passes_with_the_bases_word,
    a_change_of_the_filter_does_not_pass,
    a_pipeline_that_is_removed_or_broken_does_not_pass,
    a_trigger_that_is_taken_away_does_not_pass,
    a_new_pipeline_has_nobodys_word,
    a_marker_never_passes_and_works_on_the_head_alone,
    a_condition_that_the_change_edits_proves_nothing,
    a_push_does_not_speak_for_its_pull_request,
    a_branchs_own_filter_does_not_pass_either,
    a_pipeline_that_starts_itself_is_a_definition_error,
);

const FILTERED: &str = r#"
return pipeline.define({
    on = { push = { branches = { "main" } }, pull_request = { paths = { "src/**" } } },
    stages = { { name = "build", script = function() process.run("make") end } },
})
"#;

async fn a_path_filtered_pull_request_passes_with_the_bases_word(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(FILTERED)]).await;
    built(&rivet).await;
    let (number, head) = rivet.open_pull("topic", false, &[("docs/a", "1")]).await;
    insta::assert_snapshot!(rivet.checks(&head), @"rivet/ci: success: Skipped: the changed file 'docs/a' does not match on.pull_request.paths [src/**]");
    insta::assert_snapshot!(rivet.why(&head).await, @"ci skip: the changed file 'docs/a' does not match on.pull_request.paths [src/**]");
    // The next push matters: the run speaks, and goes on speaking.
    let head = rivet.push_to_pull(number, &[("src/a", "1")]).await;
    insta::assert_snapshot!(rivet.checks(&head), @"
    ci / build: queued: Waiting for a runner [Cancel]
    rivet/ci: pending: Run 2 has not ended yet
    ");
    built(&rivet).await;
    insta::assert_snapshot!(rivet.checks(&head), @"
    ci / build: completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    ");
    rivet.finish().await;
}

async fn a_change_of_the_filter_does_not_pass(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(FILTERED)]).await;
    built(&rivet).await;
    let narrowed = FILTERED.replace("src/**", "nothing/**");
    let (_, head) = rivet.open_pull("topic", false, &[Rivet::pipeline(&narrowed), ("src/a", "1")]).await;
    insta::assert_snapshot!(rivet.checks(&head), @"
    rivet / definitions: completed success: 1 change of .rivet/
    rivet/ci: error: Not run, and only because this change edits the pipeline: none of 2 changed files matches on.pull_request.paths [nothing/**]
    ");
    insta::assert_snapshot!(rivet.why(&head).await, @"ci skip: none of 2 changed files matches on.pull_request.paths [nothing/**]");
    rivet.finish().await;
}

async fn a_pipeline_that_is_removed_or_broken_does_not_pass(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY), (".rivet/lint.lua", ANY)]).await;
    built(&rivet).await;
    let files: [crate::fake_github::git::File<'_>; 2] =
        [(".rivet/ci.lua", "delete", b""), (".rivet/lint.lua", "100644", b"return 1 +")];
    let head = rivet.github.commit_files(&rivet.repo, "topic", &files);
    rivet.github.open_pull_request(&rivet.repo, "topic", false).await;
    rivet.settle().await;
    insta::assert_snapshot!(rivet.checks(&head), @"
    rivet / definitions: completed failure: Configuration error: mend 1 problem in .rivet/
      .rivet/lint.lua:1: expected identifier when parsing expression, got <eof>
    rivet/ci: error: Not run: this change removes the pipeline, which the base branch has
    rivet/lint: error: the definition has an error: .rivet/lint.lua:1:1: config.syntax: expected identifier when parsing expression, got <eof>
    ");
    insta::assert_snapshot!(rivet.why(&head).await, @"
    lint error: the definition has an error: .rivet/lint.lua:1:1: config.syntax: expected identifier when parsing expression, got <eof>
    ci skip: this change removes the pipeline, which the base branch has
    ");
    rivet.finish().await;
}

async fn a_trigger_that_is_taken_away_does_not_pass(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(FILTERED)]).await;
    built(&rivet).await;
    let gone = FILTERED.replace(r#", pull_request = { paths = { "src/**" } }"#, "");
    let (_, head) = rivet.open_pull("topic", false, &[Rivet::pipeline(&gone)]).await;
    insta::assert_snapshot!(rivet.checks(&head), @"
    rivet / definitions: completed success: 1 change of .rivet/
    rivet/ci: error: Not run, and only because this change edits the pipeline: on.pull_request is not set
    ");
    rivet.finish().await;
}

async fn a_new_pipeline_has_nobodys_word(rivet: Rivet) {
    rivet.push("main", &[("a", "1")]).await;
    let (_, head) = rivet.open_pull("topic", false, &[Rivet::pipeline(FILTERED)]).await;
    insta::assert_snapshot!(rivet.checks(&head), @"
    rivet / definitions: completed success: 2 changes of .rivet/
    rivet/ci: pending: Not run, and the base branch's definition does not say so: the changed file '.rivet/ci.lua' does not match on.pull_request.paths [src/**]
    ");
    rivet.finish().await;
}

async fn a_marker_never_passes_and_works_on_the_head_alone(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    built(&rivet).await;
    let git = rivet.github.git(&rivet.repo);
    let main = git.find("heads/main").unwrap();
    git.commit("topic", Some(&main), &[("b", "100644", b"1")], "Tidy [skip ci]");
    let number = rivet.github.open_pull_request(&rivet.repo, "topic", false).await;
    rivet.settle().await;
    let head = rivet.github.pull(&rivet.repo, number).head_sha;
    insta::assert_snapshot!(rivet.checks(&head), @"rivet/ci: pending: Not run: the commit's message says '[skip ci]'");
    insta::assert_snapshot!(rivet.why(&head).await, @"ci skip: the commit's message says '[skip ci]'");
    // A marker further down counts no more.
    rivet.push_to_pull(number, &[("b", "2")]).await;
    assert_eq!(built(&rivet).await.len(), 1);
    // By the trailer, on a push to main.
    let sha = git.commit("main", None, &[("c", "100644", b"1")], "Tidy\n\nskip-checks: true");
    let payload = rivet.github.push_payload(&rivet.repo, "main", Some(&main), &sha);
    rivet.github.deliver("push", &payload).await;
    rivet.settle().await;
    insta::assert_snapshot!(rivet.checks(&sha), @"rivet/ci: pending: Not run: the commit's message says 'skip-checks: true'");
    rivet.finish().await;
}

async fn a_condition_that_the_change_edits_proves_nothing(rivet: Rivet) {
    let never = ANY.replace("script", "condition = function() return false end, script");
    rivet.push("main", &[Rivet::pipeline(ANY), (".rivet/never.lua", &never)]).await;
    built(&rivet).await;
    let (_, head) = rivet.open_pull("topic", false, &[Rivet::pipeline(&never)]).await;
    insta::assert_snapshot!(rivet.checks(&head), @"
    rivet / definitions: completed success: 1 change of .rivet/
    ci / build: completed skipped: Skipped: its condition does not hold
    never / build: completed skipped: Skipped: its condition does not hold
    rivet/ci: error: Every stage was skipped, and this change edits the pipeline: that proves nothing
    rivet/never: success: Every stage was skipped.
    ");
    // Nor does it when it is repeated.
    let (status, _) = rivet.api("POST", &format!("/api/v1/runs/{}/rerun", rivet.run_id(3).await), None).await;
    assert!(status < 300);
    rivet.settle().await;
    assert!(rivet.checks(&head).contains("rivet/ci: error"), "{}", rivet.checks(&head));
    rivet.finish().await;
}

async fn a_push_does_not_speak_for_its_pull_request(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    built(&rivet).await;
    // It skips itself as a push, and takes the pull request away.
    let own = r#"
return pipeline.define({
    on = { push = true },
    stages = { { name = "build", condition = function() return false end, script = function() end } },
})
"#;
    rivet.push("topic", &[Rivet::pipeline(own)]).await;
    let number = rivet.github.open_pull_request(&rivet.repo, "topic", false).await;
    rivet.settle().await;
    let head = rivet.github.pull(&rivet.repo, number).head_sha;
    insta::assert_snapshot!(rivet.checks(&head), @"
    ci / build: completed skipped: Skipped: its condition does not hold
    rivet / definitions: completed success: 2 changes of .rivet/
    rivet/ci: error: Not run, and only because this change edits the pipeline: on.pull_request is not set
    ");
    insta::assert_snapshot!(rivet.why(&head).await, @"
    ci run: branch 'topic' was pushed, and on.push takes every branch
    ci skip: on.pull_request is not set
    ");
    // By another branch that points to the same commit.
    let git = rivet.github.git(&rivet.repo);
    git.run(&["update-ref", "refs/heads/other", &head]).unwrap();
    rivet.github.deliver("push", &rivet.github.push_payload(&rivet.repo, "other", None, &head)).await;
    rivet.settle().await;
    assert!(rivet.checks(&head).contains("rivet/ci: error: Not run"), "{}", rivet.checks(&head));
    rivet.finish().await;
}

async fn a_pipeline_that_starts_itself_is_a_definition_error(rivet: Rivet) {
    let calls = |name: &str| {
        let on = if name == "ci" { "on = { push = true }" } else { "on = { manual = true }" };
        format!(
            r#"return pipeline.define({{ {on}, stages = {{ {{ name = "go", pipeline = "{name}" }} }} }})"#,
            name = if name == "ci" { "e2e" } else { "ci" }
        )
    };
    let (ci, e2e) = (calls("ci"), calls("e2e"));
    let sha = rivet.push("main", &[(".rivet/ci.lua", &ci), (".rivet/e2e.lua", &e2e)]).await;
    insta::assert_snapshot!(rivet.why(&sha).await, @"
    ci error: the definition has an error: .rivet/ci.lua:1:68: plan.pipeline_cycle: pipeline 'ci' starts itself: ci → e2e → ci take one of these stages out
    e2e error: the definition has an error: .rivet/e2e.lua:1:70: plan.pipeline_cycle: pipeline 'e2e' starts itself: e2e → ci → e2e take one of these stages out
    ");
    rivet.finish().await;
}

async fn a_branchs_own_filter_does_not_pass_either(rivet: Rivet) {
    let filtered = ANY.replace("stages", r#"on = { push = { paths = { "src/**" } } }, stages"#);
    rivet.push("main", &[Rivet::pipeline(&filtered)]).await;
    built(&rivet).await;
    let honest = rivet.push("topic", &[("docs/a", "1")]).await;
    insta::assert_snapshot!(rivet.checks(&honest), @"rivet/ci: success: Skipped: the changed file 'docs/a' does not match on.push.paths [src/**]");
    let narrowed = filtered.replace("src/**", "nothing/**");
    let sly = rivet.push("sly", &[Rivet::pipeline(&narrowed), ("src/a", "1")]).await;
    insta::assert_snapshot!(rivet.checks(&sly), @"rivet/ci: error: Not run, and only because this change edits the pipeline: none of 2 changed files matches on.push.paths [nothing/**]");
    rivet.finish().await;
}
