//! The files of a generator, found in folders as people lay them out. The files are tiny, and real safetensors.

use std::path::{Path, PathBuf};

use krea::error::{Error, Exit};
use krea::models::{Bundle, Environment, Library, Manifest, Offer, Transfer};

const DIT: &str = "blocks.0.self_attn.q.weight";
const DIT_DIFFUSERS: &str = "blocks.0.attn1.to_q.weight";
const VAE: &str = "decoder.conv1.weight";
const VAE_DIFFUSERS: &str = "decoder.conv_in.weight";
const TAEHV: &str = "decoder.1.weight";
const TEXT: &str = "blocks.0.attn.q.weight";
const TEXT_TRANSFORMERS: &str = "encoder.block.0.layer.0.SelfAttention.q.weight";

struct Models(tempfile::TempDir);

impl Models {
    /// Files of one tensor each; what is not weights is written as it is.
    fn new(files: &[(&str, &str)]) -> Self {
        let models = Self(tempfile::tempdir().unwrap());
        for (name, content) in files {
            match name.ends_with(".safetensors") {
                true => models.write(name, &safetensors(content)),
                false => models.write(name, content.as_bytes()),
            }
        }
        models
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn bundle(&self, tiny_vae: bool) -> Result<Bundle, Error> {
        bundle(self.0.path(), tiny_vae)
    }

    #[track_caller]
    fn refused(&self, tiny_vae: bool, words: &[&str]) {
        let error = self.bundle(tiny_vae).unwrap_err();
        assert_eq!(error.exit(), Exit::Model, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "'{word}' is not in: {error}");
        }
    }
}

fn bundle(model: &Path, tiny_vae: bool) -> Result<Bundle, Error> {
    let nowhere = Environment::from_lookup(|_| None);
    let library = Library::new(Manifest::built_in(), nowhere);
    library.bundle(model.to_str().unwrap(), tiny_vae, Offer::Refuse, &mut Transfer::silent())
}

fn safetensors(tensor: &str) -> Vec<u8> {
    let header = format!(r#"{{"{tensor}":{{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]}}}}"#);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat()
}

/// The head of a file that `torch.save` writes: a stored zip entry with the pickle, in which the names stand.
fn pickle(tensor: &str) -> Vec<u8> {
    let name = b"archive/data.pkl";
    let pickle = [b"\x80\x02}X", &(tensor.len() as u32).to_le_bytes()[..], tensor.as_bytes(), b"."].concat();
    let header = [b"PK\x03\x04".as_slice(), &[0; 22], &(name.len() as u16).to_le_bytes(), &[0; 2]].concat();
    [header.as_slice(), name, &pickle].concat()
}

const FLAT: [(&str, &str); 4] = [
    ("krea-realtime-video-14b.safetensors", "model.blocks.0.self_attn.q.weight"),
    ("Wan2_1_VAE_bf16.safetensors", VAE),
    ("umt5-xxl-enc-bf16.safetensors", TEXT),
    ("tokenizer.json", "{}"),
];

#[test]
fn files_beside_each_other() {
    let models = Models::new(&FLAT);
    let bundle = models.bundle(false).unwrap();
    assert_eq!(bundle.dit, models.path("krea-realtime-video-14b.safetensors"));
    assert_eq!(bundle.vae, Some(models.path("Wan2_1_VAE_bf16.safetensors")));
    assert_eq!(bundle.text, models.path("umt5-xxl-enc-bf16.safetensors"));
    assert_eq!(bundle.tokenizer, models.path("tokenizer.json"));
    assert_eq!((bundle.taehv, bundle.heads, bundle.text_len), (None, None, None));
}

#[test]
fn a_repository_of_wan_with_pickles_and_its_config() {
    let models = Models::new(&[
        ("diffusion_pytorch_model.safetensors", DIT),
        ("config.json", r#"{"num_heads": 12, "text_len": 512}"#),
        ("google/umt5-xxl/tokenizer.json", "{}"),
        ("README.md", "#"),
    ]);
    models.write("Wan2.1_VAE.pth", &pickle(VAE));
    models.write("models_t5_umt5-xxl-enc-bf16.pth", &pickle(TEXT));
    let bundle = models.bundle(false).unwrap();
    assert_eq!((bundle.heads, bundle.text_len), (Some(12), Some(512)));
    assert_eq!(bundle.vae, Some(models.path("Wan2.1_VAE.pth")));
    assert_eq!(bundle.text, models.path("models_t5_umt5-xxl-enc-bf16.pth"));
    assert_eq!(bundle.tokenizer, models.path("google/umt5-xxl/tokenizer.json"));
}

#[test]
fn a_repository_of_diffusers_with_shards() {
    let index = |tensor: &str, shard: &str| format!(r#"{{"weight_map": {{"{tensor}": "{shard}"}}}}"#);
    let models = Models::new(&[
        ("transformer/config.json", r#"{"num_attention_heads": 40}"#),
        ("transformer/diffusion_pytorch_model-00001-of-00001.safetensors", DIT_DIFFUSERS),
        (
            "transformer/diffusion_pytorch_model.safetensors.index.json",
            &index(DIT_DIFFUSERS, "diffusion_pytorch_model-00001-of-00001.safetensors"),
        ),
        ("vae/diffusion_pytorch_model.safetensors", VAE_DIFFUSERS),
        ("vae/config.json", "{}"),
        ("text_encoder/model-00001-of-00001.safetensors", TEXT_TRANSFORMERS),
        ("text_encoder/model.safetensors.index.json", &index(TEXT_TRANSFORMERS, "model-00001-of-00001.safetensors")),
        ("tokenizer/tokenizer.json", "{}"),
    ]);
    let bundle = models.bundle(false).unwrap();
    assert_eq!(bundle.dit, models.path("transformer/diffusion_pytorch_model.safetensors.index.json"));
    assert_eq!(bundle.vae, Some(models.path("vae/diffusion_pytorch_model.safetensors")));
    assert_eq!(bundle.text, models.path("text_encoder/model.safetensors.index.json"));
    assert_eq!((bundle.heads, bundle.text_len), (Some(40), None));

    std::fs::remove_file(models.path("transformer/diffusion_pytorch_model-00001-of-00001.safetensors")).unwrap();
    models.refused(false, &["diffusion_pytorch_model.safetensors.index.json", "00001-of-00001", "not there"]);
    std::fs::remove_file(models.path("text_encoder/model.safetensors.index.json")).unwrap();
    models.refused(false, &["index.json"]);
}

#[test]
fn names_that_say_nothing_are_told_apart_by_what_is_in_them() {
    let models = Models::new(&[
        ("a.safetensors", DIT),
        ("b.safetensors", VAE),
        ("c.safetensors", TEXT),
        ("d.safetensors", TAEHV),
        ("lora.safetensors", "diffusion_model.blocks.0.self_attn.q.lora_A.weight"),
        ("tokenizer.json", "{}"),
    ]);
    let wan = models.bundle(false).unwrap();
    assert_eq!((wan.dit, wan.vae, wan.taehv), (models.path("a.safetensors"), Some(models.path("b.safetensors")), None));
    let tiny = models.bundle(true).unwrap();
    assert_eq!((tiny.vae, tiny.taehv), (None, Some(models.path("d.safetensors"))));
}

#[test]
fn the_surer_name_wins_and_safetensors_before_pickle() {
    let short = Models::new(&FLAT[1..]);
    short.write("self_forcing_dmd.sft", &safetensors(DIT));
    assert_eq!(short.bundle(false).unwrap().dit, short.path("self_forcing_dmd.sft"));
    let models = Models::new(&FLAT);
    models.write("diffusion_pytorch_model.safetensors", &safetensors(DIT));
    models.write("krea-realtime-video-14b.pt", &pickle(DIT));
    std::os::unix::fs::symlink(models.path("tokenizer.json"), models.path("again")).unwrap();
    std::os::unix::fs::symlink(
        models.path("krea-realtime-video-14b.safetensors"),
        models.path("my-krea-realtime-link.safetensors"),
    )
    .unwrap();
    assert_eq!(models.bundle(false).unwrap().dit, models.path("krea-realtime-video-14b.safetensors"));
}

#[test]
fn two_that_are_equally_good_are_both_named() {
    let models = Models::new(&FLAT);
    models.write("self_forcing_dmd.safetensors", &safetensors(DIT));
    models.refused(false, &["more than one", "krea-realtime-video-14b.safetensors", "self_forcing_dmd.safetensors"]);
    models.write("self_forcing_dmd.sft", &safetensors(DIT));
    models.refused(false, &["more than one"]);
    let named = bundle(&models.path("self_forcing_dmd.safetensors"), false).unwrap();
    assert_eq!(named.dit, models.path("self_forcing_dmd.safetensors"));
    assert_eq!(named.vae, Some(models.path("Wan2_1_VAE_bf16.safetensors")));
    let error = bundle(&models.path("Wan2_1_VAE_bf16.safetensors"), false).unwrap_err().to_string();
    assert!(error.contains("is a VAE, not a transformer"), "{error}");
}

#[test]
fn what_is_missing_is_named_with_what_was_looked_for() {
    for (i, words) in [["transformer", "krea"], ["no VAE", "wan*vae*"], ["text encoder", "umt5"], ["tokenizer", "json"]]
        .into_iter()
        .enumerate()
    {
        let mut files = FLAT.to_vec();
        files.remove(i);
        let models = Models::new(&files);
        models.refused(false, &[words[0], words[1], models.0.path().to_str().unwrap(), "krea models pull"]);
    }
    Models::new(&[]).refused(false, &["no transformer", "no VAE", "no text encoder", "no tokenizer"]);
    Models::new(&FLAT).refused(true, &["no TAEHV", "without --tiny-vae"]);
    let mut files = FLAT.to_vec();
    files[1] = ("taew2_1.safetensors", TAEHV);
    Models::new(&files).refused(false, &["no VAE", "--tiny-vae"]);
    files[1] = ("Wan2.1_VAE.safetensors", TEXT);
    files.remove(2);
    Models::new(&files).refused(false, &["no VAE", "Wan2.1_VAE.safetensors is the text encoder"]);
}

#[test]
fn a_file_that_is_cut_short_is_not_passed_over() {
    let models = Models::new(&FLAT);
    let whole = safetensors(DIT);
    models.write("self_forcing_dmd.safetensors", &whole[..whole.len() - 3]);
    assert!(models.bundle(false).is_ok(), "another file is just as likely to be meant");
    models.write("krea-realtime-video-14b.safetensors", &whole[..whole.len() - 3]);
    models.refused(false, &["cut short", "Fetch it again"]);
}

#[test]
fn a_config_that_makes_no_sense_is_told() {
    for (text, word) in [("{", "EOF"), (r#"{"num_heads": 0}"#, "num_heads"), (r#"{"text_len": "x"}"#, "text_len")] {
        let models = Models::new(&FLAT);
        models.write("config.json", text.as_bytes());
        models.refused(false, &["config.json", word]);
    }
}

#[test]
fn what_is_no_folder_and_no_name_is_told() {
    let error = bundle(Path::new("krea-15b"), false).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().contains("krea-14b, self-forcing-1.3b"), "{error}");
    let error = bundle(Path::new("yolov8n-seg"), false).unwrap_err();
    assert!(error.exit() == Exit::Usage && error.to_string().contains("cannot generate"), "{error}");
    let error = bundle(Path::new("no/such/folder"), false).unwrap_err();
    assert!(error.exit() == Exit::Model && error.to_string().contains("no/such/folder"), "{error}");
}
