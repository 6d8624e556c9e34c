//! The word that was probably meant.

/// The known word that was probably meant, if any is near: at most a third of its letters apart, case aside, or
/// with the same beginning.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // No known word is long; comparing with a very long one would only cost time.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    let distance = |name: &'k str| {
        let name = name.to_lowercase();
        let apart = strsim::damerau_levenshtein(&word, &name);
        let same_beginning = name.starts_with(&word) || word.starts_with(&name);
        if same_beginning && word.len() * 2 >= name.len() { apart.min(2) } else { apart }
    };
    let (apart, name) = known.into_iter().map(|name| (distance(name), name)).min_by_key(|(apart, _)| *apart)?;
    (apart * 3 <= name.len()).then_some(name)
}
