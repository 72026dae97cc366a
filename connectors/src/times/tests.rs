use super::*;
use jiff::tz::Disambiguation;
use proptest::prelude::*;

fn reader(zone: &str, ambiguous: Ambiguous) -> TimeReader {
    let zone = TimeReading::zone_named(zone).unwrap();
    TimeReader::new(TimeReading::default().declared(Some(zone), Some(ambiguous)))
}

fn read(zone: &str, ambiguous: Ambiguous, text: &str) -> String {
    match reader(zone, ambiguous).instant(text) {
        Ok(nanos) => jiff::Timestamp::from_nanosecond(i128::from(nanos))
            .unwrap()
            .to_string(),
        Err(error) => error.detail(&format!("{text:?}")),
    }
}

#[test]
fn texts_mean_instants() {
    for (text, instant) in [
        ("2026-08-01T12:00:00Z", "2026-08-01T12:00:00Z"),
        ("2026-08-01t12:00:00z", "2026-08-01T12:00:00Z"),
        ("2026-08-01 12:00:00 UTC", "2026-08-01T12:00:00Z"),
        ("2026-08-01T14:00:00.000+02:00", "2026-08-01T12:00:00Z"),
        ("2026-08-01T05:00:00-0700", "2026-08-01T12:00:00Z"),
        ("2026-08-01 05:00:00 -07", "2026-08-01T12:00:00Z"),
        ("2026-08-01 12:00", "2026-08-01T10:00:00Z"),
        ("2026-08-01T12:00:00,25", "2026-08-01T10:00:00.25Z"),
        ("2026-08-01", "2026-07-31T22:00:00Z"),
        ("2026-12-01", "2026-11-30T23:00:00Z"),
        (" 2026-12-01 ", "2026-11-30T23:00:00Z"),
        ("2026-07-01T24:00", "2026-07-01T22:00:00Z"),
        ("2026-07-01 24:00:00.000Z", "2026-07-02T00:00:00Z"),
        ("2026-12-31T24:00:00+01:00", "2026-12-31T23:00:00Z"),
        ("2026-12-31T23:59:60Z", "2026-12-31T23:59:59.999999999Z"),
        (
            "2026-06-01T10:00:00.123456789Z",
            "2026-06-01T10:00:00.123456789Z",
        ),
        (
            "2026-06-01T10:00:00.123456789000Z",
            "2026-06-01T10:00:00.123456789Z",
        ),
    ] {
        assert_eq!(read("Europe/Prague", Ambiguous::Suspend, text), instant);
    }
}

#[test]
fn other_texts_are_told() {
    for (text, told) in [
        ("2026-3-1", "two digits"),
        ("2026-03-01T8:00", "two digits"),
        ("1780308000", "to_timestamp_seconds"),
        ("1780308000.5", "to_timestamp_seconds"),
        ("-1", "to_timestamp_seconds"),
        ("1.7e9", "to_timestamp_seconds"),
        ("2026-W31-6", "not of type timestamp"),
        ("2026-213", "not of type timestamp"),
        ("01.08.2026", "not of type timestamp"),
        ("2026-02-29", "not of type timestamp"),
        ("2026-08-01T24:00:01", "24:00 is the end of a day"),
        ("2026-08-01T25:00", "not of type timestamp"),
        ("2026-08-01T12:60", "not of type timestamp"),
        ("2026-08-01T12:00:61", "not of type timestamp"),
        ("2026-08-01T12:00:60.5Z", "second 60"),
        ("2026-08-01T12:00:00.1234567891Z", "below the nanosecond"),
        ("2026-08-01T12:00:00.Z", "not of type timestamp"),
        ("2026-08-01T12:00:00 CEST", "not of type timestamp"),
        ("2026-08-01T12:00:00+24:00", "not of type timestamp"),
        ("0001-01-01T00:00:00Z", "outside of the years"),
        ("9999-12-31", "outside of the years"),
        ("x", "not of type timestamp"),
        ("", "not of type timestamp"),
    ] {
        let found = read("Europe/Prague", Ambiguous::Suspend, text);
        assert!(found.contains(told), "{text}: {found}");
    }
}

#[test]
fn hours_that_come_twice_or_never_follow_their_rule() {
    let twice = "2026-10-25T02:30";
    let never = "2026-03-29T02:30";
    let prague = |rule, text| read("Europe/Prague", rule, text);
    assert_eq!(prague(Ambiguous::Earlier, twice), "2026-10-25T00:30:00Z");
    assert_eq!(prague(Ambiguous::Later, twice), "2026-10-25T01:30:00Z");
    assert_eq!(prague(Ambiguous::Earlier, never), "2026-03-29T00:30:00Z");
    assert_eq!(prague(Ambiguous::Later, never), "2026-03-29T01:30:00Z");
    let told = prague(Ambiguous::Suspend, twice);
    assert!(told.contains("comes twice in Europe/Prague"), "{told}");
    let told = prague(Ambiguous::Suspend, never);
    assert!(told.contains("never comes in Europe/Prague"), "{told}");
    // Both edges of the change, and an offset that leaves nothing open.
    assert_eq!(
        prague(Ambiguous::Suspend, "2026-10-25T01:59:59"),
        "2026-10-24T23:59:59Z"
    );
    assert_eq!(
        prague(Ambiguous::Suspend, "2026-10-25T03:00:00"),
        "2026-10-25T02:00:00Z"
    );
    assert_eq!(
        prague(Ambiguous::Suspend, "2026-10-25T02:30+01:00"),
        "2026-10-25T01:30:00Z"
    );
    // Midnight itself never comes: the day begins an hour later, as bill units do.
    assert_eq!(
        read("Africa/Cairo", Ambiguous::Suspend, "2026-04-24"),
        "2026-04-23T22:00:00Z"
    );
    let told = read("Africa/Cairo", Ambiguous::Suspend, "2026-04-24T00:30");
    assert!(told.contains("never comes"), "{told}");
}

#[test]
fn zones_have_exact_names() {
    let (message, hint) = TimeReading::zone_named("Europe/Pragu").unwrap_err();
    assert_eq!(message, "unknown time zone \"Europe/Pragu\"");
    assert_eq!(hint, "did you mean \"Europe/Prague\"?");
    let known = jiff::tz::db().available();
    let unknown: Vec<String> = known
        .map(|name| name.as_str().to_owned())
        .filter(|name| TimeReading::zone_named(name).is_err())
        .collect();
    assert_eq!(unknown, ["Factory"], "date functions know all zones");
}

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Prague",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Pacific/Apia",
];

proptest! {
    /// However many times are read one after the other, each is what the calendar says.
    #[test]
    fn clock_times_agree_with_the_calendar(
        zone in 0..ZONES.len(),
        clocks in prop::collection::vec((946_684_800_i64..4_102_444_800, 0_u32..1_000_000_000), 1..20),
        rule in 0..3,
    ) {
        let rule = [Ambiguous::Earlier, Ambiguous::Later, Ambiguous::Suspend][usize::try_from(rule).unwrap()];
        let calendar = jiff::tz::TimeZone::get(ZONES[zone]).unwrap();
        let mut reader = reader(ZONES[zone], rule);
        // Times near each other share a season, and changes of clocks lie between some.
        for (far, (clock, nanos)) in clocks.iter().enumerate() {
            let clock = if far % 2 == 0 { *clock } else { clocks[0].0 + i64::from(*nanos / 100) };
            let shown = Offset::UTC.to_datetime(jiff::Timestamp::from_second(clock).unwrap());
            let shown = shown.with().subsec_nanosecond(i32::try_from(*nanos).unwrap()).build().unwrap();
            let strategy = match rule {
                Ambiguous::Earlier => Disambiguation::Earlier,
                Ambiguous::Later => Disambiguation::Later,
                Ambiguous::Suspend => Disambiguation::Reject,
            };
            let expected = calendar.to_ambiguous_timestamp(shown).disambiguate(strategy).ok();
            let found = reader.instant(&shown.to_string());
            prop_assert_eq!(
                found.ok().map(i128::from),
                expected.map(jiff::Timestamp::as_nanosecond),
                "{} in {}", shown, ZONES[zone]
            );
            let date = shown.date();
            let start = date.to_zoned(calendar.clone()).unwrap().timestamp();
            prop_assert_eq!(reader.instant(&date.to_string()).map(i128::from), Ok(start.as_nanosecond()));
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,40}", digits in "[0-9TZ:. +-]{0,40}") {
        let mut reader = reader("Europe/Prague", Ambiguous::Suspend);
        let read = [reader.instant(&text), reader.instant(&digits)];
        prop_assert!(read.iter().all(Result::is_err) || date(&text).is_none() || !text.is_empty());
    }

    #[test]
    fn instants_keep_their_nanoseconds(nanos in 0_i64..7_258_118_400_000_000_000) {
        let text = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap().to_string();
        prop_assert_eq!(reader("Asia/Tokyo", Ambiguous::Suspend).instant(&text), Ok(nanos));
    }
}
