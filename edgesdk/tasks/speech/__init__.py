"""Speech tasks: chunks of PCM in, segments of speech out."""

from edgesdk.tasks.speech.framing import AudioFramer, Chunk, Chunks
from edgesdk.tasks.speech.voice_activity import VoiceActivityOptions, VoiceActivityTask

__all__ = ["AudioFramer", "Chunk", "Chunks", "VoiceActivityOptions", "VoiceActivityTask"]
