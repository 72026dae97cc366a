use super::*;

fn plan() -> Plan {
    Plan {
        job: "calls".to_owned(),
        ..Plan::default()
    }
}

#[test]
fn the_younger_of_two_runs_commits() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("state", folder.path()).unwrap();
    let (mut old, resumed) = Generation::begin(&store, &plan()).unwrap();
    assert!(!resumed);
    let next = Manifest {
        live: 7,
        ..old.manifest.clone()
    };
    old.commit(&store, next).unwrap();
    let (mut young, resumed) = Generation::begin(&store, &plan()).unwrap();
    assert!(resumed);
    assert_eq!((young.number, young.manifest.live), (2, 7));
    assert!(matches!(
        old.check(&store),
        Err(DurableError::Superseded { ours: 1, theirs: 2 })
    ));
    let lost = old.commit(&store, old.manifest.clone());
    assert!(matches!(lost, Err(DurableError::Superseded { .. })));
    young.commit(&store, young.manifest.clone()).unwrap();
    assert_eq!(Manifest::newest(&store).unwrap().unwrap().commit, 4);
}

#[test]
fn a_run_that_gives_the_job_up_ends_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("state", folder.path()).unwrap();
    let (mut first, _) = Generation::begin(&store, &plan()).unwrap();
    first.commit(&store, first.manifest.clone()).unwrap();
    let ended = std::sync::atomic::AtomicBool::new(false);
    let refused = || {
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            let (refused, _) = Generation::begin(&store, &plan()).unwrap();
            refused.give_up(&store).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(refused);
        for _ in 0..100 {
            let begun = Generation::begin(&store, &plan());
            ended.store(begun.is_err(), std::sync::atomic::Ordering::Relaxed);
            begun.unwrap();
        }
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_run_that_stood_still_while_many_commits_were_made_commits_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("state", folder.path()).unwrap();
    let (mut old, _) = Generation::begin(&store, &plan()).unwrap();
    let (mut young, _) = Generation::begin(&store, &plan()).unwrap();
    for _ in 0..2 * KEPT {
        young.commit(&store, young.manifest.clone()).unwrap();
    }
    let free = name(old.manifest.commit + 1);
    assert_eq!(store.get(&free).unwrap(), None);
    let seen = old.check(&store);
    assert!(
        matches!(seen, Err(DurableError::Superseded { ours: 1, theirs: 2 })),
        "{seen:?}"
    );
    let lost = old.commit(&store, old.manifest.clone());
    assert!(
        matches!(lost, Err(DurableError::Superseded { ours: 1, theirs: 2 })),
        "{lost:?}"
    );
    assert_eq!(store.get(&free).unwrap(), None);
    let newest = Manifest::newest(&store).unwrap().unwrap();
    assert_eq!(newest, young.manifest);
}

#[test]
fn nothing_is_committed_behind_what_is_gone() {
    for emptied in ["", FOLDER] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        let (mut run, _) = Generation::begin(&store, &plan()).unwrap();
        run.commit(&store, run.manifest.clone()).unwrap();
        run.check(&store).unwrap();
        std::fs::remove_dir_all(folder.path().join("state").join(emptied)).unwrap();
        let seen = run.check(&store);
        assert!(
            matches!(seen, Err(DurableError::Emptied { .. })),
            "{seen:?}"
        );
        let lost = run.commit(&store, run.manifest.clone()).unwrap_err();
        assert!(matches!(lost, DurableError::Emptied { .. }), "{lost}");
        assert!(lost.to_string().contains(&name(2)), "{lost}");
        // What is left starts again.
        assert_eq!(Manifest::newest(&store).unwrap(), None);
        let (next, resumes) = Generation::begin(&store, &plan()).unwrap();
        assert_eq!((next.number, resumes), (1, false));
        // The run that was there before does no harm to the one that begins anew.
        let lost = run.commit(&store, run.manifest.clone()).unwrap_err();
        assert!(matches!(lost, DurableError::Emptied { .. }), "{lost}");
        assert_eq!(Manifest::newest(&store).unwrap(), Some(next.manifest));
    }
}

#[test]
fn of_two_runs_that_begin_at_once_one_commits() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("state", folder.path()).unwrap();
    let (mut one, _) = Generation::begin(&store, &plan()).unwrap();
    let mut other = Generation {
        number: one.number,
        manifest: one.manifest.clone(),
        run: random_name(),
        digest: one.digest.clone(),
    };
    // All that they would write is alike, the time too.
    let (next, now) = (one.manifest.clone(), jiff::Timestamp::UNIX_EPOCH);
    one.commit_at(&store, next.clone(), now).unwrap();
    let lost = other.commit_at(&store, next, now);
    assert!(
        matches!(lost, Err(DurableError::Superseded { .. })),
        "{lost:?}"
    );
}

#[test]
fn names_say_which_generation_they_are_of() {
    let run = "0123456789abcdef";
    for (name, generation) in [
        (format!("{:020}-7-{run}.journal", 3), Some(7)),
        (format!("{:020}-7-{run}-2++.journal.{run}.tmp", 3), Some(7)),
        (format!("12-{run}-monetised.parquet"), Some(12)),
        (format!("part-00-12-{run}.parquet"), Some(12)),
        ("part-00.parquet".to_owned(), None),
        (format!("{:020}.json.{run}.tmp", 3), None),
        (format!("{:020}-7.journal", 3), None),
    ] {
        assert_eq!(generation_of(&name), generation, "{name}");
    }
}

#[test]
fn what_runs_that_were_cut_off_left_is_tidied_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("state", folder.path()).unwrap();
    let (mut run, _) = Generation::begin(&store, &plan()).unwrap();
    let first = store.get(&name(1)).unwrap().unwrap();
    for _ in 0..2 * KEPT {
        run.commit(&store, run.manifest.clone()).unwrap();
    }
    store.put(&name(1), &first).unwrap();
    let half = |number| format!("{}.0123.tmp", name(number));
    // One of a run that was cut off, and one of a run that is younger than the one that tidies up.
    for number in [20, 99] {
        std::fs::write(folder.path().join("state").join(half(number)), b"{").unwrap();
    }
    Generation::begin(&store, &plan()).unwrap();
    let held = std::fs::read_dir(folder.path().join("state").join(FOLDER)).unwrap();
    assert_eq!(held.count(), usize::try_from(KEPT).unwrap() + 1);
    assert!(folder.path().join("state").join(half(99)).exists());
}

/// What somebody else left among the manifests is none, is not taken for a younger run, and stays.
#[test]
fn what_is_no_manifest_stands_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("state", folder.path()).unwrap();
    let strays = [
        "zzz.json",
        "99999999999999999999.json",
        "00000000000000000001 (copy).json",
        "00000000000000000099.json.bak",
        "-.json",
        "7.json",
    ];
    for stray in strays {
        store.put(&format!("{FOLDER}/{stray}"), b"{}").unwrap();
    }
    let (mut run, resumed) = Generation::begin(&store, &plan()).unwrap();
    assert!(!resumed);
    let next = Manifest {
        live: 7,
        ..run.manifest.clone()
    };
    run.commit(&store, next).unwrap();
    run.check(&store).unwrap();
    let (young, resumed) = Generation::begin(&store, &plan()).unwrap();
    assert!(resumed);
    assert_eq!((young.number, young.manifest.commit), (2, 3));
    let superseded = run.check(&store);
    assert!(
        matches!(superseded, Err(DurableError::Superseded { theirs: 2, .. })),
        "{superseded:?}"
    );
    for stray in strays {
        let kept = store.get(&format!("{FOLDER}/{stray}")).unwrap();
        assert_eq!(kept.as_deref(), Some(&b"{}"[..]), "{stray}");
    }
}

#[test]
fn no_byte_of_a_manifest_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("state", folder.path()).unwrap();
    Generation::begin(&store, &plan()).unwrap();
    let place = name(1);
    let whole = store.get(&place).unwrap().unwrap();
    for at in 0..whole.len() {
        let mut torn = whole.clone();
        torn[at] ^= 1;
        store.put(&place, &torn).unwrap();
        let read = Manifest::newest(&store);
        assert!(
            matches!(read, Err(DurableError::Damaged { .. })),
            "byte {at}"
        );
    }
    for left in [whole.len() / 2, whole.len() - 1] {
        store.put(&place, &whole[..left]).unwrap();
        assert!(Manifest::newest(&store).is_err(), "{left} bytes");
    }
}

#[test]
fn state_of_another_job_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("state", folder.path()).unwrap();
    Generation::begin(&store, &plan()).unwrap();
    let other = Plan {
        job: "energy".to_owned(),
        ..plan()
    };
    let refused = Generation::begin(&store, &other).unwrap_err().to_string();
    assert!(
        refused.contains("it is of job \"calls\", not \"energy\""),
        "{refused}"
    );
}
