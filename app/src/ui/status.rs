//! How states look: each has a shape, a word and a colour, so that none of the three is needed alone.

/// One state as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The word.
    pub word: &'static str,
    /// The shape's name in the sprite.
    pub shape: &'static str,
    /// The colour's class.
    pub tone: &'static str,
    /// Whether it may still change by itself.
    pub live: bool,
}

const fn status(word: &'static str, shape: &'static str, tone: &'static str, live: bool) -> Status {
    Status { word, shape, tone, live }
}

impl Status {
    /// How a state of a run or a stage looks. A state of a newer version is shown as unknown, never guessed.
    pub fn of(state: &str) -> Self {
        match state {
            "completed" | "succeeded" => status("Succeeded", "check", "good", false),
            "failed" => status("Failed", "cross", "bad", false),
            "running" => status("Running", "spin", "busy", true),
            "queued" => status("Queued", "ring", "wait", true),
            "pending" => status("Pending", "dots", "wait", true),
            "awaiting_approval" => status("Needs approval", "hand", "ask", true),
            "sleeping" => status("Sleeping", "moon", "busy", true),
            "skipped" => status("Skipped", "skip", "dim", false),
            "cancelled" => status("Cancelled", "slash", "dim", false),
            "rolling_back" => status("Rolling back", "back", "ask", true),
            "rolled_back" => status("Rolled back", "back", "dim", false),
            "diverged" => status("Diverged", "bang", "bad", false),
            "stuck" => status("Stuck", "bang", "bad", false),
            _ => status("Unknown", "dots", "dim", true),
        }
    }

    /// How a group of states looks together: what needs a person first, then what moves, then how it ended.
    pub fn of_all<'a>(states: impl Iterator<Item = &'a str>) -> Self {
        const ORDER: [&str; 11] = [
            "failed",
            "awaiting_approval",
            "rolling_back",
            "running",
            "sleeping",
            "queued",
            "pending",
            "cancelled",
            "rolled_back",
            "succeeded",
            "skipped",
        ];
        let rank = |state: &str| ORDER.iter().position(|s| *s == state).unwrap_or(ORDER.len());
        Self::of(states.min_by_key(|state| rank(state)).unwrap_or("pending"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_states_share_word_or_differ_by_colour_alone() {
        let states = [
            "succeeded",
            "failed",
            "running",
            "queued",
            "pending",
            "awaiting_approval",
            "sleeping",
            "skipped",
            "cancelled",
            "rolling_back",
            "diverged",
            "stuck",
        ];
        for (n, a) in states.iter().enumerate() {
            for b in &states[n + 1..] {
                assert_ne!(Status::of(a).word, Status::of(b).word);
            }
            assert_ne!(Status::of(a).word, "Unknown");
        }
    }

    #[test]
    fn a_group_shows_what_matters_most() {
        assert_eq!(Status::of_all(["succeeded", "failed", "running"].into_iter()).word, "Failed");
        assert_eq!(Status::of_all(["succeeded", "running", "pending"].into_iter()).word, "Running");
        assert_eq!(Status::of_all(["succeeded", "skipped"].into_iter()).word, "Succeeded");
    }
}
