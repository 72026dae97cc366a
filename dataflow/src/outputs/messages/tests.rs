use super::*;

#[test]
fn rows_of_a_part_keep_keys_and_contents() {
    use MessageOutput::{Aggregated, Monetised};
    let mut part = Part::default();
    part.add_lines(Monetised, &["a", "bc"], b"{1}\n{22}\n".to_vec());
    part.add(Monetised, &"gone", None);
    part.add_lines(Aggregated, &["d"], b"{}\n".to_vec());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let rows: Vec<_> = part
        .rows()
        .map(|(output, key, value)| (output, text(key), value.map(text)))
        .collect();
    let row =
        |output, key: &str, value: Option<&str>| (output, key.to_owned(), value.map(str::to_owned));
    let expected = [
        row(Monetised, "a", Some("{1}")),
        row(Monetised, "bc", Some("{22}")),
        row(Monetised, "gone", None),
        row(Aggregated, "d", Some("{}")),
    ];
    assert_eq!(rows, expected);
    assert_eq!(part.room(), PART_ROWS - 4);
}
