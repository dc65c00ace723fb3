"""A network camera on loopback, for the system's Python: gst-rtsp-server with a test pattern.

rtsp_server.py PORT WIDTH HEIGHT: serves rtsp://127.0.0.1:PORT/door, in H.264, and says `ready`.
With `--check`, only says whether it could. Debian: python3-gi gir1.2-gst-rtsp-server-1.0
gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - versions come first, by gi's rule

Gst.init(None)
needed = ("videotestsrc", "videoconvert", "x264enc", "rtph264pay")
lacking = [name for name in needed if Gst.ElementFactory.find(name) is None]
if lacking:
    sys.exit(f"GStreamer lacks {', '.join(lacking)}")
if sys.argv[1] == "--check":
    sys.exit(0)
port, width, height = sys.argv[1:4]
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    # pattern=smpte: colours that tell red from blue.
    "( videotestsrc is-live=true pattern=smpte "
    f"! video/x-raw,width={width},height={height},framerate=15/1 "
    "! videoconvert ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 "
    "! rtph264pay name=pay0 pt=96 )"
)
factory.set_shared(True)
server.get_mount_points().add_factory("/door", factory)
if server.attach(None) == 0:
    sys.exit(f"port {port} is taken")
print("ready", flush=True)
GLib.MainLoop().run()
