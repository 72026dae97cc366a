//! A rule compiled: names resolved, expressions parsed, columns known. What needs the types of the
//! columns waits for a file, see [`MediationPlan::mediator`].

mod inputs;

pub use inputs::{ColumnContent, ExpressionContent, RuleContent};

use super::Mediator;
use super::marks::{Marking, ranks};
use super::rule::{IdentityRule, MediationRule, Sql};
use super::text::has_text;
use crate::decode::{ColumnRequest, MayBe, Unmet, text_schema};
use crate::diagnostic::{Diagnostic, did_you_mean, unread_column};
use crate::expression::{Decision, Expression, ExpressionError, Functions, Inputs, Parsed};
use crate::lookup::{LookupTable, Lookups};
use crate::names::Names;
use crate::reference::yaml::place_of;
use crate::stream::StreamId;
use crate::times::TimeRules;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millrace_operators::domain::{Keep, Kind};
use std::collections::BTreeSet;
use std::sync::Arc;

/// More charge lines than this no record has; it is the width of a set.
const CHARGES_MAX: usize = 64;

/// Decimals that quantities may have.
pub(super) const QUANTITY_SCALE_MAX: u8 = 12;

/// A rule compiled for a stream.
#[derive(Debug)]
pub struct MediationPlan {
    pub(super) stream: StreamId,
    pub(super) names: Arc<Names>,
    pub(super) times: TimeRules,
    functions: Functions,
    /// The tables that the rule asks.
    tables: Vec<(String, Arc<LookupTable>)>,
    file: String,
    columns: Vec<ColumnRequest>,
    lets: Vec<Written>,
    /// Which of `lets` the filter needs.
    before_filter: Vec<bool>,
    filter: Option<Written>,
    identity: Option<Vec<Written>>,
    keep: Keep,
    /// What records are ranked by.
    rank: Option<Written>,
    /// What a record does.
    kind: Option<Written>,
    pub(super) treatment: Treatment,
    service: Written,
    time: Written,
    attributes: Vec<Written>,
    charges: Vec<Written>,
    /// What is odd about the rule without keeping it from working.
    warnings: Vec<Diagnostic>,
}

/// What the job says about the records of a source, beside its rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Treatment {
    /// The source, where equal ids of two sources of the stream are different records.
    pub source: Option<String>,
    /// Its records correct what was reported, unless they take it out.
    pub corrects: bool,
    /// Records of its stream may be corrected, so all of them are held whole.
    pub correctable: bool,
}

/// The raw columns that a value is made of, itself or through named values.
fn behind(lets: &[Written], written: &Written) -> BTreeSet<String> {
    let mut wanted = written.parsed.columns().clone();
    for named in lets.iter().rev() {
        if wanted.remove(&named.name) {
            wanted.extend(named.parsed.columns().iter().cloned());
        }
    }
    wanted
}

/// One expression of the rule.
#[derive(Clone, Debug)]
struct Written {
    /// Its name in its map; empty for single expressions.
    name: String,
    /// The field of the rule, as faults name it.
    field: String,
    line: u64,
    column: u64,
    parsed: Parsed,
}

impl MediationPlan {
    /// Compiles a rule; `file` is where it is written, for messages.
    ///
    /// # Errors
    /// All findings at once: expressions that are no SQL, names used before they are there.
    pub fn compile(
        stream: StreamId,
        rule: &MediationRule,
        file: &str,
        lookups: &Arc<Lookups>,
        names: Arc<Names>,
        times: &TimeRules,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut compiler = Compiler {
            file,
            findings: Vec::new(),
        };
        let lets = compiler.all("let", &rule.lets.0);
        let filter = rule
            .filter
            .as_ref()
            .and_then(|sql| compiler.one("", "where", sql));
        let identity = match &rule.identity {
            IdentityRule::Position => Some(None),
            IdentityRule::Fields(fields) => {
                let fields = fields.iter().map(|sql| compiler.one("", "identity", sql));
                fields
                    .collect::<Vec<_>>()
                    .into_iter()
                    .collect::<Option<Vec<_>>>()
                    .map(Some)
            }
        };
        let (keep, rank) = compiler.keep(rule);
        let kind = rule.kind.as_ref();
        let kind = kind.and_then(|sql| compiler.one("", "kind", sql));
        let service = compiler.one("", "service", &rule.service);
        let time = compiler.one("", "time", &rule.time);
        let attributes = compiler.all("attributes", &rule.attributes.0);
        let charges = compiler.all("charges", &rule.charges.0);
        if rule.charges.0.is_empty() || rule.charges.0.len() > CHARGES_MAX {
            let count = rule.charges.0.len();
            let place = (rule.service.referenced.line(), 0);
            let message = format!("`charges` has {count} items instead of 1 to {CHARGES_MAX}");
            compiler
                .findings
                .push(Diagnostic::error(file, place, message));
        }

        let users = filter.iter().chain(identity.iter().flatten().flatten());
        let users = users
            .chain(&rank)
            .chain(&kind)
            .chain(&service)
            .chain(&time)
            .chain(&attributes)
            .chain(&charges);
        let columns = compiler.resolve(&lets, users.clone());
        let (Some(identity), Some(service), Some(time), true) = (
            identity.clone(),
            service.clone(),
            time.clone(),
            compiler.findings.is_empty(),
        ) else {
            return Err(compiler.findings);
        };
        let warnings = unread(rule, &columns, file);
        let mut identifies = BTreeSet::new();
        for written in identity.iter().flatten() {
            identifies.extend(behind(&lets, written));
        }
        let request = |name: String| {
            let declared = rule.columns.get(&name).map(|declared| &declared.value);
            let (zone, ambiguous) = declared.map_or((None, None), |declared| {
                (declared.zone.clone(), declared.ambiguous)
            });
            ColumnRequest {
                kind: declared.and_then(|declared| declared.kind),
                may_be: declared.map_or_else(MayBe::default, |declared| declared.may_be),
                names_zone: zone.is_some(),
                times: times.reading.declared(zone, ambiguous),
                range: times.range,
                identifies: identifies.contains(&name),
                name,
            }
        };
        Ok(Self {
            functions: Functions::new(lookups, &times.reading),
            tables: inputs::asked(rule, lookups),
            before_filter: needed_by(filter.as_ref(), &lets),
            columns: columns.into_iter().map(request).collect(),
            file: file.to_owned(),
            stream,
            names,
            times: times.clone(),
            lets,
            filter,
            identity,
            keep,
            rank,
            kind,
            treatment: Treatment::default(),
            service,
            time,
            attributes,
            charges,
            warnings,
        })
    }

    /// The rule for a source whose records are treated so.
    #[must_use]
    pub fn treated(self, treatment: Treatment) -> Self {
        Self { treatment, ..self }
    }

    /// Whether more than the order of arrival decides which record of an identity holds.
    #[must_use]
    pub fn decides(&self) -> bool {
        self.keep != Keep::First || self.kind.is_some() || self.treatment.correctable
    }

    /// Which record of an identity holds.
    #[must_use]
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// Which record of an identity holds, in words.
    #[must_use]
    pub fn precedence(&self) -> String {
        let by = self.rank.as_ref().map_or("", |rank| rank.parsed.sql());
        match self.keep {
            Keep::First => "the first of an identity".to_owned(),
            Keep::Last => "the last of an identity".to_owned(),
            Keep::Greatest => format!("the one with the greatest `{by}`"),
            Keep::Version => format!("the one with the greatest version `{by}`"),
        }
    }

    /// Whether records have an identity of their own, beside their place.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// The raw columns that the rule reads, to be asked of the decoder in this order.
    #[must_use]
    pub fn columns(&self) -> &[ColumnRequest] {
        &self.columns
    }

    /// The stream that the rule is for.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// What is odd about the rule without keeping it from working.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Where the expression of a field of the rule is written: the file, its line and column. Of the
    /// parts of the identity it is the one that `detail` quotes.
    #[must_use]
    pub fn place_of(&self, field: &str, detail: &str) -> (&str, (u64, u64)) {
        let single = [&self.service, &self.time];
        let written = self
            .filter
            .iter()
            .chain(self.identity.iter().flatten())
            .chain(single)
            .chain(&self.attributes)
            .chain(&self.charges);
        let mut of_field = written.filter(|written| written.field == field).peekable();
        let first = of_field.peek().copied();
        let quoted = of_field.find(|written| {
            let sql = written.parsed.sql().trim_matches('"');
            detail.contains(&format!("`{sql}`"))
        });
        let place = quoted.or(first);
        let place = place.map_or((0, 0), |written| (written.line, written.column));
        (&self.file, place)
    }

    /// Where the rule reads a raw column first: the file, its line and column.
    #[must_use]
    pub fn place_of_column(&self, name: &str) -> (&str, (u64, u64)) {
        let reads = |written: &&Written| written.parsed.columns().contains(name);
        let written = self.lets.iter().chain(self.all()).find(reads);
        let place = written.map_or((0, 0), |written| (written.line, written.column));
        (&self.file, place)
    }

    /// Of these raw columns that no record of a file has those that this is to be told of: of a file of
    /// which `where` chooses no record, only what it may not choose them for.
    #[must_use]
    pub fn misses(&self, mut unmet: Vec<Unmet>, chooses: bool) -> Vec<Unmet> {
        if chooses {
            return unmet;
        }
        let filter = self.filter.as_ref();
        let by = filter.map_or_else(Vec::new, |filter| self.columns_behind(filter));
        unmet.retain(|unmet| by.contains(&unmet.field));
        unmet
    }

    /// Says that no record of `file` has a field that the rule reads; nothing where the rule in force does
    /// not, or has it that files may lack it.
    #[must_use]
    pub fn tell_unmet(&self, file: &str, unmet: &Unmet) -> Option<Diagnostic> {
        let asked = |column: &&ColumnRequest| column.name == unmet.field && !column.may_be.absent;
        let column = self.columns.iter().find(asked)?;
        let names = || unmet.there.iter().map(String::as_str);
        let meant = did_you_mean(&column.name, names());
        let meant = meant.map_or_else(String::new, |name| format!(", did you mean {name:?}"));
        let there = names().collect::<Vec<_>>().join(", ");
        let there = match there.is_empty() {
            true => there,
            false => format!("; its fields are {there}"),
        };
        let message = format!(
            "no record of {file:?} has the field {:?}{meant}{there}",
            column.name
        );
        let (rule, place) = self.place_of_column(&column.name);
        let hint = match column.declaration() {
            Some(declared) => format!(
                "correct the name; if files may lack the field, declare it in `columns`: {declared}"
            ),
            None => "correct the name".to_owned(),
        };
        Some(Diagnostic::warning(rule, place, message).with_hint(hint))
    }

    /// The expressions of the rule, but for named values.
    fn all(&self) -> impl Iterator<Item = &Written> {
        let marks = self.rank.iter().chain(&self.kind);
        let single = [&self.service, &self.time];
        let first = self.filter.iter().chain(self.identity.iter().flatten());
        let last = self.attributes.iter().chain(&self.charges);
        first.chain(marks).chain(single).chain(last)
    }

    /// The raw columns that a value is made of, itself or through named values.
    fn columns_behind(&self, written: &Written) -> Vec<String> {
        behind(&self.lets, written).into_iter().collect()
    }

    /// The columns for which the rule's time, itself or through named values, has something to stand in
    /// for where they are empty.
    fn filled_by_time(&self) -> BTreeSet<String> {
        let mut wanted = self.time.parsed.columns().clone();
        let mut filled = self.time.parsed.filled();
        for named in self.lets.iter().rev() {
            if wanted.remove(&named.name) {
                wanted.extend(named.parsed.columns().iter().cloned());
                filled.extend(named.parsed.filled());
            }
        }
        filled
    }

    /// Type-checks the rule for text formats, whose types are declared in the rule.
    ///
    /// # Errors
    /// All findings at once.
    pub fn check_text(&self) -> Result<(), Vec<Diagnostic>> {
        self.mediator(&text_schema(&self.columns)).map(|_| ())
    }

    /// Plans the rule for columns of these types, as a decoder gives them.
    ///
    /// # Errors
    /// All findings at once: type errors, lookups into tables that do not exist, inexact numbers.
    pub fn mediator(&self, schema: &SchemaRef) -> Result<Mediator, Vec<Diagnostic>> {
        let intended = self.columns.iter().filter(|column| column.may_be.empty);
        let mut typing = Typing {
            plan: self,
            schema: Arc::clone(schema),
            inputs: Inputs::new(intended.map(|column| column.name.clone())),
            findings: Vec::new(),
        };
        let mut lets = Vec::with_capacity(self.lets.len());
        // Values that the filter needs come first, so that it sees the batch before it shrinks.
        let order = |before: bool| {
            self.lets
                .iter()
                .zip(&self.before_filter)
                .filter(move |(_, b)| **b == before)
        };
        for (written, _) in order(true) {
            lets.extend(typing.name(written));
        }
        let lets_before_filter = lets.len();
        let filter = self.filter.as_ref().and_then(|written| {
            let boolean = |kind: &DataType| matches!(kind, DataType::Boolean | DataType::Null);
            typing.check(written, boolean, "true or false", "write a condition")
        });
        for (written, _) in order(false) {
            lets.extend(typing.name(written));
        }
        let as_text = |typing: &mut Typing<'_>, written: &Written| {
            typing.check(
                written,
                has_text,
                "a text",
                "declare the column as text in `columns`, convert it, or choose another column",
            )
        };
        // What the rule's time says of an empty field holds for it as a part of the identity, too.
        let with_time = typing.inputs.with(self.filled_by_time());
        let inputs = std::mem::replace(&mut typing.inputs, with_time);
        let identity = self.identity.as_ref().map(|fields| {
            fields
                .iter()
                .filter_map(|written| as_text(&mut typing, written))
                .collect::<Vec<_>>()
        });
        typing.inputs = inputs;
        let kind = self.kind.as_ref();
        let kind = kind.and_then(|written| as_text(&mut typing, written));
        let rank = self.rank.as_ref().and_then(|written| {
            let hint = "declare the column in `columns` as bigint, decimal or timestamp";
            let wanted = "a whole number, a decimal of up to 18 decimals or a time";
            typing.check(written, ranks, wanted, hint)
        });
        let unless_told = match self.treatment.corrects {
            true => Kind::Amend,
            false => Kind::Usage,
        };
        let keep = self.keep;
        let marking = self.decides().then_some(Marking {
            keep,
            kind,
            rank,
            unless_told,
        });
        let service = as_text(&mut typing, &self.service);
        let time = typing.time(&self.time);
        let attributes: Vec<_> = self
            .attributes
            .iter()
            .filter_map(|written| as_text(&mut typing, written))
            .collect();
        let charges: Vec<_> = self
            .charges
            .iter()
            .filter_map(|written| typing.quantity(written))
            .collect();
        let (Some(service), Some(time), true) = (service, time, typing.findings.is_empty()) else {
            return Err(typing.findings);
        };
        Ok(Mediator::new(
            self,
            super::Steps {
                lets,
                lets_before_filter,
                filter,
                identity,
                marking,
                service,
                time,
                time_columns: self.columns_behind(&self.time),
                attributes,
                charges,
            },
        ))
    }
}

/// An expression of the rule, planned.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) field: String,
    pub(super) expression: Expression,
    /// How it answers fields that are empty.
    pub(super) decision: Decision,
}

struct Typing<'p> {
    plan: &'p MediationPlan,
    /// The columns so far: raw ones and named values.
    schema: SchemaRef,
    inputs: Inputs,
    findings: Vec<Diagnostic>,
}

impl Typing<'_> {
    fn plan(&mut self, written: &Written) -> Option<Planned> {
        let (parsed, functions) = (&written.parsed, &self.plan.functions);
        match parsed.plan_decided(&self.schema, functions, &self.inputs) {
            Ok((expression, decision)) => Some(Planned {
                name: written.name.clone(),
                field: written.field.clone(),
                expression,
                decision,
            }),
            Err(error) => {
                self.findings.push(finding(&self.plan.file, written, error));
                None
            }
        }
    }

    /// Plans a named value and makes it a column for the expressions behind it.
    fn name(&mut self, written: &Written) -> Option<Planned> {
        let planned = self.plan(written);
        // A value that failed stays out; what uses it would only repeat the finding.
        let kind = planned
            .as_ref()
            .map_or(DataType::Null, |p| p.expression.data_type().clone());
        if let Some(planned) = &planned {
            self.inputs.name(&written.name, &planned.decision);
        }
        let mut fields: Vec<_> = self.schema.fields().iter().map(Arc::clone).collect();
        fields.push(Arc::new(Field::new(&written.name, kind, true)));
        self.schema = Arc::new(Schema::new(fields));
        planned
    }

    fn check(
        &mut self,
        written: &Written,
        good: impl Fn(&DataType) -> bool,
        wanted: &str,
        hint: &str,
    ) -> Option<Planned> {
        let planned = self.plan(written)?;
        let kind = planned.expression.data_type();
        if good(kind) {
            return Some(planned);
        }
        let sql = written.parsed.sql();
        let message = format!("`{sql}` is {kind}, where {wanted} belongs");
        self.findings.push(finding(
            &self.plan.file,
            written,
            ExpressionError::new(message, hint),
        ));
        None
    }

    fn time(&mut self, written: &Written) -> Option<Planned> {
        let planned = self.check(
            written,
            |kind| matches!(kind, DataType::Timestamp(_, _) | DataType::Date32),
            "a timestamp",
            "declare the column as timestamp in `columns`; for a number write \
             to_timestamp_seconds(x), or _millis, _micros, _nanos; or write \
             plus_seconds(TIMESTAMP '2026-08-01T00:00:00Z', seconds)",
        )?;
        let tenant = self.plan.times.reading.shown_in();
        match planned.expression.data_type() {
            DataType::Timestamp(_, Some(zone)) if **zone != *tenant => {
                let sql = written.parsed.sql();
                let message = format!("`{sql}` shows its instants in {zone}, which moves none");
                let hint = format!(
                    "if times of the column are of {zone} and name no offset, declare it as \
                     timestamp('{zone}') in `columns`; if they are instants, leave AT TIME ZONE \
                     out here, or write instant({sql})"
                );
                let error = ExpressionError::new(message, hint);
                self.findings.push(finding(&self.plan.file, written, error));
                None
            }
            _ => Some(planned),
        }
    }

    fn quantity(&mut self, written: &Written) -> Option<(Planned, u8)> {
        let scale = |kind: &DataType| match kind {
            // Zeros further behind are no digits; other digits there are told record by record.
            DataType::Decimal128(_, scale) if *scale >= 0 => {
                Some(scale.unsigned_abs().min(QUANTITY_SCALE_MAX))
            }
            kind if kind.is_integer() => Some(0),
            _ => None,
        };
        let hint = "declare the column in `columns`, or convert it with decimal(column, scale)";
        let wanted = "a whole number or a decimal";
        let planned = self.check(written, |kind| scale(kind).is_some(), wanted, hint)?;
        let scale = scale(planned.expression.data_type())?;
        Some((planned, scale))
    }
}

fn finding(file: &str, written: &Written, error: ExpressionError) -> Diagnostic {
    let message = format!("{}: {}", written.field, error.message);
    Diagnostic::error(file, (written.line, written.column), message).with_hint(error.hint)
}

struct Compiler<'f> {
    file: &'f str,
    findings: Vec<Diagnostic>,
}

impl Compiler<'_> {
    fn one(&mut self, name: &str, field: &str, sql: &Sql) -> Option<Written> {
        let (line, column) = (sql.referenced.line(), sql.referenced.column());
        match Parsed::parse(&sql.value) {
            Ok(parsed) => {
                let (name, field) = (name.to_owned(), field.to_owned());
                Some(Written {
                    name,
                    field,
                    line,
                    column,
                    parsed,
                })
            }
            Err(error) => {
                let message = format!("{field}: {}", error.message);
                let finding = Diagnostic::error(self.file, (line, column), message);
                self.findings.push(finding.with_hint(error.hint));
                None
            }
        }
    }

    /// Which record of an identity holds, and what records are ranked by for that.
    fn keep(&mut self, rule: &MediationRule) -> (Keep, Option<Written>) {
        let by_place = rule.identity == IdentityRule::Position;
        let fields = [
            ("keep", &rule.keep),
            ("version", &rule.version),
            ("kind", &rule.kind),
        ];
        for (field, sql) in fields {
            if let (Some(sql), true) = (sql, by_place) {
                let message = format!("{field}: no record has the identity of another here");
                let hint =
                    "name the fields that a record and its correction have in common in `identity`";
                self.refuse(sql, message, hint);
            }
        }
        let Some(sql) = &rule.keep else {
            let version = rule.version.as_ref();
            let version = version.and_then(|sql| self.one("", "version", sql));
            let keep = if rule.version.is_some() {
                Keep::Version
            } else {
                Keep::First
            };
            return (keep, version);
        };
        if rule.version.is_some() {
            let message =
                "keep: the greatest `version` holds, so there is nothing to keep otherwise";
            self.refuse(sql, message.to_owned(), "write one of the two");
        }
        let word = sql.value.trim();
        let inner = word
            .strip_prefix("greatest(")
            .and_then(|rest| rest.strip_suffix(')'));
        match (word, inner) {
            ("first", _) => (Keep::First, None),
            ("last", _) => (Keep::Last, None),
            (_, Some(inner)) if !inner.trim().is_empty() => {
                let inner = Sql::new(inner.to_owned(), sql.referenced, sql.defined);
                (Keep::Greatest, self.one("", "keep", &inner))
            }
            _ => {
                let message = format!(
                    "keep: {word:?} is none of `first`, `last` and `greatest(<expression>)`"
                );
                let meant = did_you_mean(word, ["first", "last", "greatest"]);
                let hint = match meant {
                    Some("greatest") => "did you mean \"greatest(<expression>)\"?".to_owned(),
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => "write for example `keep: last`".to_owned(),
                };
                self.refuse(sql, message, &hint);
                (Keep::First, None)
            }
        }
    }

    fn refuse(&mut self, sql: &Sql, message: String, hint: &str) {
        let place = (sql.referenced.line(), sql.referenced.column());
        let finding = Diagnostic::error(self.file, place, message);
        self.findings.push(finding.with_hint(hint));
    }

    fn all(&mut self, section: &str, entries: &[(String, Sql)]) -> Vec<Written> {
        let entry = |(name, sql): &(String, Sql)| self.one(name, &format!("{section}.{name}"), sql);
        entries.iter().filter_map(entry).collect()
    }

    /// The raw columns that are read. Reports values that are used before they are there.
    fn resolve<'w>(
        &mut self,
        lets: &'w [Written],
        users: impl Iterator<Item = &'w Written>,
    ) -> BTreeSet<String> {
        let mut columns = BTreeSet::new();
        let named = lets.iter().map(|written| (written, true));
        let mut defined: BTreeSet<&str> = BTreeSet::new();
        for (written, is_let) in named.chain(users.map(|written| (written, false))) {
            for name in written.parsed.columns() {
                if defined.contains(name.as_str()) {
                    continue;
                }
                if lets.iter().any(|other| other.name == *name) {
                    let message = format!(
                        "{}: the value {name:?} is used before it is there",
                        written.field
                    );
                    let hint = "put it further up in `let`; a value cannot have the name of a \
                                column that it reads";
                    let place = (written.line, written.column);
                    self.findings
                        .push(Diagnostic::error(self.file, place, message).with_hint(hint));
                    continue;
                }
                columns.insert(name.clone());
            }
            if is_let {
                defined.insert(&written.name);
            }
        }
        columns
    }
}

/// Which of the named values the filter uses, itself or through others.
fn needed_by(filter: Option<&Written>, lets: &[Written]) -> Vec<bool> {
    let mut needed: BTreeSet<&str> = filter
        .iter()
        .flat_map(|written| written.parsed.columns())
        .map(String::as_str)
        .collect();
    let mut before = vec![false; lets.len()];
    for (written, before) in lets.iter().zip(&mut before).rev() {
        if needed.contains(written.name.as_str()) {
            *before = true;
            needed.extend(written.parsed.columns().iter().map(String::as_str));
        }
    }
    before
}

/// Declared columns that no expression reads: most likely misspelt.
fn unread(rule: &MediationRule, read: &BTreeSet<String>, file: &str) -> Vec<Diagnostic> {
    let unread = rule
        .columns
        .iter()
        .filter(|(name, _)| !read.contains(*name));
    let undeclared = read.iter().filter(|name| !rule.columns.contains_key(*name));
    let undeclared: Vec<&str> = undeclared.map(String::as_str).collect();
    unread
        .map(|(name, declared)| {
            unread_column(file, place_of(declared), name, undeclared.iter().copied())
        })
        .collect()
}
