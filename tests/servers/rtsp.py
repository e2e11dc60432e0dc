#!/usr/bin/python3
"""An RTSP server on the loopback interface, for the tests: a moving pattern, as a camera would send it.

Usage: rtsp.py [--port N] [--size WxH] [--audio] [--password NAME:PASSWORD]
Prints `READY URL` as soon as it takes connections. Port 0 takes a free one.
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--port", default="0")
parser.add_argument("--size", default="320x240")
parser.add_argument("--audio", action="store_true")
parser.add_argument("--password")
arguments = parser.parse_args()
width, height = arguments.size.split("x")

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(arguments.port)

pipeline = (
    f"( videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 threads=1 ! rtph264pay name=pay0 pt=96"
)
if arguments.audio:
    pipeline += (
        " audiotestsrc is-live=true wave=silence ! audio/x-raw,rate=48000,channels=1"
        " ! opusenc ! rtpopuspay name=pay1 pt=97"
    )
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(pipeline + " )")
factory.set_shared(True)

if arguments.password:
    name, password = arguments.password.split(":")
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(name, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)

server.get_mount_points().add_factory("/live", factory)
if server.attach(None) == 0:
    raise SystemExit(f"port {arguments.port} is taken")
print(f"READY rtsp://127.0.0.1:{server.get_bound_port()}/live", flush=True)
GLib.MainLoop().run()
