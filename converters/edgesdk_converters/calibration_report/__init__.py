"""Looks at a calibration set and answers: is it good, and is it enough?"""

from edgesdk_converters.calibration_report.examine import examine

__all__ = ["examine"]
