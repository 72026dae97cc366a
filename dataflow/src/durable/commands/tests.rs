use super::super::applied::KEPT;
use super::super::generation::Generation;
use super::*;

fn plan() -> Plan {
    Plan {
        job: "calls".to_owned(),
        ..Plan::default()
    }
}

fn store(folder: &tempfile::TempDir) -> Store {
    Store::open("state", folder.path()).unwrap()
}

fn pause(source: &str) -> OperatorCommand {
    OperatorCommand::Pause {
        source: source.to_owned(),
    }
}

/// What the commands that wait say, and how many of them there are by name.
fn said(store: &Store, applied: &Applied) -> Vec<Result<Option<OperatorCommand>, NotObeyed>> {
    let names = waiting(store, applied).unwrap().into_iter();
    names
        .map(|name| open(store, "calls", applied, &name))
        .collect()
}

#[test]
fn a_command_is_told_once_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let mut applied = Applied::default();
    assert_eq!(tell(&store, &plan(), &pause("a")).unwrap(), 1);
    assert_eq!(tell(&store, &plan(), &pause("b")).unwrap(), 2);
    assert_eq!(
        said(&store, &applied),
        [Ok(Some(pause("a"))), Ok(Some(pause("b")))]
    );
    let first = waiting(&store, &applied).unwrap().remove(0);
    applied.add(&first);
    assert_eq!(said(&store, &applied), [Ok(Some(pause("b")))]);
    let second = waiting(&store, &applied).unwrap().remove(0);
    let whole = store.get(&place(&second)).unwrap().unwrap();
    let is_damaged = |what: &str| {
        let said = said(&store, &applied);
        let [Err(NotObeyed::Damaged(_))] = said.as_slice() else {
            panic!("{what}: {said:?}");
        };
    };
    for at in 0..whole.len() {
        let mut torn = whole.clone();
        torn[at] ^= 1;
        store.put(&place(&second), &torn).unwrap();
        is_damaged(&format!("byte {at}"));
        store.put(&place(&second), &whole[..at]).unwrap();
        is_damaged(&format!("{at} bytes"));
    }
    // It keeps nobody from being heard.
    assert_eq!(tell(&store, &plan(), &pause("c")).unwrap(), 3);
    let said = said(&store, &applied);
    assert!(matches!(said[0], Err(NotObeyed::Damaged(_))), "{said:?}");
    assert_eq!(said[1], Ok(Some(pause("c"))));
}

#[test]
fn a_command_to_another_job_is_refused_or_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let other = Plan {
        job: "energy".to_owned(),
        ..Plan::default()
    };
    // Nobody knows yet whose state this will be.
    tell(&store, &other, &pause("a")).unwrap();
    let applied = Applied::default();
    let of_another = NotObeyed::OfAnother("energy".to_owned());
    assert_eq!(said(&store, &applied), [Err(of_another)]);
    Generation::begin(&store, &plan()).unwrap();
    let refused = tell(&store, &other, &pause("a")).unwrap_err().to_string();
    let says = "it is of job \"calls\", not \"energy\"";
    assert!(refused.contains(says), "{refused}");
    assert_eq!(waiting(&store, &applied).unwrap().len(), 1);
}

#[test]
fn numbers_go_on_when_what_is_applied_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let (mut run, _) = Generation::begin(&store, &plan()).unwrap();
    let mut applied = Applied::default();
    for number in 1..=3 {
        assert_eq!(tell(&store, &plan(), &pause("a")).unwrap(), number);
    }
    for name in waiting(&store, &applied).unwrap() {
        applied.add(&name);
        store.remove(&place(&name)).unwrap();
    }
    let next = Manifest {
        commands: applied.clone(),
        ..run.manifest.clone()
    };
    run.commit(&store, next).unwrap();
    assert_eq!(tell(&store, &plan(), &pause("b")).unwrap(), 4);
    assert_eq!(said(&store, &applied), [Ok(Some(pause("b")))]);
}

#[test]
fn a_command_that_comes_behind_many_others_is_told() {
    let mut applied = Applied::default();
    let name = |number: usize| format!("{number:020}-0123456789abcdef.json");
    let all = KEPT + 10;
    (1..=all).for_each(|number| applied.add(&name(number)));
    assert_eq!(applied.newest(), u64::try_from(all).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    for number in [10, 11, all] {
        store.put(&place(&name(number)), b"late").unwrap();
    }
    // Those whose names are kept were made again by nobody but a late request.
    assert_eq!(waiting(&store, &applied).unwrap(), [name(10)]);
    assert_eq!(said(&store, &applied), [Err(NotObeyed::TooLate)]);
}
