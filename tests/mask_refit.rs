//! Networks made for one input size, run in another: what changes, what must not, and what is left alone. A small network
//! that the tests write themselves stands in for the exports that they cannot carry.

mod harness;
mod mask_support;

use std::path::{Path, PathBuf};

use krea::mask::find::Places;
use krea::mask::session::{Model, Session};
use krea::mask::{MaskStage, ModelChoice, Settings, refit};
use krea::pipeline::Stage;
use krea::runtime::Device;
use mask_support::toy::Toy;
use mask_support::{frame, iou, masks, rgb_picture, runtime, search, shared};

const FIXED: Toy = Toy { size: Some((640, 384)), half: false, nodes: false, rigid: false };

fn settings(model: &Path) -> Settings {
    let model = ModelChoice::Path(model.into());
    Settings { model, device: Device::Cpu, threads: 1, smooth: None, ..Settings::default() }
}

fn open(settings: &Settings, frame: (u32, u32)) -> MaskStage {
    MaskStage::open(settings, &Places::default(), &search(), frame).unwrap()
}

/// How the stage describes the input of `model` for frames of a size.
fn input(model: &Path, mask_size: Option<(u32, u32)>, frame: (u32, u32)) -> String {
    let stage = open(&Settings { mask_size, ..settings(model) }, frame);
    stage.describe().split("input ").nth(1).unwrap().split(',').next().unwrap().to_owned()
}

fn written(dir: &Path, name: &str, toy: Toy) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, toy.write()).unwrap();
    path
}

/// A bright rectangle in a dark room, off the middle, so that shifts and swapped axes show.
fn inside(x: usize, y: usize) -> bool {
    (160..400).contains(&x) && (96..416).contains(&y)
}

/// The mask of the bright rectangle on 640x480 pixels by the network in `model`.
fn rectangle(settings: &Settings) -> (Vec<u8>, Vec<u8>) {
    let (width, height) = (640, 480);
    let picture = rgb_picture(width, height, |x, y| [if inside(x, y) { 255 } else { 0 }; 3]);
    let mut stage = open(settings, (640, 480));
    let mut mask = Vec::new();
    let mut emit = |frame: krea::frame::Frame| {
        mask = frame.mask.unwrap().alpha.to_vec();
        Ok(())
    };
    stage.push(frame(picture, 0), &mut emit).unwrap();
    stage.finish(&mut emit).unwrap();
    let truth = (0..width * height).map(|i| if inside(i % width, i / width) { 255 } else { 0 }).collect();
    (mask, truth)
}

#[test]
fn an_export_is_fitted_to_the_shape_of_the_frames() {
    if runtime("an_export_is_fitted_to_the_shape_of_the_frames").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let wide = written(dir.path(), "wide.onnx", FIXED);
    for (frame, expected) in [
        ((1280, 720), "640x384"),
        ((640, 480), "544x384"),
        ((270, 480), "256x384"),
        ((480, 480), "416x384"),
        ((1920, 400), "640x160"),
    ] {
        assert_eq!(input(&wide, None, frame), expected, "{frame:?}");
    }
    // A size that was asked for is neither fitted nor refused.
    assert_eq!(input(&wide, Some((640, 384)), (640, 480)), "640x384");
    assert_eq!(input(&wide, Some((320, 192)), (640, 480)), "320x192");
    let square = written(dir.path(), "square.onnx", Toy { size: Some((640, 640)), ..FIXED });
    assert_eq!(input(&square, None, (1280, 720)), "640x384");
}

#[test]
fn every_kind_of_export_finds_what_is_there() {
    if runtime("every_kind_of_export_finds_what_is_there").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for half in [false, true] {
        for nodes in [false, true] {
            for size in [Some((640, 384)), Some((640, 480)), None] {
                let toy = Toy { size, half, nodes, rigid: false };
                let path = written(dir.path(), "toy.onnx", toy);
                for mask_size in [None, Some((320, 192)), Some((640, 384))] {
                    let (mask, truth) = rectangle(&Settings { mask_size, ..settings(&path) });
                    let score = iou(&mask, &truth);
                    assert!(score > 0.96, "{size:?} half {half} nodes {nodes} asked {mask_size:?}: {score}");
                }
            }
        }
    }
}

/// The whole program on exports with half-precision numbers and with open input sides.
#[test]
fn the_program_takes_half_precision_and_open_sides() {
    let test = "the_program_takes_half_precision_and_open_sides";
    if runtime(test).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("in.png");
    image::RgbImage::from_fn(640, 480, |x, y| image::Rgb([if inside(x as usize, y as usize) { 255 } else { 0 }; 3]))
        .save(&picture)
        .unwrap();
    let library = search().find().unwrap().path;
    for (name, half, size) in [
        ("half", true, Some((640, 384))),
        ("open", false, None),
        ("both", true, None),
        ("plain", false, Some((640, 640))),
    ] {
        let model = written(dir.path(), &format!("{name}.onnx"), Toy { size, half, ..FIXED });
        let out = dir.path().join(format!("{name}.png"));
        let args = ["run", picture.to_str().unwrap(), "-o", out.to_str().unwrap(), "--remove-bg", "--mask-model"];
        let mut command = harness::krea(args.into_iter().chain([model.to_str().unwrap(), "--device", "cpu"]));
        command.env("KREA_ONNXRUNTIME", &library);
        harness::run(command).exits(0);
        let result = image::open(&out).unwrap().to_rgb8();
        assert_eq!(result.get_pixel(280, 256).0, [255, 255, 255], "{name}: the person stays");
        assert_eq!(result.get_pixel(20, 20).0, [0, 255, 0], "{name}: the background is green");
        assert_eq!(result.get_pixel(600, 440).0, [0, 255, 0], "{name}: the background is green");
    }
}

#[test]
fn constants_that_are_not_understood_leave_the_export_as_it_is() {
    let test = "constants_that_are_not_understood_leave_the_export_as_it_is";
    let plain = FIXED.write();
    assert_eq!(refit::fixed_size(&plain), Some((640, 384)));
    assert!(refit::refit(&plain, (500, 384)).is_err(), "no multiple of the stride");
    // One centre elsewhere: who knows what the exporter meant.
    let at = plain.windows(8).position(|w| w == [1.5f32.to_le_bytes(), 2.5f32.to_le_bytes()].concat()).unwrap();
    let mut strange = plain.clone();
    strange[at..at + 4].copy_from_slice(&1.25f32.to_le_bytes());
    let why = refit::refit(&strange, (512, 384)).unwrap_err();
    assert!(why.contains("neither centres nor strides"), "{why}");
    for length in (0..plain.len()).step_by(plain.len() / 50) {
        assert!(refit::refit(&plain[..length], (512, 384)).is_err(), "cut off at {length}");
    }
    for other in [&b""[..], b"<html>404</html>", krea::mask::selfie::LANDSCAPE, &Toy { size: None, ..FIXED }.write()] {
        assert_eq!(refit::fixed_size(other), None);
        assert!(refit::refit(other, (512, 384)).is_err());
    }
    if runtime(test).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("strange.onnx");
    std::fs::write(&path, strange).unwrap();
    assert_eq!(input(&path, None, (640, 480)), "640x384");
    let asked = Settings { mask_size: Some((320, 192)), ..settings(&path) };
    let Err(error) = MaskStage::open(&asked, &Places::default(), &search(), (640, 480)) else { panic!("accepted") };
    assert!(error.to_string().contains("fixed at 640x384") && error.to_string().contains("320x192"), "{error}");
}

#[test]
fn a_network_that_does_not_follow_runs_as_it_is() {
    if runtime("a_network_that_does_not_follow_runs_as_it_is").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let toy = Toy { rigid: true, ..FIXED };
    assert!(refit::refit(&toy.write(), (512, 384)).is_ok(), "its constants alone do not show it");
    let path = written(dir.path(), "rigid.onnx", toy);
    assert_eq!(input(&path, None, (640, 480)), "640x384");
    let (mask, truth) = rectangle(&settings(&path));
    assert!(iou(&mask, &truth) > 0.96);
}

/// An export of one size made into another is, number by number, the export of the other.
#[test]
fn a_refitted_export_equals_the_real_one() {
    let test = "a_refitted_export_equals_the_real_one";
    let (Some(models), Some(pictures)) = (shared(test, "models"), shared(test, "parity-seg")) else { return };
    if runtime(test).is_none() {
        return;
    }
    let picture = || mask_support::read_picture(&pictures.join("three.png"));
    let size = (picture().width(), picture().height());
    let mask = |file: &str| {
        let settings = Settings { mask_size: Some((320, 192)), ..settings(&models.join(file)) };
        let mut stage = open(&settings, size);
        let mut mask = Vec::new();
        let mut emit = |frame: krea::frame::Frame| {
            mask = frame.mask.unwrap().alpha.to_vec();
            Ok(())
        };
        stage.push(frame(picture(), 0), &mut emit).unwrap();
        stage.finish(&mut emit).unwrap();
        mask
    };
    let real = mask("yolov8n-seg-192x320.onnx");
    assert!(real.contains(&255));
    assert!(mask("yolov8n-seg-384x640.onnx") == real);
    assert!(mask("yolov8n-seg.onnx") == real);
}

/// What is reordered for speed gives the same numbers.
#[test]
fn the_quicker_order_of_the_boxes_sides_changes_nothing() {
    let test = "the_quicker_order_of_the_boxes_sides_changes_nothing";
    let Some(models) = shared(test, "models") else { return };
    let Some(runtime) = runtime(test) else { return };
    let path = models.join("yolov8n-seg-192x320.onnx");
    let original = std::fs::read(&path).unwrap();
    let bytes = refit::refit(&original, (320, 192)).unwrap();
    let count = |model: &[u8]| model.windows(6).filter(|w| *w == b"MatMul").count();
    assert_eq!((count(&original), count(&bytes)), (0, 1), "the sum over the bins is a product of matrices");
    let mut seed = 1u32;
    let mut noise = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 24) as f32
    };
    let image: Vec<f32> = (0..3 * 192 * 320).map(|_| noise()).collect();
    let [expected, found] = [Model::File(&path), Model::Changed { path: &path, bytes: &bytes }].map(|model| {
        let mut session = Session::open(&runtime, model, Device::Cpu, 1).unwrap();
        session.run([1, 3, 192, 320], &image, |outputs| outputs[0].data.to_vec()).unwrap()
    });
    let worst = expected.iter().zip(&found).map(|(e, f)| (e - f).abs()).fold(0.0, f32::max);
    assert!(expected.len() == 116 * 1260 && expected.len() == found.len() && worst < 1e-3, "{worst}");
}

/// The masks of frames that are not as wide as the export: fitted, they are what they were with grey beside the picture,
/// but for what the network makes of the grey.
#[test]
fn fitted_masks_agree_with_padded_ones() {
    let test = "fitted_masks_agree_with_padded_ones";
    let (Some(models), Some(clip)) = (shared(test, "models"), shared(test, "media/clips/webcam_640x480.mp4")) else {
        return;
    };
    if runtime(test).is_none() {
        return;
    }
    let pictures: Vec<_> = mask_support::decode(&clip).into_iter().step_by(12).collect();
    assert!(pictures.len() >= 20);
    let masks_at = |mask_size| {
        let model = models.join("yolov8n-seg-384x640.onnx");
        masks(open(&Settings { mask_size, ..settings(&model) }, (640, 480)), &pictures)
    };
    let (fitted, padded) = (masks_at(None), masks_at(Some((640, 384))));
    let scores: Vec<f64> = fitted.iter().zip(&padded).map(|(f, p)| iou(f, p)).collect();
    let (mean, least) = (scores.iter().sum::<f64>() / scores.len() as f64, scores.iter().copied().fold(1.0, f64::min));
    eprintln!("fitted and padded masks: IoU {mean:.4}, at least {least:.4}");
    assert!(mean > 0.99 && least > 0.975, "{scores:.4?}");
}
