//! Suggestions for misspelt names.

/// The candidate that `word` is most likely a misspelling of, if any is near enough to be worth naming.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    // A third of the letters wrong is still a typing error; more is another word.
    let tolerance = word.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_misspellings_are_named() {
        let names = ["tts", "video", "preview"];
        for (word, expected) in [("tss", Some("tts")), ("Vidoe", Some("video")), ("translate", None), ("", None)] {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
    }
}
