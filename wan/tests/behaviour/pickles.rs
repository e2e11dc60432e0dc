//! `.pth` files, written here byte by byte: good ones are read, bad ones are refused by name.

use krea_wan::weights::{Layout, Weights};
use tch::{Kind, Tensor};

/// A zip archive of stored entries; checksums are left out, since no reader of tensors needs them.
fn zip(entries: &[(&str, &[u8])], method: u16) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let at = file.len() as u32;
        let sizes = [(data.len() as u32).to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        let name_len = (name.len() as u16).to_le_bytes();
        file.extend(
            [
                b"PK\x03\x04".as_slice(),
                &[0; 4],
                &method.to_le_bytes(),
                &[0; 8],
                &sizes,
                &name_len,
                &[0; 2],
                name.as_bytes(),
                data,
            ]
            .concat(),
        );
        directory.extend(
            [
                b"PK\x01\x02".as_slice(),
                &[0; 6],
                &method.to_le_bytes(),
                &[0; 8],
                &sizes,
                &name_len,
                &[0; 12],
                &at.to_le_bytes(),
                name.as_bytes(),
            ]
            .concat(),
        );
    }
    let (count, at, len) = (entries.len() as u16, file.len() as u32, directory.len() as u32);
    file.extend(directory);
    file.extend(
        [
            b"PK\x05\x06".as_slice(),
            &[0; 4],
            &count.to_le_bytes(),
            &count.to_le_bytes(),
            &len.to_le_bytes(),
            &at.to_le_bytes(),
            &[0; 2],
        ]
        .concat(),
    );
    file
}

fn text(s: &str) -> Vec<u8> {
    [b"X".as_slice(), &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat()
}

fn ints(values: &[u8]) -> Vec<u8> {
    let items: Vec<u8> = values.iter().flat_map(|&v| [b'K', v]).collect();
    [b"(".as_slice(), &items, b"t"].concat()
}

/// What torch writes for one tensor over a storage of floats.
fn tensor(key: &str, offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".as_slice(),
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text(key),
        &text("cpu"),
        b"K\x06tQK",
        &[offset],
        &ints(shape),
        &ints(strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"}(".as_slice(), &items, b"u"].concat()
}

fn pickle(value: Vec<u8>) -> Vec<u8> {
    [b"\x80\x02".as_slice(), &value, b"."].concat()
}

fn storage() -> Vec<u8> {
    (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

fn open(pickle: &[u8], method: u16) -> krea_wan::Result<Vec<(String, Tensor)>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.pth");
    std::fs::write(&path, zip(&[("archive/data.pkl", pickle), ("archive/data/0", &storage())], method)).unwrap();
    let tensors = Weights::open(&path, Layout::Plain)?.into_tensors()?;
    Ok(tensors.into_iter().map(|(name, weight)| (name, weight.copy())).collect())
}

fn refused(pickle: &[u8]) -> String {
    open(pickle, 0).unwrap_err().to_string()
}

#[test]
fn tensors_and_views_are_read() {
    let state = dict(&[
        ("plain", tensor("0", 0, &[2, 3], &[3, 1])),
        ("turned", tensor("0", 0, &[3, 2], &[1, 3])),
        ("tail", tensor("0", 4, &[2], &[1])),
    ]);
    let read = open(&pickle(state), 0).unwrap();
    let by_name = |name: &str| {
        Vec::<f32>::try_from(read.iter().find(|(n, _)| n == name).unwrap().1.contiguous().view([-1])).unwrap()
    };
    assert_eq!(by_name("plain"), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(by_name("turned"), [0., 3., 1., 4., 2., 5.]);
    assert_eq!(by_name("tail"), [4., 5.]);
    assert!(read.iter().all(|(_, t)| t.kind() == Kind::Float));
}

#[test]
fn what_torch_itself_saves_is_read() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/behaviour/state.pth");
    let read = Weights::open(path, Layout::Plain).unwrap().into_tensors().unwrap();
    let names: Vec<&str> = read.keys().map(String::as_str).collect();
    let module =
        ["0.bias", "0.weight", "1.bias", "1.num_batches_tracked", "1.running_mean", "1.running_var", "1.weight"];
    assert_eq!(names, [module.as_slice(), &["bfloat16", "half", "parameter", "part", "scalar", "turned"]].concat());
    let values = |name: &str| Vec::<f32>::try_from(read[name].to_kind(Kind::Float).flatten(0, -1)).unwrap();
    let line: Vec<f32> = (0..12u8).map(f32::from).collect();
    for name in ["bfloat16", "half", "parameter"] {
        assert_eq!(values(name), line, "{name}");
    }
    assert_eq!(values("0.weight"), line[..6]);
    assert_eq!((values("part"), read["part"].size()), (vec![5., 6., 9., 10.], vec![2, 2]));
    assert_eq!(values("turned"), [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
    assert_eq!((values("scalar"), read["scalar"].dim()), (vec![7.], 0));
    assert_eq!(
        (read["half"].kind(), read["bfloat16"].kind(), read["1.num_batches_tracked"].kind()),
        (Kind::Half, Kind::BFloat16, Kind::Int64)
    );
    assert!(read["parameter"].is_mapped(), "no copy");
}

#[test]
fn a_pickle_can_be_kept_as_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let (pth, kept) = (folder.path().join("state.pth"), folder.path().join("state.safetensors"));
    let state = pickle(dict(&[("model.w", tensor("0", 0, &[3, 2], &[1, 3]))]));
    std::fs::write(&pth, zip(&[("archive/data.pkl", &state), ("archive/data/0", &storage())], 0)).unwrap();
    Weights::open(&pth, Layout::Dit).unwrap().save(&kept).unwrap();
    let read = Weights::open(&kept, Layout::Plain).unwrap().into_tensors().unwrap();
    assert_eq!(Vec::<f32>::try_from(read["w"].flatten(0, -1)).unwrap(), [0., 3., 1., 4., 2., 5.]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing half written is left");
}

#[test]
fn the_averaged_generator_is_found_inside() {
    let inner = |offset| dict(&[("model.w", tensor("0", offset, &[1], &[1]))]);
    let state = dict(&[("step", b"K\x07".to_vec()), ("generator", inner(1)), ("generator_ema", inner(2))]);
    let read = open(&pickle(state), 0).unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].0.as_str(), read[0].1.double_value(&[0])), ("model.w", 2.0));
}

#[test]
fn a_call_of_anything_else_is_refused_by_its_name() {
    let marker = std::env::temp_dir().join("krea-wan-pickle-was-run");
    let _ = std::fs::remove_file(&marker);
    let command = format!("touch {}", marker.display());
    for (module, name) in
        [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("torch", "load"), ("collections", "Counter")]
    {
        let evil = [format!("c{module}\n{name}\n(").into_bytes(), text(&command), b"tR".to_vec()].concat();
        let error = refused(&pickle(dict(&[("w", evil)])));
        assert!(error.contains(&format!("{module}.{name}")) && error.contains("refused"), "{error}");
    }
    // The same by way of protocol 4's name from the stack.
    let evil = [text("os"), text("system"), b"\x93(".to_vec(), text(&command), b"tR".to_vec()].concat();
    assert!(refused(&pickle(evil)).contains("os.system"));
    assert!(!marker.exists(), "nothing was executed");
}

#[test]
fn instructions_that_make_objects_are_refused() {
    for instruction in [b"ios\nsystem\n".as_slice(), b"o", b"\x81", b"\x92", b"\x82\x01", b"Pid\n"] {
        let error = refused(&[b"\x80\x02(", instruction, b"."].concat());
        assert!(error.contains("instruction"), "{error}");
    }
}

#[test]
fn damage_is_refused_and_never_panics() {
    let good = pickle(dict(&[("w", tensor("0", 0, &[2, 3], &[3, 1]))]));
    for cut in 0..good.len() {
        assert!(open(&good[..cut], 0).is_err(), "cut at {cut}");
    }
    let outside =
        |offset, shape: &[u8], strides: &[u8]| refused(&pickle(dict(&[("w", tensor("0", offset, shape, strides))])));
    assert!(outside(1, &[2, 3], &[3, 1]).contains("past the end"));
    assert!(outside(0, &[2, 3], &[4, 1]).contains("past the end"));
    assert!(outside(0, &[2, 3], &[1]).contains("no sense"));
    assert!(refused(&pickle(dict(&[("w", tensor("1", 0, &[1], &[1]))]))).contains("no storage"));
    assert!(open(&good, 8).unwrap_err().to_string().contains("compressed"));
    assert!(refused(&pickle(b"}".to_vec())).contains("no tensor"));
    let itself = [b"\x80\x02}q\x00".as_slice(), &text("again"), b"h\x00s."].concat();
    assert!(refused(&itself).contains("nested"));
}
