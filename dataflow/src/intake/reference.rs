//! Messages of reference data, put in force.

use super::Intake;
use super::halt::Halt;
use millrace_connectors::diagnostic::Diagnostic;

impl Intake {
    /// Puts the messages of reference data in force that were there at the start.
    pub(super) fn settle_messages(&mut self) -> Result<(), Halt> {
        if self.setting.reference_feeds.is_none() {
            return Ok(());
        }
        let loaded = self.setting.reference_files.settle();
        let loaded = loaded.map_err(Halt::Reference)?;
        self.setting.reference = loaded.reference;
        self.warn_of_reference(loaded.warnings);
        self.hold(loaded.held);
        Ok(())
    }

    /// Tells what keeps messages from being in force, where that is news.
    pub(super) fn hold(&mut self, held: Vec<Diagnostic>) {
        let news = held.iter().filter(|finding| !self.held.contains(finding));
        let news: Vec<Diagnostic> = news.cloned().collect();
        if !news.is_empty() {
            self.setting.listener.rejected(&news);
        }
        self.held = held;
    }

    /// Reads messages of reference data; says whether any came since they were last put in force.
    pub(super) fn poll_reference(&mut self) -> Result<bool, Halt> {
        let setting = &mut self.setting;
        let Some(feeds) = &mut setting.reference_feeds else {
            return Ok(false);
        };
        self.messages_came |= feeds.poll(&mut setting.reference_files)?;
        if let Some(complaint) = feeds.complaint() {
            setting.listener.message(&complaint);
        }
        Ok(self.messages_came)
    }
}
