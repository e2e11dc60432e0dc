//! Kinds of flags and relations between them that the program may come to have.

use clap::{Arg, ArgAction, ArgGroup, value_parser};

use super::*;

/// A program whose `run` has flags that need others, and one that takes true or false.
fn program() -> Command {
    let run = Command::new("run")
        .arg(Arg::new("input").required_unless_present("prompt"))
        .arg(Arg::new("prompt").long("prompt"))
        .arg(Arg::new("script").long("script"))
        .group(ArgGroup::new("words").args(["prompt", "script"]).multiple(true))
        .arg(Arg::new("strength").long("strength").requires("words").value_parser(value_parser!(f64)))
        .arg(Arg::new("fade").long("fade").requires("strength"))
        .arg(Arg::new("cut").long("cut").num_args(0..=1).require_equals(true).value_parser(value_parser!(bool)))
        .arg(Arg::new("plain").long("plain").action(ArgAction::SetTrue));
    Command::new("krea").subcommand(run)
}

/// The settings of a file that count beside what is typed.
fn used(text: &str, typed: &[&str]) -> Vec<String> {
    let (command, flags) = (program(), Flags::of(&program()));
    let words: Vec<OsString> = ["krea", "run"].iter().chain(typed).map(OsString::from).collect();
    let level = file::parse(text, Path::new("krea.toml"), &flags).unwrap();
    let config = Config { levels: vec![level], files: Vec::new() };
    let settings = meaningful(&command, &words, config.beside(HashSet::new(), &flags));
    let full = command.mut_subcommand(COMMAND, |run| alone(run, true));
    full.try_get_matches_from(joined(&words, &settings)).unwrap();
    settings.iter().flat_map(|s| &s.words).map(|w| w.to_str().unwrap().to_owned()).collect()
}

#[test]
fn what_means_nothing_without_another_flag_is_left_out_until_that_is_given() {
    let text = "[run]\nstrength = 0.5\nfade = 1\nplain = true\n";
    assert_eq!(used(text, &["in.mp4"]), ["--plain"]);
    assert_eq!(used(text, &["in.mp4", "--prompt", "x"]), ["--fade=1", "--plain", "--strength=0.5"]);
    assert_eq!(used(&format!("{text}script = 'f'\n"), &["in.mp4"]).len(), 4);
    assert_eq!(used("[run]\nprompt = 'x'\nstrength = 0.5\n", &[]).len(), 2, "what is required may be set");
}

#[test]
fn what_takes_true_or_false_gets_it_as_a_value() {
    for (value, word) in [("true", "--cut=true"), ("false", "--cut=false")] {
        assert_eq!(used(&format!("[run]\ncut = {value}\n"), &["in.mp4"]), [word]);
    }
    let flags = Flags::of(&program());
    let set = |value: &str| flags.in_environment(|name| (name == "KREA_CUT").then(|| value.into()));
    assert_eq!(set("0").unwrap()[0].words, ["--cut=false"]);
    assert_eq!(set("on").unwrap()[0].words, ["--cut=true"]);
    assert!(set("perhaps").unwrap_err().to_string().contains("KREA_CUT: cut: true or false"));
}

#[test]
fn no_variable_but_the_flag_s_own_is_read() {
    let flags = Flags::of(&program());
    assert!(flags.in_environment(|name| (name == "KREA_PLAIN_").then(|| "1".into())).unwrap().is_empty());
    assert!(flags.in_environment(|name| (name == "KREA_PLAIN").then(|| "".into())).unwrap().is_empty());
}
