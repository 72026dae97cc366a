//! Files of reference data: tables mapped by SQL, findings about their rows, and saved changes.

use super::*;
use crate::reference::ReferenceChanges;
use millrace_operators::domain::{Cycle, PriceModel};
use std::fs;

/// A folder of files, and the reference data that they are.
struct Folder {
    folder: tempfile::TempDir,
    names: Arc<Names>,
    files: ReferenceFiles,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = Arc::new(Names::default());
        let with = |name: &str| {
            let given = files.iter().any(|(file, _)| *file == name);
            given
                .then(|| folder.path().join(name))
                .into_iter()
                .collect()
        };
        let (catalogs, accounts) = (with("catalog.yaml"), with("accounts.yaml"));
        let files_read = ReferenceFiles::new(catalogs, accounts, TimeZone::UTC, Arc::clone(&names));
        let folder = Self {
            folder,
            names,
            files: files_read,
        };
        files
            .iter()
            .for_each(|(name, text)| folder.save(name, text));
        folder
    }

    fn save(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn load(&mut self) -> Loaded {
        self.files
            .load()
            .unwrap_or_else(|findings| panic!("{}", shown(&findings)))
    }

    /// The errors of a load, with the folder's own path left out.
    fn errors(&mut self) -> String {
        let prefix = format!("{}/", self.folder.path().display());
        shown(&self.files.load().unwrap_err()).replace(&prefix, "")
    }
}

fn shown(findings: &[Diagnostic]) -> String {
    findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect()
}

const PRICE_LIST: &str = r#"{
  "sample_spec": { "input_cost_per_token": "a number", "mode": "one of chat, embedding" },
  "gpt-4o": { "input_cost_per_token": 2.5e-06, "mode": "chat" },
  "gemini": {
    "input_cost_per_token": 3e-07,
    "input_cost_per_token_above_200k_tokens": 6e-07
  },
  "dall-e": { "output_cost_per_image": 0.04 },
  "tiny": { "input_cost_per_token": 2.9999900000000002e-06 }
}"#;

const CATALOG: &str = "\
currency: USD
tables:
  - file: prices.json
    where: \"key <> 'sample_spec'\"
    prices:
      - { item: \"'input_tokens'\", when: { model: key }, price: input_cost_per_token }
      - item: \"'input_tokens'\"
        when: { model: key, context: \"'above_200k'\" }
        price: input_cost_per_token_above_200k_tokens
";

#[test]
fn a_price_list_in_json_is_taken_digit_by_digit() {
    let mut folder = Folder::new(&[("catalog.yaml", CATALOG), ("prices.json", PRICE_LIST)]);
    let reference = folder.load().reference;
    let mut prices: Vec<(String, String)> = reference
        .prices
        .iter()
        .map(|row| {
            let PriceModel::PerUnit { price, per: 1 } = row.model else {
                panic!("{row:?}")
            };
            (folder.names.price(row.key).to_string(), price.to_string())
        })
        .collect();
    prices.sort();
    let expected = [
        (
            "standard/input_tokens [context=above_200k, model=gemini]",
            "0.0000006",
        ),
        ("standard/input_tokens [model=gemini]", "0.0000003"),
        ("standard/input_tokens [model=gpt-4o]", "0.0000025"),
        (
            "standard/input_tokens [model=tiny]",
            "0.0000029999900000000002",
        ),
    ];
    assert_eq!(
        prices,
        expected.map(|(id, price)| (id.to_owned(), price.to_owned()))
    );
}

#[test]
fn bad_rows_of_a_table_are_named_and_all_of_them() {
    let catalog = "\
currency: USD
tables:
  - file: prices.csv
    prices:
      - { item: item, price: usd, when: { model: model }, from: since }
";
    let table = "\
item,model,usd,since
t,a,0.10,2026-01-01
t,b,free,
t,c,-1,yesterday
,d,1,
t,e,,
t,f
t,,7,
";
    let mut folder = Folder::new(&[("catalog.yaml", catalog), ("prices.csv", table)]);
    let errors = folder.errors();
    for expected in [
        "prices.csv:3: \"free\" is not a decimal number (row 1, price of \"t\" [model=b], price from `usd`)",
        "prices.csv:4: a price cannot be negative: -1 (row 2, price of \"t\" [model=c], price from `usd`)",
        "prices.csv:4: \"from\" is not a time: \"yesterday\" (row 2, price of \"t\" [model=c], from from `since`)",
        "prices.csv:5: \"item\" is empty (row 3, price of \"\" [model=d], item from `item`)",
        "prices.csv:7: ",
        "prices.csv:8: `when` gives \"model\" no value (row 6, price of \"t\", model from `model`)\n  hint: \
         write the value, or `*` where the price is for any",
    ] {
        assert!(errors.contains(expected), "{expected}\nis not in\n{errors}");
    }
    assert_eq!(errors.matches("prices.csv:").count(), 6, "{errors}");
}

#[test]
fn an_empty_field_that_a_row_is_computed_from_is_told() {
    let catalog = |filter: &str, price: &str| {
        format!(
            "currency: USD\ntables:\n  - file: prices.csv\n    where: \"{filter}\"\n    prices:\n      \
             - {{ item: item, price: \"{price}\" }}\n"
        )
    };
    let (guess, sum) = ("list <> 'old'", "usd - off");
    let typed = |catalog: String| {
        catalog.replace(
            "    where",
            "    columns: { usd: 'decimal(9,2)', off: 'decimal(9,2)' }\n    where",
        )
    };
    let table = "item,usd,off,list\na,5,,new\nb,,,new\nc,6,1,\nd,7,1,old\n";
    let load = |filter: &str, price: &str| {
        let catalog = typed(catalog(filter, price));
        Folder::new(&[("catalog.yaml", &catalog), ("prices.csv", table)])
    };
    let errors = load(guess, sum).errors();
    for expected in [
        "prices.csv:4: `list <> 'old'` hangs on list, which is empty or absent, for \"where\"\n  hint: say what \
         an empty field means, with coalesce(field, value) or field IS NULL",
        "prices.csv:2: `usd - off` hangs on off, which is empty or absent, for \"price\"",
    ] {
        assert!(errors.contains(expected), "{expected}\nis not in\n{errors}");
    }
    // A row that lacks all of a price has none.
    assert_eq!(errors.matches("prices.csv:").count(), 2, "{errors}");
    let said = ("coalesce(list, '') <> 'old'", "usd - coalesce(off, 0)");
    let mut folder = load(said.0, said.1);
    let prices = folder.load().reference.prices;
    let shown = prices.iter().map(|row| match row.model {
        PriceModel::PerUnit { price, .. } => price.to_string(),
        _ => panic!(),
    });
    assert_eq!(shown.collect::<Vec<_>>(), ["5", "5"]);
}

/// Rows of a price table with columns for all that makes a row less general.
const CELLS: &str = "\
currency: USD
tables:
  - file: prices.csv
    prices:
      - { item: item, price: usd, when: { model: model }, account: account, list: list }
";

#[test]
fn a_price_for_everybody_says_so() {
    let table =
        "item,model,usd,account,list\nt,*,1,*,standard\nt,a,2,*,other\nt,*,3,acme,standard\n";
    let accounts = "accounts: [{ id: acme, currency: USD }]\n";
    let files = [
        ("catalog.yaml", CELLS),
        ("prices.csv", table),
        ("accounts.yaml", accounts),
    ];
    let mut folder = Folder::new(&files);
    let reference = folder.load().reference;
    let mut told: Vec<(String, usize, bool)> = reference
        .prices
        .iter()
        .map(|row| {
            let id = folder.names.price(row.key).to_string();
            (id, row.conditions.len(), row.account.is_some())
        })
        .collect();
    told.sort();
    let expected = [
        ("account acme/t", 0, true),
        ("other/t [model=a]", 1, false),
        ("standard/t", 0, false),
    ];
    assert_eq!(
        told,
        expected.map(|(id, conditions, own)| (id.to_owned(), conditions, own))
    );
    for (row, field) in [
        ("t,,1,*,standard", "`when` gives \"model\" no value"),
        ("t,a,1,,standard", "\"account\" is empty"),
        ("t,a,1,*,", "\"list\" is empty"),
    ] {
        folder.save(
            "prices.csv",
            &format!("item,model,usd,account,list\n{row}\n"),
        );
        let errors = folder.errors();
        assert!(
            errors.starts_with(&format!("prices.csv:2: {field}")),
            "{errors}"
        );
    }
}

#[test]
fn a_subscription_of_a_table_says_its_price_list() {
    let accounts = "\
tables:
  - file: customers.csv
    accounts: [{ id: id, currency: \"'USD'\" }]
    subscriptions: [{ id: id, account: id, price_list: list }]
";
    let files = [
        ("accounts.yaml", accounts),
        ("customers.csv", "id,list\na,standard\nb,\n"),
    ];
    let errors = Folder::new(&files).errors();
    assert_eq!(
        errors,
        "customers.csv:3: \"price_list\" is empty (row 1, subscription \"b\", price_list from `list`)\n  \
         hint: write the price list, or `standard`\n"
    );
}

#[test]
fn a_price_that_stands_twice_in_one_object_is_told() {
    let twice = PRICE_LIST.replace(
        "\"input_cost_per_token\": 2.5e-06,",
        "\"input_cost_per_token\": 2.5e-06, \"input_cost_per_token\": 5e-06,",
    );
    let mut folder = Folder::new(&[("catalog.yaml", CATALOG), ("prices.json", &twice)]);
    let errors = folder.errors();
    assert!(errors.starts_with("prices.json:3: "), "{errors}");
    assert!(
        errors.contains("twice, as \"2.5e-06\" and as \"5e-06\""),
        "{errors}"
    );
    let same = PRICE_LIST.replace(
        "\"mode\": \"chat\"",
        "\"mode\": \"chat\", \"mode\": \"chat\"",
    );
    folder.save("prices.json", &same);
    folder.load();
}

/// A key that is there twice, as a list that was merged has it.
#[test]
fn a_model_that_is_priced_twice_is_refused_with_both_lines() {
    let twice = PRICE_LIST.replace("\"tiny\"", "\"gpt-4o\"");
    let errors = Folder::new(&[("catalog.yaml", CATALOG), ("prices.json", &twice)]).errors();
    assert!(errors.starts_with("prices.json:9: "), "{errors}");
    assert!(
        errors.contains("gpt-4o") && errors.contains("prices.json:3"),
        "{errors}"
    );
}

#[test]
fn a_mapping_at_fault_is_named_where_it_stands() {
    let catalog = "\
currency: USD
tables:
  - file: prices.csv
    where: \"usd\"
    prices:
      - { item: itm, price: \"usd +\", priority: \"random()\" }
      - { item: item, price: usd / 3 }
  - { file: nowhere.csv, prices: [{ item: \"'a'\", price: usd }] }
  - { file: prices.csv, prices: [] }
";
    let mut folder = Folder::new(&[("catalog.yaml", catalog), ("prices.csv", "item,usd\nt,1\n")]);
    let errors = folder.errors();
    assert!(
        errors.contains("catalog.yaml:6:29: cannot parse `usd +`"),
        "{errors}"
    );
    assert!(
        errors.contains("catalog.yaml:8:13: cannot list"),
        "{errors}"
    );
    assert!(
        errors.contains("catalog.yaml:9:13: no row is made of"),
        "{errors}"
    );
    folder.save("catalog.yaml", &catalog.replace("usd +", "usd"));
    let errors = folder.errors();
    assert!(
        errors.contains("catalog.yaml:6:17: \"prices.csv\" has no column \"itm\""),
        "{errors}"
    );
    assert!(
        errors.contains("did you mean \"item\"? its columns are item, usd"),
        "{errors}"
    );
    for line in ["4:12", "6:46", "7:30"] {
        assert!(
            errors.contains(&format!("catalog.yaml:{line}: ")),
            "{line}: {errors}"
        );
    }
}

#[test]
fn large_accounts_come_from_tables() {
    let accounts = "\
tables:
  - file: accounts.csv
    accounts:
      - { id: account, currency: \"'USD'\", anniversary: since, cycle: \"'week'\" }
    subscriptions:
      - { id: \"account || '-llm'\", account: account, price_list: \"'own,standard'\", from: since }
  - file: sessions.csv
    where: team IS NOT NULL
    services:
      - { service_type: \"'llm'\", service: session, subscription: \"team || '-llm'\" }
";
    let mut folder = Folder::new(&[
        ("accounts.yaml", accounts),
        (
            "accounts.csv",
            "account,since\nacme,2026-01-15\nbeta,\nacme,2026-01-15\n",
        ),
        (
            "sessions.csv",
            "session,team\ns1,acme\ns2,beta\ns3,\ns1,acme\n",
        ),
    ]);
    let loaded = folder.load();
    assert_eq!(loaded.warnings, []);
    let reference = loaded.reference;
    assert_eq!(reference.accounts.len(), 2);
    assert_eq!(reference.services.len(), 2);
    let acme = folder.names.enter_account("acme");
    let account = reference
        .accounts
        .iter()
        .find(|account| account.key == acme)
        .unwrap();
    assert_eq!(
        (account.profile.day, account.profile.cycle),
        (15, Cycle::Week)
    );
    let subscription = reference
        .subscriptions
        .iter()
        .find(|row| row.account == acme)
        .unwrap();
    assert_eq!(
        subscription.valid.start().to_string(),
        "2026-01-15T00:00:00Z"
    );
    let lists: Vec<_> = subscription
        .price_lists
        .iter()
        .map(|list| folder.names.text(*list))
        .collect();
    assert_eq!(
        lists.iter().map(|list| &**list).collect::<Vec<_>>(),
        ["own", "standard"]
    );
}

#[test]
fn typed_columns_compute_exactly() {
    let catalog = "\
currency: USD
tables:
  - file: prices.csv
    columns: { cents: 'decimal(20,6)', since: timestamp }
    prices:
      - { item: item, price: cents * 0.01, from: since, per: \"'1000'\" }
";
    let table = "item,cents,since\nt,12.5,2026-01-01T00:00:00Z\n";
    let mut folder = Folder::new(&[("catalog.yaml", catalog), ("prices.csv", table)]);
    let reference = folder.load().reference;
    let PriceModel::PerUnit { price, per } = reference.prices[0].model else {
        panic!()
    };
    assert_eq!((price.to_string().as_str(), per), ("0.125", 1000));
    assert_eq!(
        reference.prices[0].valid.start().to_string(),
        "2026-01-01T00:00:00Z"
    );
}

#[test]
fn a_saved_file_is_a_difference_and_a_broken_one_is_none() {
    let catalog = "currency: USD\nprices:\n  - { id: a, item: t, price: 1 }\n";
    let mut folder = Folder::new(&[("catalog.yaml", catalog)]);
    let before = folder.load().reference;
    folder.save(
        "catalog.yaml",
        "currency: USD\nprices:\n  - { id: a, item: t, price: 1..2 }\n",
    );
    assert!(
        folder
            .errors()
            .contains("catalog.yaml:3:30: \"1..2\" is not a decimal number")
    );
    folder.save(
        "catalog.yaml",
        "currency: USD\nprices:\n  - { id: a, item: t, price: 2 }\n",
    );
    let after = folder.load().reference;
    let changes = ReferenceChanges::between(&before, &after);
    assert_eq!(changes.len(), 2);
    assert_eq!(
        changes.price_changes(&folder.names)[0].to_string(),
        "a: 1 USD -> 2 USD"
    );
}

#[test]
fn a_saved_table_is_read_again_and_watched() {
    let mut folder = Folder::new(&[("catalog.yaml", CATALOG), ("prices.json", PRICE_LIST)]);
    let before = folder.load().reference;
    assert!(
        folder
            .files
            .files()
            .contains(&folder.folder.path().join("prices.json"))
    );
    assert_eq!(folder.load().reference, before);
    folder.save("prices.json", &PRICE_LIST.replace("2.5e-06", "2.6e-06"));
    let after = folder.load().reference;
    let changes = ReferenceChanges::between(&before, &after).price_changes(&folder.names);
    let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["standard/input_tokens [model=gpt-4o]: 0.0000025 USD -> 0.0000026 USD"]
    );
}

#[test]
fn a_table_full_of_bad_rows_is_told_briefly() {
    let catalog = "\
currency: USD
tables: [{ file: prices.csv, prices: [{ item: item, price: usd }] }]
";
    let table = format!("item,usd\n{}", "t,bad\n".repeat(500));
    let mut folder = Folder::new(&[("catalog.yaml", catalog), ("prices.csv", &table)]);
    let errors = folder.errors();
    assert_eq!(errors.matches("is not a decimal number").count(), 20);
    assert!(
        errors.contains("and 480 more findings about this table"),
        "{errors}"
    );
}

#[test]
fn a_table_gives_parents_and_groups_and_flat_prices() {
    let accounts = "\
accounts: [{ id: acme, currency: USD }]
tables:
  - file: lines.csv
    subscriptions:
      - { id: line, account: \"'acme'\", parent: above, group: pool }
";
    let lines = "line,above,pool\nroot,,family\nchild,root,\nalone,,\n";
    let mut folder = Folder::new(&[("accounts.yaml", accounts), ("lines.csv", lines)]);
    let reference = folder.load().reference;
    let group = |id: &str| {
        let key = folder.names.enter_subscription(id);
        let row = reference.subscriptions.iter().find(|row| row.key == key);
        folder.names.text(row.unwrap().group).to_string()
    };
    assert_eq!(
        [group("root"), group("child"), group("alone")],
        ["family", "family", "alone"]
    );
    folder.save("lines.csv", "line,above,pool\nroot,,\nchild,rot,\n");
    assert_eq!(
        folder.errors(),
        "lines.csv:3: the subscription \"child\" names the parent \"rot\", which is unknown\n  hint: did you mean \"root\"?\n"
    );

    let catalog = "\
currency: USD
tables:
  - file: prices.csv
    prices:
      - { item: item, price: price, model: \"'graduated'\", by: \"'record'\", tiers: [{ price: 1 }] }
";
    let files = [
        ("catalog.yaml", catalog),
        ("prices.csv", "item,price\nt,1\n"),
    ];
    let errors = Folder::new(&files).errors();
    let hint = "hint: write the price out, under `prices` of the catalog";
    assert_eq!(
        errors,
        format!(
            "catalog.yaml:5:63: the key \"by\" does not go with a table\n  {hint}\n\
             catalog.yaml:5:83: the key \"tiers\" does not go with a table\n  {hint}\n"
        )
    );
}

#[test]
fn remote_files_are_not_watched() {
    let place = |text: &str| PathBuf::from(text);
    let files = ReferenceFiles::new(
        vec![place("s3://b/catalog.yaml"), place("catalog.yaml")],
        vec![
            place("s3://b/accounts.yaml"),
            place("file:///x/accounts.yaml"),
        ],
        TimeZone::UTC,
        Arc::new(Names::default()),
    );
    let watched: Vec<_> = files.files().iter().map(|file| file.display()).collect();
    let watched: Vec<_> = watched.iter().map(ToString::to_string).collect();
    assert_eq!(watched, ["/x/accounts.yaml", "catalog.yaml"]);
}
