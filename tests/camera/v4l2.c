/* Cameras of Video4Linux that exist only for a program that has this library in LD_PRELOAD.
 *
 * FAKE_V4L2 names a folder that stands for the root of the file system wherever cameras are looked for: what lies in it
 * under sys/class/video4linux, dev/videoN and dev/v4l is what the program sees there. dev/videoN is a text:
 *
 *   card Desk cam
 *   format YUYV 640x480 30 15        one line for each size of each format
 *   quiet                            perhaps: it does not tell its sizes
 *   output                           instead of formats: it takes pictures, as v4l2loopback does; written/videoN gets them
 *
 * and state/videoN another, which is read anew for each picture: busy, denied, stalled, black or ok, or hung,
 * which is stalled until the camera is started anew.
 * Removing dev/videoN unplugs the camera. YUYV, NV12 and GREY are drawn here: the left half red, the right half blue, a white bar
 * that moves; MJPG gives the files jpeg/WxH/N.jpg of the folder, one after the other. The log, FAKE_V4L2/log, has a line for
 * each S_FMT and STREAMON. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CAMERAS 8
#define BUFFERS 32
#define OFFSET(i) ((uint32_t)(i) << 24)

struct camera {
  int fd, nonblock, streaming, anew;
  char path[512];
  ino_t inode;
  uint32_t fourcc, width, height, size, fps, count;
  void *memory[BUFFERS];
  int queue[BUFFERS], queued;
  double begun;
  long sequence;
};

static struct camera cameras[CAMERAS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...)                                  \
  static type (*real)(__VA_ARGS__);                            \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* The path under the folder, if this is one that is looked for cameras in. */
static const char *moved(const char *path, char *to) {
  const char *root = getenv("FAKE_V4L2");
  if (!root || !path) return path;
  if (strncmp(path, "/dev/video", 10) && strncmp(path, "/dev/v4l", 8) && strncmp(path, "/sys/class/video4linux", 22))
    return path;
  snprintf(to, 512, "%s%s", root, path);
  return to;
}

static struct camera *camera_of(int fd) {
  for (int i = 0; i < CAMERAS; i++)
    if (fd >= 0 && cameras[i].path[0] && cameras[i].fd == fd) return &cameras[i];
  return NULL;
}

/* The description, as a text; empty once the camera is unplugged, or another one has come in its place. */
static int describe(struct camera *c, char *text, size_t size) {
  struct stat s;
  text[0] = 0;
  FILE *f = fopen(c->path, "r");
  if (!f) return 0;
  int there = fstat(fileno(f), &s) == 0 && s.st_ino == c->inode;
  size_t n = there ? fread(text, 1, size - 1, f) : 0;
  text[n] = 0;
  fclose(f);
  char path[600];
  snprintf(path, sizeof path, "%s/state/%s", getenv("FAKE_V4L2"), strrchr(c->path, '/') + 1);
  f = fopen(path, "r");
  if (!f) return there;
  n += snprintf(text + n, size - n, "state ");
  n += fread(text + n, 1, size - 1 - n, f);
  text[n] = 0;
  fclose(f);
  return there;
}

static int is(const char *text, const char *state) {
  char line[64];
  snprintf(line, sizeof line, "state %s\n", state);
  return strstr(text, line) != NULL;
}

static void note(struct camera *c, const char *what) {
  char path[600];
  snprintf(path, sizeof path, "%s/log", getenv("FAKE_V4L2"));
  FILE *f = fopen(path, "a");
  if (!f) return;
  fprintf(f, "%s %s %.4s %ux%u@%u\n", strrchr(c->path, '/') + 1, what, (char *)&c->fourcc, c->width, c->height, c->fps);
  fclose(f);
}

/* The n-th line of the formats. */
struct line { char fourcc[5]; uint32_t width, height, fps[8], rates; };

static int format_line(const char *text, int n, struct line *out) {
  for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
    int used = 0;
    memset(out, 0, sizeof *out);
    if (sscanf(p, "format %4c %ux%u%n", out->fourcc, &out->width, &out->height, &used) < 3 || n-- > 0) continue;
    const char *rates = p + used;
    while (out->rates < 8 && sscanf(rates, " %u%n", &out->fps[out->rates], &used) == 1 && *rates != '\n')
      out->rates++, rates += used;
    return 1;
  }
  return 0;
}

static uint32_t code(const char *f) { return v4l2_fourcc(f[0], f[1], f[2], f[3]); }

static uint32_t picture_size(struct camera *c) {
  uint32_t pixels = c->width * c->height;
  switch (c->fourcc) {
    case V4L2_PIX_FMT_GREY: return pixels;
    case V4L2_PIX_FMT_NV12: return pixels * 3 / 2;
    default: return pixels * 2;
  }
}

static uint32_t draw(struct camera *c, uint8_t *to, const char *text, long n) {
  uint32_t w = c->width, h = c->height, black = is(text, "black");
  if (c->fourcc == V4L2_PIX_FMT_MJPEG) {
    char path[600];
    size_t got = 0;
    for (int again = 0; again < 2 && !got; again++) {
      /* After the last one, the first. */
      snprintf(path, sizeof path, "%s/jpeg/%ux%u/%ld.jpg", getenv("FAKE_V4L2"), w, h, again ? 1 : n % 30 + 1);
      FILE *f = fopen(path, "r");
      if (!f) continue;
      got = fread(to, 1, c->size, f);
      fclose(f);
    }
    return got;
  }
  uint32_t bar = (n * 8) % w & ~1u;
  for (uint32_t y = 0; y < h; y++)
    for (uint32_t x = 0; x < w; x++) {
      int white = x >= bar && x < bar + 8, left = x < w / 2;
      /* BT.601, limited: red 81 90 240, blue 41 240 110, white 235 128 128. */
      uint8_t luma = black ? 16 : white ? 235 : left ? 81 : 41;
      uint8_t cb = black || white ? 128 : left ? 90 : 240, cr = black || white ? 128 : left ? 240 : 110;
      if (c->fourcc == V4L2_PIX_FMT_YUYV) {
        to[(y * w + x) * 2] = luma;
        to[(y * w + x) * 2 + 1] = x & 1 ? cr : cb;
      } else {
        to[y * w + x] = luma;
        if (c->fourcc == V4L2_PIX_FMT_NV12 && !(y & 1)) to[w * h + y / 2 * w + x] = x & 1 ? cr : cb;
      }
    }
  return c->size;
}

static int fails(int error) {
  errno = error;
  return -1;
}

static int ready(struct camera *c, const char *text) {
  if (is(text, "stalled") || (is(text, "hung") && !c->anew) || !c->queued) return 0;
  return c->begun + (double)c->sequence / c->fps <= now();
}

static int dequeue(struct camera *c, struct v4l2_buffer *b, char *text, size_t size) {
  for (;;) {
    if (!describe(c, text, size)) return fails(ENODEV);
    if (!c->streaming) return fails(EINVAL);
    if (ready(c, text)) break;
    if (c->nonblock) return fails(EAGAIN);
    pthread_mutex_unlock(&lock);
    usleep(2000);
    pthread_mutex_lock(&lock);
  }
  /* What was not fetched in time was overwritten. */
  long elapsed = (long)((now() - c->begun) * c->fps);
  if (elapsed > c->sequence + 4) c->sequence = elapsed;
  int index = c->queue[0];
  memmove(c->queue, c->queue + 1, --c->queued * sizeof *c->queue);
  double at = now();
  memset(b, 0, sizeof *b);
  b->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  b->memory = V4L2_MEMORY_MMAP;
  b->index = index;
  b->length = c->size;
  b->bytesused = draw(c, c->memory[index], text, c->sequence);
  b->sequence = c->sequence++;
  b->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_DONE;
  b->timestamp.tv_sec = (long)at;
  b->timestamp.tv_usec = (long)((at - (long)at) * 1e6);
  return 0;
}

/* Whose buffers are taken: as in the kernel, nobody may change the format then, nor anybody else take any. */
static int owned(struct camera *c, int by_others) {
  for (int i = 0; i < CAMERAS; i++)
    if (cameras[i].path[0] && cameras[i].inode == c->inode && cameras[i].count && !(by_others && &cameras[i] == c)) return 1;
  return 0;
}

static int set_format(struct camera *c, struct v4l2_format *f, const char *text, int set) {
  struct v4l2_pix_format *pix = &f->fmt.pix;
  struct line l, best;
  if (f->type == V4L2_BUF_TYPE_VIDEO_OUTPUT && strstr(text, "output\n")) {
    if (!set) return 0;
    c->fourcc = pix->pixelformat, c->width = pix->width, c->height = pix->height;
    note(c, "S_FMT");
    return 0;
  }
  if (f->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fails(EINVAL);
  if (set && (is(text, "busy") || owned(c, 0))) return fails(EBUSY);
  if (!format_line(text, 0, &best)) return fails(EINVAL);
  for (int i = 0; set && format_line(text, i, &l); i++)
    if (code(l.fourcc) == pix->pixelformat && (l.width == pix->width && l.height == pix->height)) best = l;
  if (set || !c->width) {
    c->fourcc = code(best.fourcc), c->width = best.width, c->height = best.height, c->fps = best.fps[0];
    c->size = picture_size(c);
    if (set) note(c, "S_FMT");
  }
  memset(pix, 0, sizeof *pix);
  pix->width = c->width, pix->height = c->height, pix->pixelformat = c->fourcc, pix->sizeimage = c->size;
  pix->field = V4L2_FIELD_NONE, pix->bytesperline = c->fourcc == V4L2_PIX_FMT_YUYV ? c->width * 2 : c->width;
  return 0;
}

static int parameters(struct camera *c, struct v4l2_streamparm *p, const char *text, int set) {
  struct line l;
  struct v4l2_fract *t = &p->parm.capture.timeperframe;
  if (p->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fails(EINVAL);
  if (set && t->numerator)
    for (int i = 0; format_line(text, i, &l); i++)
      for (uint32_t r = 0; r < l.rates; r++)
        if (code(l.fourcc) == c->fourcc && l.width == c->width && l.height == c->height &&
            l.fps[r] == t->denominator / t->numerator)
          c->fps = l.fps[r];
  memset(&p->parm, 0, sizeof p->parm);
  p->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
  t->numerator = 1, t->denominator = c->fps;
  return 0;
}

static int enumerate(unsigned long request, void *arg, const char *text) {
  struct line l;
  struct v4l2_fmtdesc *d = arg;
  struct v4l2_frmsizeenum *s = arg;
  struct v4l2_frmivalenum *v = arg;
  char seen[16][5] = {{0}};
  int formats = 0, sizes = 0;
  if (request != VIDIOC_ENUM_FMT && strstr(text, "quiet\n")) return fails(ENOTTY);
  for (int i = 0; format_line(text, i, &l); i++) {
    int known = 0;
    for (int k = 0; k < formats; k++) known |= !strcmp(seen[k], l.fourcc);
    if (request == VIDIOC_ENUM_FMT && !known && formats == (int)d->index && d->type == V4L2_BUF_TYPE_VIDEO_CAPTURE) {
      d->pixelformat = code(l.fourcc);
      return 0;
    }
    if (!known) strcpy(seen[formats++], l.fourcc);
    if (request == VIDIOC_ENUM_FRAMESIZES && code(l.fourcc) == s->pixel_format && sizes++ == (int)s->index) {
      s->type = V4L2_FRMSIZE_TYPE_DISCRETE;
      s->discrete.width = l.width, s->discrete.height = l.height;
      return 0;
    }
    if (request == VIDIOC_ENUM_FRAMEINTERVALS && code(l.fourcc) == v->pixel_format && l.width == v->width &&
        l.height == v->height && v->index < l.rates) {
      v->type = V4L2_FRMIVAL_TYPE_DISCRETE;
      v->discrete.numerator = 1, v->discrete.denominator = l.fps[v->index];
      return 0;
    }
  }
  return fails(EINVAL);
}

static int control(struct camera *c, unsigned long request, void *arg) {
  char text[4096];
  struct v4l2_buffer *b = arg;
  if (!describe(c, text, sizeof text)) return fails(ENODEV);
  switch (request) {
    case VIDIOC_QUERYCAP: {
      struct v4l2_capability *cap = arg;
      memset(cap, 0, sizeof *cap);
      strcpy((char *)cap->driver, "fake"), strcpy((char *)cap->bus_info, "usb-fake-1");
      sscanf(text, "card %31[^\n]", (char *)cap->card);
      cap->device_caps = strstr(text, "output\n") ? V4L2_CAP_VIDEO_OUTPUT : V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
      cap->capabilities = cap->device_caps | V4L2_CAP_DEVICE_CAPS;
      return 0;
    }
    case VIDIOC_ENUM_FMT:
    case VIDIOC_ENUM_FRAMESIZES:
    case VIDIOC_ENUM_FRAMEINTERVALS: return enumerate(request, arg, text);
    case VIDIOC_G_FMT: return set_format(c, arg, text, 0);
    case VIDIOC_S_FMT: return set_format(c, arg, text, 1);
    case VIDIOC_G_PARM: return parameters(c, arg, text, 0);
    case VIDIOC_S_PARM: return parameters(c, arg, text, 1);
    case VIDIOC_G_INPUT: *(int *)arg = 0; return 0;
    case VIDIOC_S_INPUT: return 0;
    case VIDIOC_ENUMINPUT: {
      struct v4l2_input *in = arg;
      if (in->index) return fails(EINVAL);
      memset(in, 0, sizeof *in);
      in->type = V4L2_INPUT_TYPE_CAMERA;
      return 0;
    }
    case VIDIOC_REQBUFS: {
      struct v4l2_requestbuffers *r = arg;
      if (is(text, "busy") || owned(c, 1) || (r->count && c->streaming)) return fails(EBUSY);
      if (r->count > BUFFERS) r->count = BUFFERS;
      c->count = r->count, c->queued = 0;
      r->capabilities = 0;
      return 0;
    }
    case VIDIOC_QUERYBUF:
      if (b->index >= c->count) return fails(EINVAL);
      b->length = c->size, b->m.offset = OFFSET(b->index), b->flags = 0;
      return 0;
    case VIDIOC_QBUF:
      for (int i = 0; i < c->queued; i++)
        if (c->queue[i] == (int)b->index) return fails(EINVAL);
      if (b->index >= c->count || c->queued == BUFFERS) return fails(EINVAL);
      c->queue[c->queued++] = b->index;
      return 0;
    case VIDIOC_DQBUF: return dequeue(c, b, text, sizeof text);
    case VIDIOC_STREAMON:
      c->streaming = 1, c->anew = is(text, "hung"), c->begun = now(), c->sequence = 0;
      note(c, "STREAMON");
      return 0;
    case VIDIOC_STREAMOFF: c->streaming = 0, c->queued = 0; return 0;
    default: return fails(ENOTTY);
  }
}

static int open_camera(const char *path, int flags) {
  char text[4096];
  struct stat s;
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  pthread_mutex_lock(&lock);
  struct camera *c = NULL;
  for (int i = 0; i < CAMERAS && !c; i++)
    if (!cameras[i].path[0]) c = &cameras[i];
  if (!c || fstat(fd, &s)) abort();
  memset(c, 0, sizeof *c);
  snprintf(c->path, sizeof c->path, "%s", path);
  c->fd = fd, c->inode = s.st_ino, c->nonblock = (flags & O_NONBLOCK) != 0;
  describe(c, text, sizeof text);
  int denied = is(text, "denied");
  if (denied) c->path[0] = 0;
  pthread_mutex_unlock(&lock);
  if (!denied) return fd;
  syscall(SYS_close, fd);
  return fails(EACCES);
}

static int is_node(const char *path) { return !strncmp(path, "/dev/video", 10) && getenv("FAKE_V4L2"); }

#define OPEN(name, before, pass, ...)                                          \
  int name(__VA_ARGS__, ...) {                                                 \
    char to[512];                                                              \
    va_list more;                                                              \
    va_start(more, flags);                                                     \
    mode_t mode = va_arg(more, mode_t);                                        \
    va_end(more);                                                              \
    if (is_node(path)) return open_camera(moved(path, to), flags);             \
    return syscall(SYS_openat, before, moved(path, to), flags, mode);          \
  }

OPEN(open, AT_FDCWD, , const char *path, int flags)
OPEN(open64, AT_FDCWD, , const char *path, int flags)
OPEN(openat, folder, , int folder, const char *path, int flags)
OPEN(openat64, folder, , int folder, const char *path, int flags)

/* What the C library calls where it checks that no mode is missing. */
int __open_2(const char *path, int flags) { return open(path, flags, 0); }

int __open64_2(const char *path, int flags) { return open(path, flags, 0); }

int close(int fd) {
  pthread_mutex_lock(&lock);
  struct camera *c = camera_of(fd);
  if (c) c->path[0] = 0, c->fd = -1;
  pthread_mutex_unlock(&lock);
  return syscall(SYS_close, fd);
}

ssize_t write(int fd, const void *data, size_t size) {
  char path[600] = "";
  pthread_mutex_lock(&lock);
  struct camera *c = camera_of(fd);
  if (c) snprintf(path, sizeof path, "%s/written/%s", getenv("FAKE_V4L2"), strrchr(c->path, '/') + 1);
  pthread_mutex_unlock(&lock);
  if (!path[0]) return syscall(SYS_write, fd, data, size);
  int file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  ssize_t written = file < 0 ? -1 : syscall(SYS_write, file, data, size);
  syscall(SYS_close, file);
  return written;
}

int ioctl(int fd, unsigned long request, ...) {
  va_list more;
  va_start(more, request);
  void *arg = va_arg(more, void *);
  va_end(more);
  pthread_mutex_lock(&lock);
  struct camera *c = camera_of(fd);
  int result = c ? control(c, (uint32_t)request, arg) : 0;
  pthread_mutex_unlock(&lock);
  return c ? result : (int)syscall(SYS_ioctl, fd, request, arg);
}

/* The crate v4l calls ioctl by its number. */
long syscall(long number, ...) {
  REAL(long, "syscall", long, ...);
  va_list more;
  long a[6];
  va_start(more, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(more, long);
  va_end(more);
  if (number == SYS_ioctl) {
    pthread_mutex_lock(&lock);
    struct camera *c = camera_of((int)a[0]);
    int result = c ? control(c, (uint32_t)a[1], (void *)a[2]) : 0;
    pthread_mutex_unlock(&lock);
    if (c) return result;
  }
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void *map(void *at, size_t length, int prot, int flags, int fd, off_t offset) {
  pthread_mutex_lock(&lock);
  struct camera *c = camera_of(fd);
  void *got = (void *)syscall(SYS_mmap, at, length, prot, c ? MAP_SHARED | MAP_ANONYMOUS : flags, c ? -1 : fd,
                              c ? 0 : offset);
  if (c) c->memory[(uint32_t)offset >> 24] = got;
  pthread_mutex_unlock(&lock);
  return got;
}

void *mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset) {
  return map(at, length, prot, flags, fd, offset);
}

void *mmap64(void *at, size_t length, int prot, int flags, int fd, off64_t offset) {
  return map(at, length, prot, flags, fd, offset);
}

int poll(struct pollfd *fds, nfds_t count, int timeout) {
  REAL(int, "poll", struct pollfd *, nfds_t, int);
  double end = now() + timeout / 1e3;
  while (count == 1) {
    char text[4096];
    pthread_mutex_lock(&lock);
    struct camera *c = camera_of(fds->fd);
    int there = c && describe(c, text, sizeof text);
    int done = c && (!there || !c->streaming || ready(c, text));
    pthread_mutex_unlock(&lock);
    if (!c) break;
    fds->revents = !done ? 0 : there && c->streaming ? POLLIN : POLLIN | POLLERR | POLLHUP;
    if (done) return 1;
    if (timeout >= 0 && now() >= end) return 0;
    struct timespec wait = {0, 2000000};
    if (nanosleep(&wait, NULL)) return -1; /* a signal */
  }
  return real(fds, count, timeout);
}

int statx(int folder, const char *restrict path, int flags, unsigned int mask, struct statx *restrict out) {
  char to[512];
  int result = syscall(SYS_statx, folder, moved(path, to), flags, mask, out);
  if (!result && is_node(path)) out->stx_mode = (out->stx_mode & ~S_IFMT) | S_IFCHR;
  return result;
}

DIR *opendir(const char *path) {
  REAL(DIR *, "opendir", const char *);
  char to[512];
  return real(moved(path, to));
}

ssize_t readlink(const char *restrict path, char *restrict out, size_t size) {
  char to[512];
  return syscall(SYS_readlinkat, AT_FDCWD, moved(path, to), out, size);
}
