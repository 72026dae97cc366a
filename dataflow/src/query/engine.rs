//! A question to DataFusion about the tables of a [`Place`].

use super::answer::Answer;
use super::{Place, QueryError, Table};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{SessionConfig, SessionContext};
#[cfg(feature = "s3")]
use millrace_connectors::store::StoreError;
use std::sync::Arc;
use tokio::runtime::Builder;

/// Asks a question about the outputs of a job, named by its job file, folder or URL.
///
/// # Errors
/// When there are no outputs, or the question is not an SQL query that can be answered from them.
pub fn ask(target: &str, sql: &str) -> Result<Answer, QueryError> {
    let place = Place::find(target)?;
    place.check(sql)?;
    let config = SessionConfig::new()
        .with_information_schema(true)
        .set_bool("datafusion.sql_parser.parse_float_as_decimal", true);
    let context = SessionContext::new_with_config(config);
    register_stores(&context, &place).map_err(|error| explain(&error, &place))?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let only_read = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    let started = runtime.block_on(async {
        for table in &place.tables {
            let listed = listing(&context, table).await?;
            context.register_table(table.name.as_str(), Arc::new(listed))?;
        }
        context
            .sql_with_options(sql, only_read)
            .await?
            .execute_stream()
            .await
    });
    let stream = started.map_err(|error| explain(&error, &place))?;
    Ok(Answer::new(runtime, stream, place))
}

async fn listing(context: &SessionContext, table: &Table) -> Result<ListingTable, DataFusionError> {
    let files: Result<Vec<_>, _> = table.files.iter().map(ListingTableUrl::parse).collect();
    let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
    let config = ListingTableConfig::new_with_multi_paths(files?).with_listing_options(options);
    let config = config.infer_schema(&context.state()).await?;
    ListingTable::try_new(match config.file_schema.as_ref().map(wide) {
        Some(schema) => config.with_schema(schema),
        None => config,
    })
}

/// The columns with decimals of 256 bits: the engine adds up in the width of the column and lets a sum begin
/// anew past it, and amounts that 128 bits hold have sums that these do not.
fn wide(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Decimal128(precision, scale) => {
            let kind = DataType::Decimal256(*precision, *scale);
            Arc::new(field.as_ref().clone().with_data_type(kind))
        }
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new_with_metadata(
        fields.collect::<Vec<_>>(),
        schema.metadata().clone(),
    ))
}

#[cfg(feature = "s3")]
fn register_stores(context: &SessionContext, place: &Place) -> Result<(), DataFusionError> {
    use datafusion::execution::object_store::ObjectStoreUrl;
    for store in place.sources.iter().chain([&place.store]) {
        if let Some((bucket, objects)) = store.objects() {
            context.register_object_store(ObjectStoreUrl::parse(bucket)?.as_ref(), objects);
        }
    }
    Ok(())
}

/// Only local files in this build, which DataFusion reads by itself.
#[cfg(not(feature = "s3"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "the same signature as with buckets"
)]
fn register_stores(_: &SessionContext, _: &Place) -> Result<(), DataFusionError> {
    Ok(())
}

pub(super) fn hint(place: &Place) -> String {
    let names: Vec<&str> = place
        .tables
        .iter()
        .map(|table| table.name.as_str())
        .collect();
    format!("the tables are {}", names.join(", "))
}

pub(super) fn explain(error: &DataFusionError, place: &Place) -> QueryError {
    #[cfg(feature = "s3")]
    if let Some(silent) = StoreError::silent_in(error, place.store.location()) {
        return silent.into();
    }
    QueryError::Sql {
        message: error.strip_backtrace(),
        hint: hint(place),
    }
}
