//! What a pipeline promises, held against sources, stages and sinks that misbehave.

use std::sync::atomic::AtomicU64;

use ffmpeg_next::Rational;
use ffmpeg_next::frame::Video;

use super::*;
use crate::frame::Time;

fn frame(index: u64) -> Frame {
    let time = Time { pts: index as i64, duration: 1, base: Rational(1, 30) };
    Frame::new(Video::empty(), index, time)
}

/// Counts up to a number, or for ever.
struct Counter {
    next: u64,
    last: u64,
}

impl Source for Counter {
    fn next(&mut self) -> Result<Option<Frame>> {
        self.next += 1;
        Ok((self.next <= self.last).then(|| frame(self.next - 1)))
    }
}

/// Does something at each frame.
struct At<F>(&'static str, F);

impl<F: FnMut(u64) -> Result<()> + Send> Stage for At<F> {
    fn name(&self) -> &'static str {
        self.0
    }
    fn push(&mut self, frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        (self.1)(frame.index)?;
        emit(frame)
    }
    fn finish(&mut self, _: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

/// Holds every frame back to the end.
struct Hoard(Vec<Frame>);

impl Stage for Hoard {
    fn name(&self) -> &'static str {
        "hoard"
    }
    fn push(&mut self, frame: Frame, _: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        self.0.push(frame);
        Ok(())
    }
    fn finish(&mut self, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        self.0.drain(..).try_for_each(emit)
    }
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<(Vec<u64>, Option<End>)>>);

impl Sink for Seen {
    fn write(&mut self, frame: Frame) -> Result<()> {
        lock(&self.0).0.push(frame.index);
        Ok(())
    }
    fn finish(&mut self, end: End) -> Result<()> {
        assert!(lock(&self.0).1.replace(end).is_none(), "finish is called once");
        Ok(())
    }
}

fn pipeline(last: u64, stages: Vec<Box<dyn Stage>>, sink: impl Sink + 'static) -> Pipeline {
    Pipeline {
        source: Box::new(Counter { next: 0, last }),
        stages,
        sink: Box::new(sink),
        flow: Flow::Lossless,
        live: false,
        max_age: None,
        control: Control::default(),
    }
}

#[test]
fn every_frame_arrives_in_order_also_those_held_back() {
    let seen = Seen::default();
    let mut meters = Vec::new();
    let stages: Vec<Box<dyn Stage>> = vec![Box::new(At("pass", |_| Ok(()))), Box::new(Hoard(Vec::new()))];
    pipeline(100, stages, seen.clone()).run(|m| meters = m.to_vec()).unwrap();
    let (frames, end) = &*lock(&seen.0);
    assert_eq!((frames, *end), (&(0..100).collect(), Some(End::Drained)));
    let count: Vec<_> = meters.iter().map(|m| (m.name, m.frames.load(Ordering::Relaxed))).collect();
    assert_eq!(count, [("source", 100), ("pass", 100), ("hoard", 100), ("sink", 100)]);
}

#[test]
fn the_first_error_wins_and_the_sink_still_finishes() {
    let seen = Seen::default();
    let fail = |index| if index == 5 { Err(Error::Device("out of memory".into())) } else { Ok(()) };
    let stages: Vec<Box<dyn Stage>> =
        vec![Box::new(At("before", |_| Ok(()))), Box::new(At("fails", fail)), Box::new(At("after", |_| Ok(())))];
    let error = pipeline(u64::MAX, stages, seen.clone()).run(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Device(m) if m == "out of memory"));
    let (frames, end) = &*lock(&seen.0);
    assert_eq!((frames.len(), *end), (5, Some(End::Failed)));
}

#[test]
fn a_panic_is_caught_and_names_the_stage() {
    let seen = Seen::default();
    let stages: Vec<Box<dyn Stage>> = vec![Box::new(At("shaky", |index| {
        assert!(index < 3, "index {index} is too much");
        Ok(())
    }))];
    let error = pipeline(u64::MAX, stages, seen.clone()).run(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("shaky: internal error: index 3 is too much"), "{text}");
    assert_eq!(lock(&seen.0).1, Some(End::Failed));
}

#[test]
fn a_sink_that_has_gone_stops_the_source_without_an_error() {
    struct Gone(u32);
    impl Sink for Gone {
        fn write(&mut self, _: Frame) -> Result<()> {
            self.0 += 1;
            if self.0 > 3 { Err(Error::Closed) } else { Ok(()) }
        }
        fn finish(&mut self, end: End) -> Result<()> {
            assert_eq!(end, End::Failed);
            Ok(())
        }
    }
    pipeline(u64::MAX, vec![Box::new(At("pass", |_| Ok(())))], Gone(0)).run(|_| ()).unwrap();
}

#[test]
fn a_stop_drains_and_a_second_one_drops() {
    for (abandon, end) in [(false, End::Drained), (true, End::Abandoned)] {
        let seen = Seen::default();
        let mut run = pipeline(u64::MAX, vec![Box::new(Hoard(Vec::new()))], seen.clone());
        let control = run.control.clone();
        run.stages.insert(0, {
            let control = control.clone();
            Box::new(At("stopper", move |index| {
                if index == 10 {
                    control.abandon.store(abandon, Ordering::Relaxed);
                    control.stop.store(true, Ordering::Relaxed);
                }
                Ok(())
            }))
        });
        run.run(|_| ()).unwrap();
        let (frames, ended) = &*lock(&seen.0);
        assert_eq!(*ended, Some(end));
        assert_eq!(frames.is_empty(), abandon, "{frames:?}");
        assert!(abandon || frames.len() > 10 && frames.iter().copied().eq(0..frames.len() as u64));
    }
}

#[test]
fn live_drops_the_oldest_and_counts_it() {
    let seen = Seen::default();
    let slow = At("slow", |_| {
        thread::sleep(Duration::from_millis(5));
        Ok(())
    });
    let mut run = pipeline(200, vec![Box::new(slow)], seen.clone());
    run.flow = Flow::Latest;
    let mut dropped = 0;
    run.run(|m| dropped = m[0].dropped.load(Ordering::Relaxed)).unwrap();
    let (frames, _) = &*lock(&seen.0);
    assert_eq!(frames.len() as u64 + dropped, 200);
    assert!(dropped > 0 && frames.is_sorted() && frames.last() == Some(&199), "the newest frame is shown");
}

#[test]
fn a_stage_that_hangs_can_be_told_from_one_that_waits() {
    let (release, wait) = bounded::<()>(0);
    let stage = At("hangs", move |_| {
        let _ = wait.recv();
        Ok(())
    });
    let mut release = Some(release);
    let mut named = Vec::new();
    pipeline(3, vec![Box::new(stage)], Seen::default())
        .run(|meters| {
            let stuck = |m: &&Arc<Meter>| m.stuck_for().is_some_and(|d| d > Duration::from_millis(50));
            named.extend(meters.iter().filter(stuck).map(|m| m.name));
            if !named.is_empty() {
                release = None;
            }
        })
        .unwrap();
    assert!(!named.is_empty() && named.iter().all(|n| *n == "hangs"), "{named:?}");
}

/// Frames that came now and then ever so long ago.
struct Aged(u64);

impl Source for Aged {
    fn next(&mut self) -> Result<Option<Frame>> {
        self.0 += 1;
        let age = Duration::from_secs(if self.0.is_multiple_of(2) { 5 } else { 0 });
        Ok((self.0 <= 10).then(|| Frame { arrived: Instant::now().checked_sub(age), ..frame(self.0) }))
    }
}

#[test]
fn what_is_too_old_is_not_worked_on() {
    let seen = Seen::default();
    let mut worked = 0;
    let mut run = pipeline(0, vec![Box::new(At("works", |_| Ok(())))], seen.clone());
    run.source = Box::new(Aged(0));
    run.max_age = Some(Duration::from_secs(1));
    let mut counts = (0, 0);
    run.run(|m| {
        worked = m[1].frames.load(Ordering::Relaxed);
        counts = (m[1].late.load(Ordering::Relaxed), m[2].late.load(Ordering::Relaxed));
        assert!(m[2].latency.max().is_none_or(|ms| ms < 1000.0));
    })
    .unwrap();
    assert_eq!((worked, counts, lock(&seen.0).0.clone()), (5, (5, 0), vec![1, 3, 5, 7, 9]));
}

#[test]
fn what_is_emitted_at_once_is_not_lost_to_itself() {
    struct Blocks(Vec<Frame>, Arc<AtomicU64>);
    impl Stage for Blocks {
        fn name(&self) -> &'static str {
            "blocks"
        }
        fn push(&mut self, frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
            self.0.push(frame);
            self.1.fetch_add(1, Ordering::Relaxed);
            if self.0.len() == 12 { self.0.drain(..).try_for_each(emit) } else { Ok(()) }
        }
        fn finish(&mut self, _: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
            Ok(())
        }
        fn burst(&self) -> usize {
            12
        }
    }
    /// Sees twelve frames come much faster than it can take them.
    struct Slow(Seen);
    impl Sink for Slow {
        fn write(&mut self, frame: Frame) -> Result<()> {
            thread::sleep(Duration::from_millis(2));
            self.0.write(frame)
        }
        fn finish(&mut self, end: End) -> Result<()> {
            self.0.finish(end)
        }
    }
    let (seen, taken) = (Seen::default(), Arc::<AtomicU64>::default());
    let mut run = pipeline(12, vec![Box::new(Blocks(Vec::new(), taken.clone()))], Slow(seen.clone()));
    run.flow = Flow::Latest;
    run.source = Box::new(Patient { given: 0, taken });
    run.run(|_| ()).unwrap();
    assert_eq!(lock(&seen.0).0, (0..12).collect::<Vec<_>>());
}

/// Twelve frames, each once the one before was taken, so that none is lost on the way there.
struct Patient {
    given: u64,
    taken: Arc<AtomicU64>,
}

impl Source for Patient {
    fn next(&mut self) -> Result<Option<Frame>> {
        while self.taken.load(Ordering::Relaxed) < self.given {
            thread::yield_now();
        }
        self.given += 1;
        Ok((self.given <= 12).then(|| frame(self.given - 1)))
    }
}

#[test]
fn a_slow_sink_is_given_the_newest_frames_too() {
    struct Slow(Seen);
    impl Sink for Slow {
        fn write(&mut self, frame: Frame) -> Result<()> {
            thread::sleep(Duration::from_millis(5));
            self.0.write(frame)
        }
        fn finish(&mut self, end: End) -> Result<()> {
            self.0.finish(end)
        }
    }
    let seen = Seen::default();
    let mut run = pipeline(500, vec![Box::new(At("pass", |_| Ok(())))], Slow(seen.clone()));
    run.flow = Flow::Latest;
    let mut lost = 0;
    run.run(|m| lost = m.iter().map(|m| m.lost()).sum()).unwrap();
    let frames = &lock(&seen.0).0;
    assert_eq!(frames.len() as u64 + lost, 500);
    assert_eq!(frames.last(), Some(&499));
}

#[test]
fn a_pause_stops_a_file_and_skips_what_is_live() {
    for live in [false, true] {
        let seen = Seen::default();
        let mut run = pipeline(300, Vec::new(), seen.clone());
        run.live = live;
        let control = run.control.clone();
        control.pause.store(true, Ordering::Relaxed);
        let (mut lost, begun) = (0, Instant::now());
        run.run(|m| {
            lost = m[0].lost();
            if !live && begun.elapsed() > Duration::from_millis(100) {
                assert!(m[1].frames.load(Ordering::Relaxed) == 0 || !control.paused());
                control.pause.store(false, Ordering::Relaxed);
            }
        })
        .unwrap();
        assert_eq!((lock(&seen.0).0.len(), lost), if live { (0, 300) } else { (300, 0) });
    }
}
