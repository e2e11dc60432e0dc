//! What is typed, set by the environment, by ./krea.toml, by the user's config.toml, and built in: in this order.

mod harness;

use std::process::Command;

use harness::{CLIP, Ran, Scratch, frame_count, krea, run};
use serde_json::Value;

/// A folder to work in, which also is the home with the user's settings.
struct Desk(Scratch);

impl Desk {
    fn new(folder: &str, user: &str) -> Self {
        let desk = Self(Scratch::new());
        std::fs::create_dir_all(desk.0.root().join("config/krea")).unwrap();
        for (name, text) in [("krea.toml", folder), ("config/krea/config.toml", user)] {
            if !text.is_empty() {
                std::fs::write(desk.0.path(name), text).unwrap();
            }
        }
        desk
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = krea(args.iter().copied());
        command.current_dir(self.0.root()).env("XDG_CONFIG_HOME", self.0.root().join("config"));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(self.command(args))
    }

    /// `krea config show --json`: value and origin of one option.
    fn shows(&self, name: &str, environment: &[(&str, &str)]) -> (Value, Value) {
        let mut command = self.command(&["config", "show", "--json"]);
        command.envs(environment.iter().copied());
        let shown: Value = serde_json::from_slice(&run(command).exits(0).stdout).unwrap();
        assert_eq!(shown["version"], 1);
        let row = shown["run"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
        (row["value"].clone(), row["origin"].clone())
    }

    /// Seconds of the clip that a run of it with these flags and variables writes, by its number of frames at 25 a second.
    fn seconds(&self, flags: &[&str], environment: &[(&str, &str)]) -> f64 {
        let out = self.0.path("out.mkv");
        let mut command = self.command(&[&["run", CLIP, "-y", "-o", &out], flags].concat());
        command.envs(environment.iter().copied());
        run(command).exits(0);
        frame_count(&out) as f64 / 25.0
    }
}

#[test]
fn a_flag_before_the_environment_before_the_folder_before_the_user_before_what_is_built_in() {
    let user = "[run]\nduration = 0.8\ncrf = 30\n";
    let both = Desk::new("[run]\nduration = 0.6\n", user);
    let variable = [("KREA_DURATION", "0.4")];
    assert_eq!(both.seconds(&["--duration", "0.2"], &variable), 0.2);
    assert_eq!(both.seconds(&[], &variable), 0.4);
    assert_eq!(both.seconds(&[], &[]), 0.6);
    assert_eq!(Desk::new("", user).seconds(&[], &[]), 0.8);
    assert_eq!(Desk::new("", "").seconds(&[], &[]), 5.0);

    assert_eq!(both.shows("duration", &variable).0, 0.4);
    assert_eq!(both.shows("duration", &variable).1["name"], "KREA_DURATION");
    let (value, origin) = both.shows("duration", &[]);
    assert_eq!((value, &origin["path"], &origin["line"]), (0.6.into(), &"krea.toml".into(), &2.into()));
    let (value, origin) = both.shows("crf", &[]);
    assert_eq!((value, origin["line"].as_u64()), (30.into(), Some(3)));
    assert!(origin["path"].as_str().unwrap().ends_with("config/krea/config.toml"));
    let (value, origin) = both.shows("confidence", &[]);
    assert_eq!((value, origin["kind"].as_str()), ("0.25".into(), Some("built-in")));
    assert_eq!(both.shows("codec", &[]).0, Value::Null);
}

#[test]
fn stream_keys_and_passwords_are_not_shown() {
    let desk = Desk::new("[run]\noutput = [\"out.mkv\", \"rtmp://live.example/app/s3cret\"]\n", "");
    let variables = [("KREA_INPUT_FORMAT", "mpegts"), ("KREA_CONTROL", "srt://h:1?passphrase=s3cret")];
    for arguments in [&["config"][..], &["config", "show", "--json"]] {
        let mut command = desk.command(arguments);
        command.envs(variables);
        let shown = String::from_utf8(run(command).exits(0).stdout).unwrap();
        assert!(shown.contains("rtmp://live.example/app/***") && !shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn every_option_has_its_variable() {
    let desk = Desk::new("", "");
    let shown: Value = serde_json::from_slice(&desk.run(&["config", "show", "--json"]).exits(0).stdout).unwrap();
    let rows = shown["run"].as_array().unwrap();
    assert!(rows.len() > 30, "{}", rows.len());
    for row in rows {
        let variable = row["variable"].as_str().unwrap();
        let name = row["name"].as_str().unwrap().to_ascii_uppercase().replace('-', "_");
        assert!(variable == format!("KREA_{name}") || variable == "KREA_LOG", "{row}");
    }
}

#[test]
fn switches_are_true_or_false_and_a_false_hides_what_has_less_weight() {
    let desk = Desk::new("[run]\nremove-bg = false\n", "[run]\nremove-bg = true\npreview = false\n");
    assert_eq!(desk.shows("remove-bg", &[]).0, false);
    for (word, on) in [("1", true), ("true", true), ("ON", true), ("0", false), ("no", false)] {
        assert_eq!(desk.shows("remove-bg", &[("KREA_REMOVE_BG", word)]).0, on, "{word}");
    }
    let mut wrong = desk.command(&["config"]);
    wrong.env("KREA_REMOVE_BG", "perhaps");
    run(wrong).fails(2, &["KREA_REMOVE_BG", "remove-bg", "true or false"]);
    assert_eq!(desk.shows("remove-bg", &[("KREA_REMOVE_BG", "")]).0, false, "an empty variable is not set");
}

#[test]
fn what_is_required_can_be_set_and_lists_repeat_the_flag() {
    let desk = Desk::new(
        "[run]\nduration = 0.2\noutput = ['a.mkv', 'udp://127.0.0.1:9']\n",
        "[run]\ncrf = 40\npreset = \"ultrafast\"\n",
    );
    assert_eq!(desk.shows("output", &[]).0, serde_json::json!(["a.mkv", "udp://127.0.0.1:9"]));
    desk.run(&["run", CLIP]).exits(0);
    assert!(desk.0.names().contains(&"a.mkv".to_owned()), "{:?}", desk.0.names());
    let one = Desk::new("[run]\nduration = 0.2\noutput = 'b.mkv'\n", "");
    one.run(&["run", CLIP]).exits(0);
    assert!(one.0.names().contains(&"b.mkv".to_owned()));
    one.run(&["run", CLIP, "-o", "c.mkv"]).exits(0);
    assert!(one.0.names().contains(&"c.mkv".to_owned()), "a typed list takes the place of the one in the file");
    Desk::new("", "").run(&["run", CLIP]).exits(2).says("--output");
}

#[test]
fn what_conflicts_gives_way_to_what_has_more_weight() {
    let desk = Desk::new("[run]\nlargest = true\n", "[run]\nmax-persons = 2\nwebcam = true\nquiet = true\n");
    assert_eq!(desk.shows("max-persons", &[]).1["kind"], "built-in", "the folder's `largest` excludes it");
    assert_eq!(desk.shows("largest", &[("KREA_MAX_PERSONS", "3")]).1["kind"], "built-in");
    // The typed input wins over the camera, the typed -v over quiet.
    let out = desk.0.path("out.mkv");
    let ran = desk.run(&["run", CLIP, "-v", "--duration", "0.2", "--max-persons", "1", "-o", &out]).exits(0);
    assert!(ran.stderr.contains("debug"), "{}", ran.stderr);
    assert_eq!(frame_count(&out), 5);
    let both = Desk::new("[run]\nlargest = true\nmax-persons = 2\n", "");
    both.run(&["config"]).fails(2, &["krea.toml:2: largest", "krea.toml:3: max-persons", "cannot be used with"]);
}

#[test]
fn what_is_wrong_is_named_with_file_and_line() {
    for (text, words) in [
        ("[run]\ncfr = 20\n", ["krea.toml:2: 'cfr'", "did you mean crf?"]),
        ("[run]\n\nremove_bg = true\n", ["krea.toml:3: 'remove_bg'", "did you mean remove-bg?"]),
        ("[run]\nzzzz = 1\n", ["krea.toml:2: 'zzzz'", "no option of krea run"]),
        ("[run]\ncrf = 'soft'\n", ["krea.toml:2: crf: ", "invalid float"]),
        ("[run]\nbg = 'no-such-colour'\n", ["krea.toml:2: bg: ", "no-such-colour"]),
        ("[run]\non-mask-error = 'sleep'\n", ["krea.toml:2: on-mask-error: ", "possible values: hold"]),
        ("[run]\nremove-bg = 'yes'\n", ["krea.toml:2: remove-bg", "true or false"]),
        ("[run]\ncrf = true\n", ["krea.toml:2: crf", "not true or false"]),
        ("[run]\ncrf = [1, 2]\n", ["krea.toml:2: crf", "not a list"]),
        ("[run]\ncrf = { a = 1 }\n", ["krea.toml:2: crf", "table"]),
        ("[run]\nverbose = 'x'\n", ["krea.toml:2: verbose", "number"]),
        ("crf = 20\n", ["krea.toml:1: 'crf'", "[run]"]),
        ("[walk]\ncrf = 20\n", ["krea.toml:1: there is no table [walk]", "[run]"]),
        ("[run]\ncrf = \n", ["krea.toml:2", ""]),
        ("[run]\ncrf = 1\ncrf = 2\n", ["krea.toml:3", "duplicate"]),
        ("[run]\noverwrite = true\n", ["krea.toml:2: overwrite", "config.toml"]),
        ("[run]\nstats = '/etc/passwd'\n", ["krea.toml:2: stats", "config.toml"]),
    ] {
        let desk = Desk::new(text, "");
        desk.run(&["run", CLIP, "-o", &desk.0.path("out.mkv")]).fails(2, &words);
        assert_eq!(desk.0.names(), ["config", "krea.toml"], "nothing was done");
        desk.run(&["config", "show"]).fails(2, &words);
        desk.run(&["devices"]).exits(0);
        desk.run(&["run", "--help"]).exits(0);
    }
    let user = Desk::new("", "[run]\ncrf = 'soft'\n");
    user.run(&["config"]).fails(2, &["config/krea/config.toml:2: crf"]);
    let bare = Desk::new("", "");
    let mut variable = bare.command(&["config"]);
    variable.env("KREA_CRF", "soft");
    run(variable).fails(2, &["KREA_CRF: crf", "invalid float"]);
    let folder = Desk::new("", "");
    std::fs::create_dir(folder.0.path("krea.toml")).unwrap();
    folder.run(&["config"]).fails(2, &["krea.toml: "]);
}

#[test]
fn values_of_every_kind_arrive_as_they_would_be_typed() {
    let text = "[run]\nstart = 00:00:01\nduration = 0x1\ncrf = 2_8\nedge-shift = -1.5\nverbose = 1\nwebcam = '0'\n";
    let desk = Desk::new(text, "");
    for (name, value) in [
        ("start", Value::from("00:00:01")),
        ("duration", 1.into()),
        ("crf", 28.into()),
        ("edge-shift", (-1.5).into()),
        ("verbose", 1.into()),
        ("webcam", 0.into()),
    ] {
        assert_eq!(desk.shows(name, &[]).0, value, "{name}");
    }
    assert_eq!(desk.seconds(&[], &[]), 1.0);
    assert_eq!(Desk::new("", "[run]\noverwrite = true\n").shows("overwrite", &[]).0, true);
}

#[test]
fn the_folder_s_file_is_told_always_and_the_user_s_with_v() {
    let desk = Desk::new("[run]\ncrf = 30\npreset = 'ultrafast'\n", "[run]\nduration = 0.2\n");
    let out = desk.0.path("out.mkv");
    let ran = desk.run(&["run", CLIP, "-y", "-o", &out]).exits(0).says("krea.toml sets crf, preset");
    assert!(!ran.stderr.contains("config.toml"), "{}", ran.stderr);
    let mut loud = desk.command(&["run", CLIP, "-y", "-v", "-o", &out]);
    loud.env("KREA_THREADS", "1");
    run(loud).exits(0).says("config/krea/config.toml sets duration").says("KREA_THREADS sets threads");
    let quiet = desk.run(&["run", CLIP, "-y", "-q", "-o", &out]).exits(0);
    assert!(quiet.stderr.is_empty(), "{}", quiet.stderr);
}

#[test]
fn the_files_are_named() {
    let desk = Desk::new("", "");
    let paths = String::from_utf8(desk.run(&["config", "path"]).exits(0).stdout).unwrap();
    let root = desk.0.root().canonicalize().unwrap();
    let expected = [root.join("krea.toml"), desk.0.root().join("config/krea/config.toml")];
    assert_eq!(paths.lines().collect::<Vec<_>>(), expected.map(|p| p.display().to_string()));
    let table = String::from_utf8(desk.run(&["config"]).exits(0).stdout).unwrap();
    assert!(table.lines().any(|l| l.starts_with("confidence ") && l.ends_with("built in")), "{table}");
}
