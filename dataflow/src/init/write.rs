//! The files of a job that begins.

use super::InitRequest;
use super::guess::{Guesses, quoted};
use super::sample::Sample;
use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use std::fmt::Write as _;

pub(super) const JOB: &str = "job.yaml";
const MEDIATION: &str = "mediation.yaml";
const CATALOG: &str = "catalog.yaml";
const ACCOUNTS: &str = "accounts.yaml";
const SERVICE_TYPE: &str = "usage";

/// Names and texts, in the order to read them.
pub(super) fn files(
    request: &InitRequest,
    sample: &Sample,
    guesses: &Guesses,
) -> Result<Vec<(&'static str, String)>, String> {
    Ok(vec![
        (JOB, job(request, sample)?),
        (MEDIATION, mediation(guesses)),
        (CATALOG, catalog(request, guesses)),
        (ACCOUNTS, accounts(request, guesses)?),
    ])
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

fn job(request: &InitRequest, sample: &Sample) -> Result<String, String> {
    let place = sample.path.to_str().ok_or("its path is no text")?;
    // Below the job's folder it is found wherever the folder goes.
    let folder = std::fs::canonicalize(&request.folder).ok();
    let below = folder.and_then(|folder| sample.path.strip_prefix(folder).ok());
    let place = below.and_then(|path| path.to_str()).unwrap_or(place);
    let stem = sample.path.file_stem().and_then(|stem| stem.to_str());
    let stem = stem
        .and_then(|stem| stem.split('.').next())
        .unwrap_or("usage");
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = stem.chars().map(safe).collect();
    let layout = sample.format.written(place);
    let layout = layout.map_or_else(String::new, |line| format!("    {line}\n"));
    Ok(format!(
        "# Begun by `millrace init`; lines marked GUESS are to be looked at.
#   millrace check job.yaml     every mistake, with its line
#   millrace run job.yaml       the bill; --watch bills again whenever one of these files is saved
#   millrace bill job.yaml      each account's bill, line by line
name: {name}
# GUESS: days and months begin at midnight here, and times without an offset are of this zone.
time_zone: UTC
sources:
  - name: usage
    platform: files
    service_type: {SERVICE_TYPE}
    # A file, a folder of files, or s3://bucket/prefix.
    path: {}
{layout}    mediation: {MEDIATION}
catalog: [{CATALOG}]
accounts: [{ACCOUNTS}]
# Results are in out/, as Parquet and, for spreadsheets, as CSV.
outputs: {{ csv: true }}
",
        quoted(place)
    ))
}

fn mediation(guesses: &Guesses) -> String {
    let mut text =
        "# How a record becomes usage. The values are SQL expressions over the fields of a record.\n"
            .to_owned();
    if !guesses.columns.is_empty() {
        line(&mut text, "# Fields whose text is not just text.");
        line(&mut text, "columns:");
        for (name, kind) in &guesses.columns {
            let name = serde_json::Value::from(name.as_str());
            line(&mut text, &format!("  {name}: {}", quoted(kind)));
        }
    }
    let Guesses {
        identity,
        service,
        time,
        ..
    } = guesses;
    line(
        &mut text,
        "# Two records that agree in this are one, sent twice.",
    );
    line(&mut text, &format!("# GUESS: {}.", identity.why));
    line(&mut text, &format!("identity: {}", identity.sql));
    line(&mut text, "# Who used; accounts.yaml says who pays for it.");
    line(&mut text, &format!("# GUESS: {}.", service.why));
    line(&mut text, &format!("service: {}", quoted(&service.sql)));
    line(&mut text, &format!("# GUESS: {}.", time.why));
    line(&mut text, &format!("time: {}", quoted(&time.sql)));
    if !guesses.attributes.is_empty() {
        line(&mut text, "# What prices may depend on.");
        line(&mut text, "attributes:");
        for (name, sql) in &guesses.attributes {
            line(&mut text, &format!("  {}: {}", quoted(name), quoted(sql)));
        }
    }
    line(
        &mut text,
        "# What is counted. GUESS: take out what nobody pays for.",
    );
    line(&mut text, "charges:");
    for (name, guess) in &guesses.items {
        let (name, sql) = (quoted(name), quoted(&guess.sql));
        line(&mut text, &format!("  {name}: {sql} # {}", guess.why));
    }
    for (name, why) in &guesses.left_out {
        let name = serde_json::Value::from(name.as_str());
        line(&mut text, &format!("  # {name} is left out: {why}."));
    }
    text
}

fn catalog(request: &InitRequest, guesses: &Guesses) -> String {
    let mut text = format!(
        "# What things cost.
# PLACEHOLDER: a price of 1 is nobody's price. Until it is replaced, an amount says how much was used,
# not what it costs.
currency: {}
prices:
",
        request.currency
    );
    for (name, _) in &guesses.items {
        let name = quoted(name);
        line(
            &mut text,
            &format!("  - {{ item: {name}, price: 1 }} # PLACEHOLDER"),
        );
    }
    if let (Some((item, _)), Some((attribute, _))) =
        (guesses.items.first(), guesses.attributes.first())
    {
        let (item, attribute) = (quoted(item), quoted(attribute));
        line(
            &mut text,
            &format!(
                "# A price that depends on an attribute, and wins where it applies:\n#  - {{ item: {item}, \
                 when: {{ {attribute}: \"…\" }}, price: 2 }}"
            ),
        );
    }
    text
}

fn accounts(request: &InitRequest, guesses: &Guesses) -> Result<String, String> {
    // A day earlier, so that the first record is inside whatever the time zone is.
    let before = guesses.first.to_zoned(TimeZone::UTC).checked_sub(1.day());
    let from = before.and_then(|day| day.first_of_month());
    let from = from.map_err(|error| error.to_string())?.date();
    let currency = &request.currency;
    let mut text = "# Who pays. GUESS: each value of the field that names who used is an account of its own, \
                    billed by the\n# month; services may be gathered under fewer accounts.\naccounts:\n"
        .to_owned();
    for service in &guesses.services {
        let id = quoted(service);
        line(
            &mut text,
            &format!("  - {{ id: {id}, currency: {currency} }}"),
        );
    }
    line(&mut text, "subscriptions:");
    for service in &guesses.services {
        let id = quoted(service);
        line(
            &mut text,
            &format!(
                "  - {{ id: {id}, account: {id}, price_lists: [standard], from: {from}, \
                 service_type: {SERVICE_TYPE}, services: [{id}] }}"
            ),
        );
    }
    Ok(text)
}
