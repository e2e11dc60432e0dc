//! Licences, the lock file, offline, import, rm, and names that try to leave their folders.

use std::process::{Command, Stdio};

use crate::hub::{Answer, COMMIT, Hub, Served};
use crate::machine::{Ended, Machine, manifest, noise, read, sha256, skip};

const REPO: &str = "owner/weights";
const FILE: &str = "model.bin";

fn one(bytes: &[u8]) -> (Hub, Machine) {
    let hub = Hub::new(vec![Served::large(REPO, FILE, bytes.to_vec())]);
    let machine = Machine::new(&hub, &manifest(&[(REPO, FILE)]));
    (hub, machine)
}

fn json(ended: &Ended) -> serde_json::Value {
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn a_licence_that_binds_is_agreed_to_once() {
    let bytes = noise(1000, 1);
    let hub = Hub::new(vec![Served::large(REPO, FILE, bytes)]);
    let binding = manifest(&[(REPO, FILE)]).replace("licence = 'MIT'", "licence = 'AGPL-3.0'\nbinding = 'share alike'");
    let machine = Machine::new(&hub, &binding);
    let ended = machine.pull(&[]).with(2).saying("AGPL-3.0: share alike");
    assert!(ended.stderr.contains("krea models pull m --accept-license"), "{}", ended.stderr);
    assert!(hub.seen().is_empty(), "nothing is asked for before");
    machine.pull(&["--accept-license"]).with(0);
    machine.run(&["rm", "m"]).with(0);
    machine.pull(&[]).with(0);
}

#[test]
fn on_a_terminal_the_licence_is_asked_for() {
    let name = "on_a_terminal_the_licence_is_asked_for";
    if Command::new("script").arg("--version").output().is_err() {
        return skip(name, "there is no script(1) to make a terminal");
    }
    for (answer, code) in [("y\n", 0), ("n\n", 2), ("\n", 2)] {
        let hub = Hub::new(vec![Served::large(REPO, FILE, noise(1000, 2))]);
        let binding = manifest(&[(REPO, FILE)]).replace("'MIT'", "'AGPL-3.0'\nbinding = 'share alike'");
        let machine = Machine::new(&hub, &binding);
        let pull = machine.command(&["pull", "m"]);
        let mut terminal = Command::new("script");
        terminal
            .args(["--quiet", "--return", "--command"])
            .arg(format!("{} models pull m", env!("CARGO_BIN_EXE_krea")));
        terminal.arg("/dev/null").env_clear().env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh");
        for (key, value) in pull.get_envs() {
            terminal.env(key, value.unwrap());
        }
        let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut terminal.stdin.take().unwrap(), answer.as_bytes()).unwrap();
        let output = terminal.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("Do you agree? [y/N]"), "{said}");
        assert_eq!(output.status.code(), Some(code), "{answer:?}: {said}");
    }
}

#[test]
fn list_says_what_is_here() {
    let bytes = noise(4321, 3);
    let (_hub, machine) = one(&bytes);
    let before = json(&machine.run(&["list", "--json"]).with(0));
    let file = &before["models"][0]["files"][0];
    assert_eq!((file["state"].as_str(), file["bytes_are_approximate"].as_bool()), (Some("missing"), Some(true)));
    assert_eq!(file["sha256"], serde_json::Value::Null);
    machine.pull(&[]).with(0);
    let after = json(&machine.run(&["list", "--json"]).with(0));
    let model = &after["models"][0];
    assert_eq!((model["here"].as_bool(), model["licence"].as_str()), (Some(true), Some("MIT")));
    let file = &model["files"][0];
    assert_eq!((file["state"].as_str(), file["bytes"].as_u64()), (Some("here"), Some(4321)));
    assert_eq!((file["sha256"].as_str(), file["commit"].as_str()), (Some(sha256(&bytes).as_str()), Some(COMMIT)));
    assert_eq!(read(file["path"].as_str().unwrap().as_ref()), bytes);
    let table = machine.run(&["list"]).with(0).stdout;
    assert!(table.lines().nth(1).unwrap().starts_with("m     4.3 kB  here"), "{table}");
}

#[test]
fn the_built_in_list_is_shown_without_any_network() {
    let hub = Hub::new(Vec::new());
    let machine = Machine::new(&hub, "");
    let mut list = machine.command(&["list", "--json"]);
    let listed = json(&Ended::of(list.env_remove("KREA_MODELS_MANIFEST").output().unwrap()).with(0));
    let names: Vec<_> = listed["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"krea-14b") && names.contains(&"yolov8n-seg"), "{names:?}");
    assert!(hub.seen().is_empty());
}

#[test]
fn offline_nothing_is_asked_and_what_is_here_is_enough() {
    let (hub, machine) = one(&noise(1000, 4));
    machine.pull(&["--offline"]).with(4).saying("krea models pull m");
    let mut pull = machine.command(&["pull", "m"]);
    Ended::of(pull.env("HF_HUB_OFFLINE", "1").output().unwrap()).with(4).saying("offline");
    assert!(hub.seen().is_empty());
    machine.pull(&[]).with(0);
    hub.forget();
    machine.pull(&["--offline"]).with(0);
    assert!(hub.seen().is_empty());
}

#[test]
fn the_first_repository_that_answers_is_taken() {
    let bytes = noise(1000, 5);
    let hub = Hub::new(vec![Served::large("third/one", "b.bin", bytes.clone())]);
    let machine =
        Machine::new(&hub, &manifest(&[("first/one", "a.bin"), ("second/one", "a.bin"), ("third/one", "b.bin")]));
    hub.answer(|seen| if seen.path.starts_with("/first") { Answer::Status(401, "") } else { Answer::Normal });
    machine.pull(&[]).with(0);
    assert_eq!(machine.lock()["files"][0]["repo"], "third/one");
    assert_eq!(machine.blobs("third/one"), [sha256(&bytes)]);

    let hub = Hub::new(Vec::new());
    let machine = Machine::new(&hub, &manifest(&[("first/one", "a.bin"), ("second/one", "a.bin")]));
    machine.pull(&[]).with(4).saying("first/one/a.bin").saying("second/one/a.bin");
}

#[test]
fn what_was_pulled_once_stays_what_it_was() {
    let (old, new) = (noise(1000, 6), noise(1100, 7));
    let (hub, machine) = one(&old);
    machine.pull(&[]).with(0);
    let newer = Served { commit: "3".repeat(40), ..Served::large(REPO, FILE, new.clone()) };
    hub.serve(vec![newer.clone(), Served::large(REPO, FILE, old.clone())]);

    // The bytes are lost, and the hub has moved on: the old ones come back.
    std::fs::remove_dir_all(&machine.cache).unwrap();
    machine.pull(&[]).with(0);
    assert_eq!(machine.blobs(REPO), [sha256(&old)]);

    // The hub says that the same commit holds something else.
    std::fs::remove_dir_all(&machine.cache).unwrap();
    hub.serve(vec![Served::large(REPO, FILE, new.clone())]);
    machine.pull(&[]).with(4).saying("no longer what was locked").saying("--update");
    assert!(machine.blobs(REPO).is_empty());

    // The commit is gone.
    hub.serve(vec![newer]);
    machine.pull(&[]).with(4).saying("--update");
    machine.pull(&["--update"]).with(0);
    assert_eq!(machine.blobs(REPO), [sha256(&new)]);
    assert_eq!(machine.lock()["files"][0]["commit"], "3".repeat(40));
}

#[test]
fn no_name_from_a_server_or_a_list_leaves_the_cache() {
    let good = Served::large(REPO, FILE, noise(1000, 8));
    let bad = [
        Served { etag: "../../../../../escaped".into(), ..good.clone() },
        Served { etag: "/tmp/escaped".into(), ..good.clone() },
        Served { etag: "..".into(), ..good.clone() },
        Served { commit: "../../../../escaped".into(), ..good.clone() },
        Served { commit: "main".into(), ..good.clone() },
    ];
    for served in bad {
        let hub = Hub::new(vec![served]);
        let machine = Machine::new(&hub, &manifest(&[(REPO, FILE)]));
        machine.pull(&[]).with(4).saying("cannot be file names");
        let files: Vec<_> = machine.files().into_iter().filter(|f| !f.ends_with("manifest.toml")).collect();
        assert!(files.is_empty(), "{files:?}");
    }
    for (repository, file) in [("../..", "a"), ("o/r", "../../a"), ("o/r", "/etc/passwd"), ("o/r", "a/../../../b")] {
        let hub = Hub::new(Vec::new());
        let machine = Machine::new(&hub, &manifest(&[(repository, file)]));
        machine.pull(&[]).with(2).saying("manifest.toml");
        assert!(hub.seen().is_empty());
    }
    let (hub, machine) = one(&noise(1000, 9));
    hub.answer(|_| Answer::Status(302, "Location: file:///etc/passwd\r\n"));
    machine.pull(&[]).with(4).saying("redirected to 'file:///etc/passwd'");
}

#[test]
fn verify_finds_one_flipped_bit_and_pull_heals() {
    let bytes = noise(100_000, 10);
    let (_hub, machine) = one(&bytes);
    machine.pull(&[]).with(0);
    let blob = machine.repo(REPO).join("blobs").join(sha256(&bytes));
    let mut flipped = bytes.clone();
    flipped[77_777] ^= 4;
    std::fs::write(&blob, &flipped).unwrap();
    let ended = machine.run(&["verify"]).with(4).saying(&sha256(&bytes));
    assert!(ended.stdout.starts_with(&format!("damaged {} ", sha256(&flipped))), "{}", ended.stdout);
    std::fs::write(&blob, &bytes[..1000]).unwrap();
    machine.run(&["path", "m"]).with(4);
    machine.pull(&[]).with(0).saying("is damaged");
    assert_eq!(read(&blob), bytes);
    machine.run(&["verify", "m"]).with(0);
}

#[test]
fn what_another_tool_has_fetched_is_used_and_locked() {
    let bytes = noise(2000, 11);
    let (hub, machine) = one(&bytes);
    let repo = machine.repo(REPO);
    let snapshot = repo.join("snapshots").join(COMMIT);
    for folder in ["blobs", "refs"] {
        std::fs::create_dir_all(repo.join(folder)).unwrap();
    }
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(repo.join("blobs").join(sha256(&bytes)), &bytes).unwrap();
    std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
    std::os::unix::fs::symlink(format!("../../blobs/{}", sha256(&bytes)), snapshot.join(FILE)).unwrap();
    machine.pull(&[]).with(0);
    assert!(hub.seen().is_empty());
    assert_eq!(machine.lock()["files"][0]["sha256"], sha256(&bytes));

    // One that is not what its name says is not taken.
    std::fs::write(repo.join("blobs").join(sha256(&bytes)), noise(2000, 12)).unwrap();
    std::fs::remove_file(machine.home.path().join(".local/state/krea/models.lock.json")).unwrap();
    machine.pull(&[]).with(4).saying("sha256");
}

#[test]
fn rm_takes_what_belongs_to_the_model_and_no_more() {
    let bytes = noise(2000, 13);
    let (_hub, machine) = one(&bytes);
    machine.pull(&[]).with(0);
    // Another file of the repository, and another commit that shares the bytes.
    let repo = machine.repo(REPO);
    std::fs::write(repo.join("blobs/other"), "x").unwrap();
    let snapshot = repo.join("snapshots").join(COMMIT);
    std::os::unix::fs::symlink("../../blobs/other", snapshot.join("other.bin")).unwrap();
    std::os::unix::fs::symlink(format!("../../blobs/{}", sha256(&bytes)), snapshot.join("same.bin")).unwrap();
    machine.run(&["rm", "m"]).with(0).saying("0 bytes freed");
    assert_eq!(machine.blobs(REPO).len(), 2, "the bytes have another name");
    machine.run(&["path", "m"]).with(4);
    std::fs::remove_file(snapshot.join("same.bin")).unwrap();
    machine.pull(&[]).with(0);
    machine.run(&["rm", "m"]).with(0).saying("2.0 kB freed");
    assert_eq!(machine.blobs(REPO), ["other"]);
    assert_eq!(machine.lock()["files"], serde_json::json!([]));
    machine.run(&["rm", "m"]).with(0);
}

#[test]
fn a_file_that_was_brought_is_used_like_one_that_was_pulled() {
    let bytes = noise(3000, 14);
    let (hub, machine) = one(&bytes);
    let brought = machine.home.path().join("downloads.bin");
    std::fs::write(&brought, &bytes).unwrap();
    machine.run(&["import", "m", brought.to_str().unwrap()]).with(0);
    let path = machine.home.path().join(".local/share/krea/models/m.bin");
    assert_eq!(machine.run(&["path", "m"]).with(0).stdout, format!("{}\n", path.display()));
    assert_eq!(read(&path), bytes);
    machine.run(&["verify", "m"]).with(0);
    machine.pull(&[]).with(0);
    assert!(hub.seen().is_empty());
    std::fs::write(&path, noise(3000, 15)).unwrap();
    machine.run(&["verify", "m"]).with(4);
    std::fs::write(&path, "short").unwrap();
    machine.pull(&[]).with(4).saying("krea models rm m");
    machine.run(&["rm", "m"]).with(0);
    assert!(!path.exists());

    // What is known by its checksum can only be that.
    machine.pull(&[]).with(0);
    std::fs::write(&brought, noise(3000, 16)).unwrap();
    machine.run(&["import", "m", brought.to_str().unwrap()]).with(4).saying("sha256");
    assert!(!path.exists());
    machine.run(&["import", "m", "/nowhere"]).with(4).saying("/nowhere");
}

#[test]
fn what_no_hub_has_says_how_to_make_it() {
    let hub = Hub::new(Vec::new());
    let text = "[[model]]\nname = 'm'\nfor = 'x'\nlicence = 'MIT'\nexport = 'run make-it'\n\
                [[model.file]]\nname = 'm.onnx'\nabout_bytes = 1\nfrom = []\n";
    let machine = Machine::new(&hub, text);
    machine.pull(&[]).with(4).saying("run make-it");
    machine.run(&["path", "m"]).with(4).saying("run make-it");
}

#[test]
fn a_model_brings_what_it_needs() {
    let (a, b) = (noise(1000, 17), noise(1001, 18));
    let hub = Hub::new(vec![Served::large(REPO, "a.bin", a), Served::large(REPO, "b.bin", b)]);
    let text = manifest(&[(REPO, "a.bin")]).replace("licence = 'MIT'", "licence = 'MIT'\nneeds = ['n']")
        + &manifest(&[(REPO, "b.bin")]).replace("'m'", "'n'").replace("'m.bin'", "'n.bin'");
    let machine = Machine::new(&hub, &text);
    machine.pull(&["--no-needs"]).with(0);
    machine.run(&["path", "n"]).with(4);
    machine.pull(&[]).with(0);
    machine.run(&["path", "n"]).with(0);
    machine.run(&["pull", "x"]).with(2).saying("one of m, n");
}

#[test]
fn progress_in_json_is_one_object_a_line() {
    let (_hub, machine) = one(&noise(1000, 19));
    let ended = machine.pull(&["--progress", "json", "-q"]).with(0);
    let lines: Vec<serde_json::Value> = ended.stderr.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let last = lines.last().unwrap();
    assert_eq!(
        (last["event"].as_str(), last["bytes"].as_u64(), last["total"].as_u64()),
        (Some("end"), Some(1000), Some(1000))
    );
    assert!(ended.stdout.is_empty());
}

/// ONNX Runtime is loaded before the model is looked for.
#[test]
fn a_mask_model_that_is_not_here_says_how_to_get_it() {
    let name = "a_mask_model_that_is_not_here_says_how_to_get_it";
    let clip = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/astronaut.mp4");
    let home = tempfile::tempdir().unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_krea"));
    run.arg("run")
        .arg(clip)
        .args(["--mask-model", "yolov8n-seg", "--remove-bg", "-o"])
        .arg(home.path().join("out.mp4"));
    run.env("HOME", home.path()).current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in
        ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME", "KREA_MODELS_DIR"]
    {
        run.env_remove(name);
    }
    let ended = Ended::of(run.output().unwrap());
    if ended.code == Some(5) {
        return skip(name, "there is no ONNX Runtime here");
    }
    ended.with(4).saying("krea models pull yolov8n-seg --accept-license");
}
