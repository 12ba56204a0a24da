"""Device profiles: what a board can do, as data with sources; loading them, and telling which one fits a board."""

from edgesdk.profiles.detect import Detection, detect, this_board
from edgesdk.profiles.export import profile_json_schema
from edgesdk.profiles.load import LoadedProfile, load_profile, profile_ids, profiles_folder, read_profile
from edgesdk.profiles.model import BackendPreference, DeviceProfile

__all__ = [
    "BackendPreference",
    "Detection",
    "DeviceProfile",
    "LoadedProfile",
    "detect",
    "load_profile",
    "profile_ids",
    "profile_json_schema",
    "profiles_folder",
    "read_profile",
    "this_board",
]
