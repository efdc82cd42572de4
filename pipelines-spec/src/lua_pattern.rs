//! Lua patterns without a Lua: whether a pattern is found in a text, in a bounded number of steps.
//!
//! Inputs are checked where no sandbox is at hand (a launch in the browser), and a pattern is written by whoever may push;
//! so the work is counted and given up on instead of trusted.

/// Steps one search may take. A pattern that needs more is answered with an error, not with patience.
const MOST_STEPS: u32 = 200_000;
/// Items of a pattern that may wait for what follows them; Lua's own bound.
const DEEPEST: u32 = 200;
/// Captures a pattern may have; Lua's own bound.
const MOST_CAPTURES: usize = 32;

/// Whether `pattern` is found anywhere in `text`, as Lua's `string.find` would say.
pub fn found(pattern: &str, text: &str) -> Result<bool, String> {
    let (anchored, body) = match pattern.as_bytes() {
        [b'^', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let mut search = Search { text: text.as_bytes(), pattern: body, captures: Vec::new(), steps: 0, depth: 0 };
    for start in 0..=text.len() {
        search.captures.clear();
        if search.follow(start, 0)?.is_some() {
            return Ok(true);
        }
        if anchored {
            break;
        }
    }
    Ok(false)
}

/// What is wrong with a pattern's syntax.
pub fn check(pattern: &str) -> Result<(), String> {
    let body = pattern.strip_prefix('^').unwrap_or(pattern).as_bytes();
    let probe = Search { text: b"", pattern: body, captures: Vec::new(), steps: 0, depth: 0 };
    let mut open: Vec<usize> = Vec::new();
    let mut closed: Vec<bool> = Vec::new();
    let mut at = 0;
    while at < body.len() {
        match body[at] {
            b'(' => {
                if closed.len() == MOST_CAPTURES {
                    return Err("has too many captures".into());
                }
                open.push(closed.len());
                closed.push(false);
                at += 1;
            }
            b')' => {
                let last = open.pop().ok_or("has a ')' without a '('")?;
                closed[last] = true;
                at += 1;
            }
            b'%' if body.get(at + 1) == Some(&b'b') => {
                if at + 3 >= body.len() {
                    return Err("misses the two characters after '%b'".into());
                }
                at += 4;
            }
            b'%' if body.get(at + 1) == Some(&b'f') => {
                if body.get(at + 2) != Some(&b'[') {
                    return Err("misses a '[' after '%f'".into());
                }
                at = probe.class_end(at + 2)?;
            }
            b'%' if body.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                let index = usize::from(body[at + 1] - b'0');
                if index == 0 || !closed.get(index - 1).copied().unwrap_or(false) {
                    return Err(format!("refers to capture %{index}, which is not there yet"));
                }
                at += 2;
            }
            _ => {
                at = probe.class_end(at)?;
                if matches!(body.get(at), Some(b'*' | b'+' | b'-' | b'?')) {
                    at += 1;
                }
            }
        }
    }
    if open.is_empty() { Ok(()) } else { Err("has a '(' that is not closed".into()) }
}

#[derive(Clone, Copy)]
struct Capture {
    start: usize,
    /// `None` while it is open.
    end: Option<usize>,
}

struct Search<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    captures: Vec<Capture>,
    steps: u32,
    depth: u32,
}

/// The end of a match, if there is one.
type Found = Result<Option<usize>, String>;

impl Search<'_> {
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > MOST_STEPS { Err("takes too long on this text".into()) } else { Ok(()) }
    }

    /// Matches the pattern from `p` against the text from `s`.
    fn follow(&mut self, s: usize, p: usize) -> Found {
        self.depth += 1;
        let result = if self.depth > DEEPEST { Err("is too complex".into()) } else { self.follow_items(s, p) };
        self.depth -= 1;
        result
    }

    fn follow_items(&mut self, mut s: usize, mut p: usize) -> Found {
        loop {
            self.step()?;
            let Some(&item) = self.pattern.get(p) else { return Ok(Some(s)) };
            let next = self.pattern.get(p + 1).copied();
            match (item, next) {
                (b'(', _) => return self.open(s, p),
                (b')', _) => return self.close(s, p),
                (b'$', None) => return Ok((s == self.text.len()).then_some(s)),
                (b'%', Some(b'b')) => match self.balanced(s, p + 2)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                (b'%', Some(b'f')) => {
                    let end = self.class_end(p + 2)?;
                    let before = if s == 0 { 0 } else { self.text[s - 1] };
                    let here = self.text.get(s).copied().unwrap_or(0);
                    if self.in_class(before, p + 2, end) || !self.in_class(here, p + 2, end) {
                        return Ok(None);
                    }
                    p = end;
                }
                (b'%', Some(digit)) if digit.is_ascii_digit() => match self.repeat_capture(s, digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                _ => {
                    let end = self.class_end(p)?;
                    let repeat = self.pattern.get(end).copied();
                    match repeat {
                        Some(b'*') => return self.most(s, p, end, 0),
                        Some(b'+') => return self.most(s, p, end, 1),
                        Some(b'-') => return self.fewest(s, p, end),
                        Some(b'?') => {
                            if self.one(s, p, end)
                                && let Some(found) = self.follow(s + 1, end + 1)?
                            {
                                return Ok(Some(found));
                            }
                            p = end + 1;
                        }
                        Some(_) | None if self.one(s, p, end) => (s, p) = (s + 1, end),
                        Some(_) | None => return Ok(None),
                    }
                }
            }
        }
    }

    fn open(&mut self, s: usize, p: usize) -> Found {
        if self.captures.len() == MOST_CAPTURES {
            return Err("has too many captures".into());
        }
        // `()` captures a position: there is nothing between its ends.
        let position = self.pattern.get(p + 1) == Some(&b')');
        self.captures.push(Capture { start: s, end: position.then_some(s) });
        let found = self.follow(s, p + 1 + usize::from(position))?;
        if found.is_none() {
            self.captures.pop();
        }
        Ok(found)
    }

    fn close(&mut self, s: usize, p: usize) -> Found {
        let Some(index) = self.captures.iter().rposition(|c| c.end.is_none()) else {
            return Err("has a ')' without a '('".into());
        };
        self.captures[index].end = Some(s);
        let found = self.follow(s, p + 1)?;
        if found.is_none() {
            self.captures[index].end = None;
        }
        Ok(found)
    }

    fn balanced(&mut self, s: usize, p: usize) -> Found {
        let (Some(&opener), Some(&closer)) = (self.pattern.get(p), self.pattern.get(p + 1)) else {
            return Err("misses the two characters after '%b'".into());
        };
        if self.text.get(s) != Some(&opener) {
            return Ok(None);
        }
        let mut open = 1;
        for at in s + 1..self.text.len() {
            self.step()?;
            if self.text[at] == closer {
                open -= 1;
                if open == 0 {
                    return Ok(Some(at + 1));
                }
            } else if self.text[at] == opener {
                open += 1;
            }
        }
        Ok(None)
    }

    fn repeat_capture(&self, s: usize, digit: u8) -> Found {
        let index = usize::from(digit - b'0');
        let capture = index.checked_sub(1).and_then(|i| self.captures.get(i));
        let Some(Capture { start, end: Some(end) }) = capture.copied() else {
            return Err(format!("refers to capture %{index}, which is not there yet"));
        };
        let wanted = &self.text[start..end];
        Ok(self.text[s..].starts_with(wanted).then_some(s + wanted.len()))
    }

    fn most(&mut self, s: usize, p: usize, end: usize, least: usize) -> Found {
        let mut count = 0;
        while self.one(s + count, p, end) {
            self.step()?;
            count += 1;
        }
        loop {
            if count < least {
                return Ok(None);
            }
            if let Some(found) = self.follow(s + count, end + 1)? {
                return Ok(Some(found));
            }
            let Some(fewer) = count.checked_sub(1) else { return Ok(None) };
            count = fewer;
        }
    }

    fn fewest(&mut self, mut s: usize, p: usize, end: usize) -> Found {
        loop {
            if let Some(found) = self.follow(s, end + 1)? {
                return Ok(Some(found));
            }
            if !self.one(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    /// Whether the text's byte at `s` is what the item `pattern[p..end]` stands for.
    fn one(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(&byte) = self.text.get(s) else { return false };
        match self.pattern[p] {
            b'.' => true,
            b'%' => in_named_class(byte, self.pattern[p + 1]),
            b'[' => self.in_class(byte, p, end),
            literal => literal == byte,
        }
    }

    /// The position after the single item that begins at `p`.
    fn class_end(&self, p: usize) -> Result<usize, String> {
        match self.pattern.get(p) {
            Some(b'%') if p + 1 < self.pattern.len() => Ok(p + 2),
            Some(b'%') => Err("ends with '%'".into()),
            Some(b'[') => {
                let mut at = p + 1 + usize::from(self.pattern.get(p + 1) == Some(&b'^'));
                let first = at;
                loop {
                    match self.pattern.get(at) {
                        None => return Err("misses a ']'".into()),
                        // A `]` in the first place is one of the characters.
                        Some(b']') if at > first => return Ok(at + 1),
                        Some(b'%') if at + 1 < self.pattern.len() => at += 2,
                        Some(_) => at += 1,
                    }
                }
            }
            Some(_) => Ok(p + 1),
            None => Err("misses a '[' after '%f'".into()),
        }
    }

    /// Whether `byte` is in the set `pattern[p..end]`, brackets included.
    fn in_class(&self, byte: u8, p: usize, end: usize) -> bool {
        let mut set = &self.pattern[p + 1..end - 1];
        let negated = set.first() == Some(&b'^');
        if negated {
            set = &set[1..];
        }
        let mut inside = false;
        while let Some(&c) = set.first() {
            let taken = match (c, set.get(1), set.get(2)) {
                (b'%', Some(&class), _) => {
                    inside |= in_named_class(byte, class);
                    2
                }
                (from, Some(b'-'), Some(&to)) => {
                    inside |= (from..=to).contains(&byte);
                    3
                }
                (literal, _, _) => {
                    inside |= literal == byte;
                    1
                }
            };
            set = &set[taken..];
        }
        inside != negated
    }
}

fn in_named_class(byte: u8, class: u8) -> bool {
    let inside = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        _ => return class == byte,
    };
    inside != class.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_patterns_people_write() {
        let cases = [
            ("^v%d+%.%d+$", "v1.20", true),
            ("^v%d+%.%d+$", "v1", false),
            ("^v%d+%.%d+$", "xv1.20", false),
            ("^[%w_-]+$", "a-b_c", true),
            ("^[%w_-]+$", "a b", false),
            ("^[^/]+/[^/]+$", "acme/app", true),
            ("%f[%w]end%f[%W]", "the end.", true),
            ("^%b()$", "(a(b)c)", true),
            ("^(%a)%1$", "xx", true),
            ("^(%a)%1$", "xy", false),
            ("^a.-z$", "abcz", true),
            ("colou?r", "the color", true),
            ("", "", true),
            ("^$", "x", false),
            ("a$b", "a$b", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(found(pattern, text), Ok(expected), "{pattern} on {text}");
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for bad in ["%", "[a", "(", ")", "%b", "%bx", "%f", "%1", "(%1)", "[]"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_that_takes_for_ever_is_given_up() {
        let text = "a".repeat(2000);
        let said = found(&format!("{}b", ".-".repeat(20)), &text).unwrap_err();
        assert_eq!(said, "takes too long on this text");
        assert_eq!(found(&"a?".repeat(300), &text).unwrap_err(), "is too complex");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn it_says_what_lua_says(pattern in "[\\[\\]ab%.*+?$()^dwsD1-]{0,8}", text in "[ab1 .]{0,8}") {
            let lua = mlua::Lua::new();
            let find: mlua::Function = lua.load("return function(s, p) return string.find(s, p) ~= nil end").eval()?;
            let theirs: mlua::Result<bool> = find.call((text.as_str(), pattern.as_str()));
            match (check(&pattern), theirs) {
                (Ok(()), Ok(theirs)) => prop_assert_eq!(found(&pattern, &text), Ok(theirs)),
                // Lua only sees a mistake when it gets to it; a check sees all of them.
                (Err(_), _) => {}
                (Ok(()), Err(e)) => prop_assert!(false, "only Lua minds: {}", e),
            }
        }
    }
}
