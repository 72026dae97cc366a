//! The usage of a lane as bytes, row behind row.
//!
//! ```text
//!  row = record, time: less those of the row before; class: its place   small numbers in few bytes
//!        among those met; quantities; mark, if there is one; diff
//!        class, where it is met first; service; identity                hashes, as they are
//! ```

use bincode::Options;
use hashbrown::HashMap;
use millrace_operators::domain::{
    ClassKey, EventTime, Identity, Mark, Quantities, RecordId, ServiceKey, Usage,
};
use millrace_operators::epoch::Diff;
use serde::{Deserialize, Serialize};

/// What a row takes, about.
const ROW_BYTES: usize = 44;

/// What is small, mostly.
#[derive(Serialize, Deserialize)]
struct Small<Q, M> {
    record: i64,
    time: i64,
    class: u32,
    quantities: Q,
    mark: M,
    diff: Diff,
}

fn options() -> impl Options {
    bincode::options().with_varint_encoding()
}

/// Writes rows.
#[derive(Default)]
pub(super) struct RowWriter {
    content: Vec<u8>,
    rows: u32,
    classes: HashMap<ClassKey, u32>,
    record: u64,
    time: i64,
}

impl RowWriter {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self {
            content: Vec::with_capacity(rows.saturating_mul(ROW_BYTES)),
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, usage: &Usage, diff: Diff) {
        let (record, time) = (usage.record.0, usage.time.0);
        let next = u32::try_from(self.classes.len()).expect("an epoch has fewer than 2^32 rows");
        let class = *self.classes.entry(usage.class).or_insert(next);
        let small = Small {
            record: record.wrapping_sub(self.record).cast_signed(),
            time: time.wrapping_sub(self.time),
            class,
            quantities: usage.quantities.as_slice(),
            mark: usage.mark.as_deref(),
            diff,
        };
        let written = options().serialize_into(&mut self.content, &small);
        written.expect("memory takes all bytes");
        if class == next {
            self.content.extend_from_slice(&usage.class.0.to_le_bytes());
        }
        let [high, low] = usage.identity.0;
        for key in [usage.service.0, high, low] {
            self.content.extend_from_slice(&key.to_le_bytes());
        }
        (self.record, self.time) = (record, time);
        self.rows += 1;
    }

    /// How many rows, and their bytes.
    pub(super) fn finish(self) -> (u32, Vec<u8>) {
        (self.rows, self.content)
    }
}

/// Reads rows.
pub(super) fn read(mut content: &[u8], count: u32) -> Result<Vec<(Usage, Diff)>, String> {
    let mut rows = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    let (mut record, mut time, mut classes) = (0_u64, 0_i64, Vec::new());
    for _ in 0..count {
        let small = options().deserialize_from(&mut content);
        let small: Small<Quantities, Option<Box<Mark>>> =
            small.map_err(|error| error.to_string())?;
        let mut key = || {
            let (key, rest) = content.split_first_chunk().ok_or("ends within a row")?;
            content = rest;
            Ok::<_, String>(u64::from_le_bytes(*key))
        };
        let place = usize::try_from(small.class).unwrap_or(usize::MAX);
        if place == classes.len() {
            classes.push(ClassKey(key()?));
        }
        let class = *classes
            .get(place)
            .ok_or("has a class that it did not tell")?;
        let service = ServiceKey(key()?);
        let identity = Identity([key()?, key()?]);
        record = record.wrapping_add_signed(small.record);
        time = time.wrapping_add(small.time);
        let usage = Usage {
            record: RecordId(record),
            identity,
            service,
            class,
            time: EventTime(time),
            quantities: small.quantities,
            mark: small.mark,
        };
        rows.push((usage, small.diff));
    }
    if content.is_empty() {
        Ok(rows)
    } else {
        Err(format!("has {} bytes behind its last row", content.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_operators::domain::{Keep, Kind, Rank};
    use proptest::prelude::*;

    fn row() -> impl Strategy<Value = (Usage, Diff)> {
        let quantities = prop::collection::vec(any::<i64>(), 0..5);
        let keys = (0..4_u64, any::<u64>(), any::<[u64; 2]>());
        let mark = prop::option::of(any::<i128>()).prop_map(|rank| {
            Box::new(Mark {
                keep: Keep::Version,
                kind: Kind::Amend,
                rank: rank.map(Rank::Number),
            })
        });
        let mark = prop::option::of(mark);
        let parts = (
            any::<u64>(),
            any::<i64>(),
            keys,
            quantities,
            mark,
            any::<Diff>(),
        );
        parts.prop_map(
            |(record, time, (class, service, identity), quantities, mark, diff)| {
                let usage = Usage {
                    record: RecordId(record),
                    identity: Identity(identity),
                    service: ServiceKey(service),
                    class: ClassKey(class),
                    time: EventTime(time),
                    quantities: quantities.into_iter().collect(),
                    mark,
                };
                (usage, diff)
            },
        )
    }

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_written(rows in prop::collection::vec(row(), 0..20), cut in 1_usize..40) {
            let mut writer = RowWriter::with_capacity(3);
            rows.iter().for_each(|(usage, diff)| writer.push(usage, *diff));
            let (count, content) = writer.finish();
            prop_assert_eq!(&read(&content, count).unwrap(), &rows);
            if let Some(less) = content.len().checked_sub(cut) {
                prop_assert!(read(&content[..less], count).is_err());
                prop_assert!(read(&content, count - 1).is_err());
            }
        }
    }
}
