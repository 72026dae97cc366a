use super::*;
use crate::decode::{Csv, DecodeOptions, Decoder, Format};
use crate::diagnostic::Diagnostic;
use crate::lookup::{LookupTable, Lookups};
use crate::times::TimeRules;
use millrace_operators::domain::{EventTime, Name};

mod times;

const RULE: &str = "
columns: { n: bigint, c: bigint, price: 'decimal(18,6)', t: timestamp }
let:
  rest: n - coalesce(c, 0)
where: status = 'ok'
identity: [id, n]
service: team
time: t
attributes: { model: lower(model), zone: \"lookup_or_null('zones', 'name', model)\" }
charges: { rest: rest, cached: c }
";

fn compile(rule: &str) -> Result<(MediationPlan, Arc<Names>), Vec<Diagnostic>> {
    let rule: MediationRule = serde_saphyr::from_str(rule).unwrap();
    let zones: [(&str, &[Option<&str>]); 1] = [("GPT", &[Some("us")])];
    let zones = Arc::new(LookupTable::from_rows(&["name"], &zones));
    let lookups = Arc::new(Lookups::new([("zones".to_owned(), zones)]));
    let names = Arc::new(Names::default());
    let part = str::to_owned;
    let stream = StreamId {
        platform: part("gateway"),
        service_type: part("llm"),
        record_type: part("request"),
    };
    let times = TimeRules::default();
    let plan = MediationPlan::compile(
        stream,
        &rule,
        "job.yaml",
        &lookups,
        Arc::clone(&names),
        &times,
    )?;
    Ok((plan, names))
}

fn mediate(rule: &str, csv: &str) -> (Mediated, Arc<Names>) {
    let (plan, names) = compile(rule).unwrap();
    let input = Box::new(std::io::Cursor::new(csv.as_bytes().to_vec()));
    let format = Format::Csv(Csv {
        delimiter: ',',
        header: None,
    });
    let options = DecodeOptions {
        chunk_rows: 3,
        ..DecodeOptions::default()
    };
    let mut decoder =
        Decoder::from_reader(input, "a.csv", FileId(1), &format, plan.columns(), &options).unwrap();
    let mut mediator = plan.mediator(decoder.schema()).unwrap();
    let mut out = Mediated::default();
    while let Some(chunk) = decoder.next_chunk() {
        mediator.mediate(&chunk, FileId(1), &mut out);
    }
    let fates = out.usage.len() + out.faults.len() + out.ignored.len();
    assert_eq!(out.received, u64::try_from(fates).unwrap());
    (out, names)
}

const HEADER: &str = "id,team,model,status,t,n,c\n";

#[test]
fn records_become_usage() {
    let (out, names) = mediate(
        RULE,
        &format!(
            "{HEADER}a,red,GPT,ok,2026-08-01T00:00:00Z,10,4\nb,blue,x,no,,,\nc,red,gpt,ok,2026-08-02,5,\n"
        ),
    );
    assert_eq!(out.faults, []);
    assert_eq!(out.ignored, [RecordId::new(FileId(1), 1)]);
    let [first, second] = out.usage.as_slice() else {
        panic!("{:?}", out.usage)
    };
    assert_eq!(first.record, RecordId::new(FileId(1), 0));
    assert_eq!(first.time, EventTime(1_785_542_400_000_000));
    assert_eq!(
        (first.quantities.as_slice(), second.quantities.as_slice()),
        (&[6, 4][..], &[5][..])
    );
    assert_eq!(first.service, second.service);
    let (service_type, id) = names.service(first.service);
    assert_eq!((&*service_type, &*id), ("llm", "red"));
    let class = names.class(first.class).unwrap();
    assert_eq!(class.attribute(Name::new("model")), Some(Name::new("gpt")));
    assert_eq!(class.attribute(Name::new("zone")), Some(Name::new("us")));
    let items: Vec<_> = class
        .items
        .iter()
        .map(|item| (item.name, item.scale))
        .collect();
    assert_eq!(items, [(Name::new("rest"), 0), (Name::new("cached"), 0)]);
    let class = names.class(second.class).unwrap();
    assert_eq!((class.attributes.len(), class.items.len()), (1, 1));
    let keys: Vec<_> = out.classes.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [first.class, second.class]);
}

/// Records of which expressions make much are mediated few at a time, and come to the same.
#[test]
fn much_is_made_of_few_records_at_a_time() {
    let rule = RULE
        .replace("let:\n", "let:\n  long: repeat(team, 60000)\n")
        .replace("lower(model)", "\"substr(long, 1, 2)\"");
    let (plan, names) = compile(&rule).unwrap();
    let row = |row: u32| match row % 1_000 {
        7 => format!("{row},x,GPT,no,2026-08-01,10,4\n"),
        8 => format!("{row},x,GPT,ok,never,10,4\n"),
        9 => format!("{row},xyz,GPT,ok,2026-08-01,10,4\n"),
        _ => format!("{row},x,GPT,ok,2026-08-01,10,4\n"),
    };
    let rows = 6_000_u32;
    let text: String = (0..rows).map(row).collect();
    let input = Box::new(std::io::Cursor::new(format!("{HEADER}{text}").into_bytes()));
    let format = Format::of_name("a.csv").unwrap();
    let options = DecodeOptions::default();
    let mut decoder =
        Decoder::from_reader(input, "a.csv", FileId(1), &format, plan.columns(), &options).unwrap();
    let mut mediator = plan.mediator(decoder.schema()).unwrap();
    let mut out = Mediated::default();
    let chunk = decoder.next_chunk().unwrap();
    assert_eq!(chunk.received, u64::from(rows));
    mediator.mediate(&chunk, FileId(1), &mut out);
    assert_eq!((out.usage.len(), out.ignored.len()), (6_000 - 18, 6));
    assert!(out.usage.is_sorted_by_key(|usage| usage.record));
    let count = |reason: Reason| out.faults.iter().filter(|f| f.reason == reason).count();
    assert_eq!(count(Reason::FieldUnparsable), 6);
    assert_eq!((count(Reason::RuleFailed), out.faults.len()), (6, 12));
    let class = names.class(out.usage[0].class).unwrap();
    assert_eq!(class.attribute(Name::new("model")), Some(Name::new("xx")));
}

/// What usage is known by is kept, so it has a length; the next record goes on.
#[test]
fn a_record_with_an_endless_name_fails_alone() {
    let (most, more) = ("x".repeat(4_096), "x".repeat(4_097));
    let row =
        |id: &str, team: &str, model: &str| format!("{id},{team},{model},ok,2026-08-01,10,4\n");
    let rows = [
        row("a", &most, &most),
        row("b", &more, "gpt"),
        row("c", "red", &more),
        row(&more, "red", "gpt"),
    ];
    let (out, _) = mediate(RULE, &format!("{HEADER}{}", rows.concat()));
    let told: Vec<_> = out
        .faults
        .iter()
        .map(|fault| (fault.record.row(), fault.reason, fault.field.as_str()))
        .collect();
    let failed = Reason::RuleFailed;
    assert_eq!(
        told,
        [(1, failed, "service"), (2, failed, "attributes.model")]
    );
    let told = &out.faults[0].detail;
    assert_eq!(told, "a text of 4097 bytes, and 4096 are the most");
}

#[test]
fn guards_ask_in_the_order_of_the_reasons() {
    let rule = "
columns: { n: bigint, m: bigint, t: timestamp }
identity: [id]
service: team
time: t
attributes: { zone: \"CASE WHEN look = 'y' THEN lookup('zones', 'name', look) END\" }
charges: { n: n + 1, m: m }
";
    // Each line mends the first fault of the line before and keeps the others.
    let max = i64::MAX;
    let csv = format!(
        "id,team,look,t,n,m\n,,y,1969-01-01,{max},-1\n,,y,1969-01-01,-5,\n,,n,1969-01-01,-5,\n\
         a,,n,1969-01-01,-5,\na,red,n,,-5,\na,red,n,1969-12-31T23:59:59Z,-5,\n\
         a,red,n,2200-01-01,,\na,red,n,2026-01-01,,\na,red,n,2026-01-01,{limit},-5\n\
         a,red,n,2026-01-01,{limit},5\na,red,n,2026-01-01,{fits},5\n",
        limit = 10_i64.pow(18) - 1,
        fits = 10_i64.pow(18) - 2,
    );
    let (out, _) = mediate(rule, &csv);
    let reasons: Vec<_> = out
        .faults
        .iter()
        .map(|fault| (fault.reason, fault.field.as_str()))
        .collect();
    assert_eq!(
        reasons,
        [
            (Reason::RuleFailed, "charges.n"),
            (Reason::LookupMissing, "attributes.zone"),
            (Reason::IdentityMissing, "identity"),
            (Reason::ServiceMissing, "service"),
            (Reason::TimeMissing, "time"),
            (Reason::TimeOutOfRange, "time"),
            (Reason::TimeOutOfRange, "time"),
            (Reason::QuantityMissing, "charges.n"),
            (Reason::QuantityNegative, "charges.m"),
            (Reason::QuantityOutOfRange, "charges.n"),
        ]
    );
    assert!(reasons.is_sorted_by_key(|(reason, _)| *reason));
    assert_eq!(out.faults[8].line, 10);
    assert_eq!(out.faults[8].detail, "the quantity is -5");
    assert_eq!(out.usage.len(), 1);
}

#[test]
fn what_the_filter_excludes_is_ignored_whatever_else_is_wrong() {
    let rule = "
columns: { n: bigint, t: timestamp }
let: { kind: upper(status), more: n + 1, sum: more + 1 }
where: kind = 'OK' AND n > 0
identity: position
service: team
time: t
charges: { n: sum }
";
    let max = i64::MAX;
    let (out, _) = mediate(
        rule,
        &format!(
            "team,status,t,n\nred,no,,{max}\nred,ok,2026-01-01,{max}\nred,ok,2026-01-01,1\nred,no,,\n"
        ),
    );
    assert_eq!((out.ignored.len(), out.usage.len()), (2, 1));
    assert_eq!(out.faults[0].field, "let.more");
    assert_eq!(out.usage[0].quantities.as_slice(), [3]);
}

#[test]
fn identities_follow_from_values_not_from_formats() {
    let csv = format!(
        "{HEADER}a,red,g,ok,2026-08-01,10,\na,blue,h,ok,2026-08-02,10,\na,red,g,ok,2026-08-01,11,\n,red,g,ok,2026-08-01,10,\n"
    );
    let identities = |mediated: &Mediated| -> Vec<_> {
        mediated.usage.iter().map(|usage| usage.identity).collect()
    };
    let rule = RULE.replace("columns: {", "columns: { id: { may_be: empty },");
    let (out, _) = mediate(&rule, &csv);
    let [a, again, other, null] = identities(&out)[..] else {
        panic!()
    };
    assert_eq!(a, again);
    assert!(a != other && a != null);
    // The same values as decimals and as text are the same record.
    let (typed, _) = mediate(&rule.replace("[id, n]", "[id, \"decimal(n, 3)\"]"), &csv);
    assert_eq!(identities(&typed), identities(&out));
    let (text, _) = mediate(&RULE.replace("[id, n]", "[\"coalesce(id, '')\", n]"), &csv);
    assert_ne!(identities(&text)[3], null, "an empty text is not NULL");
    let (position, _) = mediate(&RULE.replace("[id, n]", "position"), &csv);
    let mut all = identities(&position);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4);
}

#[test]
fn findings_come_all_at_once_with_their_place() {
    let findings = compile(
        "
columns: { t: timestamp }
let: { a: b + 1, b: c +, t: t }
identity: [id]
service: team
time: t
charges: {}
",
    )
    .unwrap_err();
    let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings.len(), 3, "{shown:#?}");
    assert!(
        shown[0].starts_with("job.yaml:3:21: let.b: cannot parse `c +`"),
        "{}",
        shown[0]
    );
    assert!(
        shown.iter().any(|s| s.contains("`charges` has 0 items")),
        "{shown:#?}"
    );
    assert!(
        shown
            .iter()
            .any(|s| s.contains("let.t: the value \"t\" is used before")),
        "{shown:#?}"
    );

    let (plan, _) = compile(
        "
columns: { t: timestamp, n: bigint, tokens: bigint }
where: n + 1
identity: [id]
service: team
time: id
attributes: { z: \"lookup('zone', 'name', id)\" }
charges: { token: n / 2, x: id, y: 'n * 0.0000000000001', ok: n, w: t }
",
    )
    .unwrap();
    assert!(
        plan.warnings()[0]
            .to_string()
            .contains("`columns` declares \"tokens\", which no")
    );
    let shown: Vec<String> = plan
        .check_text()
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown.len(), 6, "{shown:#?}");
    for (said, line) in [
        ("where: `n + 1` is Int64, where true or false belongs", 3),
        ("time: `id` is Utf8, where a timestamp belongs", 6),
        ("did you mean 'zones'?", 7),
        ("charges.token: `/` drops decimals", 8),
        ("charges.x: `id` is Utf8, where a whole number", 8),
        ("charges.w: `t` is Timestamp", 8),
    ] {
        let found = shown.iter().find(|finding| finding.contains(said));
        let found = found.unwrap_or_else(|| panic!("{said} is not in {shown:#?}"));
        assert!(found.starts_with(&format!("job.yaml:{line}:")), "{found}");
    }
}

#[test]
fn rules_with_mistakes_in_their_form_are_refused() {
    let parse = |rule: &str| {
        serde_saphyr::from_str::<MediationRule>(rule)
            .unwrap_err()
            .to_string()
    };
    let base = "service: a\ntime: b\ncharges: { n: n }\n";
    assert!(parse(&format!("{base}identity: []\n")).contains("write `position`"));
    assert!(parse(&format!("{base}identity: id\n")).contains("write [id]"));
    assert!(parse(&format!("{base}identity: [id]\nattribute: {{}}\n")).contains("attribute"));
    let error = parse(&format!("{base}identity: [id]\ncolumns: {{ n: double }}\n"));
    assert!(error.contains("types are text, bigint"), "{error}");
}

#[test]
fn mediators_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Mediator>();
    is_send::<Decoder>();
    is_send::<MediationPlan>();
}
