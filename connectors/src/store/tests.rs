use super::*;

/// The names of the files of a store.
fn names(store: &Store) -> Vec<String> {
    let files = store.list().unwrap().into_iter();
    files.map(|file| file.name).collect()
}

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
    assert_eq!(names(&store), ["a.csv", "b.csv", "sub/c.csv"]);
}

#[test]
fn names_are_those_of_the_system_or_told() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(name));
    std::fs::create_dir_all(at(b"sub\\x")).unwrap();
    for name in [
        &b"a\\b.csv"[..],
        b"sub\\x/c.csv",
        b"d\xff.csv",
        b".e\xff.csv",
    ] {
        std::fs::write(at(name), name).unwrap();
    }
    std::os::unix::fs::symlink("nowhere.csv", at(b"f.csv")).unwrap();
    std::os::unix::fs::symlink("g.csv", at(b"g.csv")).unwrap();
    let store = Store::open(".", folder.path()).unwrap();
    let Listing { files, unread } = store.look().unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["a\\b.csv", "sub\\x/c.csv"]);
    for file in &files {
        let mut text = String::new();
        store.read(file).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, file.name);
        assert_eq!(store.find(&file.name).unwrap().etag, file.etag);
    }
    let unread: Vec<&str> = unread.iter().map(|unread| unread.name.as_str()).collect();
    assert_eq!(unread, ["d\u{fffd}.csv", "f.csv", "g.csv"]);
}

/// However links lead: a folder is walked once, under its own name where it has one below the location.
#[test]
fn a_folder_is_walked_once() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for place in [folder.path().join("sub"), elsewhere.path().join("far")] {
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("a.csv"), "x\n").unwrap();
        symlink("..", place.join("up")).unwrap();
    }
    let at = |name: &str| folder.path().join(name);
    symlink("sub", at("a-link")).unwrap();
    symlink(folder.path(), at("z-link")).unwrap();
    symlink(elsewhere.path(), at("b-link")).unwrap();
    symlink(elsewhere.path(), at("c-link")).unwrap();
    let store = Store::open(".", folder.path()).unwrap();
    assert_eq!(names(&store), ["b-link/far/a.csv", "sub/a.csv"]);
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
