//! Prompt cleaning, tokens and the text encoder.

use krea_wan::text::{Tokenizer, Umt5, Umt5Constants, clean_prompt, relative_bucket};
use krea_wan::weights::{Layout, Placement, Weights};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::case::Case;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Cleaning>,
    tokenizer: Tokens,
}

#[derive(Deserialize)]
struct Cleaning {
    input: String,
    output: String,
}

#[derive(Deserialize)]
struct Tokens {
    file: String,
    max_length: usize,
    pad_id: i64,
    eos_id: i64,
    cases: Vec<TokenCase>,
}

#[derive(Deserialize)]
struct TokenCase {
    input: String,
    cleaned: String,
    ids: Vec<i64>,
    mask: Vec<i64>,
}

/// Cases of kind `text`: every vector exactly.
pub(crate) fn run(case: &mut Case) {
    let text = std::fs::read_to_string(case.path()).expect("the vectors can be read");
    let vectors: Vectors = serde_json::from_str(&text).expect("the vectors can be parsed");
    assert!(!vectors.cases.is_empty() && !vectors.tokenizer.cases.is_empty());
    let wrong: Vec<String> = vectors
        .cases
        .iter()
        .filter(|vector| clean_prompt(&vector.input) != vector.output)
        .map(|vector| {
            let made = clean_prompt(&vector.input);
            format!("{:?} became {made:?}, not {:?}", vector.input, vector.output)
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let expected = &vectors.tokenizer;
    let tokenizer = Tokenizer::open(case.beside(&expected.file));
    let tokenizer = tokenizer.unwrap_or_else(|error| panic!("{error}"));
    for vector in &expected.cases {
        let cleaned = clean_prompt(&vector.input);
        assert_eq!(cleaned, vector.cleaned);
        let mut ids = tokenizer.encode(&cleaned, expected.max_length).expect("a prompt can be tokenized");
        assert_eq!(ids.last(), Some(&expected.eos_id), "{cleaned:?}");
        let mut mask = vec![1; ids.len()];
        ids.resize(expected.max_length, expected.pad_id);
        mask.resize(expected.max_length, 0);
        assert_eq!(ids, vector.ids, "{cleaned:?}");
        assert_eq!(mask, vector.mask, "{cleaned:?}");
    }
}

/// Cases of kind `umt5`, in every layout of the weights.
pub(crate) fn umt5(case: &mut Case) {
    let constants = Umt5Constants { max_distance: case.config("/max_dist"), eps: case.config("/eps") };
    let ids = case.tensor("in.ids");
    let mask = case.tensor("in.mask");
    let [prompts, length] = ids.size()[..] else {
        panic!("in.ids is not [prompts, length]");
    };
    let valid: Vec<i64> = case.config("/valid");

    for file in case.layouts() {
        let weights = Weights::open(&file, Layout::Umt5).unwrap_or_else(|error| panic!("{error}"));
        let umt5 =
            Umt5::load(weights, Placement::CPU_F32, Device::Cpu, constants).unwrap_or_else(|error| panic!("{error}"));
        let embeds: Vec<Tensor> = (0..prompts)
            .map(|row| {
                let count = mask.get(row).sum(Kind::Int64).int64_value(&[]);
                assert_eq!(count, valid[row as usize]);
                let tokens: Vec<i64> = Vec::try_from(ids.get(row).narrow(0, 0, count)).expect("ids are integers");
                umt5.encode(&tokens, length as usize).unwrap_or_else(|error| panic!("{error}"))
            })
            .collect();
        case.check("out.prompt_embeds", &Tensor::cat(&embeds, 0));
    }

    let buckets: i64 = case.config("/num_buckets");
    for (name, query) in [("mid.rel_bucket", 0), ("mid.rel_bucket_lastrow", length - 1)] {
        if case.has(name) {
            let row: Vec<i64> =
                (0..length).map(|key| relative_bucket(key - query, buckets, constants.max_distance)).collect();
            case.check(name, &Tensor::from_slice(&row).unsqueeze(0));
        }
    }
}
