//! What a session keeps between calls of the transformer: keys, values and tables.

use tch::{Device, Kind, Tensor};

use super::config::DitConfig;
use super::modulation::Modulations;
use super::rope::{self, Grid};
use crate::{Error, Result};

/// How large the cache of keys and values is and what of it is seen. All in latent frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Frames that the cache holds.
    pub capacity: i64,
    /// Frames at the front that are never evicted (attention sinks, arXiv 2309.17453).
    pub sink: i64,
    /// Frames that a query sees at most, counted back from the newest; `None` for all of them.
    pub attention: Option<i64>,
}

impl Window {
    /// A cache of `capacity` frames, all of them seen, none pinned.
    pub fn of(capacity: i64) -> Self {
        Window { capacity, sink: 0, attention: None }
    }
}

/// Keys (already rotated) and values of one block of the model, `[1, capacity, heads, head_dim]`.
#[derive(Debug)]
pub struct KeyValue {
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
}

impl KeyValue {
    fn zeros(tokens: i64, config: &DitConfig, kind: Kind, device: Device) -> Result<Self> {
        let shape = [1, tokens, config.heads, config.head_dim()];
        Ok(KeyValue {
            k: Tensor::f_zeros(&shape[..], (kind, device))?,
            v: Tensor::f_zeros(&shape[..], (kind, device))?,
        })
    }
}

/// The state of one generation: nothing in it is shared with another.
#[derive(Debug)]
pub struct DitState {
    pub(super) layers: Vec<KeyValue>,
    pub(super) cross: Vec<KeyValue>,
    pub(super) modulations: Modulations,
    window: Window,
    rows: i64,
    columns: i64,
    local_end: i64,
    global_end: i64,
    tables: Vec<(Grid, Tensor)>,
    head_dim: i64,
    device: Device,
}

/// Where the tokens of a call go in the cache and which keys they see, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    pub(super) write: i64,
    pub(super) first_key: i64,
    pub(super) end: i64,
}

impl DitState {
    pub(super) fn new(
        config: &DitConfig,
        window: Window,
        rows: i64,
        columns: i64,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        let tokens = window.capacity * rows * columns;
        let layers =
            (0..config.layers).map(|_| KeyValue::zeros(tokens, config, kind, device)).collect::<Result<_>>()?;
        Ok(DitState {
            layers,
            cross: Vec::new(),
            modulations: Modulations::default(),
            window,
            rows,
            columns,
            local_end: 0,
            global_end: 0,
            tables: Vec::new(),
            head_dim: config.head_dim(),
            device,
        })
    }

    /// Tokens in one latent frame.
    pub fn tokens_per_frame(&self) -> i64 {
        self.rows * self.columns
    }

    /// Rows and columns of tokens in a frame.
    pub fn rows_columns(&self) -> (i64, i64) {
        (self.rows, self.columns)
    }

    /// Keys and values of block `layer`.
    pub fn layer(&self, layer: usize) -> &KeyValue {
        &self.layers[layer]
    }

    /// Cross-attention keys and values of block `layer`, once a call has filled them.
    pub fn cross_layer(&self, layer: usize) -> Option<&KeyValue> {
        self.cross.get(layer)
    }

    /// Tokens written since the start, and tokens in the cache: the reference's
    /// `global_end_index` and `local_end_index`.
    pub fn ends(&self) -> (i64, i64) {
        (self.global_end, self.local_end)
    }

    /// Forgets the prompt; the next call fills the cross-attention cache from the prompt it is given.
    pub fn reset_prompt(&mut self) {
        self.cross.clear();
    }

    /// Forgets all frames, as at the start of a session.
    pub fn reset_frames(&mut self) {
        (self.local_end, self.global_end) = (0, 0);
    }

    /// Bytes of the tensors that this state holds.
    pub fn bytes(&self) -> u64 {
        let of = |t: &Tensor| t.numel() as u64 * t.kind().elt_size_in_bytes() as u64;
        let pairs = self.layers.iter().chain(&self.cross).map(|kv| of(&kv.k) + of(&kv.v)).sum::<u64>();
        pairs + self.tables.iter().map(|(_, table)| of(table)).sum::<u64>()
    }

    /// The rotary table of a grid, made once; the few newest are kept.
    pub(super) fn rope(&mut self, start: i64, frames: i64) -> Result<Tensor> {
        let grid = Grid { start, frames, rows: self.rows, columns: self.columns };
        if start + frames > rope::MAX_POSITION {
            return Err(Error::parameter(format!(
                "frame {} is past the {} positions of the model: reset the session",
                start + frames,
                rope::MAX_POSITION
            )));
        }
        if let Some((_, table)) = self.tables.iter().find(|(known, _)| *known == grid) {
            return Ok(table.shallow_clone());
        }
        if self.tables.len() == 4 {
            drop(self.tables.remove(0));
        }
        let table = rope::table(grid, self.head_dim, self.device)?;
        self.tables.push((grid, table.shallow_clone()));
        Ok(table)
    }

    /// Makes room for `frames` frames whose first has the position `start`, evicting the oldest
    /// that are not pinned, and says where they go.
    pub(super) fn append(&mut self, start: i64, frames: i64) -> Result<Slots> {
        let per_frame = self.tokens_per_frame();
        let (new, capacity) = (frames * per_frame, self.window.capacity * per_frame);
        let end = start * per_frame + new;
        let mut local = self.local_end + end - self.global_end;
        if end > self.global_end && new + self.local_end > capacity {
            let evicted = new + self.local_end - capacity;
            let sink = self.window.sink * per_frame;
            let kept = self.local_end - evicted - sink;
            if kept < 0 {
                return Err(Error::parameter(format!(
                    "a window of {} frames has no room for {frames} new ones",
                    self.window.capacity
                )));
            }
            for layer in &self.layers {
                for cache in [&layer.k, &layer.v] {
                    // The ranges overlap, so the kept part goes through a copy.
                    let old = cache.f_narrow(1, sink + evicted, kept)?;
                    let mut moved = old.f_empty_like()?;
                    moved.f_copy_(&old)?;
                    cache.f_narrow(1, sink, kept)?.f_copy_(&moved)?;
                }
            }
            local -= evicted;
        }
        if local < new || local > capacity {
            return Err(Error::parameter(format!(
                "frames {start} to {} do not follow what is in the cache",
                start + frames
            )));
        }
        (self.local_end, self.global_end) = (local, end);
        let seen = self.window.attention.map_or(local, |frames| frames * per_frame);
        Ok(Slots { write: local - new, first_key: (local - seen).max(0), end: local })
    }

    /// Starts the cache anew with `frames` frames of clean context.
    pub(super) fn restart(&mut self, frames: i64) -> Result<()> {
        if frames > self.window.capacity {
            return Err(Error::parameter(format!(
                "{frames} context frames do not fit into a window of {}",
                self.window.capacity
            )));
        }
        self.local_end = frames * self.tokens_per_frame();
        self.global_end = self.local_end;
        Ok(())
    }
}
