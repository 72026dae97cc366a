//! Messages that are published together.

use std::fmt::{self, Write as _};
use std::ops::Range;

/// Rows of a part: one transaction.
pub(crate) const PART_ROWS: usize = 100_000;

/// The outputs that messages are made of, in the order in which an epoch's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageOutput {
    /// Charges.
    Monetised,
    /// Billing lines.
    Aggregated,
    /// Records that wait or were refused.
    Suspense,
    /// Charges of subscriptions without usage.
    Activity,
    /// Where each bucket stands.
    Balances,
    /// Thresholds crossed.
    Notices,
}

#[derive(Debug)]
struct Message {
    output: MessageOutput,
    key: Range<usize>,
    /// The block, and where it stands there.
    value: Option<(usize, Range<usize>)>,
}

/// Rows of one transaction.
#[derive(Debug, Default)]
pub struct Part {
    keys: String,
    /// Contents as they were encoded, a batch of rows in each: the bytes of a part are many, and are
    /// not moved again.
    blocks: Vec<Vec<u8>>,
    messages: Vec<Message>,
}

impl Part {
    /// The rows: the output, the key, and the content, or nothing where the key's row is gone.
    pub fn rows(&self) -> impl Iterator<Item = (MessageOutput, &[u8], Option<&[u8]>)> {
        self.messages.iter().map(|message| {
            let value = message.value.as_ref();
            let value = value.map(|(block, value)| &self.blocks[*block][value.clone()]);
            let key = self.keys[message.key.clone()].as_bytes();
            (message.output, key, value)
        })
    }

    /// How many more rows it takes.
    pub(crate) fn room(&self) -> usize {
        PART_ROWS.saturating_sub(self.messages.len())
    }

    pub(crate) fn add(
        &mut self,
        output: MessageOutput,
        key: &impl fmt::Display,
        value: Option<(usize, Range<usize>)>,
    ) {
        let start = self.keys.len();
        write!(self.keys, "{key}").expect("memory takes all text");
        let key = start..self.keys.len();
        self.messages.push(Message { output, key, value });
    }

    /// Adds rows that were encoded together, a line each.
    pub(crate) fn add_lines<K: fmt::Display>(
        &mut self,
        output: MessageOutput,
        keys: &[K],
        lines: Vec<u8>,
    ) {
        let block = self.blocks.len();
        let mut start = 0;
        for (key, line) in keys.iter().zip(lines.split(|byte| *byte == b'\n')) {
            let end = start + line.len();
            self.add(output, key, Some((block, start..end)));
            start = end + 1;
        }
        self.blocks.push(lines);
    }
}
