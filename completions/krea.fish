# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_krea_global_optspecs
    string join \n h/help V/version
end

function __fish_krea_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_krea_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_krea_using_subcommand
    set -l cmd (__fish_krea_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c krea -n "__fish_krea_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_needs_command" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_needs_command" -f -a "run" -d 'Read a video, work on its frames, write it'
complete -c krea -n "__fish_krea_needs_command" -f -a "devices" -d 'List the cameras of this machine, with their formats, and its GPUs'
complete -c krea -n "__fish_krea_needs_command" -f -a "models" -d 'List, fetch, check and remove models'
complete -c krea -n "__fish_krea_needs_command" -f -a "config" -d 'Show what is set by the environment and by files'
complete -c krea -n "__fish_krea_needs_command" -f -a "doctor" -d 'Say what is on this machine, what of it is really used, and what to do if it is not'
complete -c krea -n "__fish_krea_needs_command" -f -a "completions" -d 'Print the completion script for a shell'
complete -c krea -n "__fish_krea_needs_command" -f -a "man" -d 'Print the man page'
complete -c krea -n "__fish_krea_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c krea -n "__fish_krea_using_subcommand run" -l webcam -d 'Read a camera instead: the first one, or the one with this number or name; `krea devices` lists them' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l camera-api -d 'What reads the camera: nokhwa, ffmpeg (its own demuxer), or auto, which is nokhwa, and FFmpeg where nokhwa cannot. Of the camera\'s formats the one is taken that fits --size and --fps best, else one from 640x480 to 1280x720 at 30' -r -f -a "auto\t''
nokhwa\t''
ffmpeg\t''"
complete -c krea -n "__fish_krea_using_subcommand run" -s o -l output -d 'Where to write: a file, frames/%05d.png, - for standard output, a stream (udp://, srt://, rtmp://, rtsp://), or a virtual camera (v4l2:/dev/video9). Once more for a stream beside the file; it carries the picture only, and never holds the file up. Without it a camera is shown in a window, as --preview does' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l bg -d 'What to put behind them: a colour, transparent, blur[=RADIUS], a picture or a video. Turns --remove-bg on' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l mask-model -d 'auto, selfie, yolov8n-seg, or the path of an ONNX file. auto takes YOLOv8n-seg if it is on this machine, else the selfie model that is built in' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l mask-size -d 'Input size of the network, for YOLO exports of any size and models that leave it open' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l confidence -d 'Least score, 0 to 1, at which a person counts' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l device -d 'Where networks compute: auto, cpu, cuda, tensorrt, openvino, coreml. What is named must work; auto may fall back' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l smooth -d 'Smoothing over time against flicker: off, or a strength from 0 to 1' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l feather -d 'Soften the edge inwards by so many pixels' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l edge-shift -d 'Move the edge outwards by so many pixels, inwards if negative' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l threshold -d 'A hard edge: person is what is more likely than this, 0 to 1' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l max-persons -d 'Keep at most so many people, the surest first' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l mask-every -d 'Run the network on every N-th frame only; the masks of the others follow. auto does so in live runs, by as much as the network is behind' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l on-mask-error -d 'When the network fails on a frame: hold the last mask, pass the frame as it is, show green only, or stop. A live run goes on without the mask (hold passes frames as they are after 2 seconds) until the network is back' -r -f -a "hold\t''
pass\t''
green\t''
stop\t''"
complete -c krea -n "__fish_krea_using_subcommand run" -l codec -d 'Video encoder, by FFmpeg\'s name (libx264 where the container takes it)' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l crf -d 'Quality of the encoder, lower is better (18 for libx264)' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l preset -d 'Speed of the encoder (veryfast for libx264)' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l pix-fmt -d 'Pixel format, by FFmpeg\'s name (as the source\'s, where the encoder takes it)' -r
complete -c krea -n "__fish_krea_using_subcommand run" -s f -l format -d 'Container, by FFmpeg\'s name, when the name of the output does not tell (matroska for -)' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l size -d 'Size of the output: 1280x720, or 1280x or x720 to keep the shape. Repainted video is as large as the model paints it, unless this says another size, or source' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l fps -d 'Constant frame rate of the output, 30 or 30000/1001; without it every frame keeps its own time' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l start -d 'Begin so far into the input: 90, 1:30 or 0:01:30.5' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l duration -d 'Take so much of the input' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l input-format -d 'Demuxer, by FFmpeg\'s name, when the content does not tell' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l timeout -d 'Give a connection or a camera up after so long without data, and try again if it is live' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l reconnect-timeout -d 'End when a live stream or a camera has not come back for so long; without it it is waited for as long as it takes' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l control -d 'Take commands from a Unix socket that is made here, for the user alone: one JSON object a line, with a line of JSON in answer: {"background": "blur"}, {"pause": true}, {"status": true}, {"quit": true}, {"prompt": "...", "blend": 2}, {"strength": 0.5}, {"seed": 7}, {"reset": true}. A live run takes them from its terminal too: /bg blur, /pause, /resume, /status, /quit; a line without a slash is a prompt' -r -F
complete -c krea -n "__fish_krea_using_subcommand run" -l control-file -d 'Carry out the commands in this file, JSON or as typed, line by line, now and whenever it changes' -r -F
complete -c krea -n "__fish_krea_using_subcommand run" -l max-latency -d 'Drop live frames that are older than so many milliseconds, counted from their arrival, before they are masked, generated or shown' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l max-pixels -d 'Refuse pictures with more pixels than this' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l prompt -d 'Repaint the video as these words say; without an input, make a video of them alone' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l prompt-file -d 'Prompts and when each begins: lines such as `00:12 oil painting, fade 1s`; times are the source\'s. Read again when it changes' -r -F
complete -c krea -n "__fish_krea_using_subcommand run" -l negative -d 'Refused: these models have no negative prompt' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l model -d 'A model\'s name (`krea models list`) or the folder of its files; by default the largest that is on this machine' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l preset-gen -d 'Size, steps and autoencoder in one word [default: quality, or live for live video]' -r -f -a "draft\t'448x256, 2 steps, TAEHV'
live\t'576x320, 4 steps, TAEHV'
quality\t'832x480, 5 steps, Wan\'s VAE'"
complete -c krea -n "__fish_krea_using_subcommand run" -l gen-size -d 'Size that the model paints at, both sides multiples of 16' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l fit -d 'What becomes of pictures of another shape [default: cover, or contain where the original is seen around it]' -r -f -a "cover\t'Fills the model\'s picture; what is more is cut off around it'
contain\t'All of it is seen, with black beside it'
stretch\t'Its shape is changed'"
complete -c krea -n "__fish_krea_using_subcommand run" -l region -d 'Repaint all of the picture, or only one part of it' -r -f -a "all\t'The whole picture'
person\t'The persons'
background\t'What is behind the persons'"
complete -c krea -n "__fish_krea_using_subcommand run" -l reset-on-cut -d 'Begin anew where a scene is cut [default: true, or false for live video]' -r -f -a "true\t''
false\t''"
complete -c krea -n "__fish_krea_using_subcommand run" -l strength -d 'How much is repainted: 0 leaves nearly everything, 1 leaves nothing' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l steps -d 'Calls of the transformer for each block' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l seed -d 'What the noise is made from; the same number gives the same video' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l shift -d 'Timestep shift: higher spends more steps on the large forms' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l window -d 'Latent frames of the past that a block sees' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l blocks -d 'Length of a video that is made without an input: 9 frames, then 12 for each further block' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l start-image -d 'A picture that the video goes on from' -r -F
complete -c krea -n "__fish_krea_using_subcommand run" -l interp -d 'Blocks over which a changed prompt is blended in' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l vae -d 'Between pictures and latents: Wan\'s own VAE, or TAEHV, which is much faster and a little softer' -r -f -a "wan\t'Wan\'s own VAE'
tae\t'TAEHV: much faster, a little softer'"
complete -c krea -n "__fish_krea_using_subcommand run" -l precision -d 'What the transformer computes in; fp8 halves its memory' -r -f -a "auto\t'bf16 where the device is good at it, else fp32'
fp32\t''
bf16\t''
fp16\t''
fp8\t'Matrices kept in 8 bits, computed in bf16: half the memory'"
complete -c krea -n "__fish_krea_using_subcommand run" -l compat -d 'Keep the quirks of another program, to compare with it' -r -f -a "krea\t'The reference server\'s: three frames of the first block are left out, a first blend of weight 0, its decoder\'s history'"
complete -c krea -n "__fish_krea_using_subcommand run" -l threads -d 'Threads for decoding, masks and encoding each; 0 is one a core' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l log-level -d 'error, warn, info, debug, trace, or a filter such as krea=info,ffmpeg=debug' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l progress -d 'How progress is shown on standard error; auto is a bar on a terminal, else a line now and then. json is an object a line, once a second: frames and fps since the start; fps_in, fps_out, latency_ms (p50 and p95 from the arrival of a live frame to the end of its writing) and mask_ms since the last line; queues (frames that wait for each stage); dropped, and by stage drops (gave way to newer ones) and late (older than --max-latency); held, mask_losses, mask_lost, damaged, reconnects, missed (came from a camera faster than they were read). The last one, of event end, is about the whole run' -r -f -a "auto\t''
bar\t''
plain\t''
json\t''
none\t''"
complete -c krea -n "__fish_krea_using_subcommand run" -l color -d 'Colours in messages' -r -f -a "auto\t''
always\t''
never\t''"
complete -c krea -n "__fish_krea_using_subcommand run" -l stats -d 'Write what was done, and how long each stage took, to this file as JSON' -r -F
complete -c krea -n "__fish_krea_using_subcommand run" -l watchdog -d 'Name a stage that has been busy with one frame for so many seconds' -r
complete -c krea -n "__fish_krea_using_subcommand run" -l preview -d 'Show a window, alone or beside -o. Keys: q ends, space pauses, p compares, m shows the mask, b the background, f fills the screen, s writes a picture'
complete -c krea -n "__fish_krea_using_subcommand run" -l remove-bg -d 'Find the people and replace what is behind them'
complete -c krea -n "__fish_krea_using_subcommand run" -l no-despill -d 'Keep the colour that the old background has left on soft edges'
complete -c krea -n "__fish_krea_using_subcommand run" -l largest -d 'Keep only the largest person'
complete -c krea -n "__fish_krea_using_subcommand run" -s y -l overwrite -d 'Overwrite the output if it exists'
complete -c krea -n "__fish_krea_using_subcommand run" -s n -l no-overwrite -d 'Leave an output that exists, and end well'
complete -c krea -n "__fish_krea_using_subcommand run" -l strict -d 'End with an error when the network fails in a live run, instead of going on without it'
complete -c krea -n "__fish_krea_using_subcommand run" -l keep-fps -d 'Repaint every frame, instead of the 16 a second that the model was made for'
complete -c krea -n "__fish_krea_using_subcommand run" -l offline -d 'Never fetch a model: end with exit code 4 and say what to type'
complete -c krea -n "__fish_krea_using_subcommand run" -l dry-run -d 'Say what would be done, with which sizes, devices and memory, and do nothing'
complete -c krea -n "__fish_krea_using_subcommand run" -s q -l quiet -d 'Only errors'
complete -c krea -n "__fish_krea_using_subcommand run" -s v -l verbose -d 'More messages; -vv for even more'
complete -c krea -n "__fish_krea_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_using_subcommand run" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand devices" -l json -d 'As one JSON object: of each camera its index, device, name, id and formats (fourcc, and sizes with their fps), or the error why it cannot be asked; of each GPU its name and memory'
complete -c krea -n "__fish_krea_using_subcommand devices" -s h -l help -d 'Print help'
complete -c krea -n "__fish_krea_using_subcommand devices" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -l manifest -d 'Another list of models than the built-in one' -r -F
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -l progress -d 'How progress is shown on standard error; auto is a bar on a terminal, else a line now and then' -r -f -a "auto\t''
bar\t''
plain\t''
json\t''
none\t''"
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -s q -l quiet -d 'Only errors'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -s v -l verbose -d 'More messages'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -f -a "list" -d 'What there is, and what of it is on this machine'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -f -a "pull" -d 'Fetch models, and what they need; goes on where it was cut off'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -f -a "verify" -d 'Read files again and compare them with their checksums'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -f -a "rm" -d 'Remove a model\'s files; the licence stays agreed to'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -f -a "path" -d 'Print where a model\'s files are, one a line'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -f -a "import" -d 'Take a file that you have made or brought as a model\'s file'
complete -c krea -n "__fish_krea_using_subcommand models; and not __fish_seen_subcommand_from list pull verify rm path import help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from list" -l manifest -d 'Another list of models than the built-in one' -r -F
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from list" -l progress -d 'How progress is shown on standard error; auto is a bar on a terminal, else a line now and then' -r -f -a "auto\t''
bar\t''
plain\t''
json\t''
none\t''"
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from list" -l json -d 'As JSON, with every file\'s path and checksum'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Only errors'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from list" -s v -l verbose -d 'More messages'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -l tries -d 'Give up after so many failures in a row' -r
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -l retry-delay -d 'First pause before trying again; each later one is twice as long' -r
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -l manifest -d 'Another list of models than the built-in one' -r -F
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -l progress -d 'How progress is shown on standard error; auto is a bar on a terminal, else a line now and then' -r -f -a "auto\t''
bar\t''
plain\t''
json\t''
none\t''"
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -l accept-license -l accept-licence -d 'Agree to a licence that binds, without being asked'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -l update -d 'Take what the hub has now, not what was locked at the first pull'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -l no-needs -d 'Without the models that the named ones need'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -l offline -d 'Ask nothing of the network'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -s q -l quiet -d 'Only errors'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -s v -l verbose -d 'More messages'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from pull" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from verify" -l manifest -d 'Another list of models than the built-in one' -r -F
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from verify" -l progress -d 'How progress is shown on standard error; auto is a bar on a terminal, else a line now and then' -r -f -a "auto\t''
bar\t''
plain\t''
json\t''
none\t''"
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Only errors'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from verify" -s v -l verbose -d 'More messages'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from verify" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from rm" -l manifest -d 'Another list of models than the built-in one' -r -F
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from rm" -l progress -d 'How progress is shown on standard error; auto is a bar on a terminal, else a line now and then' -r -f -a "auto\t''
bar\t''
plain\t''
json\t''
none\t''"
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from rm" -s q -l quiet -d 'Only errors'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from rm" -s v -l verbose -d 'More messages'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from rm" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from path" -l manifest -d 'Another list of models than the built-in one' -r -F
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from path" -l progress -d 'How progress is shown on standard error; auto is a bar on a terminal, else a line now and then' -r -f -a "auto\t''
bar\t''
plain\t''
json\t''
none\t''"
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from path" -s q -l quiet -d 'Only errors'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from path" -s v -l verbose -d 'More messages'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from path" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from path" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from import" -l manifest -d 'Another list of models than the built-in one' -r -F
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from import" -l progress -d 'How progress is shown on standard error; auto is a bar on a terminal, else a line now and then' -r -f -a "auto\t''
bar\t''
plain\t''
json\t''
none\t''"
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from import" -s q -l quiet -d 'Only errors'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from import" -s v -l verbose -d 'More messages'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from import" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "list" -d 'What there is, and what of it is on this machine'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "pull" -d 'Fetch models, and what they need; goes on where it was cut off'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Read files again and compare them with their checksums'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "rm" -d 'Remove a model\'s files; the licence stays agreed to'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "path" -d 'Print where a model\'s files are, one a line'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "import" -d 'Take a file that you have made or brought as a model\'s file'
complete -c krea -n "__fish_krea_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c krea -n "__fish_krea_using_subcommand config; and not __fish_seen_subcommand_from show path help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_using_subcommand config; and not __fish_seen_subcommand_from show path help" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand config; and not __fish_seen_subcommand_from show path help" -f -a "show" -d 'Each option of `krea run`, its value, and where that comes from'
complete -c krea -n "__fish_krea_using_subcommand config; and not __fish_seen_subcommand_from show path help" -f -a "path" -d 'The files that are looked for, the one with more weight first'
complete -c krea -n "__fish_krea_using_subcommand config; and not __fish_seen_subcommand_from show path help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c krea -n "__fish_krea_using_subcommand config; and __fish_seen_subcommand_from show" -l json -d 'As one JSON object'
complete -c krea -n "__fish_krea_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c krea -n "__fish_krea_using_subcommand config; and __fish_seen_subcommand_from show" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand config; and __fish_seen_subcommand_from path" -s h -l help -d 'Print help'
complete -c krea -n "__fish_krea_using_subcommand config; and __fish_seen_subcommand_from path" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "show" -d 'Each option of `krea run`, its value, and where that comes from'
complete -c krea -n "__fish_krea_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "path" -d 'The files that are looked for, the one with more weight first'
complete -c krea -n "__fish_krea_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c krea -n "__fish_krea_using_subcommand doctor" -l deadline -d 'Give a check up after so many seconds' -r
complete -c krea -n "__fish_krea_using_subcommand doctor" -l check -d 'Carry one check out in this process' -r
complete -c krea -n "__fish_krea_using_subcommand doctor" -l json -d 'As one JSON object'
complete -c krea -n "__fish_krea_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c krea -n "__fish_krea_using_subcommand doctor" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand completions" -s h -l help -d 'Print help'
complete -c krea -n "__fish_krea_using_subcommand completions" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand man" -l dir -d 'Write one page a command into this folder' -r -F
complete -c krea -n "__fish_krea_using_subcommand man" -s h -l help -d 'Print help'
complete -c krea -n "__fish_krea_using_subcommand man" -s V -l version -d 'Print version'
complete -c krea -n "__fish_krea_using_subcommand help; and not __fish_seen_subcommand_from run devices models config doctor completions man help" -f -a "run" -d 'Read a video, work on its frames, write it'
complete -c krea -n "__fish_krea_using_subcommand help; and not __fish_seen_subcommand_from run devices models config doctor completions man help" -f -a "devices" -d 'List the cameras of this machine, with their formats, and its GPUs'
complete -c krea -n "__fish_krea_using_subcommand help; and not __fish_seen_subcommand_from run devices models config doctor completions man help" -f -a "models" -d 'List, fetch, check and remove models'
complete -c krea -n "__fish_krea_using_subcommand help; and not __fish_seen_subcommand_from run devices models config doctor completions man help" -f -a "config" -d 'Show what is set by the environment and by files'
complete -c krea -n "__fish_krea_using_subcommand help; and not __fish_seen_subcommand_from run devices models config doctor completions man help" -f -a "doctor" -d 'Say what is on this machine, what of it is really used, and what to do if it is not'
complete -c krea -n "__fish_krea_using_subcommand help; and not __fish_seen_subcommand_from run devices models config doctor completions man help" -f -a "completions" -d 'Print the completion script for a shell'
complete -c krea -n "__fish_krea_using_subcommand help; and not __fish_seen_subcommand_from run devices models config doctor completions man help" -f -a "man" -d 'Print the man page'
complete -c krea -n "__fish_krea_using_subcommand help; and not __fish_seen_subcommand_from run devices models config doctor completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c krea -n "__fish_krea_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "list" -d 'What there is, and what of it is on this machine'
complete -c krea -n "__fish_krea_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "pull" -d 'Fetch models, and what they need; goes on where it was cut off'
complete -c krea -n "__fish_krea_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "verify" -d 'Read files again and compare them with their checksums'
complete -c krea -n "__fish_krea_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "rm" -d 'Remove a model\'s files; the licence stays agreed to'
complete -c krea -n "__fish_krea_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "path" -d 'Print where a model\'s files are, one a line'
complete -c krea -n "__fish_krea_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "import" -d 'Take a file that you have made or brought as a model\'s file'
complete -c krea -n "__fish_krea_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "show" -d 'Each option of `krea run`, its value, and where that comes from'
complete -c krea -n "__fish_krea_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "path" -d 'The files that are looked for, the one with more weight first'
