//! Questions about a folder of outputs.

use super::*;
use crate::table::Style;
use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

fn write(folder: &Path, place: &str, amounts: &[Option<i128>]) {
    let path = folder.join(place);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let amounts = Decimal128Array::from(amounts.to_vec())
        .with_precision_and_scale(38, 24)
        .unwrap();
    let names: StringArray = (0..amounts.len())
        .map(|n| Some(format!("a\"{n}")))
        .collect();
    let columns: [(&str, ArrayRef); 2] =
        [("account", Arc::new(names)), ("amount", Arc::new(amounts))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// 2897.0761824 and one unit of the last decimal, and a NULL.
fn outputs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let amounts = [Some(2_897_076_182_400_000_000_000_000_000), Some(1), None];
    write(
        folder.path(),
        "aggregated/snapshot/part-00.parquet",
        &amounts,
    );
    write(folder.path(), "monetised/changes/0.parquet", &amounts[..1]);
    write(folder.path(), "monetised/changes/1.parquet", &amounts[..1]);
    folder
}

fn answer(folder: &tempfile::TempDir, sql: &str) -> Result<Answer, String> {
    ask(&folder.path().display().to_string(), sql).map_err(|error| error.to_string())
}

fn text(write: impl FnOnce(&mut Vec<u8>) -> Result<(), QueryError>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn decimals_stay_exact_in_every_form() {
    let folder = outputs();
    let sql = "SELECT account, amount, 1 AS one FROM aggregated ORDER BY account";
    let csv = text(|out| answer(&folder, sql).unwrap().write_csv(out));
    assert_eq!(
        csv,
        "account,amount,one\n\"a\"\"0\",2897.0761824,1\n\"a\"\"1\",0.000000000000000000000001,1\n\"a\"\"2\",,1\n"
    );
    let json = text(|out| answer(&folder, sql).unwrap().write_json(out));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["amount"], "2897.0761824");
    assert_eq!(json[0]["one"], 1);
    assert_eq!(json[2]["amount"], serde_json::Value::Null);
    let table = text(|out| {
        answer(&folder, sql)
            .unwrap()
            .write_table(Style::default(), out)
    });
    assert!(
        table.contains("2897.0761824 ") && table.contains("3 rows"),
        "{table}"
    );
    let none = "SELECT * FROM aggregated WHERE false";
    assert_eq!(
        text(|out| answer(&folder, none).unwrap().write_json(out)),
        "[]\n"
    );
}

#[test]
fn sums_and_literals_are_decimals() {
    let folder = outputs();
    let sql = "SELECT sum(amount) AS s FROM aggregated WHERE amount > 0.1";
    assert_eq!(
        text(|out| answer(&folder, sql).unwrap().write_csv(out)),
        "s\n2897.0761824\n"
    );
    let literal = "SELECT 0.1 + 0.2 AS s";
    assert_eq!(
        text(|out| answer(&folder, literal).unwrap().write_csv(out)),
        "s\n0.3\n"
    );
}

#[test]
fn sums_of_amounts_have_room() {
    let folder = tempfile::tempdir().unwrap();
    // Each is the most that a column holds; 127 bits end behind the first, 128 behind the third.
    let most = 10_i128.pow(38) - 1;
    let place = "aggregated/snapshot/part-00.parquet";
    for (rows, sum) in [
        (1, "99999999999999.999999999999999999999999"),
        (2, "199999999999999.999999999999999999999998"),
        (4, "399999999999999.999999999999999999999996"),
        (1_000, "99999999999999999.999999999999999999999"),
    ] {
        write(folder.path(), place, &vec![Some(most); rows]);
        for sql in [
            "SELECT sum(amount) AS s FROM aggregated",
            "SELECT DISTINCT sum(amount) OVER () AS s FROM aggregated",
        ] {
            let csv = text(|out| answer(&folder, sql).unwrap().write_csv(out));
            assert_eq!(csv, format!("s\n{sum}\n"), "{rows} rows: {sql}");
        }
        let average = "SELECT max(amount) AS s, min(amount) = max(amount) AS same FROM aggregated";
        let csv = text(|out| answer(&folder, average).unwrap().write_csv(out));
        assert_eq!(
            csv,
            "s,same\n99999999999999.999999999999999999999999,true\n"
        );
    }
}

#[test]
fn every_power_of_ten_keeps_its_digits() {
    let folder = tempfile::tempdir().unwrap();
    let amounts: Vec<_> = (0..38).map(|power| Some(10_i128.pow(power) + 1)).collect();
    write(
        folder.path(),
        "aggregated/snapshot/part-00.parquet",
        &amounts,
    );
    let sql = "SELECT amount, -amount AS owed FROM aggregated ORDER BY amount";
    let csv = text(|out| answer(&folder, sql).unwrap().write_csv(out));
    let json = text(|out| answer(&folder, sql).unwrap().write_json(out));
    let table = text(|out| {
        let answer = answer(&folder, sql).unwrap();
        answer.write_table(Style::default(), out)
    });
    assert_eq!(csv.lines().count(), 39);
    for (row, amount) in csv.lines().skip(1).zip(amounts.iter().flatten()) {
        let digits = format!("{amount:025}");
        let (whole, fraction) = digits.split_at(digits.len() - 24);
        let plain = format!("{whole}.{fraction}");
        assert_eq!(row, format!("{plain},-{plain}"));
        assert!(json.contains(&format!("\"amount\":\"{plain}\"")), "{json}");
        assert!(table.contains(&format!(" {plain} ")), "{table}");
    }
}

#[test]
fn all_files_of_a_folder_are_one_table() {
    let folder = outputs();
    let sql = "SELECT count(*) AS n FROM monetised_changes";
    assert_eq!(
        text(|out| answer(&folder, sql).unwrap().write_csv(out)),
        "n\n2\n"
    );
}

#[test]
fn what_cannot_be_asked_says_what_can() {
    let folder = outputs();
    let wrong = |sql: &str| answer(&folder, sql).map(|_| ()).unwrap_err();
    let error = wrong("SELECT * FROM monetized");
    assert!(
        error.contains("monetized") && error.contains("aggregated, monetised_changes"),
        "{error}"
    );
    assert!(wrong("SELEC 1").contains("SELEC"));
    assert!(wrong("SELECT nothing FROM aggregated").contains("nothing"));
    for writes in [
        "CREATE TABLE x AS SELECT 1",
        "COPY aggregated TO 'x.csv'",
        "DROP TABLE aggregated",
    ] {
        wrong(writes);
    }
    assert!(!Path::new("x.csv").exists());
}
