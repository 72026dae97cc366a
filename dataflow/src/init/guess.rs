//! What the fields of a sample may mean, by their names and their values. Every guess has a sentence.

use super::sample::{Field, Sample, VALUES_KEPT};
use jiff::Timestamp;

/// Words of a field's name that say who used, those first that say it best.
const WHO: [&str; 24] = [
    "customer",
    "account",
    "client",
    "tenant",
    "organization",
    "organisation",
    "org",
    "company",
    "team",
    "project",
    "workspace",
    "subscriber",
    "subscription",
    "service",
    "msisdn",
    "imsi",
    "caller",
    "meter",
    "device",
    "sim",
    "site",
    "user",
    "phone",
    "number",
];
/// Words that say when.
const WHEN: [&str; 12] = [
    "timestamp",
    "ts",
    "datetime",
    "time",
    "start",
    "started",
    "begin",
    "at",
    "when",
    "created",
    "date",
    "day",
];
/// Words that say which record it is.
const WHICH: [&str; 10] = [
    "id",
    "uuid",
    "guid",
    "key",
    "seq",
    "sequence",
    "reference",
    "ref",
    "request",
    "event",
];
/// Words of numbers that count nothing.
const NO_QUANTITY: [&str; 30] = [
    "id",
    "code",
    "status",
    "port",
    "version",
    "year",
    "month",
    "day",
    "hour",
    "zip",
    "postcode",
    "lat",
    "latitude",
    "lon",
    "lng",
    "longitude",
    "index",
    "seq",
    "sequence",
    "rank",
    "type",
    "class",
    "flag",
    "ts",
    "timestamp",
    "hash",
    "epoch",
    "row",
    "line",
    "no",
];
/// Words of numbers that are money already.
const MONEY: [&str; 14] = [
    "price", "cost", "amount", "fee", "charge", "revenue", "rate", "usd", "eur", "gbp", "discount",
    "tax", "balance", "total",
];
/// Different texts of a field that prices may depend on.
const ATTRIBUTE_VALUES: usize = 20;
/// Fields that are taken for that.
const ATTRIBUTES: usize = 8;
/// Decimals of a quantity.
const DECIMALS: usize = 12;
/// Digits of a whole number of 64 bits, for sure.
const BIGINT_DIGITS: usize = 18;
/// The instant of records that have no time of their own.
const NO_TIME: &str = "2026-01-01T00:00:00Z";

/// What a job says of a sample.
pub(super) struct Guesses {
    /// Columns whose text is not just text, with their types.
    pub(super) columns: Vec<(String, String)>,
    pub(super) identity: Guess,
    pub(super) service: Guess,
    /// The services that there are.
    pub(super) services: Vec<String>,
    pub(super) time: Guess,
    /// Before the first record.
    pub(super) first: Timestamp,
    /// What prices may depend on: names and expressions.
    pub(super) attributes: Vec<(String, String)>,
    /// What is counted: names and expressions.
    pub(super) items: Vec<(String, Guess)>,
    /// Fields of numbers that are not counted, and why.
    pub(super) left_out: Vec<(String, String)>,
}

/// An expression, and why it is that one.
pub(super) struct Guess {
    pub(super) sql: String,
    pub(super) why: String,
}

fn guess(sql: impl Into<String>, why: impl Into<String>) -> Guess {
    Guess {
        sql: sql.into(),
        why: why.into(),
    }
}

impl Guesses {
    pub(super) fn of(sample: &Sample) -> Result<Self, String> {
        let typed = sample.format.is_typed();
        let mut columns = Vec::new();
        let when = when(sample);
        let (time, first) = match &when {
            Some(When { field, unit: None }) => {
                let times = field.times.expect("a field of times has some");
                if !typed {
                    columns.push((field.name.clone(), "timestamp".to_owned()));
                }
                let what = match (times.days_only, times.with_offset) {
                    (true, _) => "its days",
                    (false, true) => "its instants",
                    (false, false) => "its times, which name no zone",
                };
                let range = format!("{} to {}", times.first, times.last);
                (
                    guess(reference(&field.name), format!("{what}, {range}")),
                    times.first,
                )
            }
            Some(When {
                field,
                unit: Some(unit),
            }) => {
                if !typed {
                    columns.push((field.name.clone(), "bigint".to_owned()));
                }
                let sql = format!("to_timestamp_{}({})", unit.name, reference(&field.name));
                (
                    guess(sql, format!("{} since 1970, by their size", unit.name)),
                    unit.first,
                )
            }
            None => {
                let first = NO_TIME
                    .parse()
                    .map_err(|error: jiff::Error| error.to_string())?;
                let why = "no field holds a time: every record is of this instant";
                (guess(format!("TIMESTAMP '{NO_TIME}'"), why), first)
            }
        };
        let is_time = |field: &Field| when.as_ref().is_some_and(|w| w.field.name == field.name);
        let who = who(sample, is_time);
        let (service, services) = service(who, typed);
        let is_who = |field: &Field| who.is_some_and(|who| who.name == field.name);
        let free = |field: &&Field| !is_time(field) && !is_who(field) && field.filled > 0;
        let which = sample.fields.iter().filter(free).filter(|field| {
            let unique = field.distinct && field.missing == 0 && sample.rows > 1;
            unique && field.decimals.unwrap_or(0) == 0 && rank(&field.name, &WHICH).is_some()
        });
        let which = which.min_by_key(|field| rank(&field.name, &WHICH));
        let identity = match which {
            Some(field) => guess(
                format!("[{}]", quoted(&reference(&field.name))),
                "no two records of the sample share it",
            ),
            None => guess(
                "position",
                "no field tells records apart: one that is sent again is billed again",
            ),
        };
        let is_which = |field: &Field| which.is_some_and(|which| which.name == field.name);
        let (mut items, mut left_out, mut attributes) = (Vec::new(), Vec::new(), Vec::new());
        for field in sample
            .fields
            .iter()
            .filter(free)
            .filter(|field| !is_which(field))
        {
            if let Some(decimals) = field.decimals {
                match not_counted(field, decimals) {
                    Some(why) => left_out.push((field.name.clone(), why)),
                    None => {
                        let name = free_name(&field.name, &items);
                        items.push((name, item(field, decimals, typed)));
                        if !typed {
                            columns.push((field.name.clone(), kind(field, decimals)));
                        }
                    }
                }
            } else if field.times.is_none()
                && field.values.len() <= ATTRIBUTE_VALUES
                && attributes.len() < ATTRIBUTES
            {
                let name = free_name(&field.name, &attributes);
                attributes.push((name, reference(&field.name)));
            }
        }
        if items.is_empty() {
            let why = "no field is a quantity: each record counts as one";
            items.push(("records".to_owned(), guess("1", why)));
        }
        Ok(Self {
            columns,
            identity,
            service,
            services,
            time,
            first,
            attributes,
            items,
            left_out,
        })
    }

    /// The guesses in words: of what, and what.
    pub(super) fn told(&self) -> Vec<(String, String)> {
        let told =
            |what: &str, guess: &Guess| (what.to_owned(), format!("{} ({})", guess.sql, guess.why));
        let mut lines = vec![
            told("time", &self.time),
            told("who used", &self.service),
            told("which record", &self.identity),
        ];
        let items = self.items.iter();
        lines.extend(items.map(|(name, guess)| told(&format!("quantity {name}"), guess)));
        let attributes = self.attributes.iter().map(|(name, _)| name.as_str());
        let attributes = attributes.collect::<Vec<_>>().join(", ");
        if !attributes.is_empty() {
            lines.push(("prices may depend on".to_owned(), attributes));
        }
        let left_out = self.left_out.iter().cloned();
        lines.extend(left_out.map(|(name, why)| ("left out".to_owned(), format!("{name}: {why}"))));
        lines
    }
}

/// A field that holds when records happened.
struct When<'a> {
    field: &'a Field,
    /// Of numbers since 1970.
    unit: Option<Unit>,
}

#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    first: Timestamp,
}

fn when(sample: &Sample) -> Option<When<'_>> {
    let by_name = |field: &&Field| {
        let named = rank(&field.name, &WHEN).unwrap_or(usize::MAX);
        (field.missing > 0, named)
    };
    let texts = sample.fields.iter().filter(|field| field.times.is_some());
    if let Some(field) = texts.min_by_key(by_name) {
        return Some(When { field, unit: None });
    }
    let numbers = sample.fields.iter().filter_map(|field| {
        rank(&field.name, &WHEN)?;
        let unit = Some(since_1970(field)?);
        Some(When { field, unit })
    });
    numbers.min_by_key(|when| by_name(&when.field))
}

/// The unit of numbers that all are instants between 2000 and 2100 in it.
fn since_1970(field: &Field) -> Option<Unit> {
    let whole = field.whole && field.filled > 0;
    let numbers = field.values.iter().map(|text| text.parse::<i64>().ok());
    let numbers: Vec<i64> = numbers.collect::<Option<_>>().filter(|_| whole)?;
    let units = [
        ("seconds", 1),
        ("millis", 1_000),
        ("micros", 1_000_000),
        ("nanos", 1_000_000_000),
    ];
    units.into_iter().find_map(|(name, in_a_second)| {
        let seconds = |number: &i64| number / in_a_second;
        let plausible = 946_684_800..4_102_444_800;
        let all = numbers
            .iter()
            .all(|number| plausible.contains(&seconds(number)));
        let first = numbers.iter().map(seconds).min()?;
        let first = Timestamp::from_second(first).ok()?;
        all.then_some(Unit { name, first })
    })
}

fn who(sample: &Sample, is_time: impl Fn(&Field) -> bool) -> Option<&Field> {
    let fields = sample.fields.iter().filter(|field| {
        let few = (1..=VALUES_KEPT).contains(&field.values.len());
        let is_name = field.times.is_none() && field.decimals.unwrap_or(0) == 0 && !field.float;
        few && is_name && !is_time(field) && rank(&field.name, &WHO).is_some()
    });
    fields.min_by_key(|field| rank(&field.name, &WHO))
}

fn service(who: Option<&Field>, typed: bool) -> (Guess, Vec<String>) {
    let Some(field) = who else {
        let why = "no field names who used: all is of one account";
        return (guess("'all'", why), vec!["all".to_owned()]);
    };
    let name = reference(&field.name);
    // Numbers of a Parquet file are no text yet.
    let name = match typed && field.decimals.is_some() {
        true => format!("CAST({name} AS VARCHAR)"),
        false => name,
    };
    let mut services: Vec<String> = field.values.iter().cloned().collect();
    let count = services.len();
    if field.missing == 0 {
        return (
            guess(name, format!("{count} of them, an account each")),
            services,
        );
    }
    if !services.iter().any(|service| service == "unknown") {
        services.push("unknown".to_owned());
    }
    let why = format!(
        "{count} of them, an account each; {} records name nobody and are of the account unknown",
        field.missing
    );
    (
        guess(format!("coalesce({}, 'unknown')", given(&name)), why),
        services,
    )
}

/// An empty text is no name.
fn given(name: &str) -> String {
    format!("nullif({name}, '')")
}

fn not_counted(field: &Field, decimals: usize) -> Option<String> {
    if rank(&field.name, &MONEY).is_some() {
        return Some("looks like money; a bill is made of usage and prices".to_owned());
    }
    if rank(&field.name, &NO_QUANTITY).is_some() {
        return Some("looks like a number that counts nothing".to_owned());
    }
    if field.negative {
        return Some("has values below zero".to_owned());
    }
    (decimals > DECIMALS).then(|| format!("has more than {DECIMALS} decimals"))
}

fn item(field: &Field, decimals: usize, typed: bool) -> Guess {
    let name = reference(&field.name);
    let exact = match typed && field.float {
        true => format!("exact({name}, {decimals})"),
        false => name,
    };
    match field.missing {
        0 => guess(exact, "a number in every record"),
        missing => guess(
            format!("coalesce({exact}, 0)"),
            format!("{missing} records have no number, taken for 0"),
        ),
    }
}

fn kind(field: &Field, decimals: usize) -> String {
    let digits = field.values.iter().map(String::len).max().unwrap_or(0);
    match decimals == 0 && field.whole && digits <= BIGINT_DIGITS {
        true => "bigint".to_owned(),
        false => format!("decimal(38,{decimals})"),
    }
}

/// The words of a name: `usage.InputTokens` has three.
fn words(name: &str) -> Vec<String> {
    let (mut words, mut word, mut low) = (Vec::new(), String::new(), false);
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && low) {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        low = c.is_lowercase() || c.is_ascii_digit();
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The place of the first of `wanted` that is a word of the name.
fn rank(name: &str, wanted: &[&str]) -> Option<usize> {
    let words = words(name);
    wanted
        .iter()
        .position(|wanted| words.iter().any(|word| word == wanted))
}

/// A name that no other has.
fn free_name<T>(field: &str, others: &[(String, T)]) -> String {
    let name = words(field).join("_");
    let name = match name.chars().next() {
        Some(first) if !first.is_ascii_digit() => name,
        _ => format!("field_{name}"),
    };
    let is_free = |name: &str| others.iter().all(|(other, _)| other != name);
    let mut numbered = (2..).map(|n| format!("{name}_{n}"));
    match is_free(&name) {
        true => name,
        false => numbered.find(|name| is_free(name)).unwrap_or(name),
    }
}

/// Words that SQL takes for its own.
const SQL: [&str; 48] = [
    "all",
    "and",
    "any",
    "as",
    "at",
    "between",
    "by",
    "case",
    "cast",
    "date",
    "day",
    "desc",
    "distinct",
    "else",
    "end",
    "exists",
    "extract",
    "false",
    "from",
    "group",
    "hour",
    "in",
    "interval",
    "is",
    "like",
    "limit",
    "month",
    "not",
    "null",
    "on",
    "or",
    "order",
    "position",
    "row",
    "second",
    "select",
    "session",
    "start",
    "substring",
    "table",
    "then",
    "time",
    "timestamp",
    "to",
    "true",
    "user",
    "when",
    "where",
];

/// A field as an expression.
fn reference(name: &str) -> String {
    let simple = |part: &str| {
        let begins = part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let goes_on = part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        begins && goes_on && !SQL.contains(&part.to_ascii_lowercase().as_str())
    };
    match name.split('.').all(simple) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// A text as YAML takes it for that text.
pub(super) fn quoted(text: &str) -> String {
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && !words.contains(&text.to_ascii_lowercase().as_str());
    match plain {
        true => text.to_owned(),
        // JSON texts are YAML.
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_so_that_they_mean_the_field() {
        for (name, expected) in [
            ("input_tokens", "input_tokens"),
            ("usage.input", "usage.input"),
            ("user", "\"user\""),
            ("Call Start", "\"Call Start\""),
            ("a\"b", "\"a\"\"b\""),
        ] {
            assert_eq!(reference(name), expected);
        }
        assert_eq!(quoted("acme"), "acme");
        assert_eq!(quoted("no"), "\"no\"");
        assert_eq!(quoted("+420"), "\"+420\"");
        assert_eq!(quoted("a: \"b\""), "\"a: \\\"b\\\"\"");
    }

    #[test]
    fn words_of_names_are_found_in_any_writing() {
        assert_eq!(words("usage.InputTokens"), ["usage", "input", "tokens"]);
        assert_eq!(words("customer_id"), ["customer", "id"]);
        assert_eq!(rank("CustomerId", &WHO), Some(0));
        assert_eq!(rank("tokens", &WHO), None);
        assert_eq!(rank("accounting", &WHO), None);
    }
}
