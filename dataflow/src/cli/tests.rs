//! Queries on the command line; the other commands are tested from outside, by the tests crate.

use super::*;
use crate::console::{Surroundings, Talk};

fn query(arguments: &[&str]) -> (Exit, String, String) {
    let mut out = Vec::new();
    let (talk, kept) = Talk::kept();
    let mut console = Console::new(&mut out, talk, Surroundings::default());
    let words = ["millrace", "query"]
        .iter()
        .chain(arguments)
        .map(OsString::from);
    let exit = main_with(words, &mut console);
    let err = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
    (exit, String::from_utf8(out).unwrap(), err)
}

#[test]
fn a_folder_without_outputs_cannot_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (exit, out, err) = query(&[&folder.path().display().to_string(), "SELECT 1"]);
    assert_eq!((exit, &*out), (Exit::Unusable, ""));
    let expected = if cfg!(feature = "sql") {
        "run the job first"
    } else {
        "--features sql"
    };
    assert!(err.contains(expected), "{err}");
}

#[test]
fn colour_is_found_wherever_it_is_asked_for() {
    for (words, expected) in [
        (
            &["millrace", "--color", "never", "run"][..],
            ColourChoice::Never,
        ),
        (&["millrace", "run", "--color=always"], ColourChoice::Always),
        (&["millrace", "run", "--color"], ColourChoice::Auto),
        (
            &["millrace", "run", "--colorful=always"],
            ColourChoice::Auto,
        ),
    ] {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        assert_eq!(colour_asked_for(&words), expected, "{words:?}");
    }
}
