use super::journal::{Damage, Reading, line, read};
use super::kept::{Keepsakes, Kept, MAX_PASTS};
use super::records::{Live, LiveRun, Record};
use super::*;
use proptest::prelude::*;
use supervision::ExitStatus;
use supervision::hand::Setting;
use supervision::lifecycle::Wish;
use supervision::past::{Fault, LastExit};

fn id(name: &str) -> PluginId {
    PluginId::new(name).unwrap()
}

fn by_hand(setting: Setting, who: &str) -> ByHand {
    ByHand {
        setting,
        who: who.to_owned(),
        when_mse: 1_700_000_000_123,
    }
}

fn live(marker: &str) -> LiveRun {
    LiveRun {
        id: PluginId::core(),
        run: Run(7),
        marker: marker.to_owned(),
        pid: 42,
        start_ticks: 99,
        boot_id: "b".to_owned(),
        fifos: vec![PathBuf::from("/run/x y")],
        cgroup: None,
    }
}

fn wished(wish: Wish, restarts: u32) -> PastWish {
    PastWish {
        wish,
        by: "admin".to_owned(),
        since_mse: 5,
        restarts,
        rest: String::new(),
    }
}

/// The end of a run that was killed from outside.
fn killed(run: u64) -> End {
    let text = "ended by SIGKILL".to_owned();
    End {
        fault: Some(Fault {
            run: Run(run),
            text: format!("{text} after 1.0 s"),
            time_mse: 7,
        }),
        exit: Some(LastExit {
            run: Run(run),
            status: ExitStatus::Signal {
                number: 9,
                core_dumped: false,
            },
            text,
            time_mse: 7,
        }),
        tail: vec!["last words".to_owned()],
    }
}

fn lines<R: Record>(records: &[R]) -> Vec<u8> {
    records
        .iter()
        .map(|r| line(r).unwrap())
        .collect::<String>()
        .into_bytes()
}

fn book_of(records: &[Kept]) -> Keepsakes {
    let mut book = Keepsakes::default();
    for record in records {
        record.enter(&mut book);
    }
    book
}

fn kept() -> impl Strategy<Value = Kept> {
    let ids = prop_oneof![Just(id("a")), Just(id("b-2")), Just(PluginId::core())];
    prop_oneof![
        (ids.clone(), any::<u64>()).prop_map(|(id, run)| Kept::Run { id, run }),
        (ids.clone(), any::<bool>(), any::<String>(), any::<i64>()).prop_map(
            |(id, enabled, who, when)| Kept::Hand {
                id,
                enabled,
                who,
                when
            }
        ),
        ids.clone().prop_map(|id| Kept::Unhand { id }),
        (ids.clone(), past_wish()).prop_map(|(id, wish)| Kept::wish(&id, wish)),
        (ids, end()).prop_map(|(id, end)| Kept::end(&id, end)),
    ]
}

fn past_wish() -> impl Strategy<Value = PastWish> {
    (
        any::<bool>(),
        any::<String>(),
        any::<i64>(),
        any::<u32>(),
        any::<String>(),
    )
        .prop_map(|(up, by, since_mse, restarts, rest)| PastWish {
            wish: if up { Wish::Up } else { Wish::Down },
            by,
            since_mse,
            restarts,
            rest,
        })
}

fn status() -> impl Strategy<Value = ExitStatus> {
    prop_oneof![
        any::<i32>().prop_map(ExitStatus::Code),
        (1..65, any::<bool>()).prop_map(|(number, core_dumped)| ExitStatus::Signal {
            number,
            core_dumped,
        }),
        (any::<u64>(), any::<u64>()).prop_map(|(used_bytes, limit_bytes)| {
            ExitStatus::OutOfMemory {
                used_bytes,
                limit_bytes,
            }
        }),
        Just(ExitStatus::Unknown),
    ]
}

fn end() -> impl Strategy<Value = End> {
    let exit = (any::<u64>(), status(), any::<String>(), any::<i64>()).prop_map(
        |(run, status, text, time_mse)| LastExit {
            run: Run(run),
            status,
            text,
            time_mse,
        },
    );
    let fault =
        (any::<u64>(), any::<String>(), any::<i64>()).prop_map(|(run, text, time_mse)| Fault {
            run: Run(run),
            text,
            time_mse,
        });
    (
        prop::option::of(exit),
        prop::option::of(fault),
        prop::collection::vec(any::<String>(), 0..4),
    )
        .prop_map(|(exit, fault, tail)| End { exit, fault, tail })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_cut_at_any_byte_loses_at_most_the_last_record(records in prop::collection::vec(kept(), 0..8)) {
        let bytes = lines(&records);
        for cut in 0..=bytes.len() {
            let Reading { records: got, torn, damage } = read::<Kept>(&bytes[..cut]);
            let whole = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            prop_assert_eq!(&got[..], &records[..whole]);
            prop_assert_eq!(torn == 0, cut == 0 || bytes[cut - 1] == b'\n');
            prop_assert_eq!(damage, None);
        }
    }

    #[test]
    fn a_changed_byte_costs_at_most_its_line_and_the_next(
        records in prop::collection::vec(kept(), 1..8), at in any::<prop::sample::Index>(), to in any::<u8>()
    ) {
        let bytes = lines(&records);
        let at = at.index(bytes.len());
        let mut changed = bytes.clone();
        changed[at] = to;
        let line = bytes[..at].iter().filter(|b| **b == b'\n').count();
        let got = read::<Kept>(&changed).records;
        prop_assert_eq!(&got[..line], &records[..line]);
        let after = &records[(line + 2).min(records.len())..];
        prop_assert!(got.ends_with(after));
        // A record that reads differently would be worse than one that is lost.
        prop_assert!(got.iter().all(|r| records.contains(r)));
    }

    #[test]
    fn the_fewest_records_say_the_same(records in prop::collection::vec(kept(), 0..12)) {
        let book = book_of(&records);
        let fewest = Kept::all(&book);
        prop_assert!(fewest.len() <= records.len());
        prop_assert_eq!(book_of(&fewest), book);
    }
}

#[test]
fn the_form_on_disk_stays_as_it_is() {
    let run = Kept::Run {
        id: PluginId::core(),
        run: 3,
    };
    let text = line(&run).unwrap();
    assert_eq!(
        text,
        "{\"v\":1,\"crc\":\"309e48a0\",\"rec\":{\"what\":\"run\",\"id\":\"core\",\"run\":3}}\n"
    );
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let wish = Kept::wish(&id("a"), wished(Wish::Up, 0));
    assert_eq!(
        line(&wish).unwrap(),
        "{\"v\":2,\"crc\":\"c9e09c67\",\"rec\":{\"what\":\"wish\",\"id\":\"a\",\"up\":true,\"who\":\"admin\",\"when\":5}}\n"
    );
    let end = Kept::end(&id("a"), killed(3));
    assert_eq!(
        line(&end).unwrap(),
        "{\"v\":2,\"crc\":\"6f857664\",\"rec\":{\"what\":\"end\",\"id\":\"a\",\"exit\":{\"run\":3,\"signal\":9,\
         \"text\":\"ended by SIGKILL\",\"when\":7},\"fault\":{\"run\":3,\"text\":\"ended by SIGKILL after 1.0 s\",\
         \"when\":7},\"tail\":[\"last words\"]}}\n"
    );
    let began = Live::Began(live("core.7.0"));
    assert_eq!(
        read::<Live>(&lines(std::slice::from_ref(&began))).records,
        [began]
    );
}

#[test]
fn a_newer_form_is_told_from_damage() {
    let damage = |text: &str| read::<Kept>(text.as_bytes()).damage;
    assert_eq!(
        damage("{\"v\":3,\"whatever\":1}\n"),
        Some(Damage::Newer(1, 3))
    );
    for bad in [
        "\n",
        "{\"v\":1}\n",
        "\0\0\0\n",
        "{\"v\":1,\"crc\":\"00000000\",\"rec\":{}}\n",
    ] {
        assert_eq!(damage(bad), Some(Damage::Corrupt(1)), "{bad:?}");
    }
}

#[tokio::test]
async fn what_was_kept_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("launcher");
    {
        let (memory, notices) = DiskMemory::open(&folder).unwrap();
        assert_eq!(notices, []);
        memory.keep_run(&id("a"), Run(1));
        memory.keep_run(&id("a"), Run(2));
        assert_eq!(memory.last_run(&id("a")), Run(2), "holds at once");
        memory
            .keep_hand(&id("a"), Some(by_hand(Setting::Enabled, "admin")))
            .await
            .unwrap();
        memory
            .keep_hand(&id("b"), Some(by_hand(Setting::Disabled, "é\"\n")))
            .await
            .unwrap();
        memory.keep_hand(&id("a"), None).await.unwrap();
        memory.keep_run(&PluginId::core(), Run(9));
        memory.flush().await.unwrap();
    }
    let (memory, notices) = DiskMemory::open(&folder).unwrap();
    assert_eq!(notices, []);
    assert_eq!(memory.last_run(&id("a")), Run(2));
    assert_eq!(memory.last_run(&PluginId::core()), Run(9));
    assert_eq!(memory.last_run(&id("never")), Run(0));
    assert_eq!(memory.hands(), [id("b")]);
    assert_eq!(
        memory.hand(&id("b")),
        Some(by_hand(Setting::Disabled, "é\"\n"))
    );
}

#[tokio::test]
async fn a_torn_end_is_dropped_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut bytes = lines(&[Kept::Run {
        id: id("a"),
        run: 5,
    }]);
    let whole = bytes.len();
    bytes.extend_from_slice(
        &lines(&[Kept::Run {
            id: id("a"),
            run: 6,
        }])[..20],
    );
    std::fs::write(&path, &bytes).unwrap();
    let (memory, notices) = DiskMemory::open(dir.path()).unwrap();
    assert_eq!(
        notices,
        [Notice::Torn {
            path: path.clone(),
            bytes: 20
        }]
    );
    assert_eq!(memory.last_run(&id("a")), Run(5));
    memory.flush().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes[..whole]);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_the_rest_of_it_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut bytes = lines(&[
        Kept::Run {
            id: id("a"),
            run: 5,
        },
        Kept::Run {
            id: id("b"),
            run: 6,
        },
        Kept::Run {
            id: id("c"),
            run: 7,
        },
    ]);
    bytes[80] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(dir.path().join("journal.damaged-1"), "older").unwrap();
    let (memory, notices) = DiskMemory::open(dir.path()).unwrap();
    let aside = dir.path().join("journal.damaged-2");
    assert_eq!(
        notices[0].to_string(),
        format!(
            "{} is damaged in line 2; it was set aside as {}, 2 records of it are kept",
            path.display(),
            aside.display()
        )
    );
    assert_eq!(std::fs::read(&aside).unwrap(), bytes);
    assert_eq!(memory.last_run(&id("a")), Run(5));
    assert_eq!(memory.last_run(&id("c")), Run(7));
    memory.flush().await.unwrap();
    drop(memory);
    let (memory, notices) = DiskMemory::open(dir.path()).unwrap();
    assert_eq!(notices, []);
    assert_eq!(memory.last_run(&id("c")), Run(7));
}

#[tokio::test]
async fn what_cannot_be_written_is_said_and_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("launcher");
    let (memory, _) = DiskMemory::open(&folder).unwrap();
    memory
        .keep_hand(&id("a"), Some(by_hand(Setting::Enabled, "x")))
        .await
        .unwrap();
    // A folder of that name takes the journal's place: neither appending nor replacing works, root or not.
    drop(memory);
    let journal = folder.join("journal");
    let (memory, _) = DiskMemory::open(&folder).unwrap();
    let bytes = std::fs::read(&journal).unwrap();
    std::fs::remove_file(&journal).unwrap();
    std::fs::create_dir(&journal).unwrap();
    memory.keep_run(&id("a"), Run(3));
    let told = memory.keep_hand(&id("a"), None).await.unwrap_err();
    assert!(
        told.contains("cannot write") && told.contains("journal"),
        "{told}"
    );
    assert!(memory.hand(&id("a")).is_some(), "holds until it is on disk");
    std::fs::remove_dir(&journal).unwrap();
    std::fs::write(&journal, bytes).unwrap();
    memory.flush().await.unwrap();
    drop(memory);
    let (memory, _) = DiskMemory::open(&folder).unwrap();
    assert_eq!(memory.last_run(&id("a")), Run(3));
    assert_eq!(memory.hand(&id("a")), Some(by_hand(Setting::Enabled, "x")));
}

#[tokio::test]
async fn a_long_history_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, _) = DiskMemory::open(dir.path()).unwrap();
    for run in 1..=3_000 {
        memory.keep_run(&id("a"), Run(run));
        if run % 2 == 0 {
            memory.writer.flush(oneshot::channel().0);
        }
    }
    memory.flush().await.unwrap();
    memory.keep_run(&id("a"), Run(3_001));
    memory.flush().await.unwrap();
    let len = std::fs::metadata(dir.path().join("journal")).unwrap().len();
    assert!(len < 66_000, "{len}");
    assert_eq!(memory.last_run(&id("a")), Run(3_001));
}

#[tokio::test]
async fn live_runs_are_known_to_the_successor() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (runs, _) = LiveRuns::open(dir.path()).unwrap();
        for marker in ["a", "b", "c"] {
            runs.began(live(marker));
        }
        runs.ended("b");
        runs.flush().await.unwrap();
        runs.ended("c");
        runs.flush().await.unwrap();
    }
    let (runs, notices) = LiveRuns::open(dir.path()).unwrap();
    assert_eq!((runs.all(), notices), (vec![live("a")], Vec::new()));
}

#[test]
fn nobody_else_may_write_in_the_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stores/launcher");
    drop(DiskMemory::open(&path).unwrap());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn the_past_is_there_again_and_read_by_an_older_launcher_as_far_as_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (memory, _) = DiskMemory::open(dir.path()).unwrap();
        assert_eq!(memory.past(&id("a")), Past::default());
        memory.keep_wish(&id("a"), wished(Wish::Up, 1));
        memory.keep_end(&id("a"), killed(1));
        memory.keep_wish(&id("a"), wished(Wish::Up, 2));
        memory.keep_end(&id("a"), killed(2));
        memory.keep_run(&id("a"), Run(3));
        assert_eq!(memory.past(&id("a")).end, killed(2), "holds at once");
        memory.flush().await.unwrap();
    }
    let text = std::fs::read_to_string(dir.path().join("journal")).unwrap();
    // Form 1 is all that an older one knows; it is told by the line's beginning.
    let old: Vec<_> = text
        .lines()
        .filter(|l| l.starts_with("{\"v\":1,"))
        .collect();
    assert_eq!(old.len(), 1, "{text}");
    let (memory, notices) = DiskMemory::open(dir.path()).unwrap();
    assert_eq!(notices, []);
    let past = Past {
        wish: Some(wished(Wish::Up, 2)),
        end: killed(2),
    };
    assert_eq!(memory.past(&id("a")), past);
}

#[tokio::test]
async fn what_may_wait_is_written_by_itself_and_forced_to_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, _) = DiskMemory::open(dir.path()).unwrap();
    let path = dir.path().join("journal");
    for run in 1..=50 {
        memory.keep_end(&id("a"), killed(run));
    }
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let records = read::<Kept>(&bytes).records;
        if records.last() == Some(&Kept::end(&id("a"), killed(50))) {
            assert!(records.len() <= 2, "{} records", records.len());
            return;
        }
        assert!(std::time::Instant::now() < until, "in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn plugins_that_come_and_go_do_not_fill_the_memory() {
    let mut book = Keepsakes::default();
    for n in 0..MAX_PASTS + 10 {
        let id = id(&format!("p{n}"));
        let mut end = killed(1);
        end.fault = None;
        end.exit.as_mut().unwrap().time_mse = i64::try_from(n).unwrap();
        Kept::end(&id, end).enter(&mut book);
        Kept::Run { id, run: 1 }.enter(&mut book);
    }
    assert_eq!(book.pasts.len(), MAX_PASTS);
    assert!(!book.pasts.contains_key(&id("p9")) && book.pasts.contains_key(&id("p10")));
    assert_eq!(book.runs.len(), MAX_PASTS + 10, "numbers are for ever");
}

#[tokio::test]
async fn ids_that_look_like_something_else_are_kept_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(64);
    let odd = [
        "-",
        "--",
        "_",
        "0",
        "null",
        "true",
        "run",
        "journal",
        long.as_str(),
    ];
    let hand = || Some(by_hand(Setting::Enabled, "\"null\"\n{}"));
    let (memory, _) = DiskMemory::open(dir.path()).unwrap();
    for (run, name) in (1..).zip(odd) {
        memory.keep_run(&id(name), Run(run));
        memory.keep_hand(&id(name), hand()).await.unwrap();
    }
    memory.flush().await.unwrap();
    drop(memory);
    let (memory, notices) = DiskMemory::open(dir.path()).unwrap();
    assert_eq!(notices, []);
    for (run, name) in (1..).zip(odd) {
        let kept = (memory.last_run(&id(name)), memory.hand(&id(name)));
        assert_eq!(kept, (Run(run), hand()), "{name}");
    }
}
