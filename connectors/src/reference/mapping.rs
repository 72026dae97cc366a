//! What a table's mapping in YAML asks for, whichever file it stands in.

use super::accounts::AccountTable;
use super::catalog::PriceTable;
use super::price_fields::PriceFields;
use super::yaml::place_of;
use crate::decode::{ColumnType, CsvLayout, FormatEntry};
use crate::diagnostic::Diagnostic;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::path::Path;

/// The kinds of rows that a table may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Price,
    Account,
    Subscription,
    Service,
}

impl Kind {
    /// The field without which a table row makes none.
    pub(super) fn gate(self) -> &'static str {
        match self {
            Self::Price => "price",
            Self::Account | Self::Subscription => "id",
            Self::Service => "service",
        }
    }

    /// The field that tells a person which row it is.
    pub(super) fn told_by(self) -> &'static str {
        match self {
            Self::Price => "item",
            Self::Account | Self::Subscription => "id",
            Self::Service => "service",
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Price => "price of",
            Self::Account => "account",
            Self::Subscription => "subscription",
            Self::Service => "service",
        }
    }

    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Price => &["item", "price"],
            Self::Account => &["id", "currency"],
            Self::Subscription => &["id", "account"],
            Self::Service => &["service_type", "service", "subscription"],
        }
    }
}

/// How a table row becomes one row of reference data.
#[derive(Clone, Debug)]
pub(super) struct Output<'a> {
    pub(super) kind: Kind,
    /// Fields and their SQL.
    pub(super) fields: Vec<(&'static str, &'a Spanned<String>)>,
    /// Conditions of a price row and their SQL.
    pub(super) when: Vec<(&'a str, &'a Spanned<String>)>,
    /// Keys that a table cannot give, and where they stand.
    refused: Vec<(&'static str, (u64, u64))>,
}

impl<'a> Output<'a> {
    fn of_price(price: &'a PriceFields) -> Self {
        let fields = PriceFields::FIELDS
            .iter()
            .filter_map(|name| Some((*name, price.field(name)?)));
        let when = price.when.iter().map(|(name, sql)| (name.as_str(), sql));
        Self {
            kind: Kind::Price,
            fields: fields.collect(),
            when: when.collect(),
            refused: price.beyond_tables(),
        }
    }

    fn of(kind: Kind, fields: Vec<(&'static str, &'a Spanned<String>)>) -> Self {
        Self {
            kind,
            fields,
            when: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// All SQL of the output: fields, then conditions.
    pub(super) fn expressions(&self) -> impl Iterator<Item = (&str, &'a Spanned<String>)> {
        let fields = self.fields.iter().map(|(name, sql)| (*name, *sql));
        fields.chain(self.when.iter().map(|(name, sql)| (*name, *sql)))
    }
}

/// A table and what to make of it.
#[derive(Clone, Debug)]
pub(super) struct Mapping<'a> {
    /// The file that the mapping stands in.
    pub(super) yaml: &'a str,
    /// Its folder.
    pub(super) folder: &'a Path,
    pub(super) file: &'a Spanned<String>,
    pub(super) format: Option<&'a FormatEntry>,
    pub(super) csv: &'a CsvLayout,
    pub(super) columns: &'a BTreeMap<String, Spanned<ColumnType>>,
    pub(super) filter: Option<&'a Spanned<String>>,
    pub(super) outputs: Vec<Output<'a>>,
    /// The catalog's currency.
    pub(super) currency: &'a str,
}

impl<'a> Mapping<'a> {
    pub(super) fn of_prices(
        yaml: &'a str,
        path: &'a Path,
        table: &'a PriceTable,
        currency: &'a str,
    ) -> Self {
        Self {
            yaml,
            folder: path.parent().unwrap_or(Path::new("")),
            file: &table.file,
            format: table.format.as_ref(),
            csv: &table.csv,
            columns: &table.columns,
            filter: table.filter.as_ref(),
            outputs: table.prices.iter().map(Output::of_price).collect(),
            currency,
        }
    }

    pub(super) fn of_accounts(yaml: &'a str, path: &'a Path, table: &'a AccountTable) -> Self {
        let accounts = table
            .accounts
            .iter()
            .map(|to| Output::of(Kind::Account, to.given()));
        let subscriptions = table
            .subscriptions
            .iter()
            .map(|to| Output::of(Kind::Subscription, to.given()));
        let services = table
            .services
            .iter()
            .map(|to| Output::of(Kind::Service, to.given()));
        Self {
            yaml,
            folder: path.parent().unwrap_or(Path::new("")),
            file: &table.file,
            format: table.format.as_ref(),
            csv: &table.csv,
            columns: &table.columns,
            filter: table.filter.as_ref(),
            outputs: accounts.chain(subscriptions).chain(services).collect(),
            currency: "",
        }
    }

    /// Whether rows can be the history of a subscription that says nothing of its services' time: they are
    /// the subscription's whichever of its rows names them.
    pub(super) fn keeps_services(&self) -> bool {
        let has_time = |output: &Output<'_>| {
            let mut fields = output.fields.iter();
            fields.any(|(name, _)| matches!(*name, "from" | "to"))
        };
        let of = |kind: Kind| {
            let outputs = self.outputs.iter();
            outputs.filter(move |output| output.kind == kind)
        };
        of(Kind::Subscription).any(has_time) && of(Kind::Service).any(|output| !has_time(output))
    }

    /// What is wrong with the mapping by itself.
    pub(super) fn faults(&self) -> Vec<Diagnostic> {
        let fault = |message: String| Diagnostic::error(self.yaml, place_of(self.file), message);
        if self.outputs.is_empty() {
            return vec![fault(format!("no row is made of \"{}\"", self.file.value))];
        }
        let mut faults = Vec::new();
        for output in &self.outputs {
            for (key, place) in &output.refused {
                let message = format!("the key \"{key}\" does not go with a table");
                let hint = "write the price out, under `prices` of the catalog";
                faults.push(Diagnostic::error(self.yaml, *place, message).with_hint(hint));
            }
            let given: Vec<&str> = output.fields.iter().map(|(name, _)| *name).collect();
            for field in output
                .kind
                .required()
                .iter()
                .filter(|field| !given.contains(*field))
            {
                let kind = output.kind.word();
                let message = format!("a {kind} made of \"{}\" lacks \"{field}\"", self.file.value);
                faults.push(fault(message).with_hint("give it as an SQL expression"));
            }
        }
        faults
    }
}
