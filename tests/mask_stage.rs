//! The mask stage as a whole: what it does over time, when the network fails, and when it cannot start.

mod mask_support;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use ffmpeg_next::frame::Video;
use krea::error::{Error, Result};
use krea::frame::{Format, Frame};
use krea::mask::coverage::{Curve, View};
use krea::mask::find::Places;
use krea::mask::{Coverage, MAX_FAILURES, MaskStage, ModelChoice, Network, OnError, Settings};
use krea::pipeline::Stage;
use krea::runtime::Device;
use krea::runtime::onnx::{Search, probe};
use mask_support::{frame, rgb_picture, runtime, search};

const SIZE: usize = 64;

/// What a scripted network says about one frame.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    /// The left half is person.
    Left,
    /// The right half is person.
    Right,
    Nobody,
    Fails,
}

struct Script;

/// The script travels in the frame itself, as the picture's brightness in its top left corner: so each frame can be told
/// from its neighbours wherever it is worked on.
impl Network for Script {
    fn find(&mut self, picture: &Video, _: Format, out: &mut Coverage) -> Result<(), String> {
        let says = picture.data(0)[0];
        if says == 3 {
            return Err("the network broke".into());
        }
        // Later frames take less time, so that they finish first if nothing keeps the order.
        let index = u64::from(picture.data(0)[1]);
        std::thread::sleep(std::time::Duration::from_millis(20u64.saturating_sub(index)));
        out.width = 4;
        out.height = 2;
        out.view = View { left: 0.0, top: 0.0, width: 4.0, height: 2.0 };
        out.curve = Curve::Linear;
        out.empty = says == 2;
        let row = if says == 0 { [1.0, 1.0, 0.0, 0.0] } else { [0.0, 0.0, 1.0, 1.0] };
        out.values.clear();
        out.values.extend(row.iter().chain(&row));
        if out.empty {
            out.values.fill(0.0);
        }
        Ok(())
    }
}

/// Runs the script through a stage. `backdrop` is the brightness of the frame's other pixels.
fn run(stage: &mut MaskStage, script: &[(Says, u8)]) -> Result<Vec<Frame>> {
    let mut out = Vec::new();
    let mut emit = |frame: Frame| {
        out.push(frame);
        Ok(())
    };
    for (i, &(says, backdrop)) in script.iter().enumerate() {
        let picture = rgb_picture(SIZE, SIZE, |x, y| match (x, y) {
            (0, 0) => [says as u8; 3],
            (1, 0) => [i as u8; 3],
            // Texture, so that a frame has a brightness distribution at all.
            _ => [backdrop.saturating_add((x / 8) as u8 * 2); 3],
        });
        stage.push(frame(picture, i as u64), &mut emit)?;
    }
    stage.finish(&mut emit)?;
    Ok(out)
}

fn stage(settings: &Settings) -> MaskStage {
    MaskStage::new(vec![Box::new(Script)], settings)
}

/// Alpha in the middle of the left half and of the right half.
fn sides(frame: &Frame) -> (u8, u8) {
    let mask = frame.mask.as_ref().unwrap();
    assert_eq!((mask.width, mask.height), (SIZE, SIZE));
    let row = &mask.alpha[SIZE / 2 * SIZE..][..SIZE];
    (row[2], row[SIZE - 3])
}

fn still(says: &[Says]) -> Vec<(Says, u8)> {
    says.iter().map(|&s| (s, 100)).collect()
}

#[test]
fn a_lost_person_is_held_for_five_frames_and_fades() {
    use Says::{Left, Nobody};
    let mut stage = stage(&Settings::default());
    let stats = stage.stats();
    let script = [Left, Left, Nobody, Nobody, Nobody, Nobody, Nobody, Nobody, Nobody, Left, Nobody];
    let frames = run(&mut stage, &still(&script)).unwrap();
    let left: Vec<u8> = frames.iter().map(|f| sides(f).0).collect();
    assert_eq!(left[..2], [255, 255]);
    assert!(left[2..7].is_sorted_by(|a, b| a > b) && left[6] > 0, "{left:?}");
    assert_eq!(left[7..9], [0, 0]);
    // Somebody who comes back is there at once, and is held again.
    assert_eq!(left[9], 255);
    assert!(left[10] > 0);
    assert!(frames.iter().all(|f| sides(f).1 == 0));
    let count = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    assert_eq!((count(&stats.masked), count(&stats.held), count(&stats.empty), count(&stats.failed)), (3, 6, 2, 0));
}

#[test]
fn a_cut_forgets_the_last_scene() {
    use Says::{Left, Nobody, Right};
    // Nothing is held over a cut ...
    let script = [(Left, 20), (Left, 20), (Nobody, 220)];
    let frames = run(&mut stage(&Settings::default()), &script).unwrap();
    assert_eq!(sides(&frames[2]), (0, 0));
    // ... and nothing is blended over it.
    let strong = Settings { smooth: Some(0.9), ..Settings::default() };
    let frames = run(&mut stage(&strong), &[(Left, 20), (Right, 220)]).unwrap();
    assert_eq!(sides(&frames[1]), (0, 255));
    // The same frames without the change of brightness are one scene.
    let frames = run(&mut stage(&Settings::default()), &[(Left, 20), (Left, 20), (Nobody, 20)]).unwrap();
    assert!(sides(&frames[2]).0 > 0);
}

#[test]
fn a_person_who_moves_leaves_no_ghost() {
    use Says::{Left, Right};
    let frames = run(&mut stage(&Settings::default()), &still(&[Left, Right, Right])).unwrap();
    assert_eq!(sides(&frames[1]), (0, 255));
}

#[test]
fn frames_keep_their_order_and_their_own_masks() {
    use Says::{Left, Right};
    let settings = Settings { smooth: None, ..Settings::default() };
    let networks: Vec<Box<dyn Network>> = (0..3).map(|_| Box::new(Script) as Box<dyn Network>).collect();
    let mut stage = MaskStage::new(networks, &settings);
    let script: Vec<Says> = (0..20).map(|i| if i % 3 == 0 { Left } else { Right }).collect();
    let frames = run(&mut stage, &still(&script)).unwrap();
    assert_eq!(frames.len(), 20);
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!(frame.index, i as u64);
        assert_eq!(sides(frame), if i % 3 == 0 { (255, 0) } else { (0, 255) }, "frame {i}");
    }
}

#[test]
fn a_failing_network_is_treated_as_asked() {
    use Says::{Fails, Left};
    let with = |on_error| Settings { on_error, ..Settings::default() };
    let script = still(&[Left, Fails, Left]);
    let middle = |on_error| sides(&run(&mut stage(&with(on_error)), &script).unwrap()[1]);
    assert_eq!(middle(OnError::Hold), (255, 0));
    assert_eq!(middle(OnError::Pass), (255, 255));
    assert_eq!(middle(OnError::Green), (0, 0));
    let Err(error) = run(&mut stage(&with(OnError::Stop)), &script) else { panic!("it goes on") };
    assert!(error.to_string().contains("the network broke"), "{error}");
    // The frames after it are whole again.
    let frames = run(&mut stage(&with(OnError::Green)), &script).unwrap();
    assert_eq!(sides(&frames[2]), (255, 0));
}

#[test]
fn a_network_that_never_recovers_ends_the_job() {
    use Says::{Fails, Left};
    let mut script = vec![Left];
    script.extend(vec![Fails; MAX_FAILURES as usize - 1]);
    script.push(Left);
    assert!(run(&mut stage(&Settings::default()), &still(&script)).is_ok());
    script.extend(vec![Fails; MAX_FAILURES as usize]);
    let Err(error) = run(&mut stage(&Settings::default()), &still(&script)) else { panic!("it goes on") };
    assert!(matches!(&error, Error::Stage { stage, .. } if stage == "mask"), "{error:?}");
    // A clip shorter than that, on which every frame fails, has no masks at all, and is no success either.
    assert!(run(&mut stage(&Settings::default()), &still(&[Fails; 3])).is_err());
}

fn open(model: &Path) -> Result<MaskStage> {
    let settings =
        Settings { model: ModelChoice::Path(model.into()), device: Device::Cpu, threads: 1, ..Settings::default() };
    MaskStage::open(&settings, &Places::default(), &search(), (640, 360))
}

fn refused(model: &Path) -> String {
    match open(model) {
        Err(Error::Model(message)) => message,
        Err(other) => panic!("{other:?}"),
        Ok(stage) => panic!("accepted: {}", stage.describe()),
    }
}

#[test]
fn a_damaged_model_is_refused_by_name() {
    if runtime("a_damaged_model_is_refused_by_name").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let good = krea::mask::selfie::LANDSCAPE;
    let cases: [(&str, &[u8]); 4] = [
        ("empty.onnx", b""),
        ("text.onnx", b"<html>404</html>"),
        ("half.onnx", &good[..good.len() / 2]),
        ("zeros.onnx", &[0; 5000]),
    ];
    for (name, bytes) in cases {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = refused(&path);
        assert!(message.contains(name), "{message}");
    }
    assert!(refused(&dir.path().join("absent.onnx")).contains("absent.onnx"));
    let folder = dir.path().join("folder.onnx");
    std::fs::create_dir(&folder).unwrap();
    assert!(refused(&folder).contains("folder.onnx"));
}

/// A protocol buffer field of the wire type 2: bytes, or a message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 128);
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// A field of the wire type 0.
fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

/// A whole ONNX model that gives back what it gets (onnx.proto: ModelProto, GraphProto, NodeProto, ValueInfoProto).
fn identity_model(shape: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|&d| field(1, &varint(1, d))).collect();
    let tensor = [varint(1, 1), field(2, &dims)].concat();
    let value = |name: &[u8]| [field(1, name), field(2, &field(1, &tensor))].concat();
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Identity")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &value(b"x")), field(12, &value(b"y"))].concat();
    [varint(1, 8), field(7, &graph), field(8, &varint(2, 13))].concat()
}

#[test]
fn a_foreign_model_is_refused_with_what_it_is() {
    if runtime("a_foreign_model_is_refused_with_what_it_is").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (shape, found) in [(&[1, 3, 32, 32][..], "[1,3,32,32]"), (&[1, 10], "[1,10]"), (&[1, 1, 8, 8], "[1,1,8,8]")] {
        let path = dir.path().join("foreign.onnx");
        std::fs::write(&path, identity_model(shape)).unwrap();
        let message = refused(&path);
        assert!(message.contains("foreign.onnx") && message.contains(found), "{message}");
    }
}

#[test]
fn auto_falls_back_to_the_embedded_model_and_says_so() {
    if runtime("auto_falls_back_to_the_embedded_model_and_says_so").is_none() {
        return;
    }
    let open = |model: ModelChoice| {
        let settings = Settings { model, ..Settings::default() };
        MaskStage::open(&settings, &Places::default(), &search(), (640, 360))
    };
    let stage = open(ModelChoice::Auto).unwrap();
    assert!(stage.notice().is_some_and(|n| n.contains("yolov8n-seg") && n.contains("KREA_MODELS_DIR")));
    assert!(stage.describe().contains("selfie") && stage.describe().contains("CPU"), "{}", stage.describe());
    assert!(open(ModelChoice::Selfie).unwrap().notice().is_none());
    let Err(error) = open(ModelChoice::Named("yolov8n-seg".into())) else { panic!("found") };
    assert!(matches!(error, Error::Model(_)), "{error:?}");
}

#[test]
fn an_explicit_device_is_used_or_refused() {
    let test = "an_explicit_device_is_used_or_refused";
    if runtime(test).is_none() {
        return;
    }
    for device in [Device::Cuda, Device::TensorRt, Device::OpenVino, Device::CoreMl] {
        let settings = Settings { model: ModelChoice::Selfie, device, ..Settings::default() };
        match MaskStage::open(&settings, &Places::default(), &search(), (640, 360)) {
            Ok(stage) => assert!(!stage.describe().contains("on CPU"), "{}", stage.describe()),
            Err(Error::Device(message)) => assert!(message.contains(device.name()), "{message}"),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn without_onnx_runtime_the_remedy_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = Search { roots: vec![dir.path().into()], folders: vec![dir.path().into()], ..Search::default() };
    let explicit = |path: &Path| Search { explicit: Some(path.into()), ..Search::default() };
    let text = dir.path().join("libonnxruntime.so");
    std::fs::write(&text, "not a library").unwrap();
    for search in [nowhere.clone(), explicit(&text), explicit(&dir.path().join("absent.so")), nowhere] {
        match search.find() {
            Err(Error::Device(message)) => assert!(message.contains("pip install onnxruntime"), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Compiles a library that says that it is ONNX Runtime `version`.
fn fake_runtime(path: &Path, version: &str) {
    let source = path.with_extension("c");
    let code = format!(
        "static const void *api(unsigned v) {{ (void)v; return 0; }}\n\
         static const char *version(void) {{ return \"{version}\"; }}\n\
         static const struct {{ const void *(*a)(unsigned); const char *(*v)(void); }} base = {{ api, version }};\n\
         const void *OrtGetApiBase(void) {{ return &base; }}\n"
    );
    std::fs::write(&source, code).unwrap();
    let done = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(path).arg(&source).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_runtime_that_is_too_old_is_refused_and_another_is_looked_for() {
    let test = "a_runtime_that_is_too_old_is_refused_and_another_is_looked_for";
    if Command::new("cc").arg("--version").output().is_err() {
        return mask_support::skip(test, "there is no C compiler");
    }
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("libonnxruntime.so.1.14.0");
    fake_runtime(&old, "1.14.0");
    let message = probe(&old).unwrap_err();
    assert!(message.contains("1.14.0") && message.contains("1.20"), "{message}");
    let search_old = Search { folders: vec![dir.path().into()], ..Search::default() };
    match search_old.find() {
        Err(Error::Device(message)) => {
            assert!(message.contains("1.14.0") && message.contains("pip install"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    // New enough by its name, but without the interface.
    let hollow = dir.path().join("hollow.so");
    fake_runtime(&hollow, "1.25.0");
    assert!(probe(&hollow).unwrap_err().contains("interface"));
    // Any library is not ONNX Runtime.
    let other = dir.path().join("other.so");
    std::fs::write(other.with_extension("c"), "int nothing;").unwrap();
    let done = Command::new("cc").args(["-shared", "-o"]).arg(&other).arg(other.with_extension("c")).status().unwrap();
    assert!(done.success() && probe(&other).unwrap_err().contains("not ONNX Runtime"));
    // With a good one further on, the old one does not matter.
    if let Ok(good) = search().find() {
        let both = Search { folders: vec![dir.path().into(), good.path.parent().unwrap().into()], ..Search::default() };
        assert_eq!(both.find().unwrap(), good);
    }
}
