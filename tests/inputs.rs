//! Inputs that are not one file: made pictures, many pictures, streams that end, streams that do not.

mod harness;

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;

use harness::{CLIP, Scratch, assert_plays, ffmpeg, frame_count, krea, probe, run};

/// The numbers 1.. as pictures, each of its own grey.
fn pictures(scratch: &Scratch, extension: &str, first: usize, count: usize) {
    let pattern = scratch.path(&format!("in%03d.{extension}"));
    let (first, count) = (first.to_string(), count.to_string());
    let graph = "color=black:size=64x48,geq=lum=32+N*8:cb=128:cr=128";
    ffmpeg(&["-f", "lavfi", "-i", graph, "-frames:v", &count, "-start_number", &first, &pattern]);
}

fn rate(path: &str) -> String {
    probe(path, "streams", &[])[0]["r_frame_rate"].as_str().unwrap().to_owned()
}

#[test]
fn a_filter_graph_is_a_source() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    run(krea(["run", "lavfi:testsrc2=size=160x120:rate=30:duration=1", "-o", &out])).exits(0);
    assert_plays(&out);
    assert_eq!((frame_count(&out), rate(&out).as_str()), (30, "30/1"));
    // At its own pace, without an end.
    let graph = "lavfi:testsrc2=size=160x120:rate=30,realtime";
    run(krea(["run", graph, "-o", &out, "-y", "--duration", "0.5"])).exits(0);
    assert_eq!(frame_count(&out), 15);
    run(krea(["run", "lavfi:no_such_filter", "-o", &out, "-y"])).fails(3, &["no_such_filter"]);
}

#[test]
fn numbered_pictures_become_a_video() {
    let scratch = Scratch::new();
    pictures(&scratch, "png", 17, 12);
    let out = scratch.path("out.mp4");
    run(krea(["run", &scratch.path("in%03d.png"), "-o", &out])).exits(0);
    assert_plays(&out);
    assert_eq!((frame_count(&out), rate(&out).as_str()), (12, "25/1"));
    run(krea(["run", &scratch.path("in%03d.png"), "-o", &out, "-y", "--fps", "10"])).exits(0);
    assert_eq!((frame_count(&out), rate(&out).as_str()), (12, "10/1"));
    run(krea(["run", &scratch.path("other%03d.png"), "-o", &out, "-y"])).fails(3, &["other%03d.png"]);
}

#[test]
fn a_quoted_glob_is_read_in_order() {
    let scratch = Scratch::new();
    pictures(&scratch, "jpg", 1, 10);
    let (input, out) = (scratch.path("in*.jpg"), scratch.path("out.mkv"));
    run(krea(["run", &input, "-o", &out, "--codec", "ffv1"])).exits(0);
    let mut command = Command::new("ffmpeg");
    command.args([
        "-v",
        "error",
        "-i",
        &out,
        "-vf",
        "scale=1:1:out_range=full",
        "-pix_fmt",
        "gray",
        "-f",
        "rawvideo",
        "-",
    ]);
    let greys = run(command).exits(0).stdout;
    assert!(greys.len() == 10 && greys.windows(2).all(|g| g[1] > g[0]), "each is lighter: {greys:?}");
    run(krea(["run", &scratch.path("none*.jpg"), "-o", &out, "-y"])).fails(3, &["none*.jpg"]);
}

#[test]
fn pictures_go_in_and_out() {
    let scratch = Scratch::new();
    pictures(&scratch, "png", 1, 5);
    run(krea(["run", &scratch.path("in%03d.png"), "-o", &scratch.path("out%03d.png")])).exits(0);
    assert_eq!(scratch.names().iter().filter(|n| n.starts_with("out")).count(), 5);
}

/// Serves one file over HTTP to as many as ask, whole, with its length.
fn serve(path: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/clip.mp4", listener.local_addr().unwrap());
    let bytes = std::fs::read(path).unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = client.read(&mut request);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(&bytes));
        }
    });
    url
}

#[test]
fn pictures_are_replaced_only_when_asked() {
    let scratch = Scratch::new();
    let out = scratch.path("%03d.png");
    let args = ["run", CLIP, "--duration", "0.2", "-o", &out];
    run(krea(args)).exits(0);
    std::fs::write(scratch.path("001.png"), "mine").unwrap();
    run(krea(args)).fails(6, &["001.png", "exists already"]);
    run(krea(args.into_iter().chain(["-n"]))).exits(0);
    assert_eq!(std::fs::read(scratch.path("001.png")).unwrap(), b"mine");
    run(krea(args.into_iter().chain(["-y"]))).exits(0);
    assert_ne!(std::fs::read(scratch.path("001.png")).unwrap(), b"mine");
}

#[test]
fn a_film_on_a_server_ends_as_a_file_does() {
    let scratch = Scratch::new();
    // With its index in front, since this server cannot seek.
    let (film, out) = (scratch.path("film.mp4"), scratch.path("out.mp4"));
    ffmpeg(&["-i", CLIP, "-c", "copy", "-t", "1", "-movflags", "+faststart", &film]);
    let ran = run(krea(["run", &serve(&film), "-o", &out])).exits(0);
    assert!(!ran.stderr.contains("trying again"), "{}", ran.stderr);
    assert_plays(&out);
    assert_eq!(frame_count(&out), frame_count(&film));
    let missing = format!("http://{}/", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    run(krea(["run", &missing, "-o", &out, "-y"])).fails(3, &["cannot be reached"]);
}

#[test]
fn a_transport_stream_comes_over_udp() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("udp://127.0.0.1:{port}");
    let mut sender = Command::new("ffmpeg");
    sender.args(["-v", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i", CLIP, "-c:v", "libx264"]);
    sender.args(["-preset", "ultrafast", "-g", "10", "-s", "160x120", "-c:a", "copy", "-f", "mpegts", &url]);
    let mut sender = sender.stdin(Stdio::null()).spawn().unwrap();
    let ran = run(krea(["run", &url, "-o", &out, "--duration", "1", "--preset", "ultrafast"]));
    sender.kill().unwrap();
    sender.wait().unwrap();
    ran.exits(0);
    let frames = frame_count(&out);
    assert!((10..=26).contains(&frames), "a second at 25 fps, perhaps not from a key frame on: {frames}");
}

#[test]
fn a_stream_whose_first_key_frame_is_long_in_coming_is_waited_for() {
    let scratch = Scratch::new();
    let (film, out) = (scratch.path("film.ts"), scratch.path("out.mkv"));
    let coded = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "250", "-bsf:v", "dump_extra=freq=keyframe"];
    let made = ["-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=2", "-pix_fmt", "yuv420p"];
    ffmpeg(&[&made[..], &coded, &[&film]].concat());
    let film = std::fs::read(&film).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        // Whoever joins in the middle, on the border of two packets, gets no key frame; later there is one.
        let middle = film.len() / 188 / 2 * 188;
        for part in [&film[middle..], &film[..]] {
            let _ = listener.accept().unwrap().0.write_all(part);
        }
    });
    let ran = run(krea(["run", &url, "-o", &out, "--duration", "1"])).exits(0);
    assert!(ran.stderr.contains("no key frame has come yet"), "{}", ran.stderr);
    assert_eq!(frame_count(&out), 25);
}

/// Sends a stream to the first who asks, and then nothing: it neither ends nor goes on.
fn fall_silent_after(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let _ = client.write_all(&bytes);
        // Until the other side hangs up.
        let _ = client.read(&mut [0]);
    });
    url
}

#[test]
fn a_part_of_what_comes_live_ends_when_it_is_over() {
    let scratch = Scratch::new();
    let live = scratch.path("live");
    for (format, more) in
        [("matroska", ["-c:a", "copy"]), ("mpegts", ["-c:a", "copy"]), ("yuv4mpegpipe", ["-pix_fmt", "yuv420p"])]
    {
        // What a file would be searched for sound that lies behind its pictures does not come any more.
        let sent = ["-i", CLIP, "-t", "1.9", "-preset", "ultrafast", "-tune", "zerolatency"];
        ffmpeg(&[&sent[..], &more, &["-f", format, &live]].concat());
        let url = fall_silent_after(std::fs::read(&live).unwrap());
        let (out, stats) = (scratch.path("out.mkv"), scratch.path("stats.json"));
        let args = ["run", &url, "-o", &out, "-y", "--duration", "1", "--preset", "ultrafast"];
        // A wait for more would last as long as the timeout, and end in another try.
        let ran = run(krea(args.into_iter().chain(["--timeout", "30", "--stats", &stats]))).exits(0);
        assert!(!ran.stderr.contains("trying again"), "{format}: {}", ran.stderr);
        let stats: serde_json::Value = serde_json::from_slice(&std::fs::read(&stats).unwrap()).unwrap();
        assert!(stats["seconds"].as_f64().unwrap() < 20.0, "{format}: {stats}");
        assert!((23..=26).contains(&frame_count(&out)), "{format}: a second at 25 fps: {}", frame_count(&out));
        if format != "yuv4mpegpipe" {
            let sound = probe(&out, "packets", &["-select_streams", "a:0"]);
            let last: f64 = sound.last().expect("the sound is copied")["pts_time"].as_str().unwrap().parse().unwrap();
            assert!((0.9..1.0).contains(&last), "{format}: the sound reaches as far as the picture: {last}");
        }
    }
}

#[test]
fn a_camera_that_is_not_there_is_said_so() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    run(krea(["run", "--webcam", "no such camera", "-o", &out])).fails(3, &["camera"]);
    assert!(scratch.names().is_empty());
    let ran = run(krea(["devices", "--json"])).exits(0);
    let devices: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert!(devices["cameras"].is_array() && devices["gpus"].is_array(), "{devices}");
    let text = String::from_utf8(run(krea(["devices"])).exits(0).stdout).unwrap();
    assert!(text.contains("Cameras:") && text.contains("GPUs:"), "{text}");
    run(krea(["run", "-o", &out])).exits(2);
}
