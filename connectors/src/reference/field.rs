//! Fields of reference rows, from text: the same rules for a row written in YAML and for one that a
//! table's SQL made.

use super::yaml::{Refused, place_of};
use crate::diagnostic::Diagnostic;
use jiff::tz::TimeZone;
use millrace_operators::domain::{EventTime, Period};
use serde_saphyr::Spanned;

/// What is wrong with one field of a row; whoever read the row knows where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The field's key.
    pub(super) field: &'static str,
    /// What is wrong.
    pub(super) message: String,
    /// What to do about it; may be empty.
    pub(super) hint: String,
    /// The fields of which one would have to be there.
    wanted: Vec<&'static str>,
}

impl Complaint {
    pub(super) fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            field,
            message: message.into(),
            hint: String::new(),
            wanted: Vec::new(),
        }
    }

    /// The same complaint, for want of these fields: if one of them was refused, there is none.
    pub(super) fn for_want_of(self, fields: &[&'static str]) -> Self {
        Self {
            wanted: fields.to_vec(),
            ..self
        }
    }

    /// Whether it follows from what was refused of the mapping.
    pub(super) fn follows(&self, refused: &Refused, mapping: (u64, u64)) -> bool {
        let mut wanted = self.wanted.iter();
        wanted.any(|field| refused.has(mapping, field))
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: hint.into(),
            ..self
        }
    }
}

/// The fields that are there and say nothing, where they could be left out.
pub(super) fn empty_values<'a>(
    file: &str,
    fields: impl Iterator<Item = (&'static str, &'a Spanned<String>)>,
) -> Vec<Diagnostic> {
    let empty = fields.filter(|(_, field)| field.value.trim().is_empty());
    let finding = |(name, field): (&str, &Spanned<String>)| {
        let finding = Diagnostic::error(file, place_of(field), format!("\"{name}\" is empty"));
        finding.with_hint("write a value, or leave the key out")
    };
    empty.map(finding).collect()
}

/// Looks at the fields of one row and gathers what is wrong with them.
pub(super) struct Fields<'a, F: Fn(&'static str) -> Option<&'a str>> {
    /// The text of a field, if it is given.
    text: F,
    /// The tenant's time zone: dates begin at its midnight.
    zone: TimeZone,
    /// Everything wrong so far.
    pub(super) complaints: Vec<Complaint>,
}

impl<'a, F: Fn(&'static str) -> Option<&'a str>> Fields<'a, F> {
    pub(super) fn new(zone: &TimeZone, text: F) -> Self {
        Self {
            text,
            zone: zone.clone(),
            complaints: Vec::new(),
        }
    }

    pub(super) fn complain(&mut self, complaint: Complaint) {
        self.complaints.push(complaint);
    }

    /// The field's text, if it is given and not blank.
    pub(super) fn optional(&self, field: &'static str) -> Option<&'a str> {
        (self.text)(field)
            .map(str::trim)
            .filter(|text| !text.is_empty())
    }

    /// Whether the field is there at all, if only blank.
    pub(super) fn is_given(&self, field: &'static str) -> bool {
        (self.text)(field).is_some()
    }

    /// The field's text; a complaint and "" when there is none.
    pub(super) fn required(&mut self, field: &'static str) -> &'a str {
        self.optional(field).unwrap_or_else(|| {
            let complaint = Complaint::new(field, format!("\"{field}\" is empty"));
            let is_given = self.is_given(field);
            self.complain(match is_given {
                true => complaint,
                false => complaint.for_want_of(&[field]),
            });
            ""
        })
    }

    /// A whole number of at least `least`.
    pub(super) fn number<N>(&mut self, field: &'static str, least: N) -> Option<N>
    where
        N: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let text = self.optional(field)?;
        let number = text.parse::<N>().ok().filter(|number| *number >= least);
        if number.is_none() {
            let message =
                format!("\"{field}\" must be a whole number of at least {least}, found \"{text}\"");
            self.complain(Complaint::new(field, message));
        }
        number
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        field: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.optional(field)?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = match crate::diagnostic::did_you_mean(text, known.iter().copied()) {
                Some(word) => format!("did you mean \"{word}\"?"),
                None => format!("one of {}", known.join(", ")),
            };
            let message = format!("unknown {field} \"{text}\"");
            self.complain(Complaint::new(field, message).with_hint(hint));
        }
        found
    }

    /// The stretch of event time from `from` to `to`; open where a field is not given.
    pub(super) fn period(&mut self) -> Period {
        let start = self.moment("from").unwrap_or(EventTime::MIN);
        let end = self.moment("to").unwrap_or(EventTime::MAX);
        Period::new(start, end).unwrap_or_else(|| {
            let message = format!("\"to\" is not after \"from\": {end} and {start}");
            let hint = "\"to\" is the first instant that the row no longer holds";
            self.complain(Complaint::new("to", message).with_hint(hint));
            Period::ALWAYS
        })
    }

    fn moment(&mut self, field: &'static str) -> Option<EventTime> {
        let text = self.optional(field)?;
        let moment = moment(text, &self.zone);
        if moment.is_none() {
            let message = format!("\"{field}\" is not a time: \"{text}\"");
            let hint = "write a date like 2026-01-31, or a time like 2026-01-31T08:00:00Z";
            self.complain(Complaint::new(field, message).with_hint(hint));
        }
        moment
    }

    /// The name of a currency, or of a unit of one's own (`credits`), if the field is given.
    pub(super) fn currency(&mut self, field: &'static str) -> Option<&'a str> {
        let text = self.optional(field)?;
        if let Some((message, hint)) = currency_fault(text) {
            self.complain(Complaint::new(field, message).with_hint(hint));
        }
        Some(text)
    }
}

/// What is wrong with the name of a currency, and what to do about it.
pub(super) fn currency_fault(text: &str) -> Option<(String, String)> {
    let sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if text.is_empty() || !text.chars().all(sane) {
        let message = format!("not the name of a currency: \"{text}\"");
        let hint = "write a code like USD, or a unit of your own like credits";
        return Some((message, hint.to_owned()));
    }
    // `usd` would be a unit of its own, and match no account.
    let code = text.to_ascii_uppercase();
    (text.len() == 3 && text.chars().all(|c| c.is_ascii_alphabetic()) && code != text).then(|| {
        let hint = format!("did you mean \"{code}\"?");
        (format!("not a currency code: \"{text}\""), hint)
    })
}

/// An instant as a person writes it: RFC 3339, or a date (its midnight) or local time in the tenant's
/// zone.
#[must_use]
pub fn moment(text: &str, zone: &TimeZone) -> Option<EventTime> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(EventTime::from(instant));
    }
    let local = text.parse::<jiff::civil::DateTime>().ok()?;
    Some(EventTime::from(
        local.to_zoned(zone.clone()).ok()?.timestamp(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_begin_at_the_tenants_midnight() {
        let prague = TimeZone::get("Europe/Prague").unwrap();
        let at = |text| moment(text, &prague).map(|time| time.to_string());
        assert_eq!(at("2026-01-31").as_deref(), Some("2026-01-30T23:00:00Z"));
        assert_eq!(at("2026-07-01").as_deref(), Some("2026-06-30T22:00:00Z"));
        assert_eq!(
            at("2026-07-01T12:00:00").as_deref(),
            Some("2026-07-01T10:00:00Z")
        );
        assert_eq!(
            at("2026-07-01T12:00:00-05:00").as_deref(),
            Some("2026-07-01T17:00:00Z")
        );
        for junk in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-30",
            "tomorrow",
            "1767225600",
        ] {
            assert_eq!(at(junk), None, "{junk}");
        }
    }

    #[test]
    fn every_field_is_looked_at() {
        let text = |field: &str| match field {
            "from" => Some("2026-02-30"),
            "to" => Some("never"),
            "per" => Some("0"),
            "model" => Some("per_unt"),
            "currency" => Some("usd"),
            _ => None,
        };
        let mut fields = Fields::new(&TimeZone::UTC, text);
        assert_eq!(fields.period(), Period::ALWAYS);
        assert_eq!(fields.number("per", 1_u64), None);
        assert_eq!(
            fields.word("model", &[("per_unit", 1), ("per_block", 2)]),
            None
        );
        fields.currency("currency");
        fields.required("item");
        let named: Vec<&str> = fields.complaints.iter().map(|c| c.field).collect();
        assert_eq!(named, ["from", "to", "per", "model", "currency", "item"]);
        assert_eq!(fields.complaints[3].hint, "did you mean \"per_unit\"?");
        assert_eq!(fields.complaints[4].hint, "did you mean \"USD\"?");
    }

    #[test]
    fn a_period_that_ends_before_it_begins_is_refused() {
        let text = |_: &str| Some("2026-02-01");
        let mut fields = Fields::new(&TimeZone::UTC, text);
        fields.period();
        assert_eq!(fields.complaints.len(), 1);
    }
}
