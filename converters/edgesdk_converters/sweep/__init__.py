"""Converts many models with many recipes for many boards, on all cores or on a Dask cluster, and resumes where it stopped."""

from edgesdk_converters.sweep.file import read_sweep, sweep_json_schema
from edgesdk_converters.sweep.sweep import Sweep, run_sweep

__all__ = ["Sweep", "read_sweep", "run_sweep", "sweep_json_schema"]
