//! Glob patterns for branches, tags and paths, close to those of GitHub's workflow files.
//!
//! One pattern:
//!
//! * `*` matches any run of characters but `/`; `?` one character but `/`; `[abc]`, `[a-z]`, `[!a]` one of a set;
//!   `{a,b}` either; `\` takes the meaning from the character after it.
//! * `**` matches any run of characters, `/` included. As a whole component (`docs/**`, `**/x`) it stands for any number
//!   of folders; glued to other characters (`**.js`, `a**b`) it also crosses folders.
//! * Case matters, a leading dot is nothing special, and the whole text must match.
//!
//! A list is read in order and the last pattern that matches decides; `!` before a pattern takes back what the ones before
//! it let in. A list that begins with `!` begins from everything. An empty list matches nothing.
//!
//! What differs from GitHub: there `?` and `+` repeat the character before them, and a list of `!` alone is an error.

use globset::{GlobBuilder, GlobMatcher};

/// Characters a pattern may have.
const LONGEST: usize = 512;
/// `**` glued to other characters a pattern may have: each doubles the patterns tried.
const MOST_GLUED: usize = 4;

/// A list of patterns, ready to be matched many times.
pub struct Globs {
    rules: Vec<Rule>,
}

struct Rule {
    takes_back: bool,
    matchers: Vec<GlobMatcher>,
}

impl Globs {
    /// The list, or the first pattern that cannot be read with why.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let rules = patterns.iter().map(|p| Rule::new(p)).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// Whether the list lets `text` in.
    pub fn matches(&self, text: &str) -> bool {
        let from_everything = self.rules.first().is_some_and(|r| r.takes_back);
        let last = self.rules.iter().rev().find(|r| r.matchers.iter().any(|m| m.is_match(text)));
        last.map_or(from_everything, |r| !r.takes_back)
    }
}

impl Rule {
    fn new(pattern: &str) -> Result<Self, String> {
        let (takes_back, glob) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        if glob.is_empty() {
            return Err("it is empty".to_owned());
        }
        if pattern.chars().count() > LONGEST {
            return Err(format!("it has more than {LONGEST} characters"));
        }
        let spellings = unglue(glob);
        if spellings.len() > 1 << MOST_GLUED {
            return Err(format!("it has '**' beside other characters more than {MOST_GLUED} times"));
        }
        let matchers = spellings.iter().map(|s| compile(s)).collect::<Result<_, _>>()?;
        Ok(Self { takes_back, matchers })
    }
}

fn compile(glob: &str) -> Result<GlobMatcher, String> {
    let built = GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
    match built {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(e) => Err(e.kind().to_string()),
    }
}

/// globset knows `**` only as a whole component. Where it is glued to something else it means `*` or `*/**/*`, so the
/// pattern becomes two.
fn unglue(glob: &str) -> Vec<String> {
    let mut spellings = vec![String::new()];
    let mut rest = glob;
    let mut before: Option<char> = None;
    while let Some(c) = rest.chars().next() {
        let stars = rest.len() - rest.trim_start_matches('*').len();
        if stars >= 2 {
            let after = rest[stars..].chars().next();
            let whole = before.is_none_or(|b| b == '/') && after.is_none_or(|a| a == '/');
            if whole {
                spellings.iter_mut().for_each(|s| s.push_str("**"));
            } else if spellings.len() <= 1 << MOST_GLUED {
                let deep: Vec<_> = spellings.iter().map(|s| format!("{s}*/**/*")).collect();
                spellings.iter_mut().for_each(|s| s.push('*'));
                spellings.extend(deep);
            }
            before = Some('*');
            rest = &rest[stars..];
            continue;
        }
        // An escaped character is copied with its backslash, so that `\*` never counts as a star.
        let taken = if c == '\\' { rest.chars().take(2).map(char::len_utf8).sum() } else { c.len_utf8() };
        spellings.iter_mut().for_each(|s| s.push_str(&rest[..taken]));
        before = rest[..taken].chars().last();
        rest = &rest[taken..];
    }
    spellings
}

/// Whether the list of patterns lets `text` in. A pattern that cannot be read matches nothing: [`check`] tells of it earlier.
pub fn matches(patterns: &[String], text: &str) -> bool {
    Globs::new(patterns).is_ok_and(|globs| globs.matches(text))
}

/// What is wrong with one pattern of a list, as the rest of a sentence.
pub fn check(pattern: &str) -> Result<(), String> {
    Rule::new(pattern).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn patterns_match_as_the_module_says() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&["main"], "main", true),
            (&["main"], "mainline", false),
            (&["main"], "Main", false),
            (&["release/*"], "release/1.0", true),
            (&["release/*"], "release/1.0/fix", false),
            (&["release/**"], "release/1.0/fix", true),
            (&["*"], "feature/x", false),
            (&["**"], "feature/x", true),
            (&["v*"], "v1.2.3", true),
            (&["v[0-9]*"], "vx", false),
            (&["src/**"], "src/a/b.rs", true),
            (&["src/**"], "srcs/a", false),
            (&["**/README.md"], "README.md", true),
            (&["**/README.md"], "a/b/README.md", true),
            (&["docs/**/*.md"], "docs/x.md", true),
            (&["**.js"], "index.js", true),
            (&["**.js"], "src/js/app.js", true),
            (&["a**z"], "a/b/z", true),
            (&["a**z"], "az", true),
            (&["*.{rs,toml}"], "lib.rs", true),
            (&[".github/**"], ".github/x", true),
            (&["*"], ".env", true),
            (&["\\*"], "*", true),
            (&["\\*"], "x", false),
            (&[], "main", false),
        ];
        for (patterns, text, expected) in cases {
            assert_eq!(matches(&list(patterns), text), *expected, "{patterns:?} on {text}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let docs_but_one = list(&["**", "!docs/**", "docs/keep.md"]);
        assert!(matches(&docs_but_one, "src/a.rs"));
        assert!(!matches(&docs_but_one, "docs/a.md"));
        assert!(matches(&docs_but_one, "docs/keep.md"));
        assert!(!matches(&list(&["docs/keep.md", "!docs/**"]), "docs/keep.md"), "order counts");
        assert!(matches(&list(&["!docs/**"]), "src/a.rs"), "a list of ! begins from everything");
        assert!(!matches(&list(&["!docs/**"]), "docs/a.md"));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert_eq!(check("release/*"), Ok(()));
        assert_eq!(check("!docs/**"), Ok(()));
        for bad in ["", "!", "[a", "{a", "a\\", "a**b**c**d**e**f"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"x".repeat(600)).is_err());
        assert!(!matches(&list(&["[a"]), "[a"));
    }

    proptest! {
        #[test]
        fn plain_text_matches_itself_alone(a in "[a-zA-Z0-9_./-]{1,20}", b in "[a-zA-Z0-9_./-]{1,20}") {
            prop_assert_eq!(matches(std::slice::from_ref(&a), &b), a == b);
        }

        #[test]
        fn two_stars_match_all_and_their_negation_nothing(text in "[^\0]{1,30}") {
            prop_assert!(matches(&list(&["**"]), &text));
            prop_assert!(!matches(&list(&["**", "!**"]), &text));
        }

        #[test]
        fn one_star_never_crosses_a_folder(a in "[a-z]{0,5}", b in "[a-z]{0,5}") {
            let text = format!("{a}/{b}");
            prop_assert!(!matches(&list(&["*"]), &text));
            prop_assert!(matches(&list(&["*/*"]), &text));
        }

        #[test]
        fn a_pattern_added_only_changes_what_it_matches(
            patterns in proptest::collection::vec("!?[a-c*/]{1,5}", 1..5), more in "!?[a-c*/]{1,5}", text in "[a-c/]{1,6}",
        ) {
            let mut longer = patterns.clone();
            longer.push(more.clone());
            let positive = list(&[more.trim_start_matches('!')]);
            if matches(&positive, &text) {
                prop_assert_eq!(matches(&longer, &text), !more.starts_with('!'));
            } else {
                prop_assert_eq!(matches(&longer, &text), matches(&patterns, &text));
            }
        }

        #[test]
        fn nothing_panics(pattern in ".{0,40}", text in ".{0,40}") {
            let _ = matches(&[pattern], &text);
        }
    }
}
