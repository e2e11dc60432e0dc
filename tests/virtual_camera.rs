//! `-o v4l2:/dev/videoN`: what is no virtual camera is refused with the way to one; one that is there gets pictures.

mod harness;

use std::path::Path;

use harness::{CLIP, Scratch, krea, run};

#[test]
fn what_is_no_camera_is_refused_with_the_way_to_one() {
    let scratch = Scratch::new();
    let file = scratch.path("video9");
    std::fs::write(&file, "no device").unwrap();
    for (device, why) in [("/dev/video-none", "no such device"), (file.as_str(), "no device")] {
        let out = format!("v4l2:{device}");
        run(krea(["run", CLIP, "-o", &out])).fails(6, &[device, why, "modprobe v4l2loopback exclusive_caps=1"]);
        // Beside a file too, before anything is written.
        let mp4 = scratch.path("out.mp4");
        run(krea(["run", CLIP, "-o", &mp4, "-o", &out])).fails(6, &[device]);
        assert!(!Path::new(&mp4).exists());
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "no device");
    // A device, but none for pictures.
    let ran = run(krea(["run", CLIP, "-o", "v4l2:/dev/null"])).fails(6, &["v4l2:/dev/null", "exclusive_caps=1"]);
    assert!(ran.stderr.contains("rawvideo"), "{}", ran.stderr);
}

#[test]
fn sizes_are_made_even_and_transparency_is_refused() {
    let scratch = Scratch::new();
    let odd = scratch.path("odd.mkv");
    harness::ffmpeg(&["-f", "lavfi", "-i", "testsrc2=s=33x17:d=1", "-c:v", "ffv1", "-pix_fmt", "yuv444p", &odd]);
    run(krea(["run", &odd, "-o", "v4l2:/dev/null"])).exits(6).says("rawvideo), 32x16");
    let ran = run(krea(["run", CLIP, "--remove-bg", "--bg", "transparent", "-o", "v4l2:/dev/null"]));
    ran.exits(2).says("cannot store transparency");
}

#[test]
fn a_virtual_camera_shows_the_picture() {
    let test = "a_virtual_camera_shows_the_picture";
    let loopback = std::fs::read_dir("/sys/devices/virtual/video4linux").ok().and_then(|mut d| d.next()?.ok());
    let Some(loopback) = loopback else {
        // A kernel module is what the tests may do without, whatever is required.
        eprintln!("SKIP {test}: the kernel module v4l2loopback is not loaded");
        return;
    };
    let device = format!("/dev/{}", loopback.file_name().to_string_lossy());
    run(krea(["run", CLIP, "-o", &format!("v4l2:{device}")])).exits(0);
}
