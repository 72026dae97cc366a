//! Columns of text as they come back from Parquet: each text is looked at once per batch.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};

/// A column of text.
#[derive(Clone)]
pub(super) struct Texted(ArrayRef);

/// A column of keys of texts.
pub(super) struct Keyed<K> {
    column: Texted,
    keys: Vec<Option<K>>,
}

/// A column as text, whatever way it is encoded.
pub(super) fn dictionary(column: &ArrayRef) -> Option<Texted> {
    let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    cast(column, &kind).ok().map(Texted)
}

impl Texted {
    fn place(&self, row: usize) -> Option<usize> {
        let dictionary = self.0.as_dictionary_opt::<Int32Type>()?;
        dictionary.key(row)
    }

    /// The text of a row.
    pub(super) fn get(&self, row: usize) -> Option<&str> {
        let place = self.place(row)?;
        let dictionary = self.0.as_dictionary_opt::<Int32Type>()?;
        let values = dictionary.values().as_string_opt::<i32>()?;
        values.is_valid(place).then(|| values.value(place))
    }

    /// The column with a key in the place of each text.
    pub(super) fn keyed<K>(self, mut key: impl FnMut(&str) -> K) -> Keyed<K> {
        let values = self.0.as_dictionary_opt::<Int32Type>();
        let values = values.and_then(|column| column.values().as_string_opt::<i32>().cloned());
        let keys = values.iter().flatten().map(|text| text.map(&mut key));
        let keys = keys.collect();
        Keyed { column: self, keys }
    }
}

impl<K: Copy> Keyed<K> {
    /// The key of a row.
    pub(super) fn get(&self, row: usize) -> Option<K> {
        let place = self.column.place(row)?;
        self.keys.get(place).copied().flatten()
    }
}

/// A key that tells texts of a column apart within one reading.
pub(super) fn text_key(text: &str) -> u64 {
    millrace_operators::domain::Name::new(text).0
}
