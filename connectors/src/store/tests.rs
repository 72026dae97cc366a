use super::*;

#[test]
fn files_come_sorted_and_unfinished_ones_do_not_come() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "b.csv",
        "a.csv",
        "sub/c.csv",
        ".hidden",
        "d.csv.tmp",
        "_x/e.csv",
    ] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    let store = Store::open(".", folder.path()).unwrap();
    let names: Vec<_> = store
        .list()
        .unwrap()
        .into_iter()
        .map(|file| file.name)
        .collect();
    assert_eq!(names, ["a.csv", "b.csv", "sub/c.csv"]);
}

#[test]
fn a_location_may_be_one_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "x\n1\n").unwrap();
    let url = format!("file://{}", folder.path().join("a.csv").display());
    let store = Store::open(&url, Path::new("/")).unwrap();
    let files = store.list().unwrap();
    assert_eq!((files[0].name.as_str(), files[0].size), ("a.csv", 4));
    let mut text = String::new();
    store
        .read(&files[0])
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "x\n1\n");
    assert!(store.checksum(&files[0]).unwrap().starts_with("blake3:"));
}

#[test]
fn what_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("nowhere", folder.path()).unwrap();
    let message = store.list().unwrap_err().to_string();
    assert!(
        message.contains("cannot list \"nowhere\": it does not exist"),
        "{message}"
    );
    let message = Store::open("gopher://x", folder.path())
        .unwrap_err()
        .to_string();
    assert!(message.contains("s3://bucket/prefix"), "{message}");
}
