//! Lookups into reference tables.

use super::{argument_count, refused};
use crate::decode::quoted;
use crate::diagnostic::did_you_mean;
use crate::lookup::Lookups;
use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A reference table without a value for a key that a record needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupMissing {
    /// No row has the key.
    #[error("table {table:?} has no row for {key}")]
    Row {
        /// The table.
        table: String,
        /// The key, quoted.
        key: String,
    },
    /// The row of the key has nothing in the column.
    #[error("column {column:?} of table {table:?} is empty for {key}")]
    Value {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The key, quoted.
        key: String,
    },
}

pub(super) fn functions(lookups: &Arc<Lookups>) -> Vec<Arc<ScalarUDF>> {
    [Kind::Needed, Kind::OrNull, Kind::Prefix]
        .map(|kind| {
            let lookups = Arc::clone(lookups);
            let signature = Signature::variadic_any(Volatility::Immutable);
            Arc::new(ScalarUDF::new_from_impl(Lookup {
                kind,
                lookups,
                signature,
            }))
        })
        .to_vec()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Needed,
    OrNull,
    Prefix,
}

#[derive(Debug)]
struct Lookup {
    kind: Kind,
    lookups: Arc<Lookups>,
    signature: Signature,
}

// Two lookups are the same function when they read the same snapshot of the tables.
impl PartialEq for Lookup {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && Arc::ptr_eq(&self.lookups, &other.lookups)
    }
}

impl Eq for Lookup {}

impl Hash for Lookup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}

fn literal<'a>(args: &ReturnFieldArgs<'a>, index: usize) -> Option<&'a str> {
    args.scalar_arguments
        .get(index)
        .copied()
        .flatten()
        .and_then(|v| v.try_as_str().flatten())
}

impl ScalarUDFImpl for Lookup {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Needed => "lookup",
            Kind::OrNull => "lookup_or_null",
            Kind::Prefix => "lookup_prefix",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let usage = format!("{}('table', 'column', key)", self.name());
        argument_count(&args, 3, &usage)?;
        let (Some(table), Some(column)) = (literal(&args, 0), literal(&args, 1)) else {
            if let (None, Some(table), Some(column)) =
                (literal(&args, 0), literal(&args, 1), literal(&args, 2))
            {
                return Err(refused(
                    format!("{usage} has its key first; the key comes last"),
                    format!("write {}('{table}', '{column}', key)", self.name()),
                ));
            }
            return Err(refused(
                format!("{usage} needs its table and column as texts"),
                "put them in single quotes",
            ));
        };
        let unknown = |what: &str, name: &str, known: &mut dyn Iterator<Item = &str>| {
            let known: Vec<&str> = known.collect();
            let hint = match did_you_mean(name, known.iter().copied()) {
                Some(meant) => format!("did you mean '{meant}'?"),
                None => format!("there is {}", known.join(", ")),
            };
            refused(format!("{usage} names an unknown {what} '{name}'"), hint)
        };
        // Of a table no more is loaded than what is asked of it, so the column is not looked for.
        if self.lookups.table(table).is_none() && self.lookups.table(column).is_some() {
            return Err(refused(
                format!(
                    "{usage} has its column first: '{column}' is the table, '{table}' the column"
                ),
                format!("write {}('{column}', '{table}', key)", self.name()),
            ));
        }
        let found = self.lookups.table(table);
        let found = found.ok_or_else(|| unknown("table", table, &mut self.lookups.names()))?;
        if found.column(column).is_none() {
            return Err(unknown("column", column, &mut found.columns()));
        }
        if args
            .arg_fields
            .get(2)
            .is_some_and(|field| field.data_type().is_floating())
        {
            return Err(refused(format!("{usage} has a binary float as key"), ""));
        }
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [
            ColumnarValue::Scalar(table),
            ColumnarValue::Scalar(column),
            keys,
        ] = args.args.as_slice()
        else {
            return internal_err!(
                "{} has other arguments than it was planned for",
                self.name()
            );
        };
        let keys = keys.to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(self.look_up(table, column, &keys)?))
    }
}

impl Lookup {
    fn look_up(
        &self,
        table: &ScalarValue,
        column: &ScalarValue,
        keys: &ArrayRef,
    ) -> Result<ArrayRef> {
        let name = table.try_as_str().flatten().unwrap_or_default();
        let table = self.lookups.table(name);
        let column = column.try_as_str().flatten().unwrap_or_default();
        let Some((table, place)) = table.and_then(|table| Some((table, table.column(column)?)))
        else {
            return internal_err!("table {name:?} was there when the lookup was planned");
        };
        let keys = arrow::compute::cast(keys, &DataType::Utf8)?;
        let keys = keys.as_string::<i32>();
        let mut values = StringBuilder::with_capacity(keys.len(), keys.len() * 8);
        let missing = |missing| Err(DataFusionError::External(Box::new(missing)));
        for key in keys {
            // A record without a key has no value; whoever uses it says what that means.
            let Some(key) = key else {
                values.append_null();
                continue;
            };
            let row = match self.kind {
                Kind::Prefix => table.longest_prefix(key),
                Kind::Needed | Kind::OrNull => table.row(key),
            };
            match row.map(|row| table.value(row, place)) {
                Some(Some(value)) => values.append_value(value),
                _ if self.kind == Kind::OrNull => values.append_null(),
                None => {
                    let (table, key) = (name.to_owned(), quoted(key));
                    return missing(LookupMissing::Row { table, key });
                }
                Some(None) => {
                    let (table, column, key) = (name.to_owned(), column.to_owned(), quoted(key));
                    return missing(LookupMissing::Value { table, column, key });
                }
            }
        }
        Ok(Arc::new(values.finish()))
    }
}
