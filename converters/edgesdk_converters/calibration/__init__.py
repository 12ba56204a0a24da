"""Reads a calibration folder as a stream of the model's input arrays: pictures, wav files, `.npy` / `.npz` arrays."""

from edgesdk_converters.calibration.feeds import Feed, Feeds
from edgesdk_converters.calibration.folder import ARRAYS, PICTURES, RECORDINGS, media_of
from edgesdk_converters.calibration.prints import AudioFacts, PictureFacts, Print
from edgesdk_converters.calibration.reading import rest
from edgesdk_converters.calibration.sets import HELD_OUT, MAX_FEEDS, CalibrationSet

__all__ = [
    "ARRAYS",
    "HELD_OUT",
    "MAX_FEEDS",
    "PICTURES",
    "RECORDINGS",
    "AudioFacts",
    "CalibrationSet",
    "Feed",
    "Feeds",
    "PictureFacts",
    "Print",
    "media_of",
    "rest",
]
