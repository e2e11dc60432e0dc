//! A generator by its name: what is missing is offered on a terminal, and refused with the command elsewhere.

use std::process::{Command, Stdio};

use krea::models::{Environment, Library, Manifest, Offer, Transfer};

use crate::hub::{Hub, Served};
use crate::machine::{Machine, noise, sha256, skip};

const REPO: &str = "owner/parts";
const PARTS: [(&str, &str); 5] =
    [("gen", "transformer"), ("text", "text-encoder"), ("words", "tokenizer"), ("vae", "vae"), ("tiny", "taehv")];

fn manifest() -> String {
    let model = |(name, part): &(&str, &str)| {
        let needs = if *name == "gen" { "needs = ['text', 'words', 'vae']\nbinding = 'share alike'\n" } else { "" };
        format!(
            "[[model]]\nname = '{name}'\nfor = 'a test'\nlicence = 'MIT'\npart = '{part}'\n{needs}[[model.file]]\n\
             name = '{name}.bin'\nabout_bytes = 1000\nfrom = [{{ repository = '{REPO}', file = '{name}.bin' }}]\n"
        )
    };
    PARTS.iter().map(model).collect()
}

fn machine() -> (Hub, Machine) {
    let file =
        |(i, (name, _)): (usize, &(&str, &str))| Served::large(REPO, &format!("{name}.bin"), noise(1000, i as u64));
    let hub = Hub::new(PARTS.iter().enumerate().map(file).collect());
    let machine = Machine::new(&hub, &manifest());
    (hub, machine)
}

/// Not a test of its own: what the program does when a generator is asked for, in a process that may have a terminal.
#[test]
#[ignore = "run by the others, in a process of its own"]
fn ask_for_a_bundle() {
    let path = std::env::var_os("KREA_MODELS_MANIFEST").expect("the parent sets it");
    let library = Library::new(Manifest::open(path.as_ref()).unwrap(), Environment::from_env());
    let tiny = std::env::var_os("TINY").is_some();
    match library.bundle("gen", tiny, Offer::here(std::env::var_os("OFFLINE").is_some()), &mut Transfer::silent()) {
        Ok(bundle) => eprintln!("BUNDLE {bundle:?}"),
        Err(error) => eprintln!("ERROR {} {error}", error.exit() as u8),
    }
}

/// Runs `ask_for_a_bundle`, on a terminal if there is an answer, and gives what it has said.
fn asked(machine: &Machine, answer: Option<&str>, more: &[(&str, &str)]) -> String {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "bundles::ask_for_a_bundle", "--ignored", "--nocapture"];
    let mut command = match answer {
        None => Command::new(&program),
        Some(_) => Command::new("script"),
    };
    match answer {
        None => command.args(arguments).stdin(Stdio::null()),
        Some(_) => command
            .args(["--quiet", "--return", "--command", &format!("{} {}", program.display(), arguments.join(" "))])
            .arg("/dev/null")
            .stdin(Stdio::piped()),
    };
    command.env_clear().env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh");
    for (key, value) in machine.command(&[]).get_envs() {
        command.env(key, value.unwrap());
    }
    command.envs(more.iter().copied());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let (Some(answer), Some(mut input)) = (answer, child.stdin.take()) {
        std::io::Write::write_all(&mut input, answer.as_bytes()).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn without_a_terminal_the_command_is_named_and_nothing_is_fetched() {
    let (hub, machine) = machine();
    let said = asked(&machine, None, &[]);
    assert!(said.contains("ERROR 4 not on this machine: gen, text, words, vae."), "{said}");
    assert!(said.contains("about 4.0 kB") && said.contains("krea models pull gen --accept-license"), "{said}");
    let said = asked(&machine, None, &[("TINY", "1")]);
    assert!(said.contains("krea models pull gen tiny --accept-license"), "{said}");
    assert!(hub.seen().is_empty());

    machine.run(&["pull", "gen", "--accept-license"]).with(0);
    let said = asked(&machine, None, &[("TINY", "1")]);
    assert!(
        said.contains("not on this machine: tiny.") && said.lines().any(|line| line.ends_with("krea models pull tiny")),
        "{said}"
    );
    let said = asked(&machine, None, &[]);
    let parts = ["dit: ", "gen.bin", "vae: Some(", "taehv: None", "text.bin", "words.bin"];
    assert!(said.contains("BUNDLE") && parts.iter().all(|part| said.contains(part)), "{said}");
}

#[test]
fn on_a_terminal_it_is_offered_once_with_sizes_and_licences() {
    let name = "on_a_terminal_it_is_offered_once_with_sizes_and_licences";
    if Command::new("script").arg("--version").output().is_err() {
        return skip(name, "there is no script(1) to make a terminal");
    }
    let (hub, machine) = machine();
    let said = asked(&machine, Some("n\n"), &[]);
    for words in ["gen", "1.0 kB", "MIT: share alike", "Fetch about 4.0 kB now, and agree to these licences? [y/N]"] {
        assert!(said.contains(words), "'{words}' is not in: {said}");
    }
    assert!(said.contains("ERROR 4") && said.contains("krea models pull gen"), "{said}");
    assert!(hub.seen().is_empty());

    for offline in [("OFFLINE", "1"), ("HF_HUB_OFFLINE", "1")] {
        let said = asked(&machine, Some("y\n"), &[offline]);
        assert!(!said.contains("[y/N]") && said.contains("ERROR 4"), "{said}");
    }
    assert!(hub.seen().is_empty());

    let said = asked(&machine, Some("y\n"), &[("TINY", "1")]);
    assert_eq!(said.matches("[y/N]").count(), 1, "one question: {said}");
    assert!(said.contains("BUNDLE") && said.contains("vae: None") && said.contains("tiny.bin"), "{said}");
    let mut expected: Vec<_> = [0, 1, 2, 4].map(|seed| sha256(&noise(1000, seed))).into();
    expected.sort();
    assert_eq!(machine.blobs(REPO), expected, "the VAE is not needed and not fetched");
    let said = asked(&machine, Some(""), &[("TINY", "1")]);
    assert!(said.contains("BUNDLE") && !said.contains("[y/N]"), "{said}");
}
