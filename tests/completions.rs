//! The completion scripts in the repository are those that the program prints.

mod harness;

use harness::{krea, run};

#[test]
fn completions_are_fresh() {
    for (shell, file) in [("bash", "krea.bash"), ("zsh", "_krea"), ("fish", "krea.fish")] {
        let printed = String::from_utf8(run(krea(["completions", shell])).exits(0).stdout).unwrap();
        let path = format!("{}/completions/{file}", env!("CARGO_MANIFEST_DIR"));
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == printed, "{path} is stale: `make completions` writes it anew");
    }
}

#[test]
fn the_man_page_covers_the_program() {
    let page = String::from_utf8(run(krea(["man"])).exits(0).stdout).unwrap();
    for word in [".TH krea 1", "EXIT", "krea run talk.mp4"] {
        assert!(page.contains(word) || page.to_uppercase().contains(word), "'{word}' is missing");
    }
    let folder = harness::Scratch::new();
    run(krea(["man", "--dir", folder.root().to_str().unwrap()])).exits(0);
    assert!(folder.names().contains(&"krea-run.1".to_owned()), "{:?}", folder.names());
}

#[test]
fn help_is_short_and_long() {
    let text = |args: [&str; 2]| String::from_utf8(run(krea(args)).exits(0).stdout).unwrap();
    let (short, long) = (text(["run", "-h"]), text(["run", "--help"]));
    assert!(!short.contains("Examples:") && long.contains("Examples:"));
    assert!(short.lines().count() * 2 < long.lines().count());
    run(krea(["run", "in.mp4", "-o", "out.mp4", "--remove-bgg"])).exits(2).says("--remove-bg");
}
