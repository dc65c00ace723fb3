"""Stands in for pykms, a display library that picamera2 imports even without a display."""


class PixelFormat:
    """The formats that picamera2 names while it is imported."""

    RGB888 = BGR888 = XRGB8888 = XBGR8888 = YUV420 = YVU420 = NV12 = None
