//! Resize and resampling in time.

use std::collections::BTreeMap;

use krea_wan::preprocess::{resample_indices, resize_bicubic};

use crate::case::Case;

/// Cases of kind `preprocess`.
pub(crate) fn run(case: &mut Case) {
    let frames = case.tensor("in.frames");
    let [.., height, width] = case.tensor("out.bicubic").size()[..] else {
        panic!("out.bicubic has no height and width");
    };
    case.check("out.bicubic", &resize_bicubic(&frames, height, width));

    let lists: BTreeMap<String, Vec<usize>> = case.config("/resample_indices");
    assert!(!lists.is_empty(), "no lists of indices");
    for (pair, expected) in lists {
        let (have, want) = pair.split_once("->").expect("have->want");
        let number = |text: &str| text.parse::<usize>().expect("a number of frames");
        assert_eq!(resample_indices(number(have), number(want)), expected, "{pair}");
    }
}
