//! Column builders of the outputs.

use arrow::array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int32Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use hashbrown::HashMap;
use millrace_operators::domain::{Amount, EventTime, Quantity};
use std::sync::Arc;

/// A column of few texts, entered by key: the text of a key is looked up once per batch.
#[derive(Default)]
pub(crate) struct Labels {
    index: HashMap<u128, i32>,
    last: Option<(u128, i32)>,
    keys: Vec<Option<i32>>,
    texts: Vec<Arc<str>>,
}

impl Labels {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            keys: Vec::with_capacity(rows),
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, key: impl Into<u128>, text: impl FnOnce() -> Arc<str>) {
        let key = key.into();
        let index = match self.last {
            Some((last, index)) if last == key => index,
            _ => {
                let texts = &mut self.texts;
                *self.index.entry(key).or_insert_with(|| {
                    texts.push(text());
                    i32::try_from(texts.len() - 1).expect("a batch has fewer than 2^31 rows")
                })
            }
        };
        self.last = Some((key, index));
        self.keys.push(Some(index));
    }

    /// One of a few fixed words.
    pub(crate) fn push_word(&mut self, word: &'static str) {
        let known = self.texts.iter().position(|text| **text == *word);
        let index = known.unwrap_or_else(|| {
            self.texts.push(Arc::from(word));
            self.texts.len() - 1
        });
        let index = i32::try_from(index).expect("words are few");
        self.keys.push(Some(index));
    }

    pub(crate) fn push_null(&mut self) {
        self.keys.push(None);
    }

    pub(crate) fn finish(self) -> ArrayRef {
        let values = StringArray::from_iter_values(self.texts.iter().map(|text| &**text));
        let array = DictionaryArray::new(Int32Array::from(self.keys), Arc::new(values));
        Arc::new(array)
    }
}

/// A key that has no text of its own, the same in every output.
pub(crate) fn hexadecimal(key: u64) -> Arc<str> {
    Arc::from(format!("{key:016x}"))
}

pub(crate) fn label(name: &str) -> Field {
    let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Field::new(name, kind, true)
}

pub(crate) fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

pub(crate) fn number(name: &str) -> Field {
    Field::new(name, DataType::UInt64, true)
}

pub(crate) fn time(name: &str) -> Field {
    Field::new(
        name,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        true,
    )
}

pub(crate) fn money(name: &str) -> Field {
    Field::new(
        name,
        DataType::Decimal128(38, Amount::SCALE.cast_signed()),
        true,
    )
}

pub(crate) fn quantity(name: &str) -> Field {
    Field::new(
        name,
        DataType::Decimal128(38, Quantity::SCALE.cast_signed()),
        true,
    )
}

/// Times; the open ends of periods are none.
pub(crate) fn times(values: impl Iterator<Item = Option<EventTime>>) -> ArrayRef {
    let is_open = |time: &EventTime| [EventTime::MIN, EventTime::MAX].contains(time);
    let values = values.map(|time| time.filter(|time| !is_open(time)).map(|time| time.0));
    let array: TimestampMicrosecondArray = values.collect();
    Arc::new(array.with_timezone("UTC"))
}

/// Decimals of 38 digits. One that has more must not get here, because readers of the column take its
/// digits for a tenth of it: nothing is charged that an [`Amount`] does not hold, and of what adds up
/// [`fitting`] leaves it empty.
pub(crate) fn decimals(values: impl Iterator<Item = Option<i128>>, scale: u8) -> ArrayRef {
    let array: Decimal128Array = values.collect();
    let array = array.with_precision_and_scale(38, scale.cast_signed());
    let array = array.expect("38 digits and a scale of 24 at most are a valid decimal type");
    let fits = array.validate_decimal_precision(38);
    fits.expect("a decimal of an output has 38 digits at most");
    Arc::new(array)
}

/// A number that has grown by others, where 38 digits hold it.
pub(crate) fn fitting(value: i128) -> Option<i128> {
    Amount::within(value).map(|amount| amount.0)
}

/// How many decimals a column of an output has.
pub(crate) fn decimals_of(scale: i8) -> u8 {
    u8::try_from(scale).expect("a decimal of an output has decimals, not zeros before the point")
}
