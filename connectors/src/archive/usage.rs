//! Usage as rows of a Parquet file: all that is needed to rate a record again, as text.

use super::rows::{Texted, dictionary, text_key};
use super::{ArchiveError, GROUP_ROWS, PAGE_ROWS};
use crate::names::Names;
use crate::output::{Texts, columns};
use arrow::array::{
    ArrayRef, AsArray, FixedSizeBinaryBuilder, Int64Builder, ListBuilder, RecordBatch, UInt64Array,
};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use millrace_operators::domain::{
    AccountKey, ClassKey, EventTime, Identity, Item, Name, Quantities, RecordId, ServiceKey,
    SubscriptionKey, Usage, UsageClass,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{BloomFilterPosition, EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Usage, and who it was billed to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BilledUsage {
    /// The usage.
    pub usage: Usage,
    /// The account.
    pub account: AccountKey,
    /// The subscription.
    pub subscription: SubscriptionKey,
}

impl BilledUsage {
    /// What a digest of the row covers: keys are hashes of their text, so this covers the text.
    pub(super) fn digest(&self, hasher: &mut blake3::Hasher) {
        let usage = &self.usage;
        let [high, low] = usage.identity.0;
        for part in [
            usage.record.0,
            high,
            low,
            usage.service.0,
            usage.class.0,
            usage.time.0.cast_unsigned(),
            self.account.0,
            self.subscription.0,
        ] {
            hasher.update(&part.to_le_bytes());
        }
        for quantity in &usage.quantities {
            hasher.update(&quantity.to_le_bytes());
        }
    }
}

/// The digest of an account's rows, in their order.
pub(super) fn digest<'a>(rows: impl IntoIterator<Item = &'a BilledUsage>) -> String {
    let mut hasher = blake3::Hasher::new();
    rows.into_iter().for_each(|row| row.digest(&mut hasher));
    let digest = hasher.finalize().to_hex();
    digest.as_str().chars().take(32).collect()
}

pub(super) fn schema() -> SchemaRef {
    let required = |name: &str, kind| Field::new(name, kind, false);
    let quantity = Arc::new(Field::new_list_field(DataType::Int64, false));
    Arc::new(Schema::new(vec![
        columns::label("account"),
        columns::label("subscription"),
        columns::label("service_type"),
        columns::label("service"),
        columns::label("attributes"),
        columns::label("items"),
        columns::time("event_time"),
        required("record", DataType::UInt64),
        columns::label("file"),
        required("identity", DataType::FixedSizeBinary(16)),
        required("quantities", DataType::List(quantity)),
    ]))
}

/// How usage is written: pages so small and row groups so few that one account's rows are found by
/// reading little else.
pub(super) fn properties() -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_bloom_filter_position(BloomFilterPosition::End)
        .set_statistics_enabled(EnabledStatistics::Page);
    for column in ["record", "event_time"] {
        let path = ColumnPath::from(column);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    let identity = ColumnPath::from("identity");
    let distinct = u64::try_from(GROUP_ROWS).unwrap_or(u64::MAX);
    Ok(properties
        .set_column_dictionary_enabled(identity.clone(), false)
        .set_column_statistics_enabled(identity.clone(), EnabledStatistics::None)
        .set_column_bloom_filter_enabled(identity.clone(), true)
        .set_column_bloom_filter_max_ndv(identity, distinct)
        .set_column_bloom_filter_enabled(ColumnPath::from("account"), true)
        .set_column_bloom_filter_max_ndv(ColumnPath::from("account"), 1_024)
        .build())
}

/// The items of a class as text, in their order: `[["seconds",0]]`.
fn items_text(class: &UsageClass, names: &Names) -> String {
    let items: Vec<(String, u8)> = class
        .items
        .iter()
        .map(|item| (names.text(item.name).to_string(), item.scale))
        .collect();
    serde_json::to_string(&items).unwrap_or_default()
}

fn attributes_text(class: &UsageClass, names: &Names) -> String {
    let text = |name| names.text(name).to_string();
    let attributes: BTreeMap<String, String> = class
        .attributes
        .iter()
        .map(|(name, value)| (text(*name), text(*value)))
        .collect();
    serde_json::to_string(&attributes).unwrap_or_default()
}

/// Rows as a batch.
pub(super) fn encode(rows: &[BilledUsage], texts: &Texts) -> Result<RecordBatch, ArrowError> {
    let names = &texts.names;
    let column = || columns::Labels::with_capacity(rows.len());
    let (mut account, mut subscription, mut file) = (column(), column(), column());
    let (mut service_type, mut service) = (column(), column());
    let (mut attributes, mut items) = (column(), column());
    let mut identities = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
    let item = Arc::new(Field::new_list_field(DataType::Int64, false));
    let mut quantities = ListBuilder::new(Int64Builder::new()).with_field(item);
    let mut classes: HashMap<ClassKey, Arc<UsageClass>> = HashMap::new();
    for row in rows {
        let usage = &row.usage;
        let class = classes.entry(usage.class).or_insert_with(|| {
            names
                .class(usage.class)
                .expect("the class of usage was entered before it")
        });
        account.push(row.account.0, || names.account(row.account));
        subscription.push(row.subscription.0, || names.subscription(row.subscription));
        file.push(usage.record.file().0, || texts.file(usage.record.file()));
        service_type.push(class.service_type.0, || names.text(class.service_type));
        service.push(usage.service.0, || names.service(usage.service).1);
        attributes.push(usage.class.0, || attributes_text(class, names).into());
        items.push(usage.class.0, || items_text(class, names).into());
        let [high, low] = usage.identity.0.map(u64::to_be_bytes);
        identities.append_value([high, low].concat())?;
        quantities.values().append_slice(&usage.quantities);
        quantities.append(true);
    }
    let columns: Vec<ArrayRef> = vec![
        account.finish(),
        subscription.finish(),
        service_type.finish(),
        service.finish(),
        attributes.finish(),
        items.finish(),
        columns::times(rows.iter().map(|row| Some(row.usage.time))),
        Arc::new(UInt64Array::from_iter_values(
            rows.iter().map(|row| row.usage.record.0),
        )),
        file.finish(),
        Arc::new(identities.finish()),
        Arc::new(quantities.finish()),
    ];
    RecordBatch::try_new(schema(), columns)
}

/// Reads rows back and enters their text; what was met is remembered from batch to batch.
pub(super) struct UsageReader<'n> {
    names: &'n Names,
    services: HashMap<(Name, u64), ServiceKey>,
    classes: HashMap<(u64, u64, u64), ClassKey>,
}

impl<'n> UsageReader<'n> {
    pub(super) fn new(names: &'n Names) -> Self {
        Self {
            names,
            services: HashMap::new(),
            classes: HashMap::new(),
        }
    }

    pub(super) fn read(
        &mut self,
        batch: &RecordBatch,
        location: &str,
        rows: &mut Vec<BilledUsage>,
    ) -> Result<(), ArchiveError> {
        let names = self.names;
        let damaged = |detail: &str| ArchiveError::damaged(location, detail);
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            column.ok_or_else(|| damaged(&format!("has no column {name:?}")))
        };
        let text = |name: &str| -> Result<Texted, ArchiveError> {
            dictionary(column(name)?).ok_or_else(|| damaged(&format!("has no text in {name:?}")))
        };
        let accounts = text("account")?.keyed(|text| names.enter_account(text));
        let subscriptions = text("subscription")?.keyed(|text| names.enter_subscription(text));
        let (service_types, service_ids) = (text("service_type")?, text("service")?);
        let type_names = service_types.clone().keyed(|text| names.enter(text));
        let (attributes, items) = (text("attributes")?, text("items")?);
        let (attribute_keys, item_keys) = (
            attributes.clone().keyed(text_key),
            items.clone().keyed(text_key),
        );
        let service_keys = service_ids.clone().keyed(text_key);
        let wrong = |name: &str| damaged(&format!("has values of another kind in {name:?}"));
        let times = column("event_time")?
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| wrong("event_time"))?;
        let records = column("record")?
            .as_primitive_opt::<UInt64Type>()
            .ok_or_else(|| wrong("record"))?;
        let identities = column("identity")?
            .as_fixed_size_binary_opt()
            .ok_or_else(|| wrong("identity"))?;
        let quantities = column("quantities")?
            .as_list_opt::<i32>()
            .ok_or_else(|| wrong("quantities"))?;
        rows.reserve(batch.num_rows());
        for row in 0..batch.num_rows() {
            let missing = || damaged("has a row without its account, service or class");
            let of = |keyed: &super::rows::Keyed<u64>| keyed.get(row).ok_or_else(missing);
            let service_type = type_names.get(row).ok_or_else(missing)?;
            let service = match self.services.entry((service_type, of(&service_keys)?)) {
                std::collections::hash_map::Entry::Occupied(held) => *held.get(),
                std::collections::hash_map::Entry::Vacant(slot) => {
                    let (kind, id) = (service_types.get(row), service_ids.get(row));
                    let (Some(kind), Some(id)) = (kind, id) else {
                        return Err(missing());
                    };
                    *slot.insert(names.enter_service(kind, id))
                }
            };
            let class = (service_type.0, of(&attribute_keys)?, of(&item_keys)?);
            let class = match self.classes.entry(class) {
                std::collections::hash_map::Entry::Occupied(held) => *held.get(),
                std::collections::hash_map::Entry::Vacant(slot) => {
                    let (attributes, items) = (attributes.get(row), items.get(row));
                    let class = attributes
                        .zip(items)
                        .and_then(|(attributes, items)| {
                            class_of(service_type, attributes, items, names)
                        })
                        .ok_or_else(|| damaged("has a class that is not readable"))?;
                    *slot.insert(names.enter_class(&class))
                }
            };
            let quantities = quantities.value(row);
            let quantities = quantities
                .as_primitive_opt::<Int64Type>()
                .ok_or_else(|| wrong("quantities"))?;
            rows.push(BilledUsage {
                usage: Usage {
                    record: RecordId(records.value(row)),
                    identity: identity_of(identities.value(row)),
                    service,
                    class,
                    time: EventTime(times.value(row)),
                    quantities: Quantities::from_slice(quantities.values()),
                    mark: None,
                },
                account: accounts.get(row).ok_or_else(missing)?,
                subscription: subscriptions.get(row).ok_or_else(missing)?,
            });
        }
        Ok(())
    }
}

pub(super) fn identity_of(bytes: &[u8]) -> Identity {
    let part = |bytes: Option<&[u8]>| {
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_be_bytes)
    };
    Identity([part(bytes.get(..8)), part(bytes.get(8..16))])
}

fn class_of(
    service_type: Name,
    attributes: &str,
    items: &str,
    names: &Names,
) -> Option<UsageClass> {
    let attributes: BTreeMap<String, String> = serde_json::from_str(attributes).ok()?;
    let mut attributes: Vec<(Name, Name)> = attributes
        .iter()
        .map(|(name, value)| (names.enter(name), names.enter(value)))
        .collect();
    attributes.sort_unstable();
    let items: Vec<(String, u8)> = serde_json::from_str(items).ok()?;
    let items = items.iter().map(|(name, scale)| Item {
        name: names.enter(name),
        scale: *scale,
    });
    Some(UsageClass {
        service_type,
        attributes,
        items: items.collect(),
    })
}
