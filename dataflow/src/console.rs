//! Where a command speaks: results on one stream, talk on another, colour where a person looks.
//!
//! Commands write to a [`Console`] instead of the process's streams, so that a test can read what
//! they said, and so that a reader who goes away (`millrace … | head`) ends the command quietly
//! instead of with an error.

use clap::ValueEnum;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};

/// When to write in colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColourChoice {
    /// On a terminal, unless `NO_COLOR` says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What the environment and the streams say about colour and progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Results go to a terminal.
    pub out_is_terminal: bool,
    /// Talk goes to a terminal.
    pub err_is_terminal: bool,
    /// Columns that results may take; any number where nobody says.
    pub width: Option<usize>,
    /// `NO_COLOR` is set.
    pub no_colour: bool,
    /// `CLICOLOR_FORCE` is set.
    pub force_colour: bool,
    /// The command has the process to itself, and may listen for its signals.
    pub own_process: bool,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let out_is_terminal = io::stdout().is_terminal();
        Self {
            out_is_terminal,
            width: width(out_is_terminal),
            err_is_terminal: io::stderr().is_terminal(),
            no_colour: set("NO_COLOR"),
            force_colour: forced && set("CLICOLOR_FORCE"),
            own_process: true,
        }
    }

    /// What was asked for on the command line wins, then `NO_COLOR`, then `CLICOLOR_FORCE`.
    fn colour(self, choice: ColourChoice, is_terminal: bool) -> bool {
        match choice {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto => !self.no_colour && (self.force_colour || is_terminal),
        }
    }
}

/// Columns of a terminal that does not say how many it has.
const USUAL_WIDTH: usize = 80;

/// What `COLUMNS` says, or how wide the terminal is; no limit elsewhere.
fn width(is_terminal: bool) -> Option<usize> {
    let told = std::env::var("COLUMNS").ok();
    let told = told.and_then(|columns| columns.trim().parse().ok());
    let asked = || {
        let width = comfy_table::Table::new().width();
        let width = width.map(usize::from).filter(|width| *width > 0);
        is_terminal.then(|| width.unwrap_or(USUAL_WIDTH))
    };
    told.filter(|width| *width > 0).or_else(asked)
}

/// The stream of talk, for everyone who has something to say while a command runs.
#[derive(Clone)]
pub struct Talk(Arc<Mutex<dyn Write + Send>>);

impl Talk {
    /// Talk on a stream.
    pub fn on(stream: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    /// Talk that is kept, to be read back.
    #[must_use]
    pub fn kept() -> (Self, Arc<Mutex<Vec<u8>>>) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        (Self(Arc::<Mutex<Vec<u8>>>::clone(&kept)), kept)
    }

    /// Says something to the person. Nobody may be listening, and no result depends on it.
    pub fn say(&self, text: &str) {
        if let Ok(mut stream) = self.0.lock() {
            stream
                .write_all(text.as_bytes())
                .and_then(|()| stream.flush())
                .ok();
        }
    }
}

/// The two streams of a command.
pub struct Console<'a> {
    out: &'a mut dyn Write,
    talk: Talk,
    surroundings: Surroundings,
    choice: ColourChoice,
    quiet: bool,
}

impl<'a> Console<'a> {
    /// A console on two streams.
    pub fn new(out: &'a mut dyn Write, talk: Talk, surroundings: Surroundings) -> Self {
        Self {
            out,
            talk,
            surroundings,
            choice: ColourChoice::Auto,
            quiet: false,
        }
    }

    /// Says nothing on the way from now on, if that is asked for.
    pub fn hush(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Whether nothing is to be said on the way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether somebody sees a bar that moves.
    #[must_use]
    pub fn shows_progress(&self) -> bool {
        self.surroundings.err_is_terminal && !self.quiet
    }

    /// Follows what was asked for on the command line.
    pub fn choose(&mut self, choice: ColourChoice) {
        self.choice = choice;
    }

    /// Whether results are written in colour.
    #[must_use]
    pub fn colours_results(&self) -> bool {
        self.surroundings
            .colour(self.choice, self.surroundings.out_is_terminal)
    }

    /// Whether talk is written in colour.
    #[must_use]
    pub fn colours_talk(&self) -> bool {
        self.surroundings
            .colour(self.choice, self.surroundings.err_is_terminal)
    }

    /// The streams' surroundings.
    #[must_use]
    pub fn surroundings(&self) -> Surroundings {
        self.surroundings
    }

    /// The stream of results.
    pub fn results(&mut self) -> &mut dyn Write {
        self.out
    }

    /// Writes a result.
    ///
    /// # Errors
    /// When the stream does not take it.
    pub fn result(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// The stream of talk.
    #[must_use]
    pub fn talk(&self) -> Talk {
        self.talk.clone()
    }

    /// Says something to the person.
    pub fn say(&self, text: &str) {
        self.talk.say(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_terminal() {
        let terminal = Surroundings {
            out_is_terminal: true,
            ..Surroundings::default()
        };
        let muted = Surroundings {
            no_colour: true,
            force_colour: true,
            ..terminal
        };
        let forced = Surroundings {
            force_colour: true,
            ..Surroundings::default()
        };
        for (surroundings, choice, expected) in [
            (terminal, ColourChoice::Auto, true),
            (Surroundings::default(), ColourChoice::Auto, false),
            (muted, ColourChoice::Auto, false),
            (muted, ColourChoice::Always, true),
            (forced, ColourChoice::Auto, true),
            (forced, ColourChoice::Never, false),
        ] {
            let mut out = Vec::new();
            let mut console = Console::new(&mut out, Talk::kept().0, surroundings);
            console.choose(choice);
            assert_eq!(
                console.colours_results(),
                expected,
                "{surroundings:?} {choice:?}"
            );
        }
    }

    #[test]
    fn results_and_talk_do_not_mix() {
        let mut out = Vec::new();
        let (talk, kept) = Talk::kept();
        let mut console = Console::new(&mut out, talk, Surroundings::default());
        console.result("42\n").unwrap();
        console.say("done\n");
        assert_eq!(
            (out, &*kept.lock().unwrap()),
            (b"42\n".to_vec(), &b"done\n".to_vec())
        );
    }
}
