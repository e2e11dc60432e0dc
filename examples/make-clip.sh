#!/usr/bin/env bash
# Makes astronaut.mp4, the clip of `make demo`, from astronaut.png: a slow pan and zoom of 5 s, 640x480 at 25 fps, with a
# soft tone as sound. Needs only the ffmpeg program. The picture's origin stands in THIRD_PARTY.md.
set -euo pipefail
cd "$(dirname "$0")"

frames=125
# 0 at the first frame, 1 at the last, with no speed at either end.
ease="(1-cos(PI*on/$((frames - 1))))/2"
# zoompan moves its window in whole pixels of its input; enlarged eight times, a step is an eighth of a pixel.
video="crop=512:384:0:0,scale=5120:3840:flags=lanczos,\
zoompan=d=$frames:fps=25:s=640x480:z='1.04+0.30*$ease':x='(iw-iw/zoom)*(0.10+0.25*$ease)':y='(ih-ih/zoom)*0.12*$ease',\
setsar=1,scale=out_color_matrix=bt601:out_range=tv,format=yuv420p"
# A fifth, 26 dB down, faded in and out.
sound="aevalsrc='0.03*sin(2*PI*220*t)+0.02*sin(2*PI*330*t)|0.02*sin(2*PI*220*t)+0.03*sin(2*PI*330*t)':s=48000:d=5,\
afade=t=in:d=0.5,afade=t=out:st=4.3:d=0.7"

ffmpeg -v error -y -i astronaut.png -f lavfi -i "$sound" -vf "$video" -t 5 \
  -c:v libx264 -preset slow -crf 23 -g 50 -colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m -color_range tv \
  -c:a aac -b:a 64k -movflags +faststart -map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact astronaut.mp4
