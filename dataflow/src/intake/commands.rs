//! Commands of operators: what was told since, applied in its order.

use super::{Halt, Intake};
use crate::durable::{AT_ONCE, NotObeyed, OperatorCommand, number_of, open, place, waiting};
use millrace_connectors::diagnostic::Diagnostic;
use std::sync::Arc;

impl Intake {
    /// Applies what operators told since; the commit of what a command brings says that it is applied.
    pub(super) fn obey(&mut self) -> Result<(), Halt> {
        while self.obey_some()? {
            self.bind_and(true)?;
        }
        Ok(())
    }

    /// Applies the next commands, as many as one commit may; says whether there were any.
    fn obey_some(&mut self) -> Result<bool, Halt> {
        let Some(keeping) = &self.setting.keeping else {
            return Ok(false);
        };
        let state = Arc::clone(&keeping.state);
        let job = self.setting.job.name.clone();
        let mut obeyed = 0;
        for name in waiting(&state, &self.applied)? {
            if obeyed >= AT_ONCE {
                break;
            }
            if self.passed_over.contains(&name) {
                continue;
            }
            let told = match open(&state, &job, &self.applied, &name) {
                Ok(None) => continue,
                Ok(Some(told)) => Some(told),
                Err(why) => {
                    let stays = !matches!(why, NotObeyed::OfAnother(_));
                    self.pass_over(&format!("{}/{}", state.location(), place(&name)), why);
                    if stays {
                        self.passed_over.insert(name);
                        continue;
                    }
                    None
                }
            };
            // No commit may say that it is applied before what it brings is there.
            if !self.bundle.is_empty() {
                self.bind()?;
            }
            self.applied.add(&name);
            self.command = number_of(&name).unwrap_or(0);
            obeyed += 1;
            match told {
                None => {}
                Some(OperatorCommand::Pause { source }) => self.pause(source, true),
                Some(OperatorCommand::Resume { source }) => self.pause(source, false),
                Some(OperatorCommand::Discard(selection)) => self.discard(&selection)?,
                Some(OperatorCommand::Retry(selection)) => self.retry(&selection)?,
            }
        }
        Ok(obeyed > 0)
    }

    /// Tells that a command is not applied: somebody was told that it would be.
    fn pass_over(&mut self, object: &str, why: NotObeyed) {
        let (message, hint) = match why {
            NotObeyed::OfAnother(job) => (
                format!(
                    "this command was told to job {job:?}, and the state is of another; it is not applied"
                ),
                "give that job a `durability.folder` of its own, and give the command again",
            ),
            NotObeyed::TooLate => (
                "this command comes behind many that were told after it; it is not applied"
                    .to_owned(),
                "take the object away, and give the command again",
            ),
            NotObeyed::Damaged(problem) => (
                format!("this is no whole command, and is not applied: {problem}"),
                "take the object away, and give the command again",
            ),
        };
        let finding = Diagnostic::warning(object, (0, 0), message).with_hint(hint);
        self.warn_of_job(vec![finding]);
    }
}
