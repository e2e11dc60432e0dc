//! Weights files: every layout and packaging, and what is said when something is wrong.

use std::collections::BTreeMap;
use std::path::Path;

use krea_wan::dit::{Dit, DitOptions, Window};
use krea_wan::weights::{Layout, Placement, Weights};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tch::{Device, Kind, Tensor};

use crate::tiny;

type Tensors = BTreeMap<String, Tensor>;

/// The tiny transformer's tensors under their original names.
fn tensors() -> Tensors {
    let all = Weights::open(tiny::path("dit_krea_prefixed.safetensors"), Layout::Dit).unwrap().into_tensors().unwrap();
    all.into_iter().map(|(name, weight)| (name, weight.copy())).collect()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut data = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor
        .contiguous()
        .view([-1])
        .view_dtype(Kind::Uint8)
        .copy_data_u8(&mut data, tensor.numel() * tensor.kind().elt_size_in_bytes());
    data
}

fn save(tensors: &Tensors, path: &Path) {
    let dtype = |kind| match kind {
        Kind::Float => Dtype::F32,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Float8e4m3fn => Dtype::F8_E4M3,
        Kind::Float8e5m2 => Dtype::F8_E5M2,
        other => panic!("{other:?}"),
    };
    let data: Vec<_> = tensors
        .iter()
        .map(|(name, t)| (name, dtype(t.kind()), t.size().iter().map(|&n| n as usize).collect(), bytes(t)))
        .collect();
    let views = data
        .iter()
        .map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, Clone::clone(shape), data).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

fn load(path: &Path, options: DitOptions) -> krea_wan::Result<Dit> {
    Dit::load(Weights::open(path, Layout::Dit)?, options, Placement::CPU_F32)
}

/// One call of a model, to compare models by.
fn flow(dit: &Dit) -> Tensor {
    tch::set_num_threads(1);
    let mut state = dit.state(Window::of(3), 4, 6).unwrap();
    let x = tiny::frames(16, 4, 6).narrow(2, 0, 1).reshape([1, 1, 16, 4, 6]);
    dit.denoise(&mut state, &x, &[700.0], 0, &tiny::prompt(1), None).unwrap()
}

/// Equal but for the order of sums, which depends on where in memory a weight lies.
#[track_caller]
fn assert_near(made: &Tensor, expected: &Tensor, what: &str) {
    let error = (made - expected).abs().max().double_value(&[]);
    assert!(error < 1e-5, "{what}: {error}");
}

#[test]
fn every_prefix_shard_and_folder_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let expected = flow(&tiny::dit(Kind::Float));
    let all = tensors();
    for prefix in ["", "model.", "model.diffusion_model."] {
        let path = folder.path().join("one.safetensors");
        save(&all.iter().map(|(name, t)| (format!("{prefix}{name}"), t.shallow_clone())).collect(), &path);
        assert_near(&flow(&load(&path, tiny::OPTIONS).unwrap()), &expected, &format!("prefix {prefix:?}"));
        assert_near(&flow(&load(folder.path(), tiny::OPTIONS).unwrap()), &expected, "the folder of one file");
        std::fs::remove_file(path).unwrap();
    }
    assert_near(
        &flow(&load(&tiny::path("dit_diffusers.safetensors"), tiny::OPTIONS).unwrap()),
        &expected,
        "diffusers names",
    );

    let mut map = serde_json::Map::new();
    for (i, (name, _)) in all.iter().enumerate() {
        map.insert(name.clone(), format!("part-0000{}-of-00002.safetensors", i % 2 + 1).into());
    }
    for part in [1, 2] {
        let file = format!("part-0000{part}-of-00002.safetensors");
        let shard = all
            .iter()
            .filter(|(name, _)| map[*name] == file.as_str())
            .map(|(name, t)| (name.clone(), t.shallow_clone()))
            .collect();
        save(&shard, &folder.path().join(file));
    }
    let index = folder.path().join("part.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    assert_near(&flow(&load(&index, tiny::OPTIONS).unwrap()), &expected, "an index");
    assert_near(&flow(&load(folder.path(), tiny::OPTIONS).unwrap()), &expected, "the folder of an index");
    std::fs::remove_file(folder.path().join("part-00002-of-00002.safetensors")).unwrap();
    let error = load(&index, tiny::OPTIONS).unwrap_err().to_string();
    assert!(error.contains("part-00002-of-00002.safetensors"), "{error}");
}

#[test]
fn every_storage_is_near_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let expected = flow(&tiny::dit(Kind::Float));
    let spread = expected.abs().mean(Kind::Double).double_value(&[]);
    for (kind, allowed) in
        [(Kind::Half, 0.01), (Kind::BFloat16, 0.05), (Kind::Float8e4m3fn, 0.4), (Kind::Float8e5m2, 0.8)]
    {
        let path = folder.path().join("stored.safetensors");
        save(&tensors().into_iter().map(|(name, t)| (name, t.to_kind(kind))).collect(), &path);
        let made = flow(&load(&path, tiny::OPTIONS).unwrap());
        let error = (made - &expected).abs().mean(Kind::Double).double_value(&[]) / spread;
        assert!(error > 0.0 && error < allowed, "{kind:?}: {error}");
    }
    let fp8 =
        flow(&load(&tiny::path("dit_krea_prefixed.safetensors"), DitOptions { fp8: true, ..tiny::OPTIONS }).unwrap());
    let error = (fp8 - &expected).abs().mean(Kind::Double).double_value(&[]) / spread;
    assert!(error > 0.0 && error < 0.4, "narrowed on loading: {error}");
}

#[test]
fn a_scaled_fp8_weight_is_multiplied_by_its_scale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scaled.safetensors");
    let expected = flow(&tiny::dit(Kind::Float));
    let mut all = tensors();
    for (name, tensor) in tensors() {
        if let Some(base) = name.strip_suffix("ffn.0.weight") {
            all.insert(name.clone(), (&tensor * 64.0).to_kind(Kind::Float8e4m3fn));
            all.insert(format!("{base}ffn.0.scale_weight"), Tensor::from_slice(&[1f32 / 64.0]));
        }
    }
    save(&all, &path);
    let error = (flow(&load(&path, tiny::OPTIONS).unwrap()) - &expected).abs().mean(Kind::Double).double_value(&[]);
    assert!(error < 0.2 * expected.abs().mean(Kind::Double).double_value(&[]), "{error}");
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.safetensors");
    let mut all = tensors();
    all.remove("blocks.1.ffn.0.weight");
    all.insert("blocks.0.img_emb.weight".into(), Tensor::zeros([2], (Kind::Float, Device::Cpu)));
    all.insert("blocks.0.norm3.bias".into(), Tensor::zeros([3], (Kind::Float, Device::Cpu)));
    save(&all, &path);
    let error = load(&path, tiny::OPTIONS).unwrap_err().to_string();
    for expected in [
        "missing: blocks.1.ffn.0.weight",
        "surplus: blocks.0.img_emb.weight",
        "misshapen: blocks.0.norm3.bias has [3]",
        "wrong.safetensors",
    ] {
        assert!(error.contains(expected), "{expected} in {error}");
    }

    let vae = load(&tiny::path("vae_original_wan.safetensors"), tiny::OPTIONS).unwrap_err().to_string();
    assert!(vae.contains("patch_embedding.weight is missing") && vae.contains("transformer"), "{vae}");
}

#[test]
fn a_damaged_file_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(tiny::path("dit_krea_prefixed.safetensors")).unwrap();
    for (name, data) in [
        ("empty", &whole[..0]),
        ("short", &whole[..whole.len() / 2]),
        ("header", &whole[..100]),
        ("text", b"<html>404</html>".as_slice()),
    ] {
        let path = folder.path().join(format!("{name}.safetensors"));
        std::fs::write(&path, data).unwrap();
        let error = load(&path, tiny::OPTIONS).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    let error = load(&folder.path().join("absent.safetensors"), tiny::OPTIONS).unwrap_err();
    assert!(matches!(error, krea_wan::Error::Io { .. }), "{error}");
    let error = load(folder.path(), tiny::OPTIONS).unwrap_err().to_string();
    assert!(error.contains("several weight files"), "{error}");
}

#[test]
fn a_weight_of_the_right_kind_stays_in_the_map() {
    let mut weights = Weights::open(tiny::path("dit_krea_prefixed.safetensors"), Layout::Dit).unwrap();
    let name = "blocks.0.ffn.0.weight";
    let shape = weights.shape(name).unwrap().to_vec();
    assert!(weights.take(name, &shape, Placement::CPU_F32).unwrap().is_mapped());
    let name = "blocks.1.ffn.0.weight";
    let other = weights.take(name, &shape, Placement { device: Device::Cpu, kind: Kind::BFloat16 }).unwrap();
    assert!(!other.is_mapped() && other.kind() == Kind::BFloat16);
}
