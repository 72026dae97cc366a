//! Tables of long names and large numbers, at the widths that terminals have.

use super::*;
use fit::wrap;
use proptest::prelude::*;

const NUMBERS: [&str; 3] = [
    "123,456,789,012.00",
    "123456789012.000000000000000000000001",
    "-1,000,000",
];

fn ranking(width: Option<usize>) -> Table {
    let style = Style {
        colour: false,
        width,
    };
    let mut table = style.table([
        Column::text("account"),
        Column::number("charges").spare(2),
        Column::number("blended rate").spare(4),
        Column::number("amount"),
        Column::number("exact").spare(1),
        Column::text("currency"),
    ]);
    for name in [
        "acme",
        "a-department-whose-name-is-longer-than-any-terminal-is-wide-and-goes-on-and-on-0001234567",
        "部門の名前は端末の幅より長いのでここで折り返されるべきです部門の名前は端末の幅より長い",
    ] {
        table.add_row([
            name,
            NUMBERS[2],
            "0.12345678…",
            NUMBERS[0],
            NUMBERS[1],
            "USD",
        ]);
    }
    table
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.width()).max().unwrap_or(0)
}

#[test]
fn nothing_is_wider_than_the_terminal_and_no_number_is_broken() {
    for width in [60, 80, 100, 120, 200] {
        let text = ranking(Some(width)).to_string();
        assert!(widest(&text) <= width, "{width}:\n{text}");
        assert!(text.contains(NUMBERS[0]), "{width}:\n{text}");
        assert!(text.contains("0001234567"), "{width}:\n{text}");
    }
    let free = ranking(None).to_string();
    assert!(NUMBERS.iter().all(|number| free.contains(number)), "{free}");
    assert!(!free.contains("no room"), "{free}");
}

#[test]
fn the_columns_that_matter_least_go_first_and_are_named() {
    let text = ranking(Some(80)).to_string();
    assert!(!text.contains("0.12345678"), "{text}");
    let note = "no room for: charges, blended rate, exact";
    assert!(text.ends_with(note), "{text}");
    let text = ranking(Some(110)).to_string();
    assert!(text.ends_with("no room for: blended rate"), "{text}");
    assert!(text.contains(NUMBERS[1]), "{text}");
}

#[test]
fn a_row_that_has_no_room_is_a_list() {
    let style = Style {
        colour: false,
        width: Some(60),
    };
    let mut table = style.table([
        Column::text("resource"),
        Column::number("opening"),
        Column::number("used"),
        Column::number("value"),
    ]);
    table.add_row(["minutes", NUMBERS[1], NUMBERS[1], NUMBERS[1]]);
    table.note("… and 3 more");
    let text = table.to_string();
    let rule = "─".repeat(60);
    assert_eq!(
        text,
        format!(
            "{rule}\nresource  minutes\nopening   {0}\nused      {0}\nvalue     {0}\n{rule}\n… and 3 more",
            NUMBERS[1]
        )
    );
}

#[test]
fn foreign_text_gives_the_terminal_no_orders() {
    let mut table = Style::default().table([Column::text("name")]);
    table.add_row(["a\u{1b}[2Jb\u{202e}c\nd"]);
    let text = table.to_string();
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    assert!(text.contains("a\\u{1b}[2Jb\\u{202e}c\\nd"), "{text}");
}

/// The numbers of a text: digits with what joins them.
fn numbers(text: &str) -> Vec<&str> {
    let joined = |c: char| !(c.is_ascii_digit() || matches!(c, '.' | ','));
    let found = text.split(joined);
    found
        .filter(|number| number.contains(|c: char| c.is_ascii_digit()))
        .collect()
}

proptest! {
    #[test]
    fn wrapped_text_keeps_its_characters_and_its_numbers(
        text in "([a-zé価]{1,9}[-_/ ]|-?[0-9]{1,9}([.,][0-9]{1,9}){0,2} ){1,12}",
        width in 12_usize..50,
    ) {
        let lines = wrap(&text, width);
        let squeezed = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        prop_assert_eq!(squeezed(&lines.concat()), squeezed(&text));
        let longest = numbers(&text).iter().map(|number| number.len()).max().unwrap_or(0);
        let room = width.max(longest + 2);
        for line in &lines {
            prop_assert!(line.width() <= room, "{line:?} is wider than {width}");
        }
        let found: Vec<&str> = lines.iter().flat_map(|line| numbers(line)).collect();
        prop_assert_eq!(found, numbers(&text));
    }

    #[test]
    fn tables_of_any_content_fit(
        rows in prop::collection::vec(("[a-z -]{0,60}", "-?[0-9]{1,20}[.][0-9]{1,9}", "-?[0-9]{1,12}"), 1..5),
        width in 50_usize..140,
    ) {
        let style = Style { colour: false, width: Some(width) };
        let mut table = style.table([
            Column::text("a name"),
            Column::number("amount"),
            Column::number("spare").spare(1),
        ]);
        for (name, amount, count) in &rows {
            table.add_row([name, amount, count]);
        }
        let text = table.to_string();
        prop_assert!(widest(&text) <= width, "{width}:\n{text}");
        for (_, amount, _) in &rows {
            prop_assert!(text.contains(amount.as_str()), "{amount}:\n{text}");
        }
    }
}
