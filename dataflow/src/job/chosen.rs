//! Which files of a folder or bucket a source reads.

use glob::{MatchOptions, Pattern};

/// `*` stays within a name, `**` goes through folders; upper and lower case differ, as in buckets.
const FITS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// What `include` and `exclude` of a source say. A pattern without `/` is about names in every folder, one
/// with it about paths below the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// What is read; everything where there is none.
    pub(super) include: Vec<Pattern>,
    /// What is passed over of that.
    pub(super) exclude: Vec<Pattern>,
}

impl Chosen {
    /// Whether the file of this name below the source is read.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let own = name.rsplit('/').next().unwrap_or(name);
        let fits = |pattern: &Pattern| {
            let whole = pattern.as_str().contains('/');
            pattern.matches_with(if whole { name } else { own }, FITS)
        };
        let included = self.include.is_empty() || self.include.iter().any(fits);
        included && !self.exclude.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_choose_by_name_or_by_path() {
        let patterns = |texts: &[&str]| -> Vec<Pattern> {
            texts
                .iter()
                .map(|text| Pattern::new(text).unwrap())
                .collect()
        };
        for (include, exclude, read, passed_over) in [
            (&[][..], &[][..], &["a.csv", "b/c.json"][..], &[][..]),
            (
                &["*.csv"],
                &[],
                &["a.csv", "b/c/a.csv"],
                &["a.csv.gz", "b.json"],
            ),
            (
                &[],
                &["*-Manifest.json"],
                &["a.json"],
                &["a-Manifest.json", "b/a-Manifest.json"],
            ),
            (
                &["2026/*.csv"],
                &[],
                &["2026/a.csv"],
                &["2026/b/a.csv", "a.csv"],
            ),
            (
                &["2026/**/*.csv"],
                &["**/old/*"],
                &["2026/a.csv", "2026/b/a.csv"],
                &["2026/old/a.csv"],
            ),
            (
                &["[ab].csv", "?.tsv"],
                &[],
                &["a.csv", "x.tsv"],
                &["c.csv", "xy.tsv", "A.csv"],
            ),
        ] {
            let chosen = Chosen {
                include: patterns(include),
                exclude: patterns(exclude),
            };
            assert!(
                read.iter().all(|name| chosen.has(name)),
                "{include:?} {exclude:?}"
            );
            assert!(
                !passed_over.iter().any(|name| chosen.has(name)),
                "{include:?} {exclude:?}"
            );
        }
    }
}
