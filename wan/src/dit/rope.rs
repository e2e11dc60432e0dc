//! Rotary positions in three axes (RoFormer, arXiv 2104.09864; the split of Wan 2.1).

use tch::{Device, Kind, Tensor};

use crate::Result;

const THETA: f64 = 10_000.0;

/// Positions per axis that the model was trained with.
pub const MAX_POSITION: i64 = 1024;

/// Which tokens a table is for: frames from `start`, all rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Position of the first frame.
    pub start: i64,
    /// Frames.
    pub frames: i64,
    /// Rows of tokens in a frame.
    pub rows: i64,
    /// Columns of tokens in a frame.
    pub columns: i64,
}

/// Pairs of a head of `head_dim` that turn with time, row and column.
pub fn split(head_dim: i64) -> [i64; 3] {
    let pairs = head_dim / 2;
    [pairs - 2 * (pairs / 3), pairs / 3, pairs / 3]
}

/// Unit complex numbers `[tokens, 1, head_dim / 2]` that rotate the pairs of each head.
/// Angles are computed in fp64 and kept in fp32.
pub fn table(grid: Grid, head_dim: i64, device: Device) -> Result<Tensor> {
    let frequencies =
        split(head_dim).map(|pairs| (0..pairs).map(|j| THETA.powf(-(j as f64) / pairs as f64)).collect::<Vec<f64>>());
    let mut values = Vec::with_capacity((grid.frames * grid.rows * grid.columns * head_dim) as usize);
    for frame in grid.start..grid.start + grid.frames {
        for row in 0..grid.rows {
            for column in 0..grid.columns {
                for (position, axis) in [frame, row, column].into_iter().zip(&frequencies) {
                    for frequency in axis {
                        let (sin, cos) = (position as f64 * frequency).sin_cos();
                        values.extend([cos as f32, sin as f32]);
                    }
                }
            }
        }
    }
    let tokens = grid.frames * grid.rows * grid.columns;
    let real = Tensor::f_from_slice(&values)?.f_view([tokens, 1, head_dim / 2, 2])?;
    Ok(real.f_view_as_complex()?.f_to_device(device)?)
}

/// Rotates `x` `[1, tokens, heads, head_dim]`, any kind; the result is fp32.
pub fn rotate(x: &Tensor, table: &Tensor) -> Result<Tensor> {
    let (batch, tokens, heads, dim) = x.size4()?;
    let pairs = x.f_to_kind(Kind::Float)?.f_reshape([batch, tokens, heads, dim / 2, 2])?.f_view_as_complex()?;
    let turned = pairs.f_mul(table)?;
    Ok(turned.f_view_as_real()?.f_view([batch, tokens, heads, dim])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_of_128_is_split_22_21_21() {
        assert_eq!(split(128), [22, 21, 21]);
        assert_eq!(split(32), [6, 5, 5]);
    }
}
