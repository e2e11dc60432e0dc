//! krea talks to nobody and leaves no trace but its output: neither does ONNX Runtime, whose official builds report to
//! their maker unless they are told not to.

mod harness;

use harness::{CLIP, Scratch, krea, run};

#[test]
fn a_run_writes_nothing_but_its_output() {
    let (home, scratch) = (Scratch::new(), Scratch::new());
    let mut command = krea(["run", CLIP, "--remove-bg", "--mask-model", "selfie", "--duration", "0.2"]);
    command.args(["-o", &scratch.path("out.mp4")]).current_dir(scratch.root());
    command.env("HOME", home.root()).env("TMPDIR", home.root());
    // ONNX Runtime is also silent where it believes itself tested, which would hide what users get.
    for name in
        ["CI", "GITHUB_ACTIONS", "TF_BUILD", "XDG_CACHE_HOME", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY"]
    {
        command.env_remove(name);
    }
    run(command).exits(0);
    assert_eq!(scratch.names(), ["out.mp4"]);
    assert!(home.names().is_empty(), "left in the home folder: {:?}", home.names());
}
