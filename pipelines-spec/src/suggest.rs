//! "Did you mean": the known word nearest to an unknown one.

/// The candidate nearest to `word`, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= allowed || is_part(&lower, c))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// `jobs` for `parallel_jobs`: one is a whole part of the other.
fn is_part(word: &str, candidate: &str) -> bool {
    word.chars().count() >= 3 && candidate.to_lowercase().split('_').any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let words = ["timeout", "retry", "parallel_jobs"];
        assert_eq!(nearest("timout", words), Some("timeout"));
        assert_eq!(nearest("Retry", words), Some("retry"));
        assert_eq!(nearest("jobs", words), Some("parallel_jobs"));
        assert_eq!(nearest("volume", words), None);
    }
}
