/* The C interface of krea-wan, version 1. The rules of threads, errors and text are in src/abi/mod.rs. */
#ifndef KREA_WAN_H
#define KREA_WAN_H

#include <stddef.h>
#include <stdint.h>

#define KREA_WAN_ABI_VERSION 1u

/* What every function that can fail returns. */
enum krea_wan_code {
    KREA_WAN_OK = 0,
    KREA_WAN_FAILED = 1,
    KREA_WAN_PARAMETER = 2,
    KREA_WAN_INPUT = 3,     /* a file cannot be read */
    KREA_WAN_WEIGHTS = 4,   /* a file is not the weights that it should be */
    KREA_WAN_DEVICE = 5,
    KREA_WAN_MEMORY = 6,
    KREA_WAN_CANCELLED = 7,
    KREA_WAN_BUSY = 8,      /* another call on this session is running */
    KREA_WAN_PANIC = 9      /* a defect was caught at the border */
};

enum krea_wan_input { KREA_WAN_INPUT_NONE = 0, KREA_WAN_INPUT_VIDEO = 1, KREA_WAN_INPUT_LIVE = 2 };

typedef struct krea_wan_models krea_wan_models;
typedef struct krea_wan_session krea_wan_session;

/* A place for a sentence in UTF-8, without a closing NUL; `length` says how much was written. */
typedef struct { uint8_t *text; size_t capacity; size_t length; } krea_wan_error;

/* Packed RGB, `count * height * width * 3` bytes. */
typedef struct { const uint8_t *data; uint32_t count; uint32_t width; uint32_t height; } krea_wan_frames;

/* A flag of a block: some of its numbers are infinite or not numbers, and its frames are worth nothing. */
#define KREA_WAN_BLOCK_NOT_FINITE 1u

/* Seconds are those of encoding, of the transformer, and of decoding. */
typedef struct { uint64_t index; uint32_t frames; uint32_t flags; double seconds[3]; } krea_wan_block;

/* Called before each call of the transformer; a value other than 0 cancels the block. */
typedef int32_t (*krea_wan_progress)(void *user, uint64_t block, uint32_t done, uint32_t total);

/* The first question; another version must not be used. */
uint32_t krea_wan_abi_version(void);

/* JSON: {"files": {"dit", "vae" | "taehv", "text", "tokenizer"}, "device", "precision", "fp8", "text_on_cpu",
   "threads", "heads", "text_len", "fit": {"width", "height", "block", "window", "input", "sessions"}}; all but "files"
   are optional, unknown names are refused. With "fit", models that do not fit the free memory are refused. */
int32_t krea_wan_models_open(const uint8_t *json, size_t json_len, krea_wan_models **out, krea_wan_error *error);

/* Of the same JSON with its "fit": {"parts": {name: bytes}, "total": bytes, "free": bytes or null}. Loads nothing. */
int32_t krea_wan_plan(const uint8_t *json, size_t json_len, uint8_t *text, size_t capacity, size_t *written,
                      krea_wan_error *error);

/* Device and precisions in use, in words. */
int32_t krea_wan_models_describe(const krea_wan_models *models, uint8_t *text, size_t capacity, size_t *written,
                                 krea_wan_error *error);
void krea_wan_models_close(krea_wan_models *models);

/* JSON: {"width", "height", "block", "window", "steps" | "timesteps", "shift", "strength", "seed",
   "keep_first_frame", "kv_bias", "rolling_sink", "compat_krea", "reference_noise"}; all but the size are optional. */
int32_t krea_wan_session_open(const krea_wan_models *models, const uint8_t *json, size_t json_len,
                              krea_wan_session **out, krea_wan_error *error);
void krea_wan_session_close(krea_wan_session *session);

/* The first prompt is taken at once, a later one over `steps` blocks. */
int32_t krea_wan_session_prompt(const krea_wan_session *session, const uint8_t *text, size_t text_len, uint32_t steps,
                                krea_wan_error *error);
int32_t krea_wan_session_embedding(const krea_wan_session *session, const float *values, uint32_t rows,
                                   uint32_t columns, uint32_t steps, krea_wan_error *error);

/* JSON: {"seed", "strength", "steps"}, each optional; from the next block on. */
int32_t krea_wan_session_change(const krea_wan_session *session, const uint8_t *json, size_t json_len,
                                krea_wan_error *error);

/* The video goes on from the first of `frames`, of any size; before the first block only. */
int32_t krea_wan_session_start_frame(const krea_wan_session *session, const krea_wan_frames *frames,
                                     krea_wan_error *error);

/* Input frames that the next block takes, and the most that it gives. */
int32_t krea_wan_session_frames_needed(const krea_wan_session *session, uint32_t *count, krea_wan_error *error);

/* Makes a block; `out` must have room for `frames_needed` frames of the session's size. A block that failed or was
   cancelled can be made again. */
int32_t krea_wan_session_next(const krea_wan_session *session, uint32_t kind, const krea_wan_frames *input,
                              krea_wan_progress progress, void *user, uint8_t *out, size_t capacity,
                              krea_wan_block *info, krea_wan_error *error);

/* From any thread, at any time. */
void krea_wan_session_cancel(const krea_wan_session *session);

/* The next block begins a new video. */
int32_t krea_wan_session_reset(const krea_wan_session *session, krea_wan_error *error);

#endif
