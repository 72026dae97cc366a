use super::*;
use crate::store::{Backend, Store};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::list::PaginatedListResult;

#[test]
fn plain_http_is_for_this_machine() {
    for endpoint in [
        "http://localhost:9000",
        "http://127.0.0.1:1/x",
        "http://[::1]:80",
    ] {
        assert!(is_loopback(endpoint), "{endpoint}");
    }
    for endpoint in ["http://minio:9000", "https://localhost", "http://10.0.0.1"] {
        assert!(!is_loopback(endpoint), "{endpoint}");
    }
}

/// Keys of a bucket, listed as S3 lists them: in order, by pages, from a token or an offset on.
struct Keys(&'static [&'static str]);

impl PaginatedListStore for Keys {
    fn list_paginated<'s, 'p, 'f>(
        &'s self,
        prefix: Option<&'p str>,
        options: PaginatedListOptions,
    ) -> BoxFuture<'f, object_store::Result<PaginatedListResult>>
    where
        's: 'f,
        'p: 'f,
        Self: 'f,
    {
        let prefix = prefix.unwrap_or_default();
        let after = options.page_token.or(options.offset).unwrap_or_default();
        let below = self.0.iter().filter(|key| key.starts_with(prefix));
        let rest: Vec<&str> = below.copied().filter(|key| **key > *after).collect();
        let page = &rest[..rest.len().min(options.max_keys.unwrap())];
        let object = |key: &&str| {
            Ok(ObjectMeta {
                location: Path::parse(key)?,
                last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
                size: 1,
                e_tag: Some("e".to_owned()),
                version: None,
            })
        };
        let objects: object_store::Result<_> = page.iter().map(object).collect();
        let more = page.len() < rest.len();
        let page_token = more.then(|| (*page.last().unwrap()).to_owned());
        let result = objects.map(|objects| PaginatedListResult {
            result: object_store::ListResult {
                common_prefixes: Vec::new(),
                objects,
            },
            page_token,
        });
        std::future::ready(result).boxed()
    }
}

fn bucket(prefix: &str, objects: Arc<dyn ObjectStore>) -> Bucket {
    Bucket {
        prefix: parsed(prefix, prefix).unwrap(),
        ..Bucket::over("s3://b", objects)
    }
}

#[test]
fn keys_are_read_as_they_are_listed() {
    let name = r##"a #[b]{c}~%20^*?"<d>|\`.csv"##;
    let objects = Arc::new(object_store::memory::InMemory::new());
    let bucket = bucket("in~{x}", objects);
    assert_eq!(bucket.put(name, b"content", false).unwrap(), Put::Created);
    let files = bucket.list().unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].name, name);
    assert_eq!(files[0].location, format!("s3://b/in~{{x}}/{name}"));
    let mut text = String::new();
    bucket
        .read(&files[0])
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "content");
    assert_eq!(bucket.find(name).unwrap().size, 7);
    assert!(bucket.etag(&files[0]).unwrap().is_some());
    let random = bucket.random(&files[0], 4, Arc::default());
    assert_eq!(random.range(2, 5).unwrap(), &b"ntent"[..]);
    assert!(bucket.rename(name, "done/50%.csv").unwrap());
    assert_eq!(bucket.list().unwrap()[0].name, "done/50%.csv");
    bucket.remove("done/50%.csv").unwrap();
    assert!(bucket.list().unwrap().is_empty());
}

#[test]
fn a_key_that_cannot_be_read_leaves_its_neighbours() {
    let objects = Arc::new(object_store::memory::InMemory::new());
    let mut bucket = bucket("in", objects);
    bucket.pages = Some(Arc::new(Keys(&[
        "in//a.csv",
        "in//b.csv",
        "in/a.csv",
        "in/b\u{1}.csv",
        "in/d/_x//e.csv",
        "in/d/e//f.csv",
        "in/d/e//g/h.csv",
        "in/d/e/f.csv",
        "in/d/e0",
        "other//x.csv",
    ])));
    let files = bucket.list().unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.etag.is_some());
    let names = |files: &[&FileMeta]| -> Vec<String> {
        files.iter().map(|file| file.name.clone()).collect()
    };
    assert_eq!(names(&good), ["a.csv", "d/e/f.csv", "d/e0"]);
    assert_eq!(names(&bad), ["/", "b\u{1}.csv", "d/e//"]);
    let told = bucket.etag(bad[2]).unwrap_err().to_string();
    assert!(
        told.contains(r#""s3://b/in/d/e//": a key with an empty part"#),
        "{told}"
    );
    assert!(bucket.put("x//y", b"", true).is_err());
    assert!(Bucket::open("s3://b/x//y", "b/x//y").is_err());
}

#[test]
fn many_keys_come_once_each() {
    let keys: Vec<&str> = (0..5_000)
        .map(|n| match n % 700 {
            0 => &*format!("in/{n:04}//x").leak(),
            _ => &*format!("in/{n:04}").leak(),
        })
        .collect();
    let found = wait(listed(
        &Keys(keys.leak()),
        Some(&Path::from("in")),
        &Silence::of(PATIENCE),
    ));
    let found = found.unwrap().unwrap();
    assert_eq!((found.objects.len(), found.refused.len()), (4_992, 8));
    assert!(found.objects.is_sorted_by(|a, b| a.location < b.location));
}

#[test]
fn a_silent_store_is_no_damage_of_a_file() {
    use crate::decode::{DecodeError, row_groups};
    use object_store::throttle::{ThrottleConfig, ThrottledStore};
    let objects = object_store::memory::InMemory::new();
    let content = b"PAR1, and no more than a word".to_vec();
    for path in ["in/a.parquet", "in/b.parquet"].map(Path::from) {
        let put = objects.put(&path, content.clone().into());
        wait(put).unwrap().unwrap();
    }
    let objects = Arc::new(ThrottledStore::new(objects, ThrottleConfig::default()));
    let bucket = Bucket {
        silence: Arc::new(Silence::of(Duration::from_millis(300))),
        ..bucket("in", Arc::clone(&objects) as _)
    };
    let store = Store {
        location: "s3://b/in".to_owned(),
        backend: Backend::Remote(bucket),
        read: Arc::default(),
    };
    let [file, other] = store.list().unwrap().try_into().unwrap();
    let damaged = row_groups(&store, &file).unwrap_err();
    assert!(matches!(damaged, DecodeError::Parquet { .. }), "{damaged}");
    store.remove("b.parquet").unwrap();
    let gone = row_groups(&store, &other).unwrap_err().to_string();
    assert!(gone.contains("it does not exist"), "{gone}");
    objects.config_mut(|config| config.wait_get_per_call = Duration::from_secs(60));
    let silent = row_groups(&store, &file).unwrap_err().to_string();
    assert!(silent.contains("in/a.parquet"), "{silent}");
    assert!(
        silent.contains("the store has answered nothing"),
        "{silent}"
    );
    assert!(
        !silent.contains("have the source send it again"),
        "{silent}"
    );
}

#[test]
fn ranges_cross_blocks() {
    let objects = object_store::memory::InMemory::new();
    let content: Vec<u8> = (0..9 << 20)
        .map(|i: u32| i.to_le_bytes()[0] ^ i.to_le_bytes()[2])
        .collect();
    let path = Path::from("a");
    wait(objects.put(&path, content.clone().into()))
        .unwrap()
        .unwrap();
    let size = u64::try_from(content.len()).unwrap();
    let file = RemoteFile(Arc::new(Blocks {
        objects: Arc::new(objects),
        path: Ok(path),
        location: "memory/a".to_owned(),
        trouble: Mutex::default(),
        size,
        block: 4 << 20,
        count: Arc::default(),
        kept: Mutex::default(),
        silence: Arc::new(Silence::of(PATIENCE)),
    }));
    let whole = file.range(0, content.len()).unwrap();
    assert!(whole == content);
    assert_eq!(
        file.range(4 << 20, 10).unwrap(),
        content[4 << 20..(4 << 20) + 10]
    );
    let mut tail = Vec::new();
    file.read_from(5 << 20).read_to_end(&mut tail).unwrap();
    assert!(tail == content[5 << 20..]);
    assert!(file.range(size - 1, 2).is_err());
}
