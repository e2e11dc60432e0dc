//! Files of tensors: finds them, maps them, and lists what lies where.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use super::{Weight, pickle};
use crate::{Error, Result};

/// One file, mapped for reading.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    map: Mmap,
}

/// One tensor in a mapped file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) source: Arc<Source>,
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<i64>,
    /// In elements; contiguous tensors have none.
    pub(crate) strides: Vec<i64>,
    /// Where the first element lies, in bytes from the start of the file.
    pub(crate) offset: usize,
    /// How many bytes belong to the tensor from there on.
    pub(crate) len: usize,
}

impl Entry {
    /// Bytes of the elements themselves.
    pub(crate) fn bytes(&self) -> u64 {
        (self.shape.iter().product::<i64>().max(0) as u64) * self.kind.elt_size_in_bytes() as u64
    }

    /// The tensor over the file's memory, without a copy unless the file misaligns it.
    pub(crate) fn weight(&self) -> Result<Weight> {
        let data = &self.source.map[self.offset..self.offset + self.len];
        let aligned = data.as_ptr().align_offset(self.kind.elt_size_in_bytes()) == 0;
        if !self.strides.is_empty() {
            // A turned view of a storage, as torch may save one: brought in order.
            let storage =
                Tensor::f_from_data_size(data, &[self.len as i64 / self.kind.elt_size_in_bytes() as i64], self.kind)?;
            return Ok(Weight::owned(storage.f_as_strided(&self.shape, &self.strides, None)?.f_contiguous()?));
        }
        if data.is_empty() || !aligned {
            return Ok(Weight::owned(Tensor::f_from_data_size(data, &self.shape, self.kind)?));
        }
        // SAFETY: `data` lies in the map, which the weight keeps alive through its Arc; the
        // shape was checked to fill `len` when the entry was made; the map is read-only and no code of this package writes to a weight.
        let tensor = unsafe { Tensor::f_from_blob(data.as_ptr(), &self.shape, &[], self.kind, Device::Cpu)? };
        Ok(Weight { tensor, _map: Some(self.source.clone()) })
    }
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        // SAFETY: the map is read-only and private. Another program that truncates the file while
        // it is mapped would end this process with SIGBUS; weights files are replaced by renaming.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Source { path: path.to_owned(), map })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// The weight files that `path` stands for: itself, the shards of an index, or what a folder holds.
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_dir() {
        return files_in_folder(path);
    }
    if path.to_string_lossy().ends_with(".index.json") {
        return files_of_index(path);
    }
    Ok(vec![path.to_owned()])
}

fn files_in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for item in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        names.push(item.map_err(|e| Error::io(folder, e))?.path());
    }
    names.sort();
    let ending =
        |end: &str| -> Vec<PathBuf> { names.iter().filter(|n| n.to_string_lossy().ends_with(end)).cloned().collect() };

    if let [index] = ending(".safetensors.index.json").as_slice() {
        return files_of_index(index);
    }
    let shards: Vec<PathBuf> =
        ending(".safetensors").into_iter().filter(|n| n.to_string_lossy().contains("-of-")).collect();
    if !shards.is_empty() {
        return Ok(shards);
    }
    for end in [".safetensors", ".pth", ".pt"] {
        match ending(end).as_slice() {
            [] => {}
            [one] => return Ok(vec![one.clone()]),
            many => {
                let list: Vec<_> = many.iter().filter_map(|n| n.file_name()).map(|n| n.to_string_lossy()).collect();
                return Err(Error::file(
                    folder,
                    format!("holds several weight files ({}): name one of them", list.join(", ")),
                ));
            }
        }
    }
    Err(Error::file(folder, "holds no .safetensors, .pth or .pt file"))
}

fn files_of_index(index: &Path) -> Result<Vec<PathBuf>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text = fs::read(index).map_err(|e| Error::io(index, e))?;
    let parsed: Index =
        serde_json::from_slice(&text).map_err(|e| Error::file(index, format!("not an index of shards: {e}")))?;
    let mut files: Vec<String> = parsed.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    let folder = index.parent().unwrap_or(Path::new("."));
    for file in &files {
        // A shard lies beside its index; anything else is not a name that a download would make.
        if Path::new(file).components().count() != 1 || file == ".." {
            return Err(Error::file(index, format!("names a shard outside its folder: {file}")));
        }
        if !folder.join(file).is_file() {
            return Err(Error::file(index, format!("the shard {file} is not there: the download is incomplete")));
        }
    }
    Ok(files.iter().map(|file| folder.join(file)).collect())
}

/// Maps one file and lists its tensors.
pub(crate) fn entries_of(path: &Path) -> Result<Vec<(String, Entry)>> {
    let source = Arc::new(Source::open(path)?);
    if source.bytes().starts_with(b"PK\x03\x04") {
        return pickle::entries(&source);
    }
    if source.bytes().starts_with(&[0x80, 0x02]) {
        return Err(Error::file(
            path,
            "is a pickle of torch before 1.6: save it again with a newer torch, or as safetensors",
        ));
    }
    let (header, metadata) = SafeTensors::read_metadata(source.bytes())
        .map_err(|e| Error::file(path, format!("is not a whole safetensors file ({e}): download it again")))?;
    let start = header + 8;
    let mut entries = Vec::new();
    for (name, info) in metadata.tensors() {
        let kind = kind_of(info.dtype).ok_or_else(|| {
            Error::file(path, format!("{name} is stored as {:?}, which is not supported", info.dtype))
        })?;
        let (from, to) = info.data_offsets;
        let shape = info.shape.iter().map(|&n| n as i64).collect();
        entries.push((
            name,
            Entry { source: source.clone(), kind, shape, strides: vec![], offset: start + from, len: to - from },
        ));
    }
    Ok(entries)
}

/// A tensor as safetensors writes it.
pub(crate) struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    pub(crate) fn of(tensor: &Tensor) -> Result<Self> {
        let dtype = KINDS.iter().find(|(_, kind)| *kind == tensor.kind()).map(|(dtype, _)| *dtype);
        let dtype =
            dtype.ok_or_else(|| Error::parameter(format!("{:?} cannot be kept as safetensors", tensor.kind())))?;
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        let count = bytes.len();
        tensor.f_contiguous()?.f_view([-1])?.f_view_dtype(Kind::Uint8)?.f_copy_data_u8(&mut bytes, count)?;
        Ok(Stored { dtype, shape: tensor.size().iter().map(|&n| n as usize).collect(), bytes })
    }
}

impl safetensors::View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

const KINDS: [(Dtype, Kind); 12] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F8_E4M3, Kind::Float8e4m3fn),
    (Dtype::F8_E5M2, Kind::Float8e5m2),
    (Dtype::F64, Kind::Double),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];

fn kind_of(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(known, _)| *known == dtype).map(|(_, kind)| *kind)
}
