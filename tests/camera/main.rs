//! Cameras, in both ways: listed, chosen, read, unplugged, stalled, taken, forbidden.

#[path = "../harness/mod.rs"]
mod harness;
mod machine;
#[path = "../live_support/recording.rs"]
mod recording;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::{assert_plays_live, frame_count, probe, run};
use machine::{LOOPBACK, Machine, WEBCAM, picture};
use serde_json::{Value, json};

const WAYS: [&str; 2] = ["nokhwa", "ffmpeg"];

/// Long for a stop, short for a hang.
const PROMPT: Duration = Duration::from_secs(8);

#[test]
fn cameras_are_listed_with_their_formats() {
    let Some(machine) = Machine::new("cameras_are_listed_with_their_formats") else { return };
    machine.plug(0, "Desk cam", WEBCAM);
    machine.plug(2, "Locked cam", WEBCAM);
    machine.set(2, "denied");
    let ran = machine.run(&["devices", "--json"]).exits(0);
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let desk = &told["cameras"][0];
    assert_eq!(desk["name"], "Desk cam", "{told}");
    assert_eq!((&desk["device"], &desk["id"]), (&json!("/dev/video0"), &json!("usb-Desk_cam-video-index0")));
    let size = |w: u32, h: u32, fps: &[f64]| json!({ "width": w, "height": h, "fps": fps });
    let formats = json!([
        { "fourcc": "YUYV", "sizes": [size(640, 480, &[30.0, 15.0]), size(1280, 720, &[10.0])] },
        { "fourcc": "MJPG", "sizes": [size(1280, 720, &[30.0, 15.0])] },
    ]);
    assert_eq!(desk["formats"], formats);
    assert!(desk["error"].is_null());
    let locked = &told["cameras"][1];
    assert!(locked["error"].as_str().unwrap().contains("no permission"), "{locked}");
    assert_eq!(locked["formats"], json!([]));
    let text = String::from_utf8(machine.run(&["devices"]).exits(0).stdout).unwrap();
    for word in ["YUYV  640x480 at 30 15, 1280x720 at 10", "MJPG  1280x720 at 30 15", "usermod -aG video"] {
        assert!(text.contains(word), "'{word}' is not in:\n{text}");
    }
}

#[test]
fn a_virtual_camera_gets_pictures_that_every_program_reads() {
    let Some(machine) = Machine::new("a_virtual_camera_gets_pictures_that_every_program_reads") else { return };
    machine.plug(9, "krea", LOOPBACK);
    // Odd sides, and a format that programs do not expect of a camera.
    let graph = "lavfi:color=red:s=65x33:r=25:d=1,format=yuv444p,realtime";
    machine.run(&["run", graph, "-o", "v4l2:/dev/video9"]).exits(0);
    let (format, bytes) = machine.given(9);
    assert_eq!(format, "YU12 64x32");
    let (luma, picture) = (64 * 32, 64 * 32 * 3 / 2);
    assert_eq!(bytes.len(), 25 * picture);
    let last = &bytes[24 * picture..];
    assert!(last[..luma].iter().all(|y| y.abs_diff(81) <= 1), "luma {:?}", &last[..8]);
    let (cb, cr) = last[luma..].split_at(luma / 4);
    assert!(cb.iter().all(|b| b.abs_diff(90) <= 1) && cr.iter().all(|r| r.abs_diff(240) <= 1), "{cb:?} {cr:?}");
}

#[test]
fn the_first_camera_is_one_that_has_pictures() {
    let Some(machine) = Machine::new("the_first_camera_is_one_that_has_pictures") else { return };
    machine.plug(0, "krea", LOOPBACK);
    machine.plug(1, "Desk cam", WEBCAM);
    let out = machine.scratch.path("out.mkv");
    machine.run(&["run", "--webcam", "--size", "640x480", "--duration", "0.5", "-o", &out]).exits(0).says("Desk cam");
    // By its name the other one is meant, and has none.
    let ran = machine.run(&["run", "--webcam", "krea", "-o", &out, "-y"]);
    ran.fails(3, &["krea (/dev/video0)", "another program writes to it"]);
}

#[test]
fn without_an_output_a_camera_is_shown_in_a_window() {
    let Some(machine) = Machine::new("without_an_output_a_camera_is_shown_in_a_window") else { return };
    machine.plug(0, "Desk cam", "format YUYV 640x480 30\n");
    // Where there is no screen, that is what is missing.
    let mut command = machine.krea(&["run", "--webcam", "--remove-bg"]);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    run(command).fails(5, &["no window can be opened"]);
}

#[test]
fn both_ways_give_the_pictures_that_the_camera_takes() {
    let Some(machine) = Machine::new("both_ways_give_the_pictures_that_the_camera_takes") else { return };
    machine.plug(0, "Desk cam", WEBCAM);
    machine.draw_jpegs(1280, 720);
    for way in WAYS {
        for (size, format) in [((640, 480), "YUYV 640x480@30"), ((1280, 720), "MJPG 1280x720@30")] {
            let (name, out) = (format!("{}x{}", size.0, size.1), machine.scratch.path("out.mkv"));
            let args = ["run", "--webcam", "--camera-api", way, "--size", &name, "--duration", "1", "-o", &out, "-y"];
            let through = if way == "ffmpeg" { "through FFmpeg" } else { "through nokhwa" };
            machine.run(&args).exits(0).says(&format.replace('@', " at ")).says(through);
            assert_eq!(machine.streamed().last().unwrap(), &format!("video0 {format}"), "{way}");
            // A slow machine loses some to the camera's few buffers.
            assert!((15..=31).contains(&frame_count(&out)), "{way}: {} frames", frame_count(&out));
            let stream = &probe(&out, "streams", &[])[0];
            assert_eq!((&stream["width"], &stream["height"]), (&json!(size.0), &json!(size.1)));
            looks_right(&out, way);
        }
    }
}

/// Red, blue, and a bar that is elsewhere later.
fn looks_right(video: &str, way: &str) {
    let (first, later) = (picture(video, 2, 64, 48), picture(video, 12, 64, 48));
    let row = |picture: &[[u8; 3]]| picture[24 * 64..25 * 64].to_vec();
    let bar = |row: &[[u8; 3]]| (0..row.len()).max_by_key(|x| u32::from(row[*x][1])).unwrap();
    let (first, later) = (row(&first), row(&later));
    let ([r, g, b], [r2, g2, b2]) = (later[28], later[60]);
    assert!(r > 200 && g < 60 && b < 60, "{way}: left {:?}", later[28]);
    assert!(r2 < 60 && g2 < 60 && b2 > 200, "{way}: right {:?}", later[60]);
    assert!(bar(&later) > bar(&first), "{way}: the bar stands still: {} {}", bar(&first), bar(&later));
}

#[test]
fn time_stamps_are_the_cameras() {
    let Some(machine) = Machine::new("time_stamps_are_the_cameras") else { return };
    machine.plug(0, "Desk cam", "format YUYV 320x240 10\n");
    for way in WAYS {
        let out = machine.scratch.path("out.mkv");
        let args = ["run", "--webcam", "--camera-api", way, "--duration", "2", "-o", &out, "-y"];
        machine.run(&args).exits(0);
        let seconds = |p: &Value| p["pts_time"].as_str().unwrap().parse::<f64>().unwrap();
        let mut times: Vec<f64> =
            probe(&out, "packets", &["-show_entries", "packet=pts_time"]).iter().map(seconds).collect();
        // Packets are in the order of coding.
        times.sort_by(f64::total_cmp);
        let mut steps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        steps.sort_by(f64::total_cmp);
        let middle = steps[steps.len() / 2];
        assert!((0.08..0.12).contains(&middle), "{way}: {times:?}");
        assert!(times.iter().all(|t| (0.0..=2.0).contains(t)), "{way}: {times:?}");
    }
}

#[test]
fn what_nokhwa_cannot_read_ffmpeg_does() {
    let Some(machine) = Machine::new("what_nokhwa_cannot_read_ffmpeg_does") else { return };
    machine.plug(0, "Infrared", "format GREY 320x240 30\n");
    let out = machine.scratch.path("out.mkv");
    let args = ["run", "--webcam", "--duration", "0.5", "-o", &out, "-y"];
    machine.run(&args).exits(0).says("GREY 320x240 at 30 fps, through FFmpeg, since nokhwa cannot");
    assert_plays_live(&out);
    let only = [&args[..], &["--camera-api", "nokhwa"]].concat();
    machine.run(&only).fails(3, &["Infrared", "GREY", "--camera-api ffmpeg"]);
    machine.plug(0, "Quiet cam", "format YUYV 320x240 30\nquiet\n");
    machine.run(&args).exits(0).says("as it is set, through FFmpeg, since nokhwa cannot: the camera tells no sizes");
    assert_plays_live(&out);
    machine.plug(0, "Sensor", "format RGGB 320x240 30\n");
    machine.run(&args).fails(3, &["Sensor", "RGGB", "cannot decode"]);
    // As any flag, in the environment too.
    machine.plug(0, "Desk cam", WEBCAM);
    let mut command = machine.krea(&["run", "--webcam", "--size", "640x480", "--duration", "0.5", "-o", &out, "-y"]);
    command.env("KREA_CAMERA_API", "ffmpeg");
    harness::run(command).exits(0).says("through FFmpeg");
    machine.run(&[&args[..], &["--camera-api", "v4l"]].concat()).exits(2).says("nokhwa");
}

#[test]
fn a_camera_that_is_unplugged_is_known_again_under_another_number() {
    let Some(machine) = Machine::new("a_camera_that_is_unplugged_is_known_again_under_another_number") else { return };
    for way in WAYS {
        machine.plug(0, "Desk cam", WEBCAM);
        let out = machine.scratch.path(&format!("{way}.mkv"));
        let mut recording = machine.record(&out, &["--webcam", "0", "--camera-api", way]);
        recording.goes_on();
        machine.unplug(0);
        recording.says("was unplugged; trying again");
        // Another one takes its number, and must not be taken for it.
        machine.plug(0, "Other cam", "format YUYV 320x240 15\n");
        recording.says("not connected; trying again");
        machine.plug(3, "Desk cam", WEBCAM);
        recording.says(": back after");
        recording.goes_on();
        let said = recording.stop();
        assert!(said.contains(r#""reconnects":1"#), "{said}");
        let streamed = machine.streamed();
        assert_eq!(streamed[streamed.len() - 2..], ["video0 YUYV 640x480@30", "video3 YUYV 640x480@30"], "{way}");
        assert_plays_live(&out);
        machine.unplug(0);
        machine.unplug(3);
    }
}

#[test]
fn a_camera_that_falls_silent_is_opened_anew() {
    let Some(machine) = Machine::new("a_camera_that_falls_silent_is_opened_anew") else { return };
    for way in WAYS {
        machine.plug(0, "Desk cam", WEBCAM);
        let out = machine.scratch.path(&format!("{way}.mkv"));
        let mut recording = machine.record(&out, &["--webcam", "desk", "--camera-api", way, "--timeout", "1"]);
        recording.goes_on();
        machine.set(0, "stalled");
        recording.says("no data");
        machine.set(0, "ok");
        recording.says(": back after");
        recording.goes_on();
        // Nor does it help to wait: it must be started anew.
        machine.set(0, "hung");
        recording.wait_until("back again", |said| said.matches(": back after").count() == 2);
        recording.goes_on();
        let asked = Instant::now();
        recording.stop();
        let took = asked.elapsed();
        assert!(took < PROMPT, "{way}: {took:?}");
        assert_plays_live(&out);
    }
}

#[test]
fn a_stop_does_not_wait_for_a_camera_that_is_silent() {
    let Some(machine) = Machine::new("a_stop_does_not_wait_for_a_camera_that_is_silent") else { return };
    for way in WAYS {
        machine.plug(0, "Desk cam", WEBCAM);
        let out = machine.scratch.path(&format!("{way}.mkv"));
        let mut recording = machine.record(&out, &["--webcam", "--camera-api", way, "--timeout", "100"]);
        recording.goes_on();
        machine.set(0, "stalled");
        sleep(Duration::from_millis(300));
        let asked = Instant::now();
        recording.stop();
        let took = asked.elapsed();
        assert!(took < PROMPT, "{way}: {took:?}");
        assert_plays_live(&out);
    }
}

#[test]
fn a_camera_that_does_not_return_is_given_up() {
    let Some(machine) = Machine::new("a_camera_that_does_not_return_is_given_up") else { return };
    for way in WAYS {
        machine.plug(0, "Desk cam", WEBCAM);
        let out = machine.scratch.path(&format!("{way}.mkv"));
        let mut recording = machine.record(&out, &["--webcam", "--camera-api", way, "--reconnect-timeout", "1"]);
        recording.goes_on();
        machine.unplug(0);
        let said = recording.ends(3);
        assert!(said.contains("not connected; given up after 1 s"), "{said}");
    }
}

#[test]
fn what_stands_in_the_way_is_said_with_the_remedy() {
    let Some(machine) = Machine::new("what_stands_in_the_way_is_said_with_the_remedy") else { return };
    let out = machine.scratch.path("out.mkv");
    machine.run(&["run", "--webcam", "-o", &out]).fails(3, &["no camera is connected"]);
    machine.plug(0, "Desk cam", WEBCAM);
    for way in ["auto", "nokhwa", "ffmpeg"] {
        let run =
            |which: &str| machine.run(&["run", "--webcam", which, "--camera-api", way, "--timeout", "1", "-o", &out]);
        run("9").fails(3, &["no camera '9'", "0 (Desk cam, /dev/video0)"]);
        machine.set(0, "busy");
        run("0").fails(3, &["Desk cam", "in use by another program", "fuser /dev/video0"]);
        machine.set(0, "denied");
        run("0").fails(3, &["no permission", "/dev/video0", "usermod -aG video"]);
        machine.set(0, "stalled");
        run("0").fails(3, &["no data for 1 s"]);
        machine.set(0, "ok");
    }
    assert!(!fs::exists(&out).unwrap());
}

#[test]
fn pictures_that_are_damaged_at_the_beginning_are_passed_over() {
    let Some(machine) = Machine::new("pictures_that_are_damaged_at_the_beginning_are_passed_over") else { return };
    machine.plug(0, "Cheap cam", "format MJPG 320x240 30\n");
    machine.draw_jpegs(320, 240);
    let whole = fs::read(machine.scratch.path("jpeg/320x240/2.jpg")).unwrap();
    for (number, bytes) in [(1, &whole[..0]), (2, &whole[..20]), (3, b"no JPEG at all")] {
        fs::write(machine.scratch.path(&format!("jpeg/320x240/{number}.jpg")), bytes).unwrap();
    }
    for way in WAYS {
        let (out, stats) = (machine.scratch.path("out.mkv"), machine.scratch.path("stats.json"));
        let args = ["run", "--webcam", "--camera-api", way, "--duration", "0.8", "-o", &out, "--stats", &stats, "-y"];
        machine.run(&args).exits(0);
        let stats: Value = serde_json::from_slice(&fs::read(&stats).unwrap()).unwrap();
        assert!(stats["frames_out"].as_u64().unwrap() >= 8, "{way}: {stats}");
        assert_plays_live(&out);
    }
    for number in 1..=30 {
        fs::write(machine.scratch.path(&format!("jpeg/320x240/{number}.jpg")), "no JPEG at all").unwrap();
    }
    let out = machine.scratch.path("none.mkv");
    machine.run(&["run", "--webcam", "-o", &out]).fails(3, &["camera", "pictures can be decoded"]);
}

#[test]
fn pictures_that_come_faster_than_they_are_written_are_counted() {
    let Some(machine) = Machine::new("pictures_that_come_faster_than_they_are_written_are_counted") else { return };
    machine.plug(0, "Fast cam", "format YUYV 1280x720 60\n");
    let (out, stats) = (machine.scratch.path("out.mkv"), machine.scratch.path("stats.json"));
    let args = ["run", "--webcam", "--camera-api", "nokhwa", "--fps", "60", "--duration", "2", "--preset", "placebo"];
    machine.run(&[&args[..], &["-o", &out, "--stats", &stats]].concat()).exits(0).says("missed");
    let stats: Value = serde_json::from_slice(&fs::read(&stats).unwrap()).unwrap();
    assert!(stats["missed"].as_u64().unwrap() > 0, "{stats}");
    assert_plays_live(&out);
}

#[test]
fn a_covered_lens_is_noticed() {
    let Some(machine) = Machine::new("a_covered_lens_is_noticed") else { return };
    machine.plug(0, "Desk cam", WEBCAM);
    let out = machine.scratch.path("out.mkv");
    let args = ["run", "--webcam", "--size", "640x480", "--duration", "2.5", "-o", &out, "-y"];
    let seen = machine.run(&args).exits(0);
    assert!(!seen.stderr.contains("lens"), "{}", seen.stderr);
    machine.set(0, "black");
    let ran = machine.run(&args).exits(0);
    assert_eq!(ran.stderr.matches("is the lens covered?").count(), 1, "{}", ran.stderr);
}
