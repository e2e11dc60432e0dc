//! What a pull leaves on the disk, whatever the hub and the network do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::hub::{Answer, COMMIT, Hub, Served};
use crate::machine::{Ended, Machine, SmallDisk, manifest, noise, read, sha256, skip};

const REPO: &str = "owner/weights";
const FILE: &str = "deep/model.bin";
const MIB: usize = 1 << 20;

/// A hub with one large file, and a machine that knows it as the model `m`.
fn one(bytes: &[u8]) -> (Hub, Machine) {
    let hub = Hub::new(vec![Served::large(REPO, FILE, bytes.to_vec())]);
    let machine = Machine::new(&hub, &manifest(&[(REPO, FILE)]));
    (hub, machine)
}

/// The file is whole, under its name, and nothing else is in `blobs`.
#[track_caller]
fn assert_whole(machine: &Machine, bytes: &[u8]) {
    assert_eq!(machine.blobs(REPO), [sha256(bytes)]);
    let path = machine.run(&["path", "m"]).with(0).stdout;
    assert_eq!(sha256(&read(path.trim_end().as_ref())), sha256(bytes));
    machine.run(&["verify", "m"]).with(0);
}

#[test]
fn a_pull_leaves_what_huggingface_hub_would_leave() {
    let bytes = noise(300_000, 1);
    let (hub, machine) = one(&bytes);
    machine.pull(&[]).with(0);
    let repo = machine.repo(REPO);
    let pointer = repo.join("snapshots").join(COMMIT).join(FILE);
    let target = std::fs::read_link(&pointer).unwrap();
    assert_eq!(target.to_str().unwrap(), format!("../../../blobs/{}", sha256(&bytes)));
    assert_eq!(read(&pointer), bytes);
    assert_eq!(read(&repo.join("refs/main")), COMMIT.as_bytes());
    let locks = machine.cache.join(".locks/models--owner--weights");
    assert!(locks.join(format!("{}.lock", sha256(&bytes))).is_file());
    let entry = serde_json::json!({
        "repo": REPO, "file": FILE, "commit": COMMIT, "sha256": sha256(&bytes), "size": bytes.len()
    });
    assert_eq!(machine.lock()["files"], serde_json::json!([entry]));
    assert_eq!(machine.run(&["path", "m"]).with(0).stdout, format!("{}\n", pointer.display()));
    assert_whole(&machine, &bytes);
    hub.forget();
    machine.pull(&[]).with(0).saying("m is here");
    assert!(hub.seen().is_empty(), "what is here is not asked for again");
}

#[test]
fn small_files_have_no_sha256_of_the_hub_and_are_locked_by_their_own() {
    let bytes = noise(5_000, 2);
    let hub = Hub::new(vec![Served::small(REPO, FILE, bytes.clone())]);
    let machine = Machine::new(&hub, &manifest(&[(REPO, FILE)]));
    machine.pull(&[]).with(0);
    assert_eq!(machine.blobs(REPO), ["2".repeat(40)]);
    assert_eq!(machine.lock()["files"][0]["sha256"], sha256(&bytes));
    machine.run(&["verify", "m"]).with(0);
}

#[test]
fn a_break_at_every_64_kib_fetches_no_byte_twice() {
    let bytes = noise(6 * MIB + 12_345, 3);
    let (hub, machine) = one(&bytes);
    hub.answer_store(|_| Answer::CutAfter(64 << 10));
    machine.pull(&["--tries", "2"]).with(0);
    assert_whole(&machine, &bytes);
    let fetches: Vec<_> = hub.seen().into_iter().filter(|s| s.at_store).collect();
    assert_eq!(fetches.len(), bytes.len().div_ceil(64 << 10));
    for (i, fetch) in fetches.iter().enumerate() {
        assert_eq!(fetch.from, (i as u64) << 16);
    }
    assert_eq!(hub.sent(), bytes.len() as u64);
}

/// Half of the cuts close the connection, half kill the program.
#[test]
fn a_pull_cut_fifty_times_at_random_completes_and_fetches_at_most_a_mebibyte_twice_a_cut() {
    let bytes = noise(24 * MIB, 4);
    let (hub, machine) = one(&bytes);
    let random = noise(8 * 50, 5);
    let lengths: Vec<u64> =
        random.chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap()) % (bytes.len() as u64 / 50)).collect();
    let part = machine.repo(REPO).join("blobs").join(format!("{}.incomplete", sha256(&bytes)));
    let mut reached = 0;
    for (cut, pair) in lengths.chunks(2).enumerate() {
        let (first, second) = (pair[0], pair[1]);
        let mut answers = vec![Answer::StallAfter(second), Answer::CutAfter(first)];
        hub.answer_store(move |_| answers.pop().unwrap_or(Answer::Normal));
        let mut krea = machine.command(&["pull", "m", "--retry-delay", "0", "-q"]).spawn().unwrap();
        reached += first + second;
        let deadline = Instant::now() + Duration::from_secs(120);
        while std::fs::metadata(&part).map_or(0, |m| m.len()) < reached {
            assert!(Instant::now() < deadline, "kill {cut} is not reached");
            assert!(krea.try_wait().unwrap().is_none(), "kill {cut}: it ended by itself");
            std::thread::sleep(Duration::from_millis(2));
        }
        krea.kill().unwrap();
        krea.wait().unwrap();
        assert!(machine.run(&["path", "m"]).code == Some(4), "half a file has no name");
    }
    hub.answer(|_| Answer::Normal);
    machine.pull(&[]).with(0);
    assert_whole(&machine, &bytes);
    let fetches: Vec<_> = hub.seen().into_iter().filter(|s| s.at_store).collect();
    assert_eq!(fetches.len(), 51);
    let mut end = 0;
    for fetch in &fetches {
        assert!(fetch.from <= end && end - fetch.from <= MIB as u64, "{} bytes were fetched twice", end - fetch.from);
        end = fetch.from + fetch.sent;
    }
    eprintln!("51 requests, {} bytes sent for {}", hub.sent(), bytes.len());
}

#[test]
fn wrong_bytes_are_an_error_and_nothing_of_them_is_kept() {
    let (hub, machine) = one(&noise(200_000, 6));
    hub.answer_store(|_| Answer::Garbled);
    machine.pull(&[]).with(4).saying("sha256");
    assert!(machine.blobs(REPO).is_empty());
    assert_eq!(machine.lock()["files"], serde_json::json!([]));
    machine.run(&["path", "m"]).with(4).saying("krea models pull m");
    hub.answer(|_| Answer::Normal);
    machine.pull(&[]).with(0);
}

#[test]
fn refusals_say_what_to_do_and_are_not_retried() {
    for (code, words) in [(401, "HF_TOKEN"), (403, "Agree to the model's conditions"), (404, "no such file")] {
        let (hub, machine) = one(&noise(1000, 7));
        hub.answer(move |_| Answer::Status(code, "X-Error-Message: told so\r\n"));
        machine.pull(&[]).with(4).saying(words).saying("told so");
        assert_eq!(hub.seen().len(), 1, "{code}");
    }
}

#[test]
fn what_passes_is_waited_for_and_what_does_not_is_given_up() {
    let bytes = noise(400_000, 8);
    let (hub, machine) = one(&bytes);
    let mut answers = vec![
        Answer::Status(503, ""),
        Answer::CutAfter(100_000),
        Answer::Status(429, "Retry-After: 0\r\n"),
        Answer::Status(500, ""),
    ];
    hub.answer_store(move |_| answers.pop().unwrap_or(Answer::Normal));
    machine.pull(&[]).with(0).saying("answers 429").saying("answers 500");
    assert_whole(&machine, &bytes);
    assert_eq!(hub.sent(), bytes.len() as u64);

    let (hub, machine) = one(&bytes);
    let count = Arc::new(AtomicU32::new(0));
    let counter = count.clone();
    hub.answer_store(move |_| match counter.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::CutAfter(150_000),
        _ => Answer::Status(500, ""),
    });
    machine.pull(&["--tries", "3"]).with(4).saying("answers 500").saying("the same command goes on");
    assert_eq!(count.load(Ordering::Relaxed), 3, "three failures in a row, the first of which ended a piece");
    assert_eq!(machine.blobs(REPO), [format!("{}.incomplete", sha256(&bytes))]);
    let listed = machine.run(&["list", "--json"]).with(0).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["models"][0]["files"][0]["state"], "partial");
    assert_eq!(listed["models"][0]["files"][0]["bytes_here"], 150_000);

    let (hub, machine) = one(&bytes);
    hub.answer(|_| Answer::Status(429, "Retry-After: 7200\r\n"));
    machine.pull(&[]).with(4).saying("120 minutes");
}

#[test]
fn a_slow_server_is_borne_and_a_silent_one_is_left() {
    let bytes = noise(200_000, 9);
    let (hub, machine) = one(&bytes);
    let mut answers = vec![Answer::Slowly, Answer::StallAfter(50_000)];
    hub.answer_store(move |_| answers.pop().unwrap_or(Answer::Normal));
    let mut pull = machine.command(&["pull", "m", "--retry-delay", "0"]);
    let ended = Ended::of(pull.env("HF_HUB_DOWNLOAD_TIMEOUT", "2").output().unwrap());
    ended.with(0).saying("cut off at 50.0 kB");
    assert_whole(&machine, &bytes);
    assert_eq!(hub.sent(), bytes.len() as u64);
}

#[test]
fn a_full_disk_is_told_before_and_survived_in_between() {
    let name = "a_full_disk_is_told_before_and_survived_in_between";
    let Some(disk) = SmallDisk::new(8) else { return skip(name, "only root may mount a small disk") };
    let bytes = noise(6 * MIB, 10);
    let (hub, mut machine) = one(&bytes);
    machine.cache = disk.path.join("hub");
    let filler = disk.path.join("filler");
    std::fs::write(&filler, noise(4 * MIB, 11)).unwrap();
    machine.pull(&[]).with(6).saying("are needed").saying("HF_HUB_CACHE");
    assert_eq!(hub.sent(), 0);

    std::fs::remove_file(&filler).unwrap();
    let (fills, mut fill) = (filler.clone(), true);
    hub.answer_store(move |_| {
        let fills = fills.clone();
        // Takes what is left of the disk, until the write fails.
        let call = move || drop(std::fs::write(fills, noise(8 * MIB, 12)));
        if std::mem::take(&mut fill) { Answer::CallAt(2 * MIB as u64, Box::new(call)) } else { Answer::Normal }
    });
    machine.pull(&[]).with(6).saying("are kept");
    assert_eq!(machine.blobs(REPO), [format!("{}.incomplete", sha256(&bytes))]);
    std::fs::remove_file(&filler).unwrap();
    machine.pull(&[]).with(0).saying("going on at");
    assert_whole(&machine, &bytes);
}

#[test]
fn two_pulls_at_once_fetch_once() {
    let bytes = noise(2 * MIB, 13);
    let (hub, machine) = one(&bytes);
    hub.answer_store(|_| Answer::Slowly);
    let pulls: Vec<_> = (0..2)
        .map(|_| {
            let mut pull = machine.command(&["pull", "m"]);
            pull.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for pull in pulls {
        Ended::of(pull.wait_with_output().unwrap()).with(0);
    }
    assert_eq!(hub.sent(), bytes.len() as u64);
    assert_whole(&machine, &bytes);
}

#[test]
fn what_an_older_download_has_left_is_used_only_if_it_fits() {
    let bytes = noise(500_000, 14);
    let mut damaged = bytes[..300_000].to_vec();
    damaged[7] ^= 1;
    let cases: [(&[u8], u64); 5] = [
        (&bytes[..300_000], 200_000),
        (&bytes, 0),
        (&damaged, 200_000 + 500_000),
        (&noise(500_000, 15), 500_000),
        (&noise(600_000, 16), 500_000),
    ];
    for (i, (left, sent)) in cases.into_iter().enumerate() {
        let (hub, machine) = one(&bytes);
        let blobs = machine.repo(REPO).join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{}.incomplete", sha256(&bytes))), left).unwrap();
        machine.pull(&[]).with(0);
        assert_whole(&machine, &bytes);
        assert_eq!(hub.sent(), sent, "case {i}");
    }
}

#[test]
fn a_server_without_ranges_is_asked_for_everything_again() {
    let bytes = noise(300_000, 17);
    let (hub, machine) = one(&bytes);
    let mut answers = vec![Answer::WithoutRanges, Answer::CutAfter(100_000)];
    hub.answer_store(move |_| answers.pop().unwrap_or(Answer::Normal));
    machine.pull(&[]).with(0).saying("cannot go on in the middle");
    assert_whole(&machine, &bytes);
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let (hub, machine) = one(&noise(1000, 18));
    let mut pull = machine.command(&["pull", "m", "-vv"]);
    let ended = Ended::of(pull.env("HF_TOKEN", "hf_secret").output().unwrap()).with(0);
    let seen = hub.seen();
    assert!(seen.iter().any(|s| s.at_store) && seen.iter().any(|s| !s.at_store));
    for request in seen {
        let expected = (!request.at_store).then(|| "Bearer hf_secret".to_owned());
        assert_eq!(request.token, expected, "{request:?}");
    }
    assert!(!ended.stderr.contains("hf_secret"), "{}", ended.stderr);
}
