//! The preview window under a virtual X server: what it shows, its keys, its end; and no server at all.

mod harness;
mod live_support;

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::{CLIP, Scratch, assert_plays, frame_count, krea, run, skip};
use live_support::{Camera, onnx};

/// A virtual X server of its own for each test.
struct Screen {
    server: Child,
    display: String,
}

impl Screen {
    fn start(test: &str) -> Option<Self> {
        for program in ["Xvfb", "xdotool", "import"] {
            if Command::new(program).arg("-help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                skip(test, &format!("no {program}"));
                return None;
            }
        }
        // The server chooses a free number itself and writes it to its output.
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1000x800x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut number = String::new();
        let mut output = server.stdout.take().unwrap();
        let mut byte = [0];
        while output.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            number.push(char::from(byte[0]));
        }
        assert!(!number.is_empty(), "Xvfb did not start");
        Some(Self { server, display: format!(":{number}") })
    }

    fn krea<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Child {
        let mut command = krea(args);
        command.env("DISPLAY", &self.display).env_remove("WAYLAND_DISPLAY");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a program of X and gives its output.
    fn ask(&self, program: &str, args: &[&str]) -> Vec<u8> {
        Command::new(program).args(args).env("DISPLAY", &self.display).output().unwrap().stdout
    }

    fn window(&self) -> Option<String> {
        let found = self.ask("xdotool", &["search", "--name", "^krea - "]);
        String::from_utf8(found).unwrap().lines().next().map(str::to_owned)
    }

    /// The window, once one that it has replaced is gone.
    fn only_window(&self) -> String {
        let start = Instant::now();
        loop {
            let found = String::from_utf8(self.ask("xdotool", &["search", "--name", "^krea - "])).unwrap();
            match found.lines().collect::<Vec<_>>()[..] {
                [one] => return one.to_owned(),
                _ => assert!(start.elapsed() < PATIENCE, "the windows are {found}"),
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// What xdotool says to the window, which has the keyboard.
    fn key(&self, key: &str) {
        let window = self.only_window();
        self.ask("xdotool", &["windowfocus", "--sync", &window]);
        self.ask("xdotool", &["key", key]);
    }

    fn title(&self) -> String {
        let window = self.window().expect("the window is open");
        String::from_utf8(self.ask("xdotool", &["getwindowname", &window])).unwrap()
    }

    #[track_caller]
    fn title_becomes(&self, what: &str, right: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !right(&self.title()) {
            assert!(start.elapsed() < PATIENCE, "no {what} in the title: {}", self.title());
            sleep(Duration::from_millis(50));
        }
    }

    /// Asks the window to close, as its button does.
    fn close(&self) {
        let window = self.window().expect("the window is open");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/close_window.py");
        self.ask("/usr/bin/python3", &[script, &window]);
    }

    /// The inside of the window.
    fn shot(&self) -> Option<Shot> {
        let window = self.window()?;
        let pam = self.ask("import", &["-window", &window, "-depth", "8", "png:-"]);
        if let Some(folder) = std::env::var_os("KREA_TEST_SHOTS") {
            let name = std::thread::current().name().unwrap_or("shot").to_owned();
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), &pam).unwrap();
        }
        image::load_from_memory(&pam).ok().map(|i| Shot(i.to_rgb8()))
    }

    /// Takes pictures until one is as it should be; the last one where none is.
    #[track_caller]
    fn wait_for(&self, what: &str, right: impl Fn(&Shot) -> bool) -> Shot {
        let start = Instant::now();
        loop {
            let shot = self.shot();
            match shot {
                Some(shot) if right(&shot) => return shot,
                Some(shot) if start.elapsed() > PATIENCE => {
                    panic!("the window does not show {what}: {:?}", shot.facts())
                }
                None if start.elapsed() > PATIENCE => panic!("there is no window that could show {what}"),
                _ => sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A window manager, which most screens have.
struct Manager(Child);

impl Manager {
    fn start(test: &str, screen: &Screen) -> Option<Self> {
        let mut command = Command::new("openbox");
        command.env("DISPLAY", &screen.display).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            skip(test, "no openbox");
            return None;
        };
        let (start, manager) = (Instant::now(), Self(child));
        while !String::from_utf8_lossy(&screen.ask("xprop", &["-root", "_NET_SUPPORTED"])).contains("FULLSCREEN") {
            assert!(start.elapsed() < PATIENCE, "openbox did not start");
            sleep(Duration::from_millis(50));
        }
        Some(manager)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bounds every wait; nothing is asserted about how long anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Shot(image::RgbImage);

impl Shot {
    /// The share of pixels in the given columns (of 0..1) that are as `right` says.
    fn share(&self, columns: std::ops::Range<f64>, right: impl Fn([u8; 3]) -> bool) -> f64 {
        let width = f64::from(self.0.width());
        let inside = self.0.enumerate_pixels().filter(|(x, ..)| columns.contains(&(f64::from(*x) / width)));
        let (mut all, mut hits) = (0, 0);
        for (.., pixel) in inside {
            all += 1;
            hits += usize::from(right(pixel.0));
        }
        hits as f64 / f64::from(all.max(1))
    }

    fn green(&self, columns: std::ops::Range<f64>) -> f64 {
        self.share(columns, |[r, g, b]| r < 30 && g > 225 && b < 30)
    }

    fn facts(&self) -> (u32, u32, f64, f64, f64) {
        let (w, h) = self.0.dimensions();
        (w, h, self.green(0.0..0.48), self.green(0.52..1.0), self.share(0.0..1.0, |[r, g, b]| r == g && g == b))
    }

    /// A person on green, on both sides.
    fn is_composite(&self) -> bool {
        let skin = self.share(0.3..0.8, |[r, g, b]| r > 120 && r > g && g > b);
        self.green(0.0..0.48) > 0.1 && self.green(0.52..1.0) > 0.1 && skin > 0.1
    }

    fn is_original(&self) -> bool {
        self.green(0.0..1.0) < 0.001 && self.share(0.0..1.0, |p| p != [0; 3]) > 0.5
    }
}

fn end(child: Child) -> harness::Ran {
    child.wait_with_output().unwrap().into()
}

/// The clip again and again, so that it does not end while it is looked at.
fn long_run(scratch: &Scratch) -> Vec<String> {
    let clip = scratch.long_clip(40);
    ["run", &clip, "--remove-bg", "--mask-model", "selfie", "--preview"].map(str::to_owned).into()
}

#[test]
fn the_window_shows_the_result_and_obeys_keys() {
    let Some(screen) = Screen::start("the_window_shows_the_result_and_obeys_keys") else { return };
    let scratch = Scratch::new();
    let args = long_run(&scratch);
    let child = screen.krea(args.iter().map(String::as_str));
    let shot = screen.wait_for("a person on green", Shot::is_composite);
    assert_eq!(shot.0.dimensions(), (640, 480));

    screen.key("p");
    screen.wait_for("before and after side by side", |s| s.green(0.0..0.48) < 0.001 && s.green(0.52..1.0) > 0.1);
    screen.key("p");
    screen.wait_for("the result again", Shot::is_composite);

    screen.key("m");
    screen.wait_for("the mask", |s| {
        let (black, white) = (s.share(0.0..1.0, |p| p == [0; 3]), s.share(0.0..1.0, |p| p == [255; 3]));
        s.share(0.0..1.0, |[r, g, b]| r == g && g == b) > 0.999 && black > 0.2 && white > 0.2
    });
    screen.key("m");
    screen.key("b");
    screen.wait_for("the picture as it came", Shot::is_original);
    screen.key("b");
    screen.wait_for("the result once more", Shot::is_composite);

    screen.key("space");
    let start = Instant::now();
    while !screen.title().contains("paused") {
        assert!(start.elapsed() < PATIENCE, "{}", screen.title());
    }
    // A pause lets nothing pass but the picture that was on its way.
    sleep(Duration::from_millis(200));
    let still = screen.shot().unwrap();
    sleep(Duration::from_millis(500));
    assert!(screen.shot().unwrap().0 == still.0, "a paused picture moves");
    screen.key("space");
    screen.wait_for("another picture", |s| s.0 != still.0);

    screen.key("q");
    end(child).exits(0);
}

#[test]
fn a_small_picture_is_shown_larger_and_small_again() {
    let Some(screen) = Screen::start("a_small_picture_is_shown_larger_and_small_again") else { return };
    let child = screen.krea(["run", "lavfi:testsrc2=s=320x240,realtime", "--preview"]);
    let size = |size| move |s: &Shot| s.0.dimensions() == size && s.share(0.0..1.0, |p| p != [0; 3]) > 0.5;
    screen.wait_for("the picture at its own size", size((320, 240)));
    // The largest multiple that the screen has room for.
    screen.key("f");
    screen.wait_for("a larger picture", size((960, 720)));
    screen.key("f");
    screen.wait_for("the picture at its own size again", size((320, 240)));
    screen.key("q");
    end(child).exits(0);
}

#[test]
fn a_window_manager_gives_it_the_whole_screen_and_takes_it_back() {
    const NAME: &str = "a_window_manager_gives_it_the_whole_screen_and_takes_it_back";
    let Some(screen) = Screen::start(NAME) else { return };
    let Some(_manager) = Manager::start(NAME, &screen) else { return };
    let child = screen.krea(["run", "lavfi:testsrc2=s=320x240,realtime", "--preview"]);
    let size = |size| move |s: &Shot| s.0.dimensions() == size;
    screen.wait_for("the picture at its own size", size((320, 240)));
    screen.key("f");
    // The picture keeps its shape: 1000 wide it is 750 high.
    screen.wait_for("the picture on the whole screen, in its shape", |s| {
        let lit = |y: u32| (0..1000).filter(|x| s.0.get_pixel(*x, y).0 != [0; 3]).count();
        s.0.dimensions() == (1000, 800) && lit(15) == 0 && lit(785) == 0 && lit(35) > 900 && lit(765) > 900
    });
    screen.key("f");
    screen.wait_for("the picture at its own size again", size((320, 240)));
    screen.key("q");
    end(child).exits(0);
}

#[test]
fn closing_the_window_ends_what_is_only_a_window() {
    let Some(screen) = Screen::start("closing_the_window_ends_what_is_only_a_window") else { return };
    let scratch = Scratch::new();
    let args = long_run(&scratch);
    let child = screen.krea(args.iter().map(String::as_str));
    screen.wait_for("a person on green", Shot::is_composite);
    screen.close();
    end(child).exits(0);

    // Beside a file the file goes on.
    let out = scratch.path("out.mkv");
    // It lasts long enough for a slow machine to see and close the window.
    let args = ["run", "lavfi:testsrc2=size=320x240:rate=25:duration=15,realtime", "--preview", "-o", &out];
    let child = screen.krea(args);
    screen.wait_for("the picture", |_| true);
    screen.close();
    end(child).exits(0).says("the preview is closed; the output goes on");
    assert_eq!(frame_count(&out), 375);
}

#[test]
fn the_title_of_a_live_run_tells_its_latency_and_a_lost_mask() {
    let Some(screen) = Screen::start("the_title_of_a_live_run_tells_its_latency_and_a_lost_mask") else { return };
    let scratch = Scratch::new();
    let model = scratch.path("dazzled.onnx");
    onnx::fails_in_bright_light(model.as_ref());
    let camera = Camera::start(25, |number| if number < 75 { 122 } else { 140 });
    let child = screen.krea(["run", &camera.url, "--remove-bg", "--mask-model", &model, "--preview"]);
    screen.wait_for("half a picture on green", |s| s.green(0.55..1.0) > 0.9 && s.green(0.0..0.45) < 0.1);
    screen.title_becomes("latency", |title| title.contains(" fps, ") && title.contains(" ms"));
    assert!(!screen.title().contains("mask lost"), "{}", screen.title());
    screen.title_becomes("the lost mask", |title| title.contains("mask lost"));
    screen.wait_for("the whole picture", |s| s.green(0.0..1.0) < 0.01);
    screen.key("q");
    end(child).exits(0);
}

#[test]
fn a_snapshot_is_the_result_at_its_full_size() {
    let Some(screen) = Screen::start("a_snapshot_is_the_result_at_its_full_size") else { return };
    let scratch = Scratch::new();
    let mut args = long_run(&scratch);
    args.extend(["-o".to_owned(), scratch.path("out.mkv"), "--size".to_owned(), "1600x1200".to_owned()]);
    let child = screen.krea(args.iter().map(String::as_str));
    screen.wait_for("a person on green", Shot::is_composite);
    screen.key("s");
    let start = Instant::now();
    let png = loop {
        let found = scratch.names().into_iter().find(|n| n.starts_with("out-") && n.ends_with("s.png"));
        let whole = found.and_then(|n| image::open(scratch.path(&n)).ok());
        if let Some(png) = whole {
            break png.to_rgb8();
        }
        assert!(start.elapsed() < PATIENCE, "no snapshot: {:?}", scratch.names());
        sleep(Duration::from_millis(50));
    };
    assert_eq!(png.dimensions(), (1600, 1200));
    assert!(Shot(png).is_composite());
    screen.key("Escape");
    end(child).exits(0);
    // Ended by a key, the file is whole.
    assert_plays(&scratch.path("out.mkv"));
}

#[test]
fn every_frame_is_written_beside_a_window() {
    let Some(screen) = Screen::start("every_frame_is_written_beside_a_window") else { return };
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    let args = ["run", CLIP, "--remove-bg", "--mask-model", "selfie", "--preview", "-o", &out];
    end(screen.krea(args)).exits(0);
    assert_eq!(frame_count(&out), 125);
    let plain = scratch.path("plain.mp4");
    run(krea(["run", CLIP, "--remove-bg", "--mask-model", "selfie", "-o", &plain])).exits(0);
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&plain).unwrap(), "the preview changes the file");
}

#[test]
fn a_picture_stays_until_it_is_closed() {
    let Some(screen) = Screen::start("a_picture_stays_until_it_is_closed") else { return };
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/astronaut.png");
    let child = screen.krea(["run", picture, "--preview"]);
    screen.wait_for("the picture", Shot::is_original);
    sleep(Duration::from_secs(1));
    screen.wait_for("the picture, still", Shot::is_original);
    screen.key("q");
    end(child).exits(0);
}

#[test]
fn without_a_display_the_window_alone_fails_and_a_file_goes_on() {
    let headless = |args: &[&str]| {
        let mut command = krea(args.iter().copied());
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        run(command)
    };
    headless(&["run", CLIP, "--preview"]).fails(5, &["no window", "DISPLAY", "-o"]);
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    headless(&["run", CLIP, "--preview", "-o", &out]).exits(0).says("without the preview");
    assert_eq!(frame_count(&out), 125);

    // A display that is named and does not answer.
    let mut command = krea(["run", CLIP, "--preview"]);
    command.env("DISPLAY", ":9999").env_remove("WAYLAND_DISPLAY");
    run(command).fails(5, &["no window"]);
}
