//! What travels down the pipeline: a picture in pooled memory, its own time, perhaps its mask.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use ffmpeg::Rational;
use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

/// One picture, its time stamp in the source's own time base, its index, perhaps its mask.
///
/// A frame is moved from stage to stage, never copied. It keeps the time that it was read with to the very end.
pub struct Frame {
    /// The pixels, in a planar format that [`Format::of`] knows.
    pub picture: Video,
    /// Position among the frames that the source gave out, from 0.
    pub index: u64,
    pub time: Time,
    /// When a live source got hold of it; `None` for what waits to be read, such as a file.
    pub arrived: Option<Instant>,
    /// How much of each pixel is person. Absent until the mask stage has seen the frame.
    pub mask: Option<Mask>,
    /// The picture before its background was replaced, kept only where someone wants to see it.
    pub before: Option<Video>,
    /// The picture before it was repainted, kept only where part of it is seen in the result.
    pub kept: Option<Video>,
}

impl Frame {
    /// A frame as a source gives it.
    pub fn new(picture: Video, index: u64, time: Time) -> Self {
        Self { picture, index, time, arrived: None, mask: None, before: None, kept: None }
    }
}

/// When a frame is shown, in units of `base` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    pub pts: i64,
    pub duration: i64,
    pub base: Rational,
}

impl Time {
    /// The time stamp in seconds.
    pub fn seconds(&self) -> f64 {
        self.pts as f64 * f64::from(self.base)
    }
}

/// Soft coverage of the frame by persons: 0 is background, 255 is person. Row-major, no padding, the frame's size.
pub struct Mask {
    pub width: usize,
    pub height: usize,
    pub alpha: Pooled<u8>,
}

/// A planar pixel format: Y, U, V or G, B, R in planes of their own, perhaps alpha; samples of 8 bits, or of 9 to 16
/// bits in little-endian `u16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub pixel: Pixel,
    /// Bits of a sample, 8..=16.
    pub depth: u8,
    /// Chroma is `width >> log2_chroma_w` (rounded up) samples wide; 0 for RGB.
    pub log2_chroma_w: u8,
    pub log2_chroma_h: u8,
    /// A fourth plane holds alpha.
    pub alpha: bool,
    /// Planes are G, B, R instead of Y, U, V.
    pub rgb: bool,
}

impl Format {
    /// Describes `pixel`, or `None` when its samples do not lie in planes of their own.
    pub fn of(pixel: Pixel) -> Option<Self> {
        // SAFETY: the descriptor table is static; a format without an entry gives null.
        let d = unsafe { ffi::av_pix_fmt_desc_get(pixel.into()).as_ref() }?;
        let has = |flag: u32| d.flags & u64::from(flag) != 0;
        let comps = &d.comp[..usize::from(d.nb_components)];
        let plane_each =
            comps.len() >= 3 && (0..comps.len() as i32).all(|p| comps.iter().filter(|c| c.plane == p).count() == 1);
        let depth = comps.first()?.depth;
        let bytes = if depth > 8 { 2 } else { 1 };
        let plain = comps.iter().all(|c| c.step == bytes && c.shift == 0 && c.offset == 0 && c.depth == depth);
        let odd = has(ffi::AV_PIX_FMT_FLAG_BE as u32)
            || has(ffi::AV_PIX_FMT_FLAG_PAL as u32)
            || has(ffi::AV_PIX_FMT_FLAG_BITSTREAM as u32)
            || has(ffi::AV_PIX_FMT_FLAG_HWACCEL as u32)
            || has(ffi::AV_PIX_FMT_FLAG_FLOAT as u32);
        (plane_each && plain && !odd && (8..=16).contains(&depth)).then_some(Self {
            pixel,
            depth: depth as u8,
            log2_chroma_w: d.log2_chroma_w,
            log2_chroma_h: d.log2_chroma_h,
            alpha: has(ffi::AV_PIX_FMT_FLAG_ALPHA as u32),
            rgb: has(ffi::AV_PIX_FMT_FLAG_RGB as u32),
        })
    }

    pub fn planes(&self) -> usize {
        if self.alpha { 4 } else { 3 }
    }

    /// The largest sample value, `2^depth - 1`.
    pub fn max(&self) -> u16 {
        ((1u32 << self.depth) - 1) as u16
    }

    /// Width and height of a plane of a picture of `width` x `height`.
    pub fn plane_size(&self, plane: usize, width: usize, height: usize) -> (usize, usize) {
        if plane == 1 || plane == 2 {
            let shrink = |n: usize, log2: u8| (n + (1 << log2) - 1) >> log2;
            (shrink(width, self.log2_chroma_w), shrink(height, self.log2_chroma_h))
        } else {
            (width, height)
        }
    }
}

/// True for RGB in any layout, and for palettes, whose entries are RGB.
pub fn is_rgb(pixel: Pixel) -> bool {
    flags(pixel) & (ffi::AV_PIX_FMT_FLAG_RGB as u64 | ffi::AV_PIX_FMT_FLAG_PAL as u64) != 0
}

pub fn has_alpha(pixel: Pixel) -> bool {
    flags(pixel) & ffi::AV_PIX_FMT_FLAG_ALPHA as u64 != 0
}

/// FFmpeg's `AV_PIX_FMT_FLAG_*` bits.
fn flags(pixel: Pixel) -> u64 {
    // SAFETY: the table of descriptors is static.
    unsafe { ffi::av_pix_fmt_desc_get(pixel.into()).as_ref() }.map_or(0, |d| d.flags)
}

/// The same layout without the deprecated name that means full range (yuvj420p is yuv420p).
pub fn plain(pixel: Pixel) -> Pixel {
    match pixel {
        Pixel::YUVJ420P => Pixel::YUV420P,
        Pixel::YUVJ422P => Pixel::YUV422P,
        Pixel::YUVJ444P => Pixel::YUV444P,
        Pixel::YUVJ440P => Pixel::YUV440P,
        Pixel::YUVJ411P => Pixel::YUV411P,
        other => other,
    }
}

/// A sample type that a plane can be read as.
pub trait Sample: Copy + Default + Send + Sync + Into<u32> + 'static {
    fn from_u32(v: u32) -> Self;
}
impl Sample for u8 {
    fn from_u32(v: u32) -> Self {
        v as u8
    }
}
impl Sample for u16 {
    fn from_u32(v: u32) -> Self {
        v as u16
    }
}

/// The samples of a plane and its stride in samples. `T` must be `u8` for a depth of 8 and `u16` above.
pub fn plane<T: Sample>(picture: &Video, index: usize) -> (&[T], usize) {
    let bytes = picture.data(index);
    // SAFETY: every bit pattern is a valid u8 or u16; FFmpeg aligns planes and strides to at least 16 bytes, so
    // nothing is lost to the unaligned ends, which the assertion checks.
    let (head, samples, tail) = unsafe { bytes.align_to::<T>() };
    assert!(head.is_empty() && tail.is_empty(), "planes are aligned");
    (samples, picture.stride(index) / size_of::<T>())
}

/// As [`plane`], for writing. The picture must be the only owner of its memory.
pub fn plane_mut<T: Sample>(picture: &mut Video, index: usize) -> (&mut [T], usize) {
    let stride = picture.stride(index) / size_of::<T>();
    let bytes = picture.data_mut(index);
    // SAFETY: as in `plane`.
    let (head, samples, tail) = unsafe { bytes.align_to_mut::<T>() };
    assert!(head.is_empty() && tail.is_empty(), "planes are aligned");
    (samples, stride)
}

/// True when no one else holds the picture's memory, so that it may be written to.
pub fn is_writable(picture: &Video) -> bool {
    // SAFETY: the pointer is a live AVFrame; the call only reads reference counts.
    unsafe { ffi::av_frame_is_writable(picture.as_ptr().cast_mut()) > 0 }
}

/// A second holder of the same pixels: nothing is copied, and neither may write to them any more.
pub fn reference(picture: &Video) -> Result<Video, ffmpeg::Error> {
    let mut second = Video::empty();
    // SAFETY: both are live AVFrames, and the second one holds nothing yet.
    let done = unsafe { ffi::av_frame_ref(second.as_mut_ptr(), picture.as_ptr()) };
    if done < 0 { Err(ffmpeg::Error::from(done)) } else { Ok(second) }
}

/// Copies time stamp, colour description and the like, but no pixels.
pub fn copy_props(from: &Video, to: &mut Video) {
    // SAFETY: both are live AVFrames.
    unsafe {
        ffi::av_frame_copy_props(to.as_mut_ptr(), from.as_ptr());
    }
}

/// Pictures of one format and size whose memory is used again once every holder has let go.
pub struct PicturePool {
    format: Pixel,
    width: u32,
    height: u32,
    buffers: *mut ffi::AVBufferPool,
}

// SAFETY: AVBufferPool is thread-safe by FFmpeg's contract.
unsafe impl Send for PicturePool {}

/// Row alignment in bytes that suits every SIMD kernel of FFmpeg.
const ALIGN: i32 = 64;

impl PicturePool {
    pub fn new(format: Pixel, width: u32, height: u32) -> Result<Self, ffmpeg::Error> {
        // SAFETY: plain arithmetic on the format's descriptor, then an allocation that is checked.
        let buffers = unsafe {
            let size = ffi::av_image_get_buffer_size(format.into(), width as i32, height as i32, ALIGN);
            if size < 0 {
                return Err(ffmpeg::Error::from(size));
            }
            // FFmpeg's kernels may read a little past the end of a plane.
            ffi::av_buffer_pool_init(size as usize + 2 * ALIGN as usize, None)
        };
        if buffers.is_null() {
            return Err(ffmpeg::Error::Other { errno: libc::ENOMEM });
        }
        Ok(Self { format, width, height, buffers })
    }

    /// A picture with undefined pixels that the caller alone holds.
    pub fn get(&mut self) -> Result<Video, ffmpeg::Error> {
        let mut picture = Video::empty();
        // SAFETY: the frame is fresh; its buffer comes from the pool, has the size that `new` computed with the same
        // arguments, and is owned by the frame through `buf[0]`.
        unsafe {
            let buffer = ffi::av_buffer_pool_get(self.buffers);
            if buffer.is_null() {
                return Err(ffmpeg::Error::Other { errno: libc::ENOMEM });
            }
            let frame = picture.as_mut_ptr();
            (*frame).buf[0] = buffer;
            (*frame).format = ffi::AVPixelFormat::from(self.format) as i32;
            (*frame).width = self.width as i32;
            (*frame).height = self.height as i32;
            let filled = ffi::av_image_fill_arrays(
                (*frame).data.as_mut_ptr(),
                (*frame).linesize.as_mut_ptr(),
                (*buffer).data,
                self.format.into(),
                self.width as i32,
                self.height as i32,
                ALIGN,
            );
            if filled < 0 {
                return Err(ffmpeg::Error::from(filled));
            }
            (*frame).extended_data = (*frame).data.as_mut_ptr();
        }
        Ok(picture)
    }
}

impl Drop for PicturePool {
    fn drop(&mut self) {
        // SAFETY: frees the pool once the last picture on loan has come back.
        unsafe { ffi::av_buffer_pool_uninit(&mut self.buffers) }
    }
}

/// Buffers that return to their pool when dropped.
pub struct Pool<T> {
    free: Arc<Mutex<Vec<Vec<T>>>>,
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self { free: self.free.clone() }
    }
}

impl<T: Copy + Default> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy + Default> Pool<T> {
    pub fn new() -> Self {
        Self { free: Arc::default() }
    }

    /// A buffer of `len` values whose contents are left over from its last use.
    pub fn get(&self, len: usize) -> Pooled<T> {
        let mut buffer = lock(&self.free).pop().unwrap_or_default();
        buffer.resize(len, T::default());
        Pooled { buffer, home: self.free.clone() }
    }
}

/// A buffer on loan from a [`Pool`].
pub struct Pooled<T> {
    buffer: Vec<T>,
    home: Arc<Mutex<Vec<Vec<T>>>>,
}

impl<T> std::ops::Deref for Pooled<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.buffer
    }
}

impl<T> std::ops::DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        lock(&self.home).push(std::mem::take(&mut self.buffer));
    }
}

/// A panic elsewhere does not make a list of spare buffers unusable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planar_formats_are_known_and_packed_ones_are_not() {
        let f = Format::of(Pixel::YUV420P).unwrap();
        assert_eq!((f.depth, f.log2_chroma_w, f.log2_chroma_h, f.alpha, f.rgb), (8, 1, 1, false, false));
        let f = Format::of(Pixel::YUVA444P10LE).unwrap();
        assert_eq!((f.depth, f.log2_chroma_w, f.alpha, f.max()), (10, 0, true, 1023));
        let f = Format::of(Pixel::GBRAP).unwrap();
        assert!(f.rgb && f.alpha && f.planes() == 4);
        for packed in [Pixel::RGB24, Pixel::NV12, Pixel::PAL8, Pixel::GRAY8, Pixel::YUV420P10BE, Pixel::YUYV422] {
            assert_eq!(Format::of(packed), None, "{packed:?}");
        }
    }

    #[test]
    fn odd_sizes_round_chroma_up() {
        let f = Format::of(Pixel::YUV420P).unwrap();
        assert_eq!(f.plane_size(1, 639, 479), (320, 240));
        assert_eq!(f.plane_size(0, 639, 479), (639, 479));
    }

    #[test]
    fn a_pool_reuses_memory_and_hands_out_sole_ownership() {
        let mut pool = PicturePool::new(Pixel::YUV420P, 33, 17).unwrap();
        let first = pool.get().unwrap();
        let address = first.data(0).as_ptr();
        assert!(is_writable(&first));
        let second = pool.get().unwrap();
        assert_ne!(address, second.data(0).as_ptr());
        drop(first);
        assert_eq!(address, pool.get().unwrap().data(0).as_ptr());
        let (samples, stride) = plane::<u8>(&second, 1);
        assert!(stride >= 17 && samples.len() == stride * 9);
    }
}
